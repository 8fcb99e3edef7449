"""What of a run's actors people want to see: its processes, agents and machines, and what a program has started itself.

The run's own parts, the supervisors between a process and what it owns, and the sessions of agents are left out where
nothing is to be seen in them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["folded"]

Row = dict[str, Any]

PARTS: Final = ("log", "gateway", "tmux", "control", "processes")
"""Below the run, its own."""

SUPERVISORS: Final = re.compile(r"(machines|agents|children) of ")
SESSIONS: Final = re.compile(r"(session|pi) of ")

CROWDED: Final = 10
"""Waiting messages of a part of the run's own that are worth a look."""


def folded(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows that are shown, with the depth at which they are then, and how many are not."""
    shown: list[Row] = []
    above: list[
        tuple[int, int, bool]
    ] = []  # of those that a row is below: real depth, depth as shown, whether machinery
    for row in rows:
        while above and above[-1][0] >= row["depth"]:
            above.pop()
        depth = above[-1][1] + 1 if above else 0
        own = bool(above) and above[-1][2]
        hides, machinery = _hides(row, own)
        if hides and not _is_odd(row):
            above.append((row["depth"], depth - 1, machinery))
        else:
            shown.append({**row, "depth": depth})
            above.append((row["depth"], depth, machinery))
    return shown, len(rows) - len(shown)


def _hides(row: Row, own: bool) -> tuple[bool, bool]:
    """Whether a row is left out, and whether what is below it is machinery too."""
    label, supervisor = row["label"], "Supervisor" in row["kind"]
    if own:
        return True, True
    if row["depth"] == 1 and label in PARTS and row["path"] == f"run/{label}":
        return True, label != "processes"
    if SESSIONS.match(label) and (supervisor or row["kind"] == "Session"):
        return True, True
    return (supervisor and SUPERVISORS.match(label) is not None), False


def _is_odd(row: Row) -> bool:
    """Something is to be seen in it."""
    return row["state"] in ("suspended", "stopping") or row["mailbox"] >= CROWDED
