"""Which files of a worktree git ignores, and how many of them are kept. Blocking.

The rules are read as bytes, and git gets copies of them in a directory of ours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ramure.machines.git.command import GitFailed, plumbing
from ramure.machines.git.contents import Contents, data
from ramure.machines.git.worktree_status import STATE_LIMIT, Worktree, git, read_tree

__all__ = ["IGNORED_BYTES", "IGNORED_FILES", "choose_left_out", "find_ignored", "parents_of"]

IGNORED_BYTES: Final = 256 << 20
IGNORED_FILES: Final = 20_000
"""Up to here ignored files are all kept. Beyond it, directories that the rules of the commit ignore from which the worktree
was made (node_modules, target) are left out, the largest first: they are the repository's own build products."""


def find_ignored(found: Contents, worktree: Worktree, paths: list[bytes]) -> set[bytes]:
    """Which of these paths the files ``.gitignore`` name, as they are now."""
    rules = {path: entry for path, entry in found.files.items() if os.path.basename(path) == b".gitignore"}
    texts = {
        path: b"".join(data(worktree.path, path, entry))
        for path, entry in rules.items()
        if entry.mode != "120000" and entry.size <= STATE_LIMIT
    }
    return ignored_by(worktree, texts, paths)


def ignored_by(worktree: Worktree, rules: Mapping[bytes, bytes], paths: list[bytes]) -> set[bytes]:
    """git reads the rules in a directory of ours, in which there is nothing else."""
    if not paths:
        return set()
    with tempfile.TemporaryDirectory(prefix="ramure-git-") as place:
        for path, text in rules.items():
            copy = os.path.join(os.fsencode(place), path)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            Path(os.fsdecode(copy)).write_bytes(text)
        try:
            said = plumbing(
                worktree.common,
                *("check-ignore", "--no-index", "-z", "--stdin"),
                work_tree=place,
                stdin=b"".join(b"./" + path + b"\0" for path in paths),  # so that none begins with a colon
            )
        except GitFailed as error:
            if error.status == 1:  # none of them
                return set()
            raise
    return {path.removeprefix(b"./") for path in said.split(b"\0")[:-1]}


def choose_left_out(worktree: Worktree, found: Contents, ignored: set[bytes]) -> list[bytes]:
    """The ignored files that are left out, so that the rest is not more than the limits."""
    size = sum(found.files[path].size for path in ignored)
    if size <= IGNORED_BYTES and len(ignored) <= IGNORED_FILES:
        return []
    rules = {
        path: git(worktree, "cat-file", "blob", oid)
        for path, (mode, oid) in read_tree(worktree, worktree.base).items()
        if os.path.basename(path) == b".gitignore" and mode != "120000"
    }
    groups: dict[bytes, list[bytes]] = {}
    kept_directories = {os.path.dirname(path) for path in found.files if path not in ignored}
    kept_directories |= {parent for path in kept_directories for parent in parents_of(path)}
    for path in ignored_by(worktree, rules, sorted(ignored)):
        top = next((parent for parent in parents_of(path) if parent not in kept_directories), path)
        groups.setdefault(top, []).append(path)
    weight = {top: sum(found.files[path].size + 4096 for path in paths) for top, paths in groups.items()}
    left_out: list[bytes] = []
    count = len(ignored)
    for top in sorted(groups, key=lambda top: -weight[top]):
        if size <= IGNORED_BYTES and count <= IGNORED_FILES:
            break
        left_out += groups[top]
        size -= sum(found.files[path].size for path in groups[top])
        count -= len(groups[top])
    return left_out


def parents_of(path: bytes) -> list[bytes]:
    """The directories above a path, from the top."""
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
