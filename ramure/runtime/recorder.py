"""The actor that writes a process's event stream: in order, with exactly one ending.

It is an actor beside the process, not part of it, so that a process that is killed still gets its ending,
and one that is cleaning up can still emit.
"""

from __future__ import annotations

from typing import Any, Final

from ramure.actors import Actor, Ask, Down, Ref
from ramure.runtime.cleanup import end_tasks
from ramure.runtime.messages import Bubble, Bubbled, Emit, Ended
from ramure.runtime.record import Outcome, ProcessRecord
from ramure.runtime.stream import Event, EventStream, Subscription, tagged

__all__ = ["Recorder"]

KEPT_BUBBLES: Final = 100
"""Streams that have closed, and are still known to have been bubbled."""


class Recorder(Actor):
    """Writes one process's stream, and ends when the stream has its ending."""

    async def init(self, record: ProcessRecord, process: Ref[Any]) -> None:
        self._record = record
        record.recorder = self.ref  # from here on, it is this actor that gives the process its ending
        self.monitor(process)
        self._next = 0
        self._early: dict[int, Event] = {}
        self._bubbles: dict[tuple[EventStream, str], Subscription] = {}
        self._prune_at = KEPT_BUBBLES

    async def handle_call(self, request: object, caller: Ask) -> Any:
        match request:
            case Ended(outcome=outcome):
                self._end(outcome)
            case _:
                return super().handle_call(request, caller)
        return None

    def handle_info(self, message: object) -> None:
        match message:
            case Emit(number=number, event=event):
                self._early[number] = event
                while self._next in self._early:  # two threads may deliver in another order than they emitted
                    self._publish(self._early.pop(self._next))
                    self._next += 1
            case Bubbled(event=event):
                self._publish(event)
            case Bubble(stream=stream, source=source):
                self._bubble(stream, source)
            case Ended(outcome=outcome):
                self._end(outcome)
            case Down(reason=reason):
                self.start_task(self._after_kill(reason))
            case _:
                super().handle_info(message)

    async def _after_kill(self, reason: object) -> None:
        """The process ended without its own last words: it was killed, or its start failed. What it was doing and
        what it owns end before its stream does."""
        await end_tasks(self._record.work)
        for supervisor in self._record.supervisors:
            await supervisor.wait()
        await self._record.belongings_ended()
        self.ref.tell(Ended(Outcome.of_exit(reason)))  # behind the children's last events, which are in the mailbox

    def _publish(self, event: Event) -> None:
        self._log(event)
        self._record.stream.publish(event)

    def _log(self, event: Event) -> None:
        path = self._record.path
        self._record.run.log(
            "event", {"process": path, "event": event.type, "source": event.source, "data": event.data}
        )

    def _bubble(self, stream: EventStream, source: str) -> None:
        me, readable = self.ref, self._record.parent is not None  # nobody has a handle of a root

        def forward(event: Event) -> None:
            if readable and stream.tells_end(event):
                stream.ending_read = True  # whoever reads this stream does
            me.tell(Bubbled(tagged(event, source)))

        if (stream, source) in self._bubbles:
            return
        self._bubbles[stream, source] = stream.watch(forward, replay=True)
        if len(self._bubbles) >= self._prune_at:  # a pool that works for months does not keep what its workers emitted
            self._bubbles = {key: each for key, each in self._bubbles.items() if not key[0].closed}
            self._prune_at = 2 * len(self._bubbles) + KEPT_BUBBLES

    def _end(self, outcome: Outcome) -> None:
        self.stop()
        if self._record.stream.closed:
            return
        for subscription in self._bubbles.values():
            subscription.cancel()
        for number in sorted(self._early):
            self._publish(self._early[number])
        self._log(outcome.ending())
        self._record.end(outcome)
