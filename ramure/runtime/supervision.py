"""``supervise``: processes in an explicit tree, whose handle, streams and endpoints are bound to child *ids*.

The tree is a process of its own: its function starts a real :class:`~ramure.supervisors.Supervisor` whose
children are processes, and waits for it. A child's place is a :class:`Slot`, which lives as long as the tree,
while the processes in it come and go.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from ramure.actors import Call, Ref
from ramure.errors import ActorDied, ExecutionFailed, UsageError
from ramure.exits import SHUTDOWN, Crashed, format_exit
from ramure.runtime.errors import ProcessEnded
from ramure.runtime.messages import Bubbled, CallEndpoint
from ramure.runtime.process import Process, ProcessPlan
from ramure.runtime.record import OnIdle, Outcome, ProcessRecord
from ramure.runtime.scope import current_process
from ramure.runtime.stream import ENDINGS, Event, EventStream, tagged
from ramure.supervisors import ChildSpec, StartWith, Supervisor, SupervisorEvent

if TYPE_CHECKING:
    from ramure.machines.base import Image
    from ramure.runtime.attachment import Attachment
    from ramure.supervisors.spec import Restart, RestartIf

__all__ = [
    "Child",
    "ChildrenFailed",
    "GaveUp",
    "ProcessFunction",
    "Slot",
    "Tree",
    "TreePlan",
    "check_children",
    "run_tree",
    "tells_failure",
]


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


class ProcessFunction(Protocol):
    """A decorated function, as far as a tree needs to know it."""

    name: str
    function: Callable[..., Awaitable[Any]]
    image: Image | None
    timeout: float | None
    retain: int | None
    on_idle: OnIdle


@dataclass(frozen=True)
class Child:
    """One child of a tree; made by :func:`ramure.child`."""

    function: ProcessFunction
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    id: Any = None
    restart: Restart = "transient"
    restart_if: RestartIf | None = None


@dataclass(eq=False)
class Slot:
    """A child's place: its present process, its stream across restarts, how it ended for good."""

    id: Any
    tree: ProcessRecord
    stream: EventStream
    child: Child
    record: ProcessRecord | None = None
    outcome: Outcome | None = None
    incarnations: int = 0
    attachments: list[Attachment] = field(default_factory=list)
    """What is to be shown the endpoints of each process in this place."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        """Somebody may wait for another process, or for the end."""
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def is_between(self) -> bool:
        """True while no process runs here, and one will."""
        return self.outcome is None and (self.record is None or self.record.outcome is not None)

    def on_expose(self, attachment: Attachment) -> None:
        """Show it each endpoint to come, of the process that runs here now and of those after it. Those of agents that
        have ended are forgotten."""
        assert self.record is not None  # it has endpoints
        self.record.on_expose(attachment)
        self.attachments = [*(each for each in self.attachments if not each.over), attachment]

    async def process(self) -> ProcessRecord:
        """The process that runs in this place now; during a restart, the next one."""
        while True:
            record = self.record
            if record is not None and record.outcome is None:
                await record.wait_started()
                if record.ref is not None and record.ref.is_alive():
                    return record
            if self.outcome is not None or self.tree.outcome is not None:
                raise ProcessEnded(str(self.id), "calling it", self.outcome.exit_reason() if self.outcome else None)
            await self._changed.wait()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call an endpoint. What was in flight when the process died raises, and is never sent again."""
        record = await self.process()
        assert record.ref is not None
        try:
            return await record.ref.ask(CallEndpoint(name, arguments), timeout=None)
        except ActorDied as died:
            raise ProcessEnded(record.label, f"calling {name!r}", died.reason) from died


@dataclass
class TreePlan:
    """What a tree is made from."""

    children: tuple[Child, ...]
    options: Mapping[str, Any]
    slots: dict[Any, Slot] = field(default_factory=dict)
    running: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all children have been started."""


async def run_tree(plan: TreePlan) -> dict[Any, Any]:
    """The function of the tree's process: results by child id."""
    record = current_process()
    assert record is not None
    assert record.children is not None
    tree = Tree(record, plan.slots, held=plan.options["strategy"] != "one_for_one")
    specs = [tree.spec(slot) for slot in plan.slots.values()]
    # The tree ends by itself when its last child has; one that has permanent children never does.
    lasting = any(child.restart == "permanent" for child in plan.children)
    start: Call[Any] = Call(
        "start_child",
        (
            ChildSpec(
                "supervisor",
                Supervisor,
                (specs,),
                {**plan.options, "auto_shutdown": "never" if lasting else "all_significant", "on_event": tree.on_event},
                restart="temporary",
                shutdown="infinity",
                type="supervisor",
            ),
        ),
    )
    try:
        supervisor: Ref[Any] = await record.children.ask(start, timeout=None)
        plan.running.set()
        await supervisor.wait()
    finally:
        tree.close()
    return tree.result()


class Tree:
    """The bookkeeping of one tree, on the event loop."""

    context: contextvars.Context | None = None
    """What its children run in; None: what their supervisor does."""

    def __init__(self, record: ProcessRecord, slots: Mapping[Any, Slot], *, held: bool = False) -> None:
        self.record = record
        self.slots = slots
        self.gave_up: GaveUp | None = None
        self._held: dict[Slot, Outcome] | None = {} if held else None
        """How children ended that may be started again with another one; None: none is, or not any more."""
        self._closing = False

    def spec(self, slot: Slot) -> ChildSpec:
        child = slot.child
        return ChildSpec(
            child.id,
            StartWith(self._start),
            (slot,),
            restart=child.restart,
            restart_if=child.restart_if,
            significant=child.restart != "permanent",
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
        ending = outcome.ending()
        slot.stream.publish(ending)
        slot.stream.close()
        slot.changed()
        self._publish(slot, Event(ending.type, ending.data, str(slot.id)))

    def _goes_on(self, slot: Slot, outcome: Outcome) -> bool:
        """A permanent child's good end is not its last."""
        return outcome.kind == "done" and slot.child.restart == "permanent" and not self._closing

    def _tell(self, slot: Slot, type: str, data: Mapping[str, Any]) -> None:
        slot.stream.publish(Event(type, data))
        self._publish(slot, Event(type, data, str(slot.id)))

    def _publish(self, slot: Slot, event: Event) -> None:
        recorder = self.record.recorder
        assert recorder is not None
        recorder.tell(Bubbled(event))

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


def check_children(children: tuple[Child, ...]) -> None:
    """Raise UsageError for what cannot be a tree."""
    if not children:
        raise UsageError("supervise() needs at least one child(...)")
    seen: set[Any] = set()
    for child in children:
        if not isinstance(child, Child):
            raise UsageError(f"supervise({child!r}): give child(function, ..., id=...)")
        if child.id in seen:
            raise UsageError(f"supervise(): two children have the id {child.id!r}; give each one of its own")
        seen.add(child.id)
