"""What is behind ``each``: the items of one call, and the tree of the processes that work on them.

Three parts share a :class:`Work`. A task of the calling process reads the items, one whenever there is room, and has a child
started for it. The tree, a process, owns the children. An iteration takes the results, and the tree ends when it is left.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from ramure.actors import Call, Ignore, Ref
from ramure.errors import ActorDied, UsageError
from ramure.exits import SHUTDOWN
from ramure.faults import failure_of
from ramure.runtime.errors import ProcessCancelled, ProcessEnded
from ramure.runtime.process.messages import Cancel
from ramure.runtime.process.process import ProcessPlan
from ramure.runtime.process.record import Outcome, ProcessRecord
from ramure.runtime.process.scope import current_process
from ramure.runtime.process.stream import EventStream
from ramure.runtime.run.run import cancel_and_wait
from ramure.runtime.trees.slots import Child, ProcessFunction, Slot
from ramure.runtime.trees.supervision import Tree
from ramure.supervisors import ChildSpec, DynamicSupervisor, StartWith, SupervisorError, SupervisorEvent

if TYPE_CHECKING:
    from ramure.supervisors import Backoff
    from ramure.supervisors.spec import Restart

__all__ = ["EachPlan", "ItemResult", "Work"]

I = TypeVar("I")  # noqa: E741  an item
R = TypeVar("R")

ENDLESS: Final = 10**9
"""Restarts that the tree of an ``each`` has: the limit is each child's own."""


class ItemResult(Generic[I, R]):
    """How the work on one item of an ``each`` ended."""

    __slots__ = ("_value", "error", "item", "key", "number")

    def __init__(self, item: I, number: int, key: Any, value: Any, error: Exception | None) -> None:
        self.item: I = item
        """The item, as it was read."""
        self.number: int = number
        """The place of the item in the order of reading: 0, 1, 2 …"""
        self.key: Any = key
        """What ``key=`` returned for the item; without one, its number."""
        self.error: Exception | None = error
        """What the last try failed with; None where the item is done."""
        self._value = value

    @property
    def value(self) -> R:
        """What the function returned. Raises ``error`` where there is one."""
        if self.error is not None:
            raise self.error
        return cast("R", self._value)

    def __repr__(self) -> str:
        how = f"error={self.error!r}" if self.error is not None else f"value={self._value!r}"
        return f"ItemResult(item={self.item!r}, {how})"


@dataclass(frozen=True)
class EachPlan(Generic[I]):
    """What an ``each`` was called with."""

    name: str
    function: ProcessFunction
    items: Iterable[I] | AsyncIterable[I]
    limit: int
    restart: Restart
    max_restarts: int
    within: float
    backoff: Backoff | None
    key: Callable[[I], Any] | None


@dataclass(eq=False)
class ItemSlot(Slot):
    """The place of an item's process."""

    number: int = 0


class Work(Generic[I, R]):
    """The items of one ``each``: how many are under way, and the results that nobody has taken yet."""

    def __init__(self, plan: EachPlan[I], stream: EventStream) -> None:
        self.plan = plan
        self.stream = stream
        self.context: contextvars.Context = contextvars.copy_context()
        self.record: ProcessRecord | None = None
        self.under_way: int = 0
        """Items that have been read, and whose children have not ended."""
        self.waits: set[asyncio.Future[None]] = set()
        """What the reader waits for while there is no room, and an iteration while there is no result."""
        self.stopped_by: Exception | None = None
        """Why no more items are read, where it is not that there are none."""
        self._ready: deque[ItemResult[I, R]] = deque()
        self._read = 0
        self._keys: set[Any] | None = None
        self._all_read = False
        self._left = False
        self._ends = False
        self._over = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    # -- its life ---------------------------------------------------------------------------------------------

    def start(self, parent: ProcessRecord, *, unique: bool = False) -> ProcessRecord:
        """Start the tree as a child of ``parent``. ``unique``: no two items may have the same key."""
        self._keys = set() if unique else None
        record = parent.run.new_process(self.plan.name, parent, None, of_tree=True, stream=self.stream, each=self)
        record.retrieved = True  # how it ends is told to the iteration
        self.record = record
        record.when_ended(self._changed)
        parent.run.start_process(ProcessPlan(record, self._run, (), {}, None, self.context))
        return record

    async def _run(self) -> None:
        """The function of the tree's process."""
        record, plan = current_process(), self.plan
        assert record is not None
        assert record.parent is not None
        assert record.parent.tasks is not None
        tree = _EachTree(record, self)
        options = {"intensity": ENDLESS, "backoff": plan.backoff, "on_event": tree.on_event}
        spec = ChildSpec(
            "supervisor",
            DynamicSupervisor,
            (),
            options,
            restart="temporary",
            shutdown="infinity",
            type="supervisor",
        )
        supervisor: Ref[Any] = await record.supervisor("children").ask(Call("start_child", (spec,)), timeout=None)
        reading = self._read_items(tree, supervisor)
        ended = asyncio.ensure_future(supervisor.wait())
        over = asyncio.ensure_future(self._over.wait())
        try:
            self._reader = self.context.run(record.parent.tasks, reading, f"items of {record.label}")
            await asyncio.wait([ended, over], return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                raise ProcessEnded("supervisor", f"supervising {record.label}", ended.result())
        finally:
            self._ends = True
            tree.close()
            for task in (self._reader, ended, over):
                if task is not None:
                    task.cancel()

    def leave(self) -> None:
        """Nobody takes results any more: the rest ends. From any thread."""
        if self.record is not None:
            self.record.run.system.on_loop(self._leave, self.record)

    def _leave(self, record: ProcessRecord) -> None:
        if record.outcome is None and not self._left:
            self._left = self._ends = True
            self._ready.clear()
            if self._reader is not None:
                self._reader.cancel()
            record.tell_when_started(Cancel(SHUTDOWN))

    async def end(self) -> None:
        """As :meth:`leave`; returns when all has ended."""
        if self.record is not None:
            self._leave(self.record)
            await cancel_and_wait(self.record, SHUTDOWN)

    # -- the reader's side ------------------------------------------------------------------------------------

    async def _read_items(self, tree: _EachTree, supervisor: Ref[Any]) -> None:
        """A task of the calling process: it runs the caller's code, of ``items`` and ``key``."""
        try:
            async with aclosing(_in_turn(self.plan.items)) as items:
                while True:
                    while self.under_way >= self.plan.limit or len(self._ready) >= self.plan.limit:
                        await self._wait()
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        break
                    await self._begin(self._slot(item), tree, supervisor)
        except BaseException as error:
            if not self._ends:  # else it is cancelled since nobody wants more
                self.stopped_by = ProcessCancelled("that reads its items", SHUTDOWN)
                self.stopped_by = failure_of(error)
        finally:
            self._all_read = True
            self._changed()

    def _slot(self, item: I) -> ItemSlot:
        """The place for the next item. Raises what ``key`` raises, and UsageError for a key that will not do."""
        assert self.record is not None
        plan, number = self.plan, self._read
        key = number if plan.key is None else plan.key(item)
        try:
            hash(key)
        except TypeError:
            raise UsageError(f"each(key=): {key!r}, of item {number}, is not hashable: return a text, say") from None
        if self._keys is not None:
            if key in self._keys:
                raise UsageError(
                    f"each(key=): {key!r}, of item {number}, is the key of an item before it too; results are by key: "
                    "return another for each item, or leave key= out"
                )
            self._keys.add(key)
        self._read += 1
        child: Child[Any] = Child(plan.function, (item,), {}, key, plan.restart)
        return ItemSlot(key, self.record, EventStream(plan.function.retain), child, number=number)

    async def _begin(self, slot: ItemSlot, tree: _EachTree, supervisor: Ref[Any]) -> None:
        tree.places[slot.number] = slot
        self.under_way += 1
        try:
            await supervisor.ask(Call("start_child", (tree.spec(slot),)), timeout=None)
        except (ActorDied, SupervisorError):  # the tree ends
            tree.settle(slot, Outcome("cancelled", reason=SHUTDOWN))
            self.freed(tree, slot)

    @property
    def is_idle(self) -> bool:
        """True while there is no child, and the next item is waited for."""
        return self.under_way == 0 and self._reader is not None and not self._reader.done()

    # -- the tree's side --------------------------------------------------------------------------------------

    def settled(self, slot: ItemSlot, outcome: Outcome) -> None:
        """There is a result."""
        if not self._left:
            error = None if outcome.kind == "done" else _error(slot, outcome)
            self._ready.append(
                ItemResult(slot.child.args[0], slot.number, slot.id, outcome.value if error is None else None, error)
            )
            self._changed()

    def freed(self, tree: _EachTree, slot: Slot) -> None:
        """There is room for another child."""
        assert isinstance(slot, ItemSlot)
        if tree.places.pop(slot.number, None) is not None:
            self.under_way -= 1
            self._changed()

    # -- the iteration's side ---------------------------------------------------------------------------------

    async def take(self) -> ItemResult[I, R] | None:
        """The next result; None when there are no more, and the tree has ended."""
        assert self.record is not None
        while not self._ready:
            if (outcome := self.record.outcome) is not None:
                if self.stopped_by is None and outcome.kind != "done":
                    self.stopped_by = _error(self.record, outcome)
                return None
            await self._wait()
        result = self._ready.popleft()
        self._changed()
        return result

    # -- both -------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Return when something has changed."""
        assert self.record is not None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits.add(future)
        self.record.run.stalls.look()
        try:
            await future
        finally:
            self.waits.discard(future)

    def _changed(self) -> None:
        if self._all_read and self.under_way == 0:
            self._over.set()
        for future in self.waits:
            if not future.done():
                future.set_result(None)


class _EachTree(Tree):
    """The bookkeeping of the tree: its children are known by the numbers of their items."""

    def __init__(self, record: ProcessRecord, work: Work[Any, Any]) -> None:
        self.places: dict[Any, Slot] = {}
        super().__init__(record, self.places)
        self.work = work
        self.context: contextvars.Context = work.context
        record.slots = self.places

    def spec(self, slot: Slot) -> ChildSpec:
        assert isinstance(slot, ItemSlot)
        plan = self.work.plan
        return ChildSpec(
            slot.number,
            StartWith(self._start),
            (slot,),
            restart=plan.restart,
            shutdown="infinity",
            type="supervisor",
            intensity=plan.max_restarts,
            period=plan.within,
        )

    async def _start(self, slot: Slot) -> Ref[Any]:
        if slot.outcome is not None:  # its process was killed after its last word
            self.work.freed(self, slot)
            raise Ignore
        return await super()._start(slot)

    def on_event(self, event: SupervisorEvent) -> None:
        slot = self.places.get(event.id)
        super().on_event(event)
        if event.kind == "child_ended" and slot is not None:
            if slot.record is not None and slot.record.outcome is None:  # it was killed, and what it owned is ending
                slot.record.when_ended(lambda: self.work.freed(self, slot))
            else:
                self.work.freed(self, slot)

    def settle(self, slot: Slot, outcome: Outcome) -> None:
        first = slot.outcome is None
        super().settle(slot, outcome)
        if first and slot.outcome is not None:
            assert isinstance(slot, ItemSlot)
            self.work.settled(slot, slot.outcome)


def _error(of: Slot | ProcessRecord, outcome: Outcome) -> Exception:
    """What a failed or cancelled outcome is raised as."""
    label = str(of.id) if isinstance(of, Slot) else of.label
    return outcome.error if isinstance(outcome.error, Exception) else ProcessCancelled(label, outcome.reason)


async def _in_turn(items: Iterable[I] | AsyncIterable[I]) -> AsyncGenerator[I, None]:
    """The items, one by one; a generator is closed when this is."""
    if isinstance(items, AsyncIterable):
        source = aiter(items)
        try:
            async for item in source:
                yield item
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
    else:
        plain = iter(items)
        try:
            for item in plain:
                yield item
        finally:
            if isinstance(plain, Generator):
                plain.close()
