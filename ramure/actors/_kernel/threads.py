"""The threads of a system: what runs in them, and which ones were given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramure.exits import Phase

if TYPE_CHECKING:
    from ramure.actors._kernel.pykka_adapter import ThreadedCell
    from ramure.actors.ref import Ref

__all__ = ["AbandonedThread", "Threads"]


@dataclass(frozen=True, slots=True)
class AbandonedThread:
    """A thread that outlives its actor, in a blocking call that cannot be interrupted."""

    label: str
    """The actor that it belonged to."""
    doing: str
    """What it was doing when the actor ended."""
    ident: int | None
    """Its ``threading.Thread.ident``."""


class Threads:
    """Every thread that the system started and that has not ended yet. Used on the system's loop."""

    def __init__(self) -> None:
        self._ends: dict[object, asyncio.Future[None]] = {}
        self._abandoned: dict[ThreadedCell, Phase | None] = {}

    def started(self, key: object, loop: asyncio.AbstractEventLoop) -> None:
        """A thread runs, known as ``key`` (the cell, or the thread itself)."""
        self._ends[key] = loop.create_future()

    def ended(self, key: object) -> None:
        """That thread has nothing left to do."""
        self._ends.pop(key).set_result(None)

    def run(self, name: str, loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
        """Run ``function(*args)`` once in a daemon thread."""

        def body() -> None:
            try:
                function(*args)
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self.ended, thread)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self.started(thread, loop)
        thread.start()

    def abandon(self, cell: ThreadedCell, doing: Phase | None) -> None:
        """The cell is dead, its thread is not."""
        self._abandoned[cell] = doing

    def returned(self, cell: ThreadedCell) -> None:
        """The thread of a dead cell has come back after all."""
        self._abandoned.pop(cell, None)

    def abandoned(self) -> list[AbandonedThread]:
        """Those that are stuck now, oldest first."""
        return [
            AbandonedThread(cell.label, str(doing or "running"), cell.thread.ident if cell.thread else None)
            for cell, doing in self._abandoned.items()
            if cell.thread is None or cell.thread.is_alive()
        ]

    async def end_of(self, ref: Ref[Any]) -> None:
        """Return when the thread of a threaded actor has ended."""
        end = self._ends.get(ref._cell)
        if end is not None:
            await asyncio.shield(end)

    async def all_ended(self) -> None:
        """Return when every thread has ended, abandoned ones too."""
        while self._ends:
            await asyncio.wait(list(self._ends.values()))

    async def wait(self, seconds: float) -> None:
        """Wait for the ends of all threads but abandoned ones, at most so long."""
        ends = [end for key, end in self._ends.items() if key not in self._abandoned]
        if ends:
            # A loop whose time is virtual must not let it jump while a thread is on its way out.
            hold_time = getattr(asyncio.get_running_loop(), "hold_time", None)
            if hold_time is not None:
                for end in ends:
                    hold_time(end)
            await asyncio.wait(ends, timeout=seconds)

    def left(self) -> list[str]:
        """Who still has a thread that was not abandoned."""
        return [
            key.name if isinstance(key, threading.Thread) else repr(key)
            for key in self._ends
            if key not in self._abandoned
        ]
