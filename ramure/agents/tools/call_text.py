"""A tool call in a line, for people: ``bash: pytest -q``. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["call_text"]

TELLING: Final = ("command", "path", "file_path", "pattern", "query", "url")
"""Arguments that say by themselves what a call is about; the others are left out then."""


def call_text(name: object, arguments: object, most: int) -> str:
    """The tool's name and what it is about, in one line of at most ``most`` characters."""
    room = max(0, most)
    text = _line(str(name), room)
    given: Mapping[Any, Any] = arguments if isinstance(arguments, Mapping) else {}
    about = next((given[key] for key in TELLING if isinstance(given.get(key), str)), None)
    if about is None and len(given) == 1:
        about = next(iter(given.values()))
    if about is not None:
        text += f": {_value(about, room)}"
    elif given:
        text += ": " + ", ".join(
            f"{_line(str(key), room)}={_value(value, room)}" for key, value in list(given.items())[:20]
        )
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"


def _value(value: object, room: int) -> str:
    """A value without its line breaks."""
    text = value if isinstance(value, str) else repr(value) if _is_small(value) else _shape(value)
    return _line(text, room)


def _line(text: str, room: int) -> str:
    """In one line; of a long text, no more is read than is shown."""
    return " ".join(text[: 4 * room + 4].split())[: room + 1]


def _is_small(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _shape(value: object) -> str:
    """A collection by its first items: it may be megabytes long."""
    if isinstance(value, list):
        return "[" + ", ".join(_value(each, 40) for each in value[:5]) + (", …]" if len(value) > 5 else "]")
    if isinstance(value, Mapping):
        shown = [f"{_line(str(key), 40)}: {_value(each, 40)}" for key, each in list(value.items())[:5]]
        return "{" + ", ".join(shown) + (", …}" if len(value) > 5 else "}")
    return type(value).__name__
