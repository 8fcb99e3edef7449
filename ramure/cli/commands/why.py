"""``ramure why``: the story of an agent's or actor's deaths and restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from ramure.cli.actors import optional_actor
from ramure.cli.common import EXIT_NO_ACTOR, Failed, as_json, clock, find, json_option, logged_run_option, note
from ramure.cli.ended import ended_run
from ramure.cli.text import hanging, one_line, printable, shortened, width
from ramure.runtime.control.errors import NoSuchRun, RequestFailed
from ramure.runtime.log.reader import run_directories

__all__ = ["command"]

KINDS: Final = {
    "died": ("died", "red"),
    "below": ("below it", "yellow"),
    "restarted": ("restarted", "green"),
    "gave_up": ("gave up", "red"),
    "ended": ("ended", "red"),
    "cancelled": ("cancelled", "yellow"),
    "trouble": ("trouble", "yellow"),
    "alarm": ("alarm", "red"),
    "by_hand": ("by hand", "cyan"),
    "stalled": ("stalled", "red"),
    "reminded": ("reminded", "yellow"),
    "going": ("goes on", "green"),
}

WIDEST: Final = 300

LONG: Final = 12
"""Lines of a story after which the answer is said once more: at a terminal, the end is what one sees."""

ALIKE: Final = 3
"""Chapters that say the same again, beyond which those in the middle are left out."""


@click.command("why", epilog="Example: ramure why worker")
@optional_actor
@logged_run_option
@click.option("--traces", is_flag=True, help="With the tracebacks and screens of all deaths, not only of the last.")
@json_option
def command(actor: str | None, run: str | None, traces: bool, json_wanted: bool) -> None:
    """Why ACTOR, an agent or any actor or process, died; without it, what became of the run.

    The first line is the answer. Below it is the story, with what was done about each death; after a long story the answer
    stands once more. Runs that have ended are found by --id too; with no run live, it is the last one that ended.
    """
    execution_id, story = _story(actor or "run", run)
    if json_wanted:
        as_json("why", {"execution_id": execution_id, **story})
    else:
        click.echo("\n".join(_shown(story, traces)))
        if story["subject"] == "run":
            click.echo(f"next: {click.style(f'ramure status --id {execution_id}', fg='cyan')}")


def _story(actor: str, run: str | None) -> tuple[str, dict[str, Any]]:
    try:
        with find(run, timeout=30.0) as client:
            return client.execution_id, client.request("why", actor=actor)
    except NoSuchRun as none_live:
        ended = ended_run(run, none_live)
        return ended.name, _of_logs(ended, actor, live=False)
    except RequestFailed as failed:
        if failed.kind != "Timeout":
            raise
        # A run that is stuck is just the one that such a question is asked about.
        stuck = [path for path in run_directories() if path.name.startswith(run or "")]
        if len(stuck) != 1:
            raise
        click.echo(f"ramure: {failed}; this is from its logs", err=True)
        return stuck[0].name, _of_logs(stuck[0], actor, live=True)


def _of_logs(directory: Path, actor: str, *, live: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from ramure.runtime.log.entries import Passed
    from ramure.runtime.views.story_log import read_story

    passed = Passed()
    story, near = read_story(directory, actor, passed, live=live)
    if passed:
        note(f"{directory.name}: {passed}")
    if near:
        raise Failed(f"the logs of {directory.name} know no {actor!r}; they know: {', '.join(near)}", EXIT_NO_ACTOR)
    return asdict(story)


def _shown(story: dict[str, Any], traces: bool) -> Iterator[str]:
    answer = click.style(hanging("", 0, one_line(story["headline"], 1000)), bold=True)
    told = list(_chapters(story["chapters"], traces))
    yield answer
    yield from told
    if sum(part.count("\n") + 1 for part in told) > LONG:
        yield ""
        yield answer


def _chapters(chapters: list[dict[str, Any]], traces: bool) -> Iterator[str]:
    last = max((at for at, chapter in enumerate(chapters) if chapter["kind"] in ("died", "below")), default=None)
    alike = _alike(chapters)
    for at, chapter in enumerate(chapters):
        if at in alike:
            if alike[at]:
                yield click.style(f"{'':10}… {alike[at]} more like this", fg="bright_black")
            continue
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
            if chapter["screen"]:
                yield f"{'':10}screen:"
                room = width() - 12
                yield from (
                    f"{'':12}{shortened(printable(line), room)}".rstrip() for line in cropped(chapter["screen"])
                )
            if chapter["traceback"]:
                yield f"{'':10}traceback:"
                yield from (_indented(printable(line)) for line in chapter["traceback"].splitlines())


def _indented(line: str) -> str:
    """A line of a traceback, with all that it says."""
    depth = 12 + len(line) - len(line.lstrip())
    return hanging(" " * depth, depth, line.lstrip())


def cropped(screen: str) -> list[str]:
    """What stands on a screen: without the empty lines before, behind and between, and the empty columns on its left."""
    lines = [line.expandtabs().rstrip() for line in screen.splitlines()]
    lines = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    while lines and not lines[-1]:
        lines.pop()
    left = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    return [line[left:] for line in lines]


def _alike(chapters: list[dict[str, Any]]) -> dict[int, int]:
    """Which chapters are left out, since those around them say the same: the first of them with how many."""

    def gist(chapter: dict[str, Any]) -> tuple[str, str]:
        return chapter["kind"], re.sub(r"\([^)]*\)|[0-9.]+", "", chapter["text"])

    found: dict[int, int] = {}
    begin = 0
    for at in range(1, len(chapters) + 1):
        if at < len(chapters) and gist(chapters[at]) == gist(chapters[begin]):
            continue
        if at - begin > ALIKE:
            found[begin + 1] = at - begin - 2
            found.update(dict.fromkeys(range(begin + 2, at - 1), 0))
        begin = at
    return found
