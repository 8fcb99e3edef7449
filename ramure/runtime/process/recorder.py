"""What writes a process's event stream: in order, with exactly one ending.

It is a plain object on the event loop, beside the process's actor: a process that is killed still gets its ending, and one
that is cleaning up can still emit. What is emitted is published in the loop's next turn, so no subscriber is called within
``emit()``.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ramure.runtime.process.cleanup import end_tasks
from ramure.runtime.process.record import Outcome, ProcessRecord
from ramure.runtime.process.stream import Event, EventStream, Subscription

if TYPE_CHECKING:
    from ramure.actors import ActorSystem

__all__ = ["Recorder"]

KEPT_BUBBLES: Final = 100
"""Streams that have closed, and are still known to have been bubbled."""

TURN: Final = 256
"""Events that are published before the event loop gets its turn."""

_Emitted: TypeAlias = tuple[str, Any, str | None, float]
"""Type, data, source and moment of an event that is not in the stream yet."""

_running_loop = asyncio._get_running_loop


class Recorder:
    """Writes one process's stream."""

    __slots__ = ("_bubbles", "_due", "_early", "_next", "_path", "_prune_at", "_record", "_system", "_waiting")

    def __init__(self, record: ProcessRecord) -> None:
        self._record = record
        self._system: ActorSystem = record.run.system
        self._path = record.path
        self._next = 0
        self._waiting: deque[_Emitted] | None = None
        """What is to be published, in order."""
        self._due = False
        """True when the loop is to call :meth:`_publish_waiting`."""
        self._early: dict[int, _Emitted] | None = None
        self._bubbles: dict[tuple[EventStream, str], Subscription] | None = None
        self._prune_at = KEPT_BUBBLES

    def emit(self, type: str, data: Any) -> None:
        """Put an event of the process's own into its stream. From any thread: the stream is in the order of the calls."""
        number, moment = next(self._record.emitted), self._system.clock.wall()
        if _running_loop() is self._system.loop:
            self.arrived(number, type, data, moment)
        else:
            self._system.on_loop(self.arrived, number, type, data, moment)

    def arrived(self, number: int, type: str, data: Any, at: float) -> None:
        """The event that the process emitted as its ``number``-th has come to the loop."""
        if number != self._next:  # two threads may deliver in another order than they emitted
            if self._early is None:
                self._early = {}
            self._early[number] = (type, data, None, at)
            return
        self._next += 1
        self.add(type, data, None, at)
        while self._early and (following := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self.add(*following)

    def add(self, type: str, data: Any, source: str | None, at: float = 0.0) -> None:
        """Put an event into the stream; one with a source was emitted by another process."""
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((type, data, source, at))
        if not self._due:
            self._due = True
            self._system.call_soon(self._publish_waiting)

    def _publish_waiting(self) -> None:
        self._due = False
        try:
            self._publish(TURN)
        finally:
            if self._waiting is not None and not self._due:
                self._due = True
                self._system.call_soon(self._publish_waiting)

    def _publish(self, most: int) -> None:
        """Publish the first so many events that wait."""
        waiting, stream = self._waiting, self._record.stream
        while waiting and most > 0:
            type, data, source, at = waiting.popleft()
            most -= 1
            self._log(type, data, source)
            stream.publish(Event(type, data, source, at))
        if not waiting:
            self._waiting = None

    def _log(self, type: str, data: Any, source: str | None) -> None:
        if not self._record.stream.closed:
            self._record.run.log("event", {"process": self._path, "event": type, "source": source, "data": data})

    def bubble(self, stream: EventStream, source: str) -> None:
        """From now on, what ``stream`` has and gets comes here too, tagged. Asked for twice, it is done once."""
        bubbles = self._bubbles
        if bubbles is None:
            bubbles = self._bubbles = {}
        readable = self._record.parent is not None  # nobody has a handle of a root

        def forward(event: Event) -> None:
            if readable and stream.tells_end(event):
                stream.ending_read = True  # whoever reads this stream does
            self.add(event.type, event.data, source if event.source is None else event.source, event.at)

        if (stream, source) in bubbles:
            return
        bubbles[stream, source] = stream.watch(forward, replay=True)
        if len(bubbles) >= self._prune_at:  # a pool that works for months does not keep what its workers emitted
            self._bubbles = {key: each for key, each in bubbles.items() if not key[0].closed}
            self._prune_at = 2 * len(self._bubbles) + KEPT_BUBBLES

    # -- the ending -------------------------------------------------------------------------------------------

    def process_ended(self, reason: object) -> None:
        """The process's actor has ended. Where it was killed, or has failed to start, it has given no ending itself."""
        if self._record.outcome is None:
            context, name = contextvars.Context(), f"end of {self._record.label}"
            task = self._system.loop.create_task(self._after_kill(reason), name=name, context=context)
            self._system.tasks.add(task)
            task.add_done_callback(self._system.tasks.discard)

    async def _after_kill(self, reason: object) -> None:
        """What the process was doing and what it owns end before its stream does."""
        record = self._record
        await end_tasks(record.work)
        if record.owns is not None:
            await record.owns.ended()
        await record.belongings_ended()
        self.end(Outcome.of_exit(reason))

    def end(self, outcome: Outcome) -> None:
        """Publish what has been emitted, then the ending. The first outcome stands."""
        record = self._record
        if record.outcome is not None:
            return
        if self._waiting is not None:
            self._publish(len(self._waiting))  # what subscribers emit meanwhile comes too late
        for subscription in (self._bubbles or {}).values():
            subscription.cancel()
        if self._early:
            self._waiting = deque(self._early[number] for number in sorted(self._early))
            self._publish(len(self._waiting))
        ending = outcome.ending()
        self._log(ending.type, ending.data, None)
        record.end(outcome)
