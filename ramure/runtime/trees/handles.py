"""``supervise``: an explicit tree of processes, and the handles of it and of its children."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ramure.actors import Call
from ramure.errors import ActorDied, UsageError
from ramure.places import names_its_line
from ramure.runtime.errors import ProcessEnded, WaitsForItself
from ramure.runtime.process.attachment import Attachment
from ramure.runtime.process.checks import check_count, check_limit
from ramure.runtime.process.eager import Eager
from ramure.runtime.process.handle import Agent, ProcessHandle
from ramure.runtime.process.process import ProcessPlan
from ramure.runtime.process.scope import current_process, process_here
from ramure.runtime.process.stream import EventStream
from ramure.runtime.run.run import cancel_and_wait
from ramure.runtime.trees.slots import Child, Slot, check_child
from ramure.runtime.trees.supervision import Tree, TreePlan, run_tree, tells_failure
from ramure.supervisors import Flags

if TYPE_CHECKING:
    from ramure.agents.requests import Usage
    from ramure.runtime.process.record import ProcessRecord
    from ramure.supervisors import Backoff
    from ramure.supervisors.spec import Restart, RestartIf

__all__ = ["ChildHandle", "TreeHandle", "child", "supervise"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


class Takes(Protocol[P, R_co]):
    """A function decorated with ``@agent_process`` that can be called so."""

    @property
    def run_options(self) -> Any: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


# No parameter may stand between those of P: where there are options, a type checker knows the arguments by their places.
@overload
def child(function: Takes[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Child[R]: ...
@overload
def child(
    function: Takes[[], R], /, *, id: Any = ..., restart: Restart = ..., restart_if: RestartIf | None = ...
) -> Child[R]: ...
@overload
def child(
    function: Takes[[A], R], a: A, /, *, id: Any = ..., restart: Restart = ..., restart_if: RestartIf | None = ...
) -> Child[R]: ...
@overload
def child(
    function: Takes[[A, B], R],
    a: A,
    b: B,
    /,
    *,
    id: Any = ...,
    restart: Restart = ...,
    restart_if: RestartIf | None = ...,
) -> Child[R]: ...
@overload
def child(
    function: Takes[[A, B, C], R],
    a: A,
    b: B,
    c: C,
    /,
    *,
    id: Any = ...,
    restart: Restart = ...,
    restart_if: RestartIf | None = ...,
) -> Child[R]: ...
@overload
def child(
    function: Takes[[A, B, C, D], R],
    a: A,
    b: B,
    c: C,
    d: D,
    /,
    *,
    id: Any = ...,
    restart: Restart = ...,
    restart_if: RestartIf | None = ...,
) -> Child[R]: ...
@overload
def child(
    function: Takes[[A, B, C, D, E], R],
    a: A,
    b: B,
    c: C,
    d: D,
    e: E,
    /,
    *,
    id: Any = ...,
    restart: Restart = ...,
    restart_if: RestartIf | None = ...,
) -> Child[R]: ...
def child(function: Any, /, *args: Any, **kwargs: Any) -> Child[Any]:
    """One child for :func:`supervise`: ``child(run_task, spec, id=spec)``.

    ``id`` is what results, events and calls are bound to (default: the function's name). ``restart``:
    ``"transient"`` (after a failure), ``"permanent"`` (always) or ``"temporary"`` (never). ``restart_if``:
    exception types, or a predicate on the exit reason: restart only then.

    Type checkers know the arguments as :func:`spawn` does; beside options, up to five, by their places. For one that is
    given by its name beside options, write ``dataclasses.replace(child(run_task, spec=spec), id=spec)``.
    """
    if not hasattr(function, "run_options"):
        raise UsageError(f"child({function!r}): give a function that is decorated with @agent_process")
    options = {name: kwargs.pop(name) for name in ("id", "restart", "restart_if") if name in kwargs}
    if options.get("id") is None:
        options["id"] = function.name
    return Child(function, args, kwargs, **options)


@names_its_line
async def supervise(
    *children: Child[R],
    strategy: str = "one_for_one",
    max_restarts: int = 3,
    within: float = 600,
    backoff: Backoff | None = None,
    limit: int | None = None,
    name: str = "supervise",
    retain: int | None = None,
) -> TreeHandle[R]:
    """Start ``children`` in a supervision tree of their own, and return its handle when all have been started::

        workers = await supervise(child(run_task, "a", id="a"), child(run_task, "b", id="b"))
        results = await workers

    ``await handle`` gives their results by id, when all have ended; it raises GaveUp after more than
    ``max_restarts`` restarts within ``within`` seconds, and ChildrenFailed for children that failed and are
    not restarted. ``handle[id]`` is one child's place: its ``call``, ``attach`` and events go on across
    restarts. ``strategy`` is a supervisor's: one_for_one, one_for_all, rest_for_one. ``limit``: how many run at once
    (default: all), with one_for_one; the others are started, in order, when one has ended for good.

    The stream has ``child_started``, ``restarted``, ``done``, ``failed`` and ``gave_up``, and what the
    children emit, each with the child's id as its source; a child has one ``done``, ``failed`` or ``cancelled``,
    its last end. The tree's own end closes the stream, and adds no event. ``retain``: how many events it keeps for late
    readers (default: all); the stream of a child's place keeps as many as its function's own ``retain`` says.
    """
    parent = process_here("supervise()")
    if not children:
        raise UsageError("supervise() needs at least one child(...)")
    taken: dict[Any, Child[R]] = {}
    for each in children:
        check_child(each, "supervise", taken.__contains__)
        taken[each.id] = each
    check_count("supervise()", "retain", retain)
    Flags(strategy, max_restarts, within, backoff=backoff)  # what is wrong with them is said here
    _check_limit(limit, strategy, children)
    options = {"strategy": strategy, "intensity": max_restarts, "period": within, "backoff": backoff}
    stream = EventStream(retain, tells_end=tells_failure)
    record = parent.run.new_process(name, parent, None, of_tree=True, stream=stream)
    slots = {each.id: _slot(each, record) for each in children}
    record.slots = slots
    plan = TreePlan(slots, options, limit)
    parent.run.start_process(ProcessPlan(record, run_tree, (plan,), {}, None, contextvars.copy_context()))
    await _running(record, plan)
    return TreeHandle(record, plan)


def _check_limit(limit: int | None, strategy: str, children: Iterable[Child[Any]]) -> None:
    if limit is None:
        return
    check_limit("supervise()", limit)
    if strategy != "one_for_one":
        raise UsageError(
            f"supervise(): limit={limit} with strategy={strategy!r}: a failure would start again those that have ended, too; "
            "use one_for_one"
        )
    lasting = [each.id for each in children if each.restart == "permanent"]
    if len(lasting) >= limit and len(lasting) < len(list(children)):
        raise UsageError(
            f"supervise(): limit={limit} with {len(lasting)} permanent children ({', '.join(map(repr, lasting[:5]))}), which never "
            "end: the others would never be started; raise the limit, or supervise them apart"
        )


def _slot(child: Child[Any], record: ProcessRecord) -> Slot:
    stream = EventStream(child.function.retain)
    stream.on_wait = record.run.stalls.look
    stream.clock = record.run.system.clock.wall
    return Slot(child.id, record, stream, child)


async def _running(record: ProcessRecord, plan: TreePlan) -> None:
    """Return when all children of a tree have been started. Raises what it failed with before."""
    running, ended = asyncio.ensure_future(plan.running.wait()), asyncio.ensure_future(record.wait_ended())
    try:
        await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await cancel_and_wait(record)
        raise
    finally:
        running.cancel()
        ended.cancel()
    if not plan.running.is_set():
        record.retrieved = True
        ended.result().result(record.label)


class TreeHandle(ProcessHandle[dict[Any, R]]):
    """A tree made by ``supervise``. ``await handle`` gives the children's results by id."""

    def __init__(self, record: ProcessRecord, plan: TreePlan) -> None:
        super().__init__(record)
        self._plan = plan

    def __getitem__(self, id: Any) -> ChildHandle[R]:
        """The place of the child ``id``: it goes on across restarts. Raises KeyError."""
        return ChildHandle(self._plan.slots[id], self._tree)

    @property
    def children(self) -> dict[Any, ChildHandle[R]]:
        """Every child's place, by id."""
        return {id: ChildHandle(slot, self._tree) for id, slot in self._plan.slots.items()}

    @names_its_line
    async def add(self, child: Child[R]) -> ChildHandle[R]:
        """Start one more child, and return its place; where the tree has a limit that is reached, it waits for room there.

        Raises UsageError for an id that another child of the tree has, ended or not, and ProcessEnded once all children have
        ended, and the tree with them.
        """
        slots, record = self._plan.slots, self._record
        process_here("tree.add()")
        check_child(child, "tree.add", slots.__contains__)
        slot = _slot(child, record)
        await self._tree.add(slot)
        if slot.outcome is not None and (slot.record is None or slot.record.ref is None):  # it has never run
            slots.pop(child.id, None)
            slot.outcome.result(str(child.id))
        return ChildHandle(slot, self._tree)

    @names_its_line
    async def remove(self, id: Any) -> None:
        """End a child if it runs, and forget it: its result is none of the tree's. Returns when it has ended.

        When the last one goes, the tree ends: add before you remove. Raises KeyError.
        """
        slot = self._plan.slots[id]
        process_here("tree.remove()")
        await self._tree.end(slot)
        self._plan.slots.pop(id, None)

    @property
    def _tree(self) -> Tree:
        assert self._plan.tree is not None  # it has begun
        return self._plan.tree


class ChildHandle(Generic[R]):
    """A child's place in a tree: whatever process runs in it now. ``await`` it for the child's result, when it has ended for
    good; it raises what the last try failed with."""

    def __init__(self, slot: Slot, tree: Tree) -> None:
        self._slot = slot
        self._tree = tree

    @property
    def name(self) -> str:
        """The child's id, as text."""
        return str(self._slot.id)

    @property
    def events(self) -> EventStream:
        """What the child emits, across restarts, with ``restarted`` between; one ending, the last."""
        return self._slot.stream

    @property
    def agents(self) -> dict[str, Agent]:
        """The live agents of the process that runs here now, by name."""
        record = self._slot.record
        return {} if record is None else {name: Agent(agent) for name, agent in record.agents.items()}

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(0, self._slot.incarnations - 1)

    @property
    def usage(self) -> Usage:
        """Tokens and cost so far, of all processes that have run here, and of those below them, by model too."""
        return self._slot.usage()

    @property
    def ended(self) -> bool:
        """True when it has ended, and is not started again."""
        return self._slot.outcome is not None

    def __await__(self) -> Generator[Any, None, R]:
        return self._result().__await__()

    async def _result(self) -> R:
        if self._is_inside():
            waiting = current_process()
            assert waiting is not None
            raise WaitsForItself(waiting.path, f"{self._slot.tree.path}[{self._slot.id!r}]")
        outcome = await self._slot.ended()
        self._slot.tree.retrieved = True
        return cast("R", outcome.result(self.name))

    @names_its_line
    async def call(self, name: str, /, **arguments: Any) -> Any:
        """As :meth:`ProcessHandle.call`; during a restart it waits for the next process. A call that was in
        flight when the process died raises ProcessEnded, and is never sent again."""
        return await self._slot.call(name, arguments)

    @names_its_line
    async def attach(self, agent: Agent, *, only: Iterable[str] | None = None, prefix: str = "") -> None:
        """As :meth:`ProcessHandle.attach`; goes on across restarts."""
        record = await self._slot.process()
        attachment = Attachment(agent._record, self.call, only, prefix)
        answers = attachment.present(record)
        self._slot.on_expose(attachment)
        await asyncio.gather(*answers)

    @names_its_line
    async def restart(self) -> None:
        """End the process that runs here, and start it again; returns when the next one runs. It counts for no limit.

        Raises ProcessEnded for a child that has ended for good, ChildTemporary, and ChildRestarting while it waits to be
        started again.
        """
        slot, supervisor = self._slot, self._tree.supervisor
        process_here("restart()")
        if slot.outcome is not None or supervisor is None:
            raise ProcessEnded(self.name, "restarting it", slot.outcome.exit_reason() if slot.outcome else None)
        if not slot.queued:
            try:
                await supervisor.ask(Call("renew_child", (slot.child.id,)), timeout=None)
            except ActorDied as died:
                raise ProcessEnded(self.name, "restarting it", died.reason) from died
        await slot.process()

    def cancel(self) -> Eager:
        """End it for good, in order: it is not started again, and its last event is ``cancelled``. ``await`` that to wait
        until it has ended; as with :meth:`ProcessHandle.cancel`, not in the child itself."""
        record, caller = self._slot.tree, current_process()
        system = record.run.system
        act = Eager(system, caller or record, f"cancel() of {self.name}", stays=not self._is_inside())
        system.on_loop(self._cancel, act.answer)
        return act

    def _cancel(self, answer: asyncio.Future[None]) -> None:
        record = self._slot.tree
        if record.outcome is not None or record.tasks is None:
            answer.set_result(None)
            return
        ending = record.tasks(self._tree.end(self._slot), f"cancel {self.name}")
        ending.add_done_callback(lambda _: None if answer.done() else answer.set_result(None))

    def _is_inside(self) -> bool:
        """True in the code of the child itself, or below it."""
        caller, record = current_process(), self._slot.record
        return caller is not None and record is not None and (caller is record or record in caller.ancestors())

    def __repr__(self) -> str:
        return f"<child {self._slot.id!r} of {self._slot.tree.path}>"
