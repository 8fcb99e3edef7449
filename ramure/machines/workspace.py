"""Working directories on this host: yours, temporary ones, copies of them, and git worktrees. Blocking functions."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ramure.machines.errors import CopyFailed, WorkNotSaved
from ramure.marks import marked_prefix

__all__ = ["Workspace", "copied", "copy_of", "left_behind", "remove_tree", "temporary", "worktree_of", "yours"]

GIT_LIMIT = 600.0
"""Seconds for one command of git: a large repository takes its time, and one that waits for somebody has none."""

COMMIT_MESSAGE = "What was not committed when the machine stopped"


@dataclass(frozen=True)
class Workspace:
    """A directory to work in. ``owned`` directories are removed; ``note`` says what is special about it."""

    path: str
    owned: bool = True
    note: str = ""
    repository: str = ""
    branch: str = ""

    def remove(self) -> None:
        """Remove it, if it is ours; the work in a git worktree stays on its branch."""
        if self.repository:
            _save_worktree(self)
        if self.owned:
            remove_tree(self.path)
        if self.repository:
            _git(self.repository, "worktree", "prune")

    def undo(self) -> list[list[str]]:
        """The commands that must run before :meth:`made` is removed, if this program dies."""
        return []

    def made(self) -> str:
        """What is to be removed if this program dies; "" for nothing. (A git worktree holds work to be saved.)"""
        return self.path if self.owned and not self.repository else ""

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


def worktree_of(repository: str | os.PathLike[str], identity: str) -> Workspace:
    """A git worktree of ``repository``'s HEAD, on a new branch ``ramure/<identity>``."""
    source = str(Path(repository).expanduser().absolute())
    parent = tempfile.mkdtemp(prefix=marked_prefix(identity))
    branch = f"ramure/{identity}"
    try:
        _git(source, "worktree", "add", "--quiet", "-b", branch, f"{parent}/", "HEAD")
    except BaseException:
        remove_tree(parent)
        raise
    return Workspace(parent, note=f"a git worktree on {branch}", repository=source, branch=branch)


def left_behind(path: str) -> Workspace:
    """A directory of ours that its program, which was killed, did not remove."""
    link = Path(path, ".git")
    if not link.is_file():
        return Workspace(path)
    try:
        repository = Path(_git(path, "rev-parse", "--path-format=absolute", "--git-common-dir")).parent
        branch = _git(path, "rev-parse", "--abbrev-ref", "HEAD")
    except CopyFailed:
        return Workspace(path)  # its repository is gone, and with it what the work could be saved to
    if not branch.startswith("ramure/"):
        return Workspace(path)  # an agent made it a worktree of something else
    return Workspace(path, repository=str(repository), branch=branch)


def _save_worktree(workspace: Workspace) -> None:
    """Keep what was done: what is not committed is, on the branch; a branch with nothing of its own goes.

    Nothing of the machine runs any more. Raises :class:`WorkNotSaved`, and then the directory is still there.
    """
    path, repository = workspace.path, workspace.repository
    try:
        if os.path.isdir(path):
            _commit_rest(path, workspace.branch)
    except (CopyFailed, OSError) as error:
        raise WorkNotSaved(path, str(error)) from error
    remove_tree(path)
    _git(repository, "worktree", "prune")
    if not _git(
        repository, "log", "--format=%H", "-1", workspace.branch, "--not", f"--exclude={workspace.branch}", "--branches"
    ):
        _git(repository, "branch", "--quiet", "-D", workspace.branch)


def _commit_rest(path: str, branch: str) -> None:
    locks = ("index.lock", "HEAD.lock", f"refs/heads/{branch}.lock")
    options = [option for lock in locks for option in ("--git-path", lock)]
    for lock in _git(path, "rev-parse", "--path-format=absolute", *options).splitlines():
        Path(lock).unlink(missing_ok=True)  # of a git that was killed with the machine: nobody else uses these
    if _git(path, "status", "--porcelain"):
        _git(path, "add", "--all")
        # Nobody is there to be asked for a key's passphrase, nor to hear what a hook refuses or waits for. (--no-verify
        # leaves out two hooks of four.)
        mine = {"user.name": "ramure", "user.email": "ramure@localhost", "core.hooksPath": os.devnull}
        options = [option for name, value in mine.items() for option in ("-c", f"{name}={value}")]
        _git(path, *options, "commit", "--quiet", "--no-gpg-sign", "-m", COMMIT_MESSAGE)


def _git(directory: str, *args: str) -> str:
    """What git says. Raises :class:`CopyFailed`."""
    what = f"git {next(arg for arg in args if not arg.startswith('-') and '=' not in arg)} in {directory}"
    try:
        done = subprocess.run(
            ["git", "-C", directory, *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise CopyFailed(f"{what}: it did not end within {GIT_LIMIT:g} s") from None
    if done.returncode != 0:
        raise CopyFailed(f"{what}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


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
