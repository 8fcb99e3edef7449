"""What git says of a worktree, asked on the main repository's side. Blocking.

git never sees the agent's directory: only plumbing commands run, on the main repository and on its own directory of the
worktree. What is believed of a worktree is its record, :class:`Worktree`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ramure.machines.git.command import GitFailed, plumbing
from ramure.machines.git.contents import Entry

__all__ = [
    "STATE_LIMIT",
    "File",
    "IndexEntry",
    "Worktree",
    "branch_has_nothing_of_its_own",
    "find_unheld",
    "git",
    "held_elsewhere",
    "kinds_of",
    "lines_of",
    "read_index",
    "read_small_file",
    "read_tree",
    "resolve",
    "resolve_commit",
]

IDENTITY: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ramure"), ("EMAIL", "ramure@localhost"))
}

STATE_LIMIT: Final = 8 << 20
"""Bytes of a file of git's own about the worktree, above which it is none that names commits."""

INDEX_ENTRY: Final = re.compile(
    rb"(\d{6}) ([0-9a-f]{40,64}) (\d)\t([^\0]+)\0  ctime: (\d+):(\d+)\n  mtime: (\d+):(\d+)\n"
    rb"  dev: \d+\tino: (\d+)\n  uid: \d+\tgid: \d+\n  size: (\d+)\tflags: ([0-9a-f]+)\n"
)

File = tuple[str, str]
"""git's mode of a file, and its object."""


@dataclass(frozen=True, slots=True)
class Worktree:
    """What is written down of a worktree when it is made, out of the agent's reach: the only thing that is believed of it.

    ``common`` is the main repository's git directory, ``admin`` its directory of this worktree, ``base`` the commit from
    which it was made, ``inode`` that of ``path``.
    """

    identity: str
    path: str
    inode: int
    common: str
    admin: str
    base: str

    @property
    def branch(self) -> str:
        return f"ramure/{self.identity}"

    @property
    def own(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def kept(self) -> str:
        return f"refs/ramure-kept/{self.identity}"

    @property
    def link(self) -> bytes:
        """What its file ``.git`` says."""
        return b"gitdir: %s\n" % os.fsencode(self.admin)


@dataclass(slots=True)
class IndexEntry:
    mode: str
    oid: str
    stage: int
    path: bytes
    seen: tuple[int, ...]
    flags: int

    def matches(self, entry: Entry) -> bool:
        """Whether the file is as it was when the index was written. (git keeps 32 bits of numbers.)"""
        _, inode, size, modified, changed = entry.seen
        second = 1_000_000_000
        now = (changed // second, changed % second, modified // second, modified % second, inode, size)
        whole = changed % second != 0  # else the file system's times are too coarse to tell
        return whole and self.mode == entry.mode and self.seen == tuple(number & 0xFFFFFFFF for number in now)


def read_small_file(path: str) -> bytes:
    """A small regular file; empty where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, STATE_LIMIT) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def git(worktree: Worktree, *args: str, stdin: bytes | Iterator[bytes] = b"", index: str = "") -> bytes:
    return plumbing(worktree.common, *args, stdin=stdin, index=index, env=IDENTITY)


def resolve(worktree: Worktree, ref: str) -> str:
    """The object of a ref of the main repository; "" for none."""
    try:
        return git(worktree, "rev-parse", "--verify", "--quiet", ref).decode().strip()
    except GitFailed:
        return ""


def resolve_commit(worktree: Worktree, ref: str) -> str:
    """A commit, as the worktree sees the ref; "" for none, also where its git directory is gone or damaged."""
    try:
        said = plumbing(worktree.admin, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", common=worktree.common)
    except GitFailed:
        return ""
    return said.decode().strip()


def read_tree(worktree: Worktree, tree: str) -> dict[bytes, File]:
    """All files of a tree, by path."""
    found = {}
    for line in git(worktree, "ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, oid = about.decode().split()
        found[path] = (mode, oid)
    return found


def read_index(worktree: Worktree, path: str) -> list[IndexEntry]:
    """The entries of an index; none where there is no such file. Raises :class:`GitFailed` for one that cannot be read."""
    if not os.path.isfile(path):
        return []
    command = ("ls-files", "--stage", "--debug", "-z")
    try:
        said = plumbing(worktree.admin, *command, common=worktree.common, index=path)
    except GitFailed:
        said = git(worktree, *command, index=path)  # its own git directory may be damaged elsewhere
    entries, end = [], 0
    for match in INDEX_ENTRY.finditer(said):
        if match.start() != end:
            break
        end = match.end()
        mode, oid, stage = match[1].decode(), match[2].decode(), int(match[3])
        seen = tuple(map(int, match.group(5, 6, 7, 8, 9, 10)))
        entries.append(IndexEntry(mode, oid, stage, match[4], seen, int(match[11], 16)))
    if end != len(said):
        raise GitFailed(f"git ls-files of {path}", f"its answer is not understood: {said[end : end + 200]!r}")
    return entries


def kinds_of(worktree: Worktree, oids: Iterable[str]) -> dict[str, str]:
    """The kinds of those objects that are there."""
    asked = lines_of(sorted(set(oids)))
    if not asked:
        return {}
    lines = git(worktree, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked).decode().splitlines()
    return {oid: kind for oid, kind in (line.split(" ", 1) for line in lines) if kind != "missing"}


def lines_of(oids: Iterable[str]) -> bytes:
    return "".join(f"{oid}\n" for oid in oids).encode()


def held_elsewhere(*, without: str = "") -> list[str]:
    """Options for all refs that hold something for good."""
    return ["--not", *([f"--exclude={without}"] if without else []), "--branches", "--tags", "--remotes"]


def find_unheld(worktree: Worktree, commits: Iterable[str], also: Iterable[str] = ()) -> set[str]:
    """Those commits that no branch, tag or remote branch holds, nor one of ``also``."""
    asked = sorted(set(commits))
    if not asked:
        return set()
    stdin = lines_of([*asked, *(f"^{oid}" for oid in also)])
    said = git(worktree, "rev-list", "--stdin", *held_elsewhere(), stdin=stdin)
    return set(asked) & set(said.decode().split())


def branch_has_nothing_of_its_own(worktree: Worktree, tip: str) -> bool:
    """Whether other branches, tags or remote branches hold all that the machine's branch does."""
    others = held_elsewhere(without=worktree.branch)
    return not git(worktree, "rev-list", "--max-count=1", tip, *others).strip()
