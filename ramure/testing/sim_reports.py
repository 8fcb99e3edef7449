"""What a simulated pi may report: as the extension's (``agents/extension/wire.ts``). Pure: no I/O.

tests/agents/vectors/reports.json holds both to the same rules.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ramure.agents.wire import MAX_FRAME

__all__ = ["LIMITS", "Limits", "excess", "fitted"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the data of a report may be, so that its frame is one that the run reads: bytes of JSON, values, levels of
    nesting. ``text``: characters of each text that is left where a report is cut."""

    bytes: int
    values: int
    depth: int
    text: int


LIMITS: Final = Limits(bytes=MAX_FRAME - 1024, values=249_000, depth=98, text=512 * 1024)

_to_text: Final = json.JSONEncoder(separators=(",", ":")).encode


def excess(data: dict[str, Any], limits: Limits = LIMITS) -> str | None:
    """By what a report's data is over the limits; None when it is not."""
    values, depth = 0, 0
    level: list[Any] = [data]
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > limits.depth:
            return f"more than {limits.depth} levels of nesting"
        values += sum(max(1, len(value)) for value in level)
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
    if values > limits.values:
        return f"more than {limits.values} values"
    size = len(_to_text(data))
    return f"{size} bytes, and {limits.bytes} is the limit" if size > limits.bytes else None


def fitted(kind: str, data: dict[str, Any], limits: Limits = LIMITS) -> tuple[str, dict[str, Any]]:
    """The kind and data of a report that the run can read: what is over the limits is cut, and says so."""
    reason = excess(data, limits)
    if reason is None:
        return kind, data
    cut: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, str) and len(value) > limits.text:
            cut[name] = f"{value[: limits.text]}… ({len(value) - limits.text} characters left out)"
        else:
            cut[name] = {"left_out": reason} if name == "arguments" else value
    if excess(cut, limits) is None:
        return kind, cut
    return "problem", {"code": "too_large", "message": f"a {kind} report is left out: {reason}", "seq": None}
