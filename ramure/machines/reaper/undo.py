"""What is done about each kind of lease whose program is dead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ramure.machines.copies.snapshot import undo_overlay
from ramure.machines.docker import undo as docker_undo
from ramure.machines.git.worktrees import undo_worktree
from ramure.machines.reaper.directories import adopted, remove_tree

__all__ = ["UNDO"]


def _directory(fields: Mapping[str, Any]) -> None:
    with adopted(fields) as path:
        remove_tree(path)


UNDO: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "directory": _directory,
    "worktree": undo_worktree,
    "overlay": undo_overlay,
    **{kind: docker_undo.undo(kind) for kind in docker_undo.KINDS},
}
"""By kind: the function that undoes it, given the lease's fields. It raises what could not be done."""
