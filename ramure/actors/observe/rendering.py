"""Messages and state as short texts, for people who look into actors.

``repr`` of a message that holds megabytes takes as long as the megabytes do, on the event loop that it is to be looked
into; this takes what fits into the text, and leaves the rest unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from ramure.actors.messages import Ask, Call, Cast
from ramure.exits import safe_repr

__all__ = ["brief"]

DEEPEST: Final = 6

_BRACKETS: Final[dict[type, tuple[str, str]]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}")}


def brief(value: object, limit: int = 200) -> str:
    """As ``repr(value)``, cut to ``limit`` characters; never raises, and reads no more than it shows of strings,
    collections, dataclasses and the kernel's own messages."""
    try:
        text = _Brief(limit + 1).text(value, 0)
    except Exception as error:  # a user's collection or field that cannot be read must not end the looking
        return f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"
    text = text.replace("\n", "\\n")
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _Brief:
    """Counts down the characters that are left."""

    def __init__(self, room: int) -> None:
        self.room = room

    def text(self, value: Any, depth: int) -> str:
        text = self._text(value, depth)
        self.room -= len(text)
        return text

    def _text(self, value: Any, depth: int) -> str:
        kind = type(value)
        if depth > DEEPEST or self.room <= 0:
            return "…"
        if kind in (str, bytes):
            return repr(value[: self.room])
        if kind in _BRACKETS:
            opening, closing = _BRACKETS[kind] if value or kind is not set else ("set(", ")")
            comma = "," if kind is tuple and len(value) == 1 else ""
            return f"{opening}{self._listed((('', each) for each in value), depth)}{comma}{closing}"
        if kind is dict:
            return "{" + self._listed(((f"{self.text(k, depth + 1)}: ", v) for k, v in value.items()), depth) + "}"
        if kind is Ask:
            return f"ask {self._text(value.request, depth + 1)}"
        if kind is Cast:
            return f"cast {self._text(value.message, depth + 1)}"
        if kind is Call:
            return self._call(value.method, value.args, value.kwargs, depth)
        if is_dataclass(value) and hasattr(kind.__repr__, "__wrapped__"):  # a repr that dataclass made
            shown = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
            return self._call(kind.__qualname__, (), shown, depth)
        return safe_repr(value, max(self.room, 1))

    def _call(self, name: str, args: Iterable[Any], kwargs: Mapping[str, Any], depth: int) -> str:
        parts = [("", each) for each in args] + [(f"{key}=", each) for key, each in kwargs.items()]
        return f"{name}({self._listed(parts, depth)})"

    def _listed(self, parts: Iterable[tuple[str, Any]], depth: int) -> str:
        texts = []
        for before, value in parts:
            if self.room <= 0:
                texts.append("…")
                break
            self.room -= len(before) + 2
            texts.append(before + self.text(value, depth + 1))
        return ", ".join(texts)
