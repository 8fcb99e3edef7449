"""Removes the logs of runs that ended long ago: ``ramure gc --logs``. Blocking.

A directory goes only if it is one of a run's logs as a run makes it: of this user, with a run's log that begins with that run's
start, and nothing in it but logs and sessions. Where anything else is in it, all of it stays, and is told.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ramure.machines.reaper.removal import Refused, identify, remove_tree
from ramure.runtime.log.files import entries
from ramure.runtime.log.reader import RUN_LOG
from ramure.runtime.run.gc import Leftover
from ramure.runtime.run.lease import leases

__all__ = ["remove_old_logs"]

LOG: Final = re.compile(r"[^/]+\.jsonl(\.\d+)?|\.reserve\..*")
SESSION: Final = re.compile(r"[^/]+\.jsonl(\.\w+)*|[^/]*\.reserve")
SESSIONS: Final = "sessions"


def remove_old_logs(home: Path, before: float, *, dry_run: bool = False) -> list[Leftover]:
    """Remove the logs of runs whose last entry is older than ``before`` (seconds since 1970), and say which these were.

    Runs that have a lease or a socket stay: they live, or `ramure gc` has to remove what they left first.
    """
    runtimes = home / "runtimes"
    known, unreadable = leases(runtimes)
    kept = {lease.execution_id for _, lease in known} | {each.path.stem for each in unreadable}
    kept |= {path.stem for path in runtimes.glob("*.sock")}
    return [
        found for path in _directories(home / "logs") if path.name not in kept for found in _old(path, before, dry_run)
    ]


def _directories(logs: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted(path for path in logs.iterdir() if stat.S_ISDIR(path.lstat().st_mode))


def _old(path: Path, before: float, dry_run: bool) -> Iterator[Leftover]:
    try:
        if (path / RUN_LOG).lstat().st_mtime >= before:
            return
    except OSError:
        return  # no run's logs
    foreign = _foreign(path)
    if foreign is not None:
        yield Leftover(path.name, "log", str(path), error=f"{foreign}; look what it is, then delete the directory")
        return
    size = sum(file.lstat().st_size for file in path.rglob("*"))
    told = f"{path} ({size / 1e6:,.1f} MB)"
    try:
        if not dry_run:
            remove_tree(str(path), identify(str(path)))
    except (Refused, OSError) as error:
        yield Leftover(path.name, "log", told, error=str(error))
        return
    yield Leftover(path.name, "log", told)


def _foreign(path: Path) -> str | None:
    """Why this is no directory of a run's logs alone."""
    if path.lstat().st_uid != os.getuid():
        return "it is another user's"
    first = next(entries(path / RUN_LOG), {})
    if first.get("type") != "run_started" or first.get("execution_id") != path.name:
        return f"{RUN_LOG} does not begin with the start of this run"
    for directory, fitting in ((path, LOG), (path / SESSIONS, SESSION)):
        for each in sorted(directory.iterdir()) if directory.is_dir() else ():
            there = each.lstat()
            if each == path / SESSIONS and stat.S_ISDIR(there.st_mode):
                continue
            if not stat.S_ISREG(there.st_mode) or not fitting.fullmatch(each.name):
                return f"{each.relative_to(path)} in it is none of ramure's"
    return None
