"""Git worktrees as working directories: how one is made, written down, and removed once its work is saved. Blocking.

What is known of a worktree stands in a lease (a file of mode 0600 in ``RAMURE_HOME``), never in the worktree: only what a
lease names is a worktree of ours, for the machine's ``stop()`` and for ``ramure gc`` alike.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ramure.machines.copies.snapshot import DirectorySnapshot
from ramure.machines.copies.workspace import Workspace, copied, copy_of
from ramure.machines.errors import CopyFailed
from ramure.machines.git.command import GitFailed, locked, plumbing, user_git
from ramure.machines.git.saving import save, without_lock
from ramure.machines.git.worktree_status import Worktree, branch_has_nothing_of_its_own
from ramure.machines.reaper.directories import adopted, make, remove_recorded, remove_tree
from ramure.machines.reaper.removal import identify

__all__ = ["WorktreeSpace", "freeze_worktree", "undo_worktree", "worktree_of"]

ATTEMPTS: Final = 12
TRANSIENT: Final = re.compile(
    r"\.lock'?: File exists|[Uu]nable to (create|lock)|could not lock|failed to read .*(commondir|gitdir|HEAD)|"
    r"could not create (leading )?directory|cannot lock ref(?!.*exists; cannot create)",
    re.DOTALL,
)
"""What git says when another git was in the way just then."""

CLOCK: Final = 0.02
"""Seconds in which the clock of file systems is sure to move on."""


@dataclass(frozen=True)
class WorktreeSpace(Workspace):
    """A directory that is a git worktree. It goes when all that was done in it is held by refs of the repository."""

    worktree: Worktree = field(kw_only=True, repr=False)

    def discard(self) -> None:
        """Save the work, and remove the directory. Raises :class:`WorkNotSaved`, and then it is as it was."""
        _remove(self.worktree)

    def made(self) -> str:
        return ""  # the reaper of a program that died cannot save the work: the lease says what is to be done

    def fork(self, identity: str) -> Workspace:
        """A worktree of its own, on a branch of its own, with the same commit, files and staged changes."""
        return _like(self.path, State.of(self.worktree), identity)


@dataclass(frozen=True, slots=True)
class State:
    """What a worktree has beside its files: the commit that it is at, and its index."""

    common: str
    head: str
    index: bytes

    @classmethod
    def of(cls, worktree: Worktree) -> State:
        try:
            head = plumbing(worktree.admin, "rev-parse", "--verify", "HEAD^{commit}", common=worktree.common)
            return cls(worktree.common, head.decode().strip(), Path(worktree.admin, "index").read_bytes())
        except OSError as error:
            raise CopyFailed(f"{worktree.path} is no worktree any more: {error}") from error


class FrozenWorktree(DirectorySnapshot):
    """A worktree as it was. What is made of it are worktrees again, each on a branch of its own."""

    def __init__(self, copy: Workspace, state: State) -> None:
        super().__init__(copy, None, linked=True)
        self._state = state

    def _spawn(self, identity: str) -> Workspace:
        return _like(self.layers[0], self._state, identity)


def freeze_worktree(space: WorktreeSpace, identity: str) -> DirectorySnapshot:
    """A copy of a worktree's present state that nobody changes. Raises :class:`CopyFailed`."""
    state = State.of(space.worktree)
    copy = copy_of(space.path, identity)
    try:
        return FrozenWorktree(copy, state)
    except BaseException:
        copy.remove()
        raise


def worktree_of(repository: str | os.PathLike[str], identity: str) -> WorktreeSpace:
    """A git worktree of ``repository``'s HEAD, on a new branch ``ramure/<identity>``. Raises :class:`CopyFailed`, and
    then nothing is left."""
    source = str(Path(repository).expanduser().absolute())
    common = _line(user_git(source, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    try:
        base = user_git(source, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
    except GitFailed as error:
        raise CopyFailed(
            f"{source} has no commit from which a worktree could be made: commit something first"
        ) from error

    def fill(path: str) -> None:
        user_git(path, "reset", "--hard", "--quiet", "--no-recurse-submodules", base)

    return _added(source, common, base, identity, fill)


def undo_worktree(fields: Mapping[str, Any]) -> None:
    """Save and remove a worktree that a dead program left, whose processes have all ended, by the fields of its lease.
    Raises :class:`WorkNotSaved` and :class:`NotRemoved`."""
    known = fields["worktree"]
    with adopted(fields) as parent:
        if not isinstance(known, Mapping) or set(known) != set(Worktree.__slots__):
            raise ValueError(f"no worktree: {str(known)[:100]}")
        texts = [known[name] for name in Worktree.__slots__ if name != "inode"]
        if not all(isinstance(text, str) and "\0" not in text for text in texts) or not isinstance(known["inode"], int):
            raise ValueError(f"no worktree: {str(known)[:100]}")
        worktree = Worktree(**{str(name): value for name, value in known.items()})
        if os.path.dirname(worktree.path) != parent or not re.fullmatch(r"[\w-]+", worktree.identity, re.ASCII):
            raise ValueError(f"no worktree in {parent}: {worktree.path[:100]}")
        if worktree.admin != f"{worktree.common}/worktrees/ramure-{worktree.identity}" or worktree.base.startswith("-"):
            raise ValueError(f"no worktree of {worktree.common[:100]}")
        _remove(worktree)


def _line(said: bytes) -> str:
    return os.fsdecode(said.removesuffix(b"\n"))


def _like(files: str, state: State, identity: str) -> WorktreeSpace:
    """A worktree with these files, in this state."""

    def fill(path: str) -> None:
        link = Path(path, ".git").read_bytes()
        copied(files, path)
        os.unlink(f"{path}/.git")
        Path(path, ".git").write_bytes(link)
        Path(os.fsdecode(link.removeprefix(b"gitdir: ").removesuffix(b"\n")), "index").write_bytes(state.index)

    return _added(state.common, state.common, state.head, identity, fill)


def _added(source: str, common: str, base: str, identity: str, fill: Callable[[str], None]) -> WorktreeSpace:
    """Add a worktree, let ``fill`` put the files into it, and note what they are; again, where another git was in the way."""
    for attempt in range(1, ATTEMPTS):
        try:
            return _added_once(source, common, base, identity, fill)
        except GitFailed as error:
            # git's own directory of this worktree is new: if it is missing, somebody has pruned it, half made.
            if not TRANSIENT.search(error.said) and f"worktrees/ramure-{identity}" not in error.said:
                raise
            time.sleep(random.uniform(0.05, 0.1) * attempt)
    return _added_once(source, common, base, identity, fill)


def _added_once(source: str, common: str, base: str, identity: str, fill: Callable[[str], None]) -> WorktreeSpace:
    made: list[Worktree] = []

    def prepare(parent: str) -> dict[str, Any]:
        path = f"{parent}/ramure-{identity}"
        os.mkdir(path, 0o700)
        admin = f"{common}/worktrees/ramure-{identity}"
        made.append(Worktree(identity, path, os.stat(path).st_ino, common, admin, base))
        return {"worktree": asdict(made[0])}

    make(identity, f"a git worktree of {source} in", "worktree", prepare)
    worktree = made[0]
    path = worktree.path
    try:
        command = ("worktree", "add", "--quiet", "--lock", "--no-checkout", "--no-track", "-b", worktree.branch)
        with locked(common):  # one at a time: git reads what another has half made
            user_git(source, *command, path, base, git_dir=common)
        if Path(path, ".git").read_bytes() != worktree.link or os.stat(path).st_ino != worktree.inode:
            raise CopyFailed(f"{path}: git has made the worktree elsewhere than in {worktree.admin}")
        fill(path)
        _note(worktree)
    except BaseException:
        _undo(worktree)
        raise
    return WorktreeSpace(path, note=f"a git worktree on {worktree.branch}", worktree=worktree)


def _note(worktree: Worktree) -> None:
    """Make git write the reflog, whatever the user's configuration says; keep what the files were like in the beginning."""
    logs = Path(worktree.admin, "logs")
    logs.mkdir(exist_ok=True)
    (logs / "HEAD").touch()
    time.sleep(CLOCK)  # so that whatever is changed from now on has a later time
    index = Path(worktree.admin, "index")
    if index.exists():
        shutil.copyfile(index, f"{worktree.admin}/ramure-index")


def _undo(worktree: Worktree) -> None:
    """Leave nothing of a worktree that nobody has worked in."""
    with contextlib.suppress(OSError), locked(worktree.common):
        _remove_admin(worktree)
        with contextlib.suppress(GitFailed):  # there is no such branch, or it is at another commit
            plumbing(worktree.common, "update-ref", "-d", worktree.own, worktree.base)
    remove_tree(os.path.dirname(worktree.path))


def _remove(worktree: Worktree) -> None:
    save(worktree)
    parent = os.path.dirname(worktree.path)
    if os.path.lexists(worktree.path):
        # At once: of a directory that is half removed, a further try would save that half.
        os.rename(worktree.path, f"{parent}/saved")
    with locked(worktree.common):
        _remove_admin(worktree)
        tip = _tip(worktree)
        if tip and branch_has_nothing_of_its_own(worktree, tip):
            without_lock(worktree, worktree.own)
            plumbing(worktree.common, "update-ref", "-d", worktree.own, tip)
    remove_tree(parent)  # and its lease, last


def _tip(worktree: Worktree) -> str:
    try:
        return plumbing(worktree.common, "rev-parse", "--verify", "--quiet", worktree.own).decode().strip()
    except GitFailed:
        return ""


def _remove_admin(worktree: Worktree) -> None:
    """git's own directory of this worktree. (`git worktree prune` would remove those of others, on disks that are not
    mounted just now.)"""
    worktrees = os.path.dirname(worktree.admin)
    if (
        os.path.basename(worktrees) == "worktrees"
        and os.path.isdir(worktree.admin)
        and not os.path.islink(worktree.admin)
    ):
        remove_recorded(worktree.admin, identify(worktree.admin))
        with contextlib.suppress(OSError):  # there are others
            os.rmdir(worktrees)
