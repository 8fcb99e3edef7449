"""``supervise``: processes in an explicit tree, whose handle, streams and endpoints are bound to child *ids*.

The tree is a process of its own: its function starts a real :class:`~ramure.supervisors.Supervisor` whose
children are processes, and waits for it. A child's place is a :class:`Slot`, which lives as long as the tree,
while the processes in it come and go.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ramure.actors import Call, Ref
from ramure.errors import ActorDied, ExecutionFailed
from ramure.exits import SHUTDOWN, Crashed, format_exit
from ramure.runtime.errors import ProcessEnded
from ramure.runtime.process.process import Process, ProcessPlan
from ramure.runtime.process.record import Outcome, ProcessRecord
from ramure.runtime.process.scope import current_process
from ramure.runtime.process.stream import ENDINGS, Event, tagged
from ramure.runtime.trees.slots import Slot
from ramure.supervisors import (
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    StartWith,
    Supervisor,
    SupervisorError,
    SupervisorEvent,
)

__all__ = ["ChildrenFailed", "GaveUp", "Tree", "TreePlan", "run_tree", "tells_failure"]


NAMED: Final = 20
"""Children that the text of an error names."""


class GaveUp(ExecutionFailed):
    """A tree had more restarts than ``max_restarts`` within ``within`` seconds. ``child`` is the last one's id."""

    def __init__(self, child: object, reason: object) -> None:
        self.child = child
        self.reason = reason
        super().__init__(f"too many restarts; the last was of child {child!r}, which ended: {format_exit(reason)}")


class ChildrenFailed(ExecutionFailed, ExceptionGroup[Exception]):
    """Children that are not restarted failed. ``failures`` has each one's exception, ``results`` what the others
    returned, both by child id. ``stopped_by``: why an ``each`` started no more, where its items raised, say."""

    def __new__(
        cls, failures: dict[Any, Exception], results: dict[Any, Any], stopped_by: Exception | None = None
    ) -> ChildrenFailed:
        said = [] if stopped_by is None else [f"no more were started: {format_exit(stopped_by)}"]
        if failures:
            names = ", ".join(repr(name) for name in itertools.islice(failures, NAMED))
            more = f" and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
            said.append(f"supervised children failed: {names}{more}")
        errors = [*failures.values(), *([] if stopped_by is None else [stopped_by])]
        made = super().__new__(cls, "; ".join(said), errors)
        made.failures = failures
        made.results = results
        made.stopped_by = stopped_by
        return made

    def __init__(
        self, failures: dict[Any, Exception], results: dict[Any, Any], stopped_by: Exception | None = None
    ) -> None:
        super().__init__(self.message, self.exceptions)

    failures: dict[Any, Exception]
    results: dict[Any, Any]
    stopped_by: Exception | None

    def __reduce__(self) -> tuple[Any, ...]:
        return ChildrenFailed, (self.failures, self.results, self.stopped_by)  # a group is made with its parts


@dataclass
class TreePlan:
    """What a tree is made from."""

    slots: dict[Any, Slot]
    options: Mapping[str, Any]
    limit: int | None = None
    tree: Tree | None = None
    """Since it began."""
    running: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all children have been started, or as many as may run at once."""


async def run_tree(plan: TreePlan) -> dict[Any, Any]:
    """The function of the tree's process: results by child id."""
    record = current_process()
    assert record is not None
    held = plan.options["strategy"] != "one_for_one"
    tree = plan.tree = Tree(record, plan.slots, held=held, limit=plan.limit)
    start: Call[Any] = Call(
        "start_child",
        (
            ChildSpec(
                "supervisor",
                Supervisor,
                ([tree.spec(slot) for slot in tree.first()],),
                {**plan.options, "on_event": tree.on_event},
                restart="temporary",
                shutdown="infinity",
                type="supervisor",
            ),
        ),
    )
    try:
        tree.supervisor = await record.supervisor("children").ask(start, timeout=None)
        plan.running.set()
        await tree.keep()
    finally:
        tree.close()
    return tree.result()


class Tree:
    """The bookkeeping of one tree, on the event loop."""

    context: contextvars.Context | None = None
    """What its children run in; None: what their supervisor does."""

    def __init__(
        self, record: ProcessRecord, slots: dict[Any, Slot], *, held: bool = False, limit: int | None = None
    ) -> None:
        self.record = record
        self.slots = slots
        self.supervisor: Ref[Any] | None = None
        self.gave_up: GaveUp | None = None
        self._held: dict[Slot, Outcome] | None = {} if held else None
        """How children ended that may be started again with another one; None: none is, or not any more."""
        self._limit = limit
        self._queue: deque[Slot] = deque()
        """Those that have not been started yet."""
        self._taken: set[Slot] = set()
        """Those that count for the limit."""
        self._news = asyncio.Event()
        self._closing = False

    # -- who runs -----------------------------------------------------------------------------------------------

    def first(self) -> list[Slot]:
        """Those that the supervisor begins with; the others wait for room."""
        slots = list(self.slots.values())
        for slot in slots[self._limit :] if self._limit is not None else ():
            slot.queued = True
            self._queue.append(slot)
        first = slots[: self._limit]
        self._taken.update(first)
        return first

    async def keep(self) -> None:
        """Start what waits for room. Return when all children have ended for good, or the supervisor has."""
        assert self.supervisor is not None
        ended = asyncio.ensure_future(self.supervisor.wait())
        try:
            while not ended.done():
                self._news.clear()
                while self._queue and (self._limit is None or len(self._taken) < self._limit):
                    await self._start_next(self.supervisor)
                if self._is_over():
                    self._closing = True
                    await self.supervisor.stop(SHUTDOWN)
                    return
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([ended, news], return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            ended.cancel()

    def _is_over(self) -> bool:
        held = self._held or {}
        return not self._queue and all(slot.outcome is not None or slot in held for slot in self.slots.values())

    async def _start_next(self, supervisor: Ref[Any]) -> None:
        slot = self._queue.popleft()
        slot.queued = False
        self._taken.add(slot)
        try:
            await supervisor.ask(Call("start_child", (self.spec(slot),)), timeout=None)
        except (ActorDied, SupervisorError) as error:
            self.settle(slot, Outcome("failed", error=error))
        slot.begun.set()

    async def add(self, slot: Slot) -> None:
        """Have it started, when there is room; returns when it runs, has failed to, or waits for room. Raises ProcessEnded
        where the tree ends."""
        if self._closing or self.record.outcome is not None:
            raise ProcessEnded(self.record.label, f"adding {slot.id!r}")
        slot.queued = True
        self._queue.append(slot)
        self.slots[slot.id] = slot
        self._news.set()
        if self._limit is None or len(self._taken) + len(self._queue) <= self._limit:
            await slot.begun.wait()

    async def end(self, slot: Slot) -> None:
        """End a child for good; returns when it has ended."""
        if slot in self._queue:
            self._queue.remove(slot)
            slot.queued = False
        else:
            await self._forget(slot)
            if slot.record is not None:
                await slot.record.wait_ended()
        held = self._held.pop(slot, None) if self._held is not None else None
        self.settle(slot, held or Outcome("cancelled", reason=SHUTDOWN))
        self._news.set()

    async def _forget(self, slot: Slot) -> None:
        """Have the supervisor end it, and forget it."""
        assert self.supervisor is not None
        target = (slot.child.id,)
        while True:
            try:
                await self.supervisor.ask(Call("terminate_child", target), timeout=None)
                await self.supervisor.ask(Call("delete_child", target), timeout=None)
            except (ChildRunning, ChildRestarting):  # started again meanwhile, with another one
                continue
            except (ActorDied, SupervisorError):  # it is forgotten already, or all of the tree ends
                return
            return

    # -- what becomes of them -------------------------------------------------------------------------------------

    def spec(self, slot: Slot) -> ChildSpec:
        child = slot.child
        return ChildSpec(
            child.id,
            StartWith(self._start),
            (slot,),
            restart=child.restart,
            restart_if=child.restart_if,
            shutdown="infinity",
            type="supervisor",
        )

    async def _start(self, slot: Slot) -> Ref[Any]:
        """One incarnation. Runs in the supervisor, and links the process to it."""
        child = slot.child
        if self._closing:  # its supervisor has not been stopped yet, but will be
            raise ProcessEnded(self.record.label, f"starting {child.id!r}")
        function, run = child.function, self.record.run
        record = run.new_process(function.name, self.record, function.image, on_idle=function.on_idle)
        if slot.record is not None:
            slot.spent.take(slot.record.usage())
        slot.record = record
        record.retrieved = True  # how it ends is the tree's affair
        slot.incarnations += 1
        for attachment in slot.attachments:
            record.on_expose(attachment)
        slot.stream.take_from(record.stream)
        self.record.stream.take_from(slot.stream)
        record.stream.watch(lambda event: self._forward(slot, record, event))
        plan = ProcessPlan(
            record,
            function.function,
            child.args,
            child.kwargs,
            function.timeout,
            self.context or contextvars.copy_context(),
            function.retain,
            function.events,
        )
        try:
            ref = await run.system.options(link=True, label=record.label).start(Process, plan)
        except BaseException as error:
            record.never_started(error)
            raise
        slot.changed()
        return ref

    def _forward(self, slot: Slot, record: ProcessRecord, event: Event) -> None:
        """What the child's process emits is its place's; its ending is, only if no restart follows."""
        if event.source is None and event.type in ENDINGS:
            assert record.outcome is not None
            if event.type == "done" or self._closing:
                self._ended(slot, record.outcome)
            return
        slot.stream.publish(event)
        self._publish(slot, tagged(event, str(slot.id)))

    def on_event(self, event: SupervisorEvent) -> None:
        """The supervisor's decisions, as events of the tree and of the child's place."""
        slot = self.slots.get(event.id)
        if slot is None:
            return
        data = {
            "id": slot.id,
            "incarnation": event.incarnation,
            "attempt": event.attempt,
            "delay": event.delay,
            "reason": format_exit(event.reason) if event.reason is not None else None,
        }
        match event.kind:
            case "child_started" | "restarted":
                if self._held:
                    self._held.pop(slot, None)
                slot.changed()
                self._tell(slot, event.kind, data)
            case "child_ended":
                self._ended(slot, self._outcome(slot, event.reason))
            case "gave_up":
                self._settle_held()
                self.gave_up = GaveUp(event.id, event.reason)
                if isinstance(event.reason, Crashed):
                    self.gave_up.__cause__ = event.reason.exception
                self._ended(slot, self._outcome(slot, event.reason))
                self._tell(slot, "gave_up", data)

    def _outcome(self, slot: Slot, reason: object) -> Outcome:
        return (slot.record.outcome if slot.record is not None else None) or Outcome.of_exit(reason)

    def _ended(self, slot: Slot, outcome: Outcome) -> None:
        """A child's process has ended, and is not started again for its own sake."""
        if self._held is not None and slot.child.restart != "temporary":
            self._held[slot] = outcome
            self._news.set()
        else:
            self.settle(slot, outcome)

    def _settle_held(self) -> None:
        """The tree ends: nothing that has ended is started again."""
        held, self._held = self._held, None
        for slot, outcome in (held or {}).items():
            if slot.record is None or slot.record.outcome is not None:  # else it is being started again just now
                self.settle(slot, outcome)

    def close(self) -> None:
        """The tree ends, and starts nothing any more: a child that is still running settles with its next ending."""
        self._closing = True
        self._settle_held()
        for slot in list(self.slots.values()):
            if slot.record is None:
                self.settle(slot, Outcome("cancelled", reason=SHUTDOWN))
            elif slot.record.outcome is not None:
                self.settle(slot, slot.record.outcome)

    def settle(self, slot: Slot, outcome: Outcome) -> None:
        """How a child ended for good: the first one stands."""
        if slot.outcome is not None or self._goes_on(slot, outcome):
            return
        slot.outcome = outcome
        slot.begun.set()
        if slot.record is None or slot.record.outcome is not None:
            self._left(slot)
        else:  # it was killed, and what it owned is ending
            slot.record.when_ended(lambda: self._left(slot))
        ending = outcome.ending()
        slot.stream.publish(ending)
        slot.stream.close()
        slot.changed()
        self._publish(slot, Event(ending.type, ending.data, str(slot.id)))

    def _left(self, slot: Slot) -> None:
        """There is room for another one."""
        self._taken.discard(slot)
        self._news.set()

    def _goes_on(self, slot: Slot, outcome: Outcome) -> bool:
        """A permanent child's good end is not its last."""
        return outcome.kind == "done" and slot.child.restart == "permanent" and not self._closing

    def _tell(self, slot: Slot, type: str, data: Mapping[str, Any]) -> None:
        slot.stream.publish(Event(type, data))
        self._publish(slot, Event(type, data, str(slot.id)))

    def _publish(self, slot: Slot, event: Event) -> None:
        recorder = self.record.recorder
        assert recorder is not None
        recorder.add(event.type, event.data, event.source, event.at)

    def result(self) -> dict[Any, Any]:
        """By child id, or raise."""
        slots = self.slots
        results = {id: s.outcome.value for id, s in slots.items() if s.outcome and s.outcome.kind == "done"}
        if self.gave_up is not None:
            raise self.gave_up
        failures: dict[Any, Exception] = {}
        for id, slot in slots.items():
            outcome = slot.outcome or Outcome("cancelled", reason="shutdown")
            if outcome.kind != "done":
                error = outcome.error if isinstance(outcome.error, Exception) else ProcessEnded(str(id), outcome.text())
                failures[id] = error
        if failures:
            raise ChildrenFailed(failures, results)
        return results


def tells_failure(event: Event) -> bool:
    """True for an event of a tree that says why ``await handle`` will raise."""
    return event.type == "gave_up" or (event.source is not None and event.type in ("failed", "cancelled"))
