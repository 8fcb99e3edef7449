"""The supervision tree of a run, as plain data: what ``ramure tree`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramure.actors._kernel.cell import Cell

if TYPE_CHECKING:
    from ramure.runtime.run.run import Run

__all__ = ["run_tree"]


def run_tree(run: Run) -> dict[str, Any]:
    """The run's tree now: ``{"label", "kind", "children"}``, children in order of their start.

    ``label`` is the name in the tree (``main#1``, an agent's address, ``machine 1``), ``kind`` the class of the actor.
    A child is whatever was started linked to its parent.
    """
    below: dict[Cell, list[Cell]] = {}
    for cell in run.system.cells.values():
        if cell.parent is not None:
            below.setdefault(cell.parent, []).append(cell)
    return _node(run.root._cell, below)


def _node(cell: Cell, below: dict[Cell, list[Cell]]) -> dict[str, Any]:
    children = [_node(child, below) for child in below.get(cell, ())]
    return {"label": cell.given_label or cell.kind, "kind": cell.kind, "children": children}
