"""Working directories on this host: yours, temporary ones, and copies of them. Blocking functions. (Git worktrees: ``worktrees``.)"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ramure.machines.errors import CopyFailed, NotRemoved
from ramure.machines.reaper.directories import make, remove_tree
from ramure.masking import get_logger

__all__ = ["Workspace", "copied", "copy_of", "temporary", "yours"]

logger: logging.Logger = get_logger("ramure.machines")


@dataclass(frozen=True)
class Workspace:
    """A directory to work in. ``owned`` directories are removed; ``note`` says what is special about it."""

    path: str
    owned: bool = True
    note: str = ""

    def remove(self) -> None:
        """Remove it, if it is ours. What cannot be removed safely stays, with a warning."""
        try:
            self.discard()
        except NotRemoved as kept:
            logger.warning("%s", kept)

    def discard(self) -> None:
        """As :meth:`remove`, but raises :class:`NotRemoved`."""
        if self.owned:
            remove_tree(self.path)

    def undo(self) -> list[list[str]]:
        """The commands that must run before :meth:`made` is removed, if this program dies."""
        return []

    def made(self) -> str:
        """What is to be removed if this program dies; "" for nothing."""
        return self.path if self.owned else ""

    def fork(self, identity: str) -> Workspace:
        """An independent copy of its present state. Raises :class:`CopyFailed`."""
        return copy_of(self.path, identity)


def yours(path: str | os.PathLike[str]) -> Workspace:
    """The user's own directory, made when missing, never removed."""
    where = Path(path).expanduser().absolute()
    where.mkdir(parents=True, exist_ok=True)
    return Workspace(str(where), owned=False)


def temporary(identity: str) -> Workspace:
    """An empty directory of mode 0700."""
    return Workspace(make(identity, "the working directory"))


def copy_of(source: str, identity: str) -> Workspace:
    """An independent copy of ``source``, by reflink where the file system can, else file by file.

    Not by hard links: a file that is changed in place would change in both.
    """
    copy = make(identity, "a copy of a working directory,")
    try:
        return Workspace(copy, note=f"made by {copied(source, copy)}")
    except BaseException:
        Workspace(copy).remove()
        raise


def copied(source: str, target: str) -> str:
    """Copy what is in ``source`` to ``target``; returns how. Raises :class:`CopyFailed`."""
    how = "reflink" if _reflinks(source, target) else "copy"
    if sys.platform == "linux":
        argv = ["cp", "-a", f"--reflink={'always' if how == 'reflink' else 'never'}", "--", f"{source}/.", target]
    else:
        argv = ["cp", "-a" if how == "copy" else "-ac", f"{source}/.", target]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CopyFailed(f"{source} could not be copied: {done.stderr.strip()}")
    return how


def _reflinks(source: str, target: str) -> bool:
    """Whether both directories are on one file system that can share blocks between files."""
    if os.stat(source).st_dev != os.stat(target).st_dev:
        return False
    flags = ["--reflink=always"] if sys.platform == "linux" else ["-c"]
    with tempfile.NamedTemporaryFile(dir=target) as probe:
        probe.write(b"x" * 8192)
        probe.flush()
        clone = f"{probe.name}.clone"
        done = subprocess.run(["cp", *flags, "--", probe.name, clone], capture_output=True, check=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(clone)
    return done.returncode == 0
