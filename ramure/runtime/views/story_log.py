"""Reads what :mod:`ramure.runtime.views.story` needs from a run's logs: those of a live run, or of one that has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ramure.runtime.log.entries import Passed, parse
from ramure.runtime.log.files import lines
from ramure.runtime.log.reader import agents_of, logs
from ramure.runtime.views.story import Story, near, subjects, tell

__all__ = ["read_story"]

_OWN: Final = (b'"type": "problem"', b'"type": "connection"')
"""What an agent's own log has that the run's has not. The rest of it may be gigabytes."""

_EVENT: Final = b'"type": "event"'

_ENDINGS: Final = (b'"done"', b'"failed"', b'"cancelled"')

RUN: Final = "run"
"""The subject that is the run itself."""


def read_story(
    directory: Path, subject: str, passed: Passed | None = None, *, live: bool = True
) -> tuple[Story, list[str]]:
    """The story of ``subject`` from the directory of a run's logs. With it, whom else may be meant, where the logs know
    nobody of this name; an empty list where they do. ``passed`` gets what is passed over. ``live``: as in :func:`tell`."""
    entries = list(_entries(directory, subject, Passed() if passed is None else passed))
    story = tell(subject, entries, live=live)
    if subject == RUN:
        return story, []
    known = [*subjects(entries), *_agents(directory)]
    own = tell(subject, (entry for entry in entries if entry.get("type") not in ("alarm", "alarm_over")))
    if own.chapters or tell(subject, map(_about, known)).chapters:
        return story, []
    return story, near(subject, known) or sorted(set(known))[:10] or ["nobody"]


def _entries(directory: Path, subject: str, passed: Passed) -> Iterator[dict[str, Any]]:
    for name, path in logs(directory).items():
        if name == "_runtime":
            wanted = _of_the_run
        elif tell(subject, [_about(_address(name))]).chapters:
            wanted = _of_an_agent
        else:
            continue
        for line in lines(path, passed):
            if wanted(line):
                entry = parse(line)
                if entry is None:
                    passed.lines += 1
                else:
                    yield entry if name == "_runtime" else {**entry, "of": _address(name)}


def _of_the_run(line: bytes) -> bool:
    """Events of processes there are very many; only endings are wanted."""
    return _EVENT not in line or any(ending in line for ending in _ENDINGS)


def _of_an_agent(line: bytes) -> bool:
    return any(kind in line for kind in _OWN)


def _about(name: str) -> dict[str, Any]:
    return {"type": "crash_report", "address": name}


def _address(log: str) -> str:
    """Of the agent that has this log: several that had the same address, one after the other, are one."""
    return log.split("@", maxsplit=1)[0]


def _agents(directory: Path) -> list[str]:
    return sorted({_address(name) for name in agents_of(directory)})
