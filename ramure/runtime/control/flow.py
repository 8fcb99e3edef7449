"""How a stream whose items must not be lost is kept in step with its reader: so much may be under way, and more when the
reader has taken it. What a reader leaves unread thus waits where it is made, and nobody's memory grows. Pure, and quick
to import."""

from __future__ import annotations

from typing import Final

__all__ = ["ITEM", "PIECE", "WINDOW", "Taken"]

WINDOW: Final = 1 << 17
"""Bytes that may be under way to a reader. Less than what the server lets wait for a client before it sends it away."""

PIECE: Final = 1 << 15
"""Bytes of an item, at most."""

ITEM: Final = 128
"""What an item costs besides its bytes: a command may write a byte at a time."""

MOST_ITEMS: Final = 100


class Taken:
    """At the reader: when to tell what has been taken. Always before the window can be full of it."""

    def __init__(self) -> None:
        self._items = 0
        self._bytes = 0

    def add(self, size: int) -> int:
        """An item of ``size`` bytes has been taken; how many items to tell of now, or 0."""
        self._items += 1
        self._bytes += size
        if self._bytes < PIECE and self._items < MOST_ITEMS:
            return 0
        items, self._items, self._bytes = self._items, 0, 0
        return items
