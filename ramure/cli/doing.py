"""What an agent does, as cells of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ramure.cli.common import age
from ramure.cli.text import Cell, one_line, state

__all__ = ["DOING", "doing_cells"]

DOING = ("STATE", "FOR", "DOING")
"""The columns of :func:`doing_cells`; ``FOR`` is aligned to the right."""

SHORT = {"waiting_for_model": "waiting"}

WIDEST = 100


def doing_cells(agent: Mapping[str, Any], now: float) -> list[Cell]:
    """Its state, how long it has done what it does, and what that is: ``busy``, ``12s``, ``bash: pytest -q``."""
    name = "paused" if agent["paused"] else agent["state"]
    since = agent["doing_since"] if agent.get("doing_since") is not None else agent["since"]
    doing = one_line(agent.get("doing") or "", WIDEST)
    if agent["state"] == "waiting_for_model":
        doing = f"for its model: {doing}"
    return [state(name, SHORT.get(name)), age(now - since) if since is not None else "-", doing]
