"""``ramure logs``: the logs of a run and its agents, live or ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ramure.cli.common import (
    EXIT_NO_ACTOR,
    Failed,
    clock,
    find,
    logged_run_option,
    note,
    optional_agent,
    seconds_of,
    usage_error,
)
from ramure.cli.ended import ended_run
from ramure.cli.text import hanging, one_line
from ramure.runtime.control.errors import NoSuchRun, RunGone
from ramure.runtime.log.reader import RunLogs, logs, run_directories

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = ["command"]

WIDEST: Final = 200

LINES: Final = 20
"""Of a message."""


@click.command("logs", epilog="Example: ramure logs worker -f --since 10m")
@optional_agent
@logged_run_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until the run ends.")
@click.option("--since", metavar="TIME", help="Only what is newer: 30s, 10m, 2h, 1d ago, or 2026-01-31T12:00.")
@click.option("-n", "most", type=click.IntRange(1), metavar="N", help="Only the last N.")
@click.option("--full", is_flag=True, help="Long messages whole.")
@click.option("--raw", is_flag=True, help="The entries of the logs, one a line.")
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only entries of this type, as with --raw; may be repeated."
)
@click.option("--json", "json_wanted", is_flag=True, help="The entries as JSON, one a line (docs/cli-json.md).")
def command(
    agent: str | None,
    run: str | None,
    follow: bool,
    since: str | None,
    types: tuple[str, ...],
    most: int | None,
    full: bool,
    raw: bool,
    json_wanted: bool,
) -> None:
    """What was said and done: by AGENT, or in the whole run, in the order of time.

    A message or reply with its speaker, a tool call in a line with its outcome and time, and what went wrong. Runs that have
    ended are found by --id too; with no run live, it is the last one that ended.
    """
    client, directory = _directory(run)
    with contextlib.closing(RunLogs(directory, agent, since=_moment(since) if since else None, types=types)) as read:
        if agent is not None and not read.known():
            have = ", ".join(name for name in logs(directory) if name != "_runtime") or "none"
            raise Failed(f"no agent {agent!r} has a log in {directory.name}; there are: {have}", EXIT_NO_ACTOR)
        batches = iter([read.news()]) if client is None or not follow else _followed(read, client)
        if json_wanted or raw or types:
            shown = _entries(batches, json_wanted)
        else:
            shown = _conversation(batches, None if full else LINES, live=client is not None, follow=follow)
        for at, lines in enumerate(shown):
            for line in lines[-most:] if most is not None and at == 0 else lines:
                click.echo(line)
        if read.passed:
            note(f"{directory.name}: {read.passed}")


def _entries(batches: Iterable[list[dict[str, Any]]], json_wanted: bool) -> Iterator[list[str]]:
    for entries in batches:
        yield [_as_json(entry) if json_wanted else _line(entry) for entry in entries]


def _as_json(entry: dict[str, Any]) -> str:
    return json.dumps({"schema": "ramure.log.v1", **entry}, ensure_ascii=False)


def _conversation(
    batches: Iterable[list[dict[str, Any]]], lines: int | None, *, live: bool, follow: bool
) -> Iterator[list[str]]:
    """Calls that have no outcome come last: they still run, or their run was killed."""
    from ramure.cli.dialogue import shown
    from ramure.runtime.views.dialogue import Dialogue

    dialogue = Dialogue()
    for entries in batches:
        told = dialogue.add(entries)
        if not follow:
            told = sorted([*told, *dialogue.pending()], key=lambda line: line.at)
        yield [shown(line, lines, live=live) for line in told]
    if follow:
        yield [shown(line, lines, live=False) for line in dialogue.pending()]


def _followed(read: RunLogs, client: RunClient) -> Iterator[list[dict[str, Any]]]:
    """What there is, and what comes until the run has ended."""
    while True:
        live = not client.wait_end(0)  # first: what is written until the end is read then
        news = read.news()
        yield news
        if not live:
            return
        if not news:
            time.sleep(0.1)


def _directory(run: str | None) -> tuple[RunClient | None, Path]:
    """Of the live run that is meant, with a client of it, or of one that has ended."""
    try:
        client = find(run)
    except NoSuchRun as none_live:
        return None, ended_run(run, none_live)
    try:
        return client, Path(client.request("summary")["log_dir"])
    except RunGone as gone:  # a run that is stuck is just the one whose logs are wanted
        stuck = [path for path in run_directories() if path.name == client.execution_id]
        if not stuck:
            raise
        click.echo(f"ramure: {gone}; this is what its logs have", err=True)
        return client, stuck[0]


def _moment(text: str) -> float:
    ago = seconds_of(text)
    if ago is not None:
        return time.time() - ago
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        usage_error(f"--since {text!r} is no time; write 30s, 10m, 2h, 1d, or 2026-01-31T12:00")


TYPES: Final = {"message": "green", "assistant": "cyan", "tool_call": "blue", "tool_result": "blue"}
BAD: Final = {"problem", "crash_report", "agent_down", "agent_gave_up", "agent_died", "tool_error", "blocked"}


def _line(entry: dict[str, Any]) -> str:
    """``12:30:01  worker  assistant  Done.``"""
    type = str(entry.get("type"))
    at = entry.get("ts")
    when = clock(at) if isinstance(at, int | float) else "-"
    who = "run" if entry["log"] == "_runtime" else entry["log"]
    colour = "red" if type in BAD else TYPES.get(type)
    names = (when, f"{one_line(who, 40):<12}", f"{one_line(type, 40):<14}")
    begin = f"{click.style(when, fg='bright_black')}  {names[1]}  {click.style(names[2], fg=colour)}  "
    return hanging(begin, len("  ".join((*names, ""))), one_line(_said(type, entry), WIDEST))


def _said(type: str, entry: dict[str, Any]) -> str:
    data = entry.get("data") if "seq" in entry else None
    fields: dict[str, Any] = data if isinstance(data, dict) else entry
    match type:
        case "message" | "assistant" | "system_prompt" | "problem" if fields.get("text"):
            return str(fields["text"])
        case "tool_call":
            arguments = fields.get("arguments")
            given = arguments if isinstance(arguments, dict) else {}
            return f"{fields.get('name')}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
        case "tool_result":
            return ("" if fields.get("ok") else "error: ") + str(fields.get("text"))
        case "state":
            return str(fields.get("state"))
    shown = {
        key: value for key, value in fields.items() if key not in ("ts", "type", "log", "seq", "origin", "traceback")
    }
    return " ".join(f"{key}={_brief(value)}" for key, value in shown.items() if value is not None)


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
