"""Working directories on this host: yours, temporary ones, and copies of them. Blocking functions. (Git worktrees: ``worktrees``.)"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ramure.machines.errors import CopyFailed
from ramure.marks import marked_prefix

__all__ = ["WORKTREE", "Workspace", "copied", "copy_of", "remove_tree", "temporary", "yours"]

WORKTREE = "worktree-"
"""What stands in the names of directories of git worktrees: these go when their work is saved, and else stay."""


@dataclass(frozen=True)
class Workspace:
    """A directory to work in. ``owned`` directories are removed; ``note`` says what is special about it."""

    path: str
    owned: bool = True
    note: str = ""

    def remove(self) -> None:
        """Remove it, if it is ours."""
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
    return Workspace(tempfile.mkdtemp(prefix=marked_prefix(identity)))


def copy_of(source: str, identity: str) -> Workspace:
    """An independent copy of ``source``, by reflink where the file system can, else file by file.

    Not by hard links: a file that is changed in place would change in both.
    """
    copy = tempfile.mkdtemp(prefix=marked_prefix(identity))
    try:
        return Workspace(copy, note=f"made by {copied(source, copy)}")
    except BaseException:
        remove_tree(copy)
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


def remove_tree(path: str) -> None:
    """Remove a directory of ours, also where a command took away the right to."""

    def mend(_function: object, failed: str, _info: object) -> None:
        directory = os.path.isdir(failed) and not os.path.islink(failed)
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(failed), 0o700)
            if directory:
                os.chmod(failed, 0o700)
        shutil.rmtree(failed) if directory else os.unlink(failed)

    if os.path.exists(path):
        shutil.rmtree(path, onerror=mend)
