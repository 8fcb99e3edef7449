"""What an agent has had written to its log and is not there yet: while that is much, no more is taken from its connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ramure.agents.services import Connection

__all__ = ["LARGE", "Backlog", "LargeWritten"]

LARGE: Final = 64 * 1024
"""Bytes of an entry from which on it counts."""

MOST: Final = 8 << 20
"""Bytes that may wait to be written."""


@dataclass(frozen=True, slots=True)
class LargeWritten:
    """The log has a large entry that nobody else waits for."""

    size: int


class Backlog:
    """Counts large entries. A frame that is taken while too much waits is acknowledged to the gateway later."""

    def __init__(self) -> None:
        self._waiting = 0
        self._held: list[Connection] = []

    def on_large(self, size: int) -> None:
        """An entry of so many bytes waits to be written."""
        self._waiting += size

    def on_written(self, written: LargeWritten) -> None:
        """It is written."""
        self._waiting -= written.size
        if self._waiting <= MOST:
            for connection in self._held:
                connection.taken()
            self._held.clear()

    def taken(self, connection: Connection) -> None:
        """A frame of the connection has been dealt with."""
        if self._waiting > MOST:
            self._held.append(connection)
        else:
            connection.taken()
