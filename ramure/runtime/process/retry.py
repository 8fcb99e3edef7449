"""A retry in the loop: an iteration over a process's events that goes on with those of the process spawned in its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ramure.runtime.process.scope import current_process

if TYPE_CHECKING:
    from ramure.runtime.process.record import ProcessRecord
    from ramure.runtime.process.stream import EventStream

__all__ = ["Retry", "note_spawn"]


class Retry:
    """While a loop handles ``failed``: what its task spawns from the function of the process that failed."""

    def __init__(self, function: Any) -> None:
        self._function = plain(function)
        self._task = asyncio.current_task()
        self._process = current_process()
        self.spawned: EventStream | None = None
        if self._process is not None:
            self._process.retries.append(self)

    def note(self, spawned: ProcessRecord) -> None:
        """``spawned`` was spawned by the process that the loop runs in. The last one counts."""
        if asyncio.current_task() is self._task and plain(spawned.stream.function) is self._function:
            self.spawned = spawned.stream

    def over(self) -> EventStream | None:
        """The loop has handled it, or was left. The stream to go on with, if there is one."""
        if self._process is not None:
            self._process.retries.remove(self)
        return self.spawned


def note_spawn(parent: ProcessRecord, spawned: ProcessRecord) -> None:
    """``parent``'s code has spawned a process."""
    for retry in parent.retries:
        retry.note(spawned)


def plain(function: Any) -> Any:
    """The function itself: looked up on an object, a method is a new one each time."""
    return getattr(function, "__func__", function)
