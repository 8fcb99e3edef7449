"""A line of the run's log: any entry becomes one, whatever its values are. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ramure.exits import safe_repr

__all__ = ["log_line"]

LONGEST_REPR: Final = 10_000
"""Characters of a value that JSON does not have: it stands in the log as its repr."""


def log_line(entry: Mapping[str, Any]) -> bytes:
    """``entry`` as a line of JSON. A value that JSON cannot express (keys that are no text, a cycle, too deep nesting, a
    repr that raises) is told by its repr: what a program emits must not end the actor that writes it down."""
    try:
        text = _json(entry)
    except (TypeError, ValueError, RecursionError):
        text = _json({name: _plain(value) for name, value in entry.items()})
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _plain(value: object) -> object:
    try:
        _json(value)
    except (TypeError, ValueError, RecursionError):
        return _repr(value)
    return value


def _repr(value: object) -> str:
    return safe_repr(value, LONGEST_REPR)


_json: Final = json.JSONEncoder(ensure_ascii=False, default=_repr).encode
