"""What machines made outside this program (containers, mounts), written down, so that it can be removed when this
program and the keeper are both gone: after ``kill -9`` of both, or a power cut. Blocking functions.

A lease is a file in ``$RAMURE_HOME/machines``. Its owner holds a lock on it, which the kernel lets go when the
owner ends, however it ends: a lease that nobody locks is a dead program's. That cannot be fooled by a process id
that is used again, nor by a reboot.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramure.home import private_dir, ramure_home
from ramure.machines.keeper_program import remove

__all__ = ["Lease", "Stale", "remove_stale", "stale", "stale_worktrees", "take", "worktree_paths"]

UNDO_LIMIT = 60.0


class Lease:
    """A lease that this program holds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """What it stood for is gone. Harmless when repeated."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Stale:
    """A lease of a program that is dead. ``what`` is for people; ``run`` is the run's id, if it was in one. ``unread``
    says why the file could not be read, where that is so: then nothing else is known. ``worktree`` describes a git worktree:
    the work in it is to be saved before it goes (``ramure.machines.worktrees``)."""

    what: str
    run: str
    undo: tuple[tuple[str, ...], ...]
    paths: tuple[str, ...]
    path: Path
    unread: str = ""
    worktree: Mapping[str, Any] | None = None


def take(
    identity: str,
    what: str,
    *,
    run: str = "",
    undo: Sequence[Sequence[str]] = (),
    paths: Sequence[str] = (),
    worktree: Mapping[str, Any] | None = None,
) -> Lease:
    """Write down that ``what`` is about to be made, the commands that undo it, and the paths to remove after them; or the
    git worktree that it is."""
    directory = private_dir(ramure_home() / "machines")
    target = directory / f"{identity}.json"
    new = directory / f".{identity}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = {
            "what": what,
            "run": run,
            "host": socket.gethostname(),
            "undo": [list(argv) for argv in undo],
            "paths": list(paths),
            "worktree": None if worktree is None else dict(worktree),
        }
        os.write(descriptor, json.dumps(content).encode())
        os.fsync(descriptor)  # after a power cut it is there with what it says, or not at all
        new.rename(target)  # locked before anybody can see it
    except BaseException:
        new.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return Lease(target, descriptor)


def stale(home: Path | None = None) -> list[Stale]:
    """The leases of dead programs, for a listing; nothing is changed."""
    found = []
    for path in sorted(((home or ramure_home()) / "machines").glob("*.json")):
        with _abandoned(path) as lease:
            if lease is not None:
                found.append(lease)
    return found


def remove_stale(home: Path | None = None) -> tuple[list[Stale], list[tuple[Stale, str]]]:
    """Undo what dead programs left: what was removed, and what could not be, with the reason (its lease stays)."""
    removed, refused = [], []
    for path in sorted(((home or ramure_home()) / "machines").glob("*.json")):
        with _abandoned(path) as lease:
            if lease is None or lease.worktree is not None:
                continue
            if lease.unread:
                refused.append((lease, f"{lease.unread}; look for what it may have been, then delete the file"))
                continue
            try:
                for argv in lease.undo:
                    subprocess.run(
                        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UNDO_LIMIT, check=True
                    )
                for made in lease.paths:
                    remove(made)
            except subprocess.CalledProcessError as error:
                refused.append((lease, (error.stderr or error.stdout or str(error)).strip()))
            except (OSError, subprocess.TimeoutExpired) as error:
                refused.append((lease, str(error)))
            else:
                path.unlink(missing_ok=True)
                removed.append(lease)
    return removed, refused


def stale_worktrees(home: Path | None = None) -> Iterator[Stale]:
    """The leases of git worktrees that dead programs left, each locked by us until the next is asked for. Whoever has
    saved and removed one unlinks its ``path``."""
    for path in sorted(((home or ramure_home()) / "machines").glob("*.json")):
        with _abandoned(path) as lease:
            if lease is not None and lease.worktree is not None:
                yield lease


def worktree_paths(home: Path | None = None) -> list[str]:
    """The git worktrees that leases name, whoever holds them: nobody but who saves the work removes these."""
    found = []
    for path in ((home or ramure_home()) / "machines").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(str(json.loads(path.read_bytes())["worktree"]["path"]))
    return found


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[Stale | None]:
    """The lease in this file, locked by us, if nobody else holds it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:  # its owner has just released it
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if os.fstat(file.fileno()).st_nlink == 0:  # released between our open() and our lock
            yield None
            return
        yield _read(path, file.read())


def _read(path: Path, data: bytes) -> Stale | None:
    """What a lease says; None for another host's, in a home that several share: only that one can tell."""
    try:
        content = json.loads(data)
        if content["host"] != socket.gethostname():
            return None
        undo = tuple(tuple(argv) for argv in content["undo"])
        worktree = content.get("worktree")
        return Stale(content["what"], content["run"], undo, tuple(content["paths"]), path, worktree=worktree)
    except (ValueError, KeyError, TypeError) as error:
        said = f"this lease cannot be read: {type(error).__name__}: {error}"
        return Stale(f"something, by the lease {path}", "", (), (), path, said)
