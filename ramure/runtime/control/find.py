"""Where the live runs are: their sockets, and the one that a person means. Quick to import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ramure.home import ramure_home
from ramure.runtime.control.errors import AmbiguousRun, NoSuchRun

__all__ = ["address", "choose", "sockets"]


def sockets() -> list[Path]:
    """Every control socket of this user, also those that dead runs have left."""
    place = ramure_home() / "runtimes"
    return sorted(place.glob("*.sock")) if place.is_dir() else []


def address(path: Path) -> str:
    """What to connect to for one of the :func:`sockets`: it may be a link, where its own path is too long."""
    return os.path.realpath(path)


def choose(wanted: str | None, live: Sequence[str]) -> str:
    """The id, among those of the live runs, that begins with ``wanted`` (its first two words are a name to remember);
    without it, the only one. Raises :class:`NoSuchRun` and :class:`AmbiguousRun`."""
    fitting = [run for run in live if run.startswith(wanted or "")]
    if wanted in fitting:
        return str(wanted)
    if len(fitting) == 1:
        return fitting[0]
    if not live:
        raise NoSuchRun("no run is live; start one, then try again (`ramure ls --all` shows those that have ended)")
    if not fitting:
        raise NoSuchRun(f"no live run's id begins with {wanted!r}; there are: {_listed(live)}")
    raise AmbiguousRun(f"several runs are live; say which with --id: {_listed(fitting)}")


def _listed(runs: Sequence[str]) -> str:
    more = f" and {len(runs) - 10} more" if len(runs) > 10 else ""
    return ", ".join(runs[:10]) + more
