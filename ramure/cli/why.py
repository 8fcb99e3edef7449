"""``ramure why``: the story of an agent's or actor's deaths and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from ramure.cli.actors import actor_argument
from ramure.cli.common import EXIT_NO_ACTOR, Failed, as_json, clock, find, json_option, logged_run_option, note
from ramure.cli.text import hanging, one_line, printable
from ramure.runtime.control.errors import NoSuchRun, RequestFailed
from ramure.runtime.log_reader import run_directories

__all__ = ["command"]

KINDS: Final = {
    "died": ("died", "red"),
    "below": ("below it", "yellow"),
    "restarted": ("restarted", "green"),
    "gave_up": ("gave up", "red"),
    "ended": ("ended", "red"),
    "trouble": ("trouble", "yellow"),
    "alarm": ("alarm", "red"),
    "by_hand": ("by hand", "cyan"),
    "stalled": ("stalled", "red"),
    "reminded": ("reminded", "yellow"),
    "going": ("goes on", "green"),
}

WIDEST: Final = 300


@click.command("why", epilog="Example: ramure why worker")
@actor_argument
@logged_run_option
@click.option("--traces", is_flag=True, help="With the tracebacks and screens of all deaths, not only of the last.")
@json_option
def command(actor: str, run: str | None, traces: bool, json_wanted: bool) -> None:
    """Why ACTOR, an agent or any actor or process, died: the cause in the first line, then the story with what was done about it.

    Runs that have ended are found by --id too; with no run live, it is the last one that ended.
    """
    execution_id, story = _story(actor, run)
    if json_wanted:
        as_json("why", {"execution_id": execution_id, **story})
    else:
        click.echo("\n".join(_shown(story, traces)))


def _story(actor: str, run: str | None) -> tuple[str, dict[str, Any]]:
    try:
        with find(run, timeout=30.0) as client:
            return client.execution_id, client.request("why", actor=actor)
    except NoSuchRun as none_live:
        ended = [path for path in run_directories() if path.name.startswith(run or "")]
        if not ended:
            raise none_live from None
        if run is None or len(ended) > 1:
            click.echo(f"ramure: {ended[0].name}, the last that ended", err=True)
        return ended[0].name, _of_logs(ended[0], actor)
    except RequestFailed as failed:
        if failed.kind != "Timeout":
            raise
        # A run that is stuck is just the one that such a question is asked about.
        stuck = [path for path in run_directories() if path.name.startswith(run or "")]
        if len(stuck) != 1:
            raise
        click.echo(f"ramure: {failed}; this is from its logs", err=True)
        return stuck[0].name, _of_logs(stuck[0], actor)


def _of_logs(directory: Path, actor: str) -> dict[str, Any]:
    from dataclasses import asdict

    from ramure.runtime.log_entries import Passed
    from ramure.runtime.story_log import read_story

    passed = Passed()
    story, near = read_story(directory, actor, passed)
    if passed:
        note(f"{directory.name}: {passed}")
    if near:
        raise Failed(f"the logs of {directory.name} know no {actor!r}; they know: {', '.join(near)}", EXIT_NO_ACTOR)
    return asdict(story)


def _shown(story: dict[str, Any], traces: bool) -> Iterator[str]:
    yield click.style(one_line(story["headline"], 1000), bold=True)
    chapters = story["chapters"]
    last = max((at for at, chapter in enumerate(chapters) if chapter["kind"] in ("died", "below")), default=None)
    for at, chapter in enumerate(chapters):
        name, colour = KINDS.get(chapter["kind"], (chapter["kind"], None))
        doing = f" ({chapter['doing']})" if chapter["doing"] and chapter["doing"] != "running" else ""
        when = click.style(clock(chapter["at"]), fg="bright_black")
        begin = f"{when}  {click.style(f'{name:<9}', fg=colour)}  "
        indent = len(clock(chapter["at"])) + 13
        yield hanging(begin, indent, one_line(chapter["text"] + doing, WIDEST))
        if chapter["did"]:
            yield hanging(" " * indent, indent, f"then: {one_line(chapter['did'], WIDEST)}")
        if at == last and chapter["path"]:
            yield hanging(" " * indent, indent, f"place: {one_line(chapter['path'], WIDEST)}")
        if traces or at == last:
            for what in ("screen", "traceback"):
                if chapter[what]:
                    yield f"{'':21}{what}:"
                    yield from (f"{'':23}{printable(line)}" for line in chapter[what].splitlines())
