"""A line of a log as an entry: what is on disk is input, and what is no entry is counted and passed over. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["LATEST", "LONGEST", "Entry", "Passed", "number", "parse"]

Entry = dict[str, Any]

LONGEST: Final = 32 << 20
"""Bytes of a line that a reader keeps: an agent's message is 16 MiB at most."""

LATEST: Final = 253_402_300_800.0
"""Seconds since 1970 of the year 10000: dates end there."""


@dataclass(slots=True)
class Passed:
    """What a reader has passed over."""

    lines: int = 0
    """Lines, or values in them, that are not what they should be."""
    files: dict[str, str] = field(default_factory=dict)
    """Files that are none of ours, or cannot be read, with the reason."""

    def __bool__(self) -> bool:
        return bool(self.lines or self.files)

    def __str__(self) -> str:
        lines = "1 line that is no valid entry" if self.lines == 1 else f"{self.lines} lines that are no valid entries"
        files = [why for _, why in sorted(self.files.items())]
        return "passed over: " + "; ".join(([lines] if self.lines else []) + files)


def parse(line: bytes) -> Entry | None:
    """The entry in a line; None for what is no entry: a power cut can leave zeros, a full disk half a line.

    An entry is a JSON object. Where it has them, ``type`` is a text, ``ts`` a time in seconds since 1970, and ``seq`` a
    number from 0 on. Its other values are anything.
    """
    try:
        entry = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("type", ""), str):
        return None
    at = entry.get("ts", 0.0)
    if number(at) is None or not -LATEST < at < LATEST:
        return None
    seq = entry.get("seq", 0)
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 1 << 53:
        return None
    return entry


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
