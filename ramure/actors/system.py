"""An actor system: an object that actors live in. Two in one program do not meet."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from ramure.actors._kernel import relations
from ramure.actors._kernel.cell import Cell, current_cell, same_context
from ramure.actors._kernel.deadlines import Deadlines
from ramure.actors._kernel.starting import Starter
from ramure.actors._kernel.threads import Threads
from ramure.actors.mailbox import Mailbox
from ramure.actors.names import Names, Registry
from ramure.actors.observe.reports import CrashReport
from ramure.actors.ref import Ref
from ramure.actors.timers import Timer
from ramure.clock import Clock, LoopClock
from ramure.errors import ActorDied, NoSuchName, NotInActor, UsageError
from ramure.exits import KILL, SHUTDOWN, Crashed, Shutdown, format_exit, is_clean
from ramure.faults import failure_of
from ramure.masking import get_logger
from ramure.tracebacks import fold, format_traceback

if TYPE_CHECKING:
    from ramure.actors._kernel.relations import Monitor
    from ramure.actors.observe.inspection import ActorInfo, Leaks
    from ramure.actors.observe.tracing import Kind, Trace, TraceEvent

__all__ = ["ActorSystem"]

A = TypeVar("A")
R = TypeVar("R")
P = ParamSpec("P")
logger: logging.Logger = get_logger("ramure.actors")

BATCH: Final = 32
"""Messages that an actor handles before the next one gets its turn."""

CREDIT: Final = 32
"""Asks answered on the spot before one goes the way through the event loop."""

ROUND: Final = 64
"""Activations before the event loop gets its turn."""


class ActorSystem:
    """Use it as ``async with ActorSystem() as system:``; leaving the block ends every actor in it.

    ``clock`` is where its time comes from (the event loop's, if not given). ``seed`` makes the order in
    which ready actors get their turn random but reproducible, for tests. ``grace`` is how many seconds
    actors have to end in order when the system ends, before they are killed. ``report`` gets each
    :class:`CrashReport`; without it their texts go to the log ``ramure.actors``, as errors.
    """

    def __init__(
        self,
        name: str = "system",
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        grace: float = 5.0,
        report: Callable[[CrashReport], None] | None = None,
    ) -> None:
        self.name = name
        self.grace = grace
        self._given_clock = clock
        self.report: Callable[[CrashReport], None] = report or _log_report
        self.deadlines: Deadlines
        self._context: contextvars.Context
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # set on entering
        self.clock: Clock = None  # type: ignore[assignment]
        self.names: Names = Names()
        self.registry: Registry = Registry(self)
        self.dead_letters: int = 0
        self.closing: bool = False
        self._entered = False
        self.cells: dict[int, Cell] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.threads: Threads = Threads()
        self.tracers: list[Trace] = []
        self.ready: deque[Cell] = deque()
        self.dispatching: bool = False
        self._credit = CREDIT
        self._moment = 0.0
        self._base: contextvars.Context | None = None
        self.pending_signals: deque[tuple[Cell, Cell, Monitor | None]] = deque()
        self.delivering = False
        self.batch = BATCH if seed is None else 1
        self._random = random.Random(seed) if seed is not None else None
        self._number = 0
        self._plain = Starter(self, plain=True)
        self._linked = Starter(self, link=True)
        self._dead_letter_listeners: list[Callable[[Ref[Any], object], None]] = []
        self._end_listeners: list[Callable[[Ref[Any], object], None]] = [self._log_crash]

    # -- its life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError(f"{self!r} was entered already; make a new ActorSystem")
        self._entered = True
        self.loop = asyncio.get_running_loop()
        self.clock = self._given_clock or LoopClock(self.loop)
        self.deadlines = Deadlines(self.clock)
        self._context = contextvars.copy_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every actor: those without a parent in reverse order of start, each with ``shutdown`` and,
        after ``grace`` seconds, ``kill``; their children end with them."""
        self.closing = True
        deadline = self.clock.monotonic() + self.grace
        while self.cells:  # again: those who take their time to end after their parent has ended
            for cell in sorted(self.cells.values(), key=lambda c: -c.number):
                if not cell.dead and (cell.parent is None or cell.parent.dead):
                    relations.signal(cell, None, SHUTDOWN)
                    await self._ended(cell, deadline)
        tasks = [task for task in self.tasks if task is not asyncio.current_task()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(0.1, deadline - self.clock.monotonic()))
            for task in late:
                logger.error("%r ends while the task %s still runs", self, task.get_name())
        await self.threads.wait(max(0.1, deadline - self.clock.monotonic()))
        for label in self.threads.left():
            logger.error("%r ends while the thread of %s still runs", self, label)
        self.deadlines.close()

    async def _ended(self, cell: Cell, deadline: float) -> None:
        if cell.dead:
            return
        killer = self.clock.call_later(
            max(0.0, deadline - self.clock.monotonic()), lambda: relations.signal(cell, None, KILL)
        )
        await cell.ref.wait()
        killer.cancel()

    def __repr__(self) -> str:
        return f"<ActorSystem {self.name!r}: {len(self.cells)} actors>"

    # -- starting actors ------------------------------------------------------------------------------

    async def start(self, actor_class: type[A], *args: Any, **kwargs: Any) -> Ref[A]:
        """Start an actor and return its ref when its ``init(*args, **kwargs)`` has returned.

        Raises :class:`~ramure.errors.StartFailed` with the reason when it did not succeed, and
        :class:`StartIgnored` when it raised ``Ignore``.
        """
        return await self._plain.start(actor_class, *args, **kwargs)

    async def start_link(self, actor_class: type[A], *args: Any, **kwargs: Any) -> Ref[A]:
        """``start``, linked to the calling actor, which is then its parent (``gen_server:start_link``)."""
        return await self._linked.start(actor_class, *args, **kwargs)

    async def start_monitor(self, actor_class: type[A], *args: Any, **kwargs: Any) -> tuple[Ref[A], Monitor]:
        """``start``, monitored by the calling actor."""
        ref = await self.start(actor_class, *args, **kwargs)
        return ref, ref.monitor()

    def options(
        self,
        *,
        name: str | None = None,
        link: bool = False,
        mailbox: Mailbox | None = None,
        timeout: float | None = None,
        label: str | None = None,
    ) -> Starter:
        """Options for starting: ``system.options(name="hits", link=True).start(Counter, start=3)``.

        ``name`` registers it before ``init`` runs; ``timeout`` bounds ``init``, in seconds; ``label`` is
        shown to people and need not be unique.
        """
        return Starter(self, name, link, mailbox, timeout, label)

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Ref[Any]:
        """Start a function-style actor: it runs ``await function(...)`` and ends when that returns."""
        return self._plain.spawn(function, *args, **kwargs)

    def spawn_link(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Ref[Any]:
        """``spawn``, linked to the calling actor."""
        return self._linked.spawn(function, *args, **kwargs)

    def spawn_monitor(
        self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> tuple[Ref[Any], Monitor]:
        """``spawn``, monitored by the calling actor."""
        ref = self.spawn(function, *args, **kwargs)
        return ref, ref.monitor()

    def admit(self) -> tuple[int, contextvars.Context]:
        """The number and the context of an actor that starts here and now. Raises UsageError where none may."""
        if self.closing or asyncio._get_running_loop() is not self.loop:
            if not self._entered:
                raise UsageError(f"{self!r} is not running: use it as `async with ActorSystem() as system:`")
            if self.closing:
                raise ActorDied(repr(self), SHUTDOWN)
            raise UsageError(f"actors of {self!r} must be started on its own event loop")
        self._number += 1
        return self._number, self.base_context()

    # -- finding and telling ----------------------------------------------------------------------------

    def register(self, name: str, ref: Ref[Any]) -> None:
        """Give ``ref`` the name. Raises NameTaken, ActorDied, or UsageError (bad name, or it has one)."""
        if ref._cell.system is not self:
            raise UsageError(f"{ref.label} belongs to {ref._cell.system!r}: it cannot have a name in {self!r}")
        self.names.register(name, ref._cell)

    def unregister(self, name: str) -> None:
        """Take the name away. Raises :class:`~ramure.errors.NoSuchName`."""
        self.names.unregister(name)

    def whereis(self, name: str) -> Ref[Any] | None:
        """Who has the name now, or None."""
        cell = self.names.get(name)
        return cell.ref if cell is not None else None

    def tell(self, target: Ref[Any] | str, message: object) -> None:
        """Send to a ref or a registered name. Raises NoSuchName, as Erlang's ``!`` raises badarg."""
        if isinstance(target, str):
            cell = self.names.get(target)
            if cell is None:
                raise NoSuchName(target)
            target = cell.ref
        target.tell(message)

    def monitor(self, target: Ref[Any] | str, *, alias: bool = False, owner: Cell | None = None) -> Monitor:
        """Monitor a ref, or whoever has a registered name now, from the current actor."""
        owner = owner or current_cell()
        if owner is None:
            raise NotInActor("monitor()")
        cell = self.names.get(target) if isinstance(target, str) else target._cell
        return relations.monitor(owner, cell, target, alias)

    def actors(self) -> list[Ref[Any]]:
        """Every live actor, in order of starting."""
        return [cell.ref for cell in self.cells.values()]

    # -- looking in (see also ramure.actors.observe.inspection) -----------------------------------------------------

    def info(self, ref: Ref[Any]) -> ActorInfo:
        """What the kernel knows about an actor, read at once."""
        from ramure.actors.observe import inspection

        return inspection.info(ref)

    def leaks(self) -> Leaks:
        """Actors that live, threads that were abandoned, tasks that run: nothing, once the system is closed."""
        from ramure.actors.observe import inspection

        return inspection.leaks(self)

    def trace(
        self,
        target: Ref[Any] | Callable[[Ref[Any]], bool] | None = None,
        *,
        kinds: Collection[Kind] | None = None,
        limit: int = 1000,
        callback: Callable[[TraceEvent], object] | None = None,
    ) -> Trace:
        """Watch what happens to one actor, to those that a predicate picks (asked as each starts), or to all.

        Read the trace with ``async for``, or have ``callback(event)`` called on the loop. ``kinds`` are of
        ``started sent received handled replied signal ended``; all, if not given. ``limit`` is how many
        unread events are kept.
        """
        from ramure.actors.observe.tracing import KINDS, Trace

        return self.call(Trace, self, target, KINDS if kinds is None else kinds, limit, callback)

    def trace_start(self, cell: Cell) -> None:
        """Have those who trace look at an actor that begins."""
        for trace in list(self.tracers):
            trace.consider(cell)

    # -- timers -----------------------------------------------------------------------------------------

    def send_after(self, delay: float, target: Ref[Any] | str, message: object) -> Timer:
        """Send ``message`` to ``target`` after ``delay`` seconds; a name is looked up when it fires."""
        return Timer(self, target if isinstance(target, str) else target._cell, message, delay)

    def send_interval(self, interval: float, target: Ref[Any] | str, message: object) -> Timer:
        """Send ``message`` to ``target`` every ``interval`` seconds until cancelled, without drift."""
        return Timer(self, target if isinstance(target, str) else target._cell, message, interval, interval)

    # -- dispatching --------------------------------------------------------------------------------------

    def start_dispatching(self) -> None:
        self.dispatching = True
        self.loop.call_soon(self._dispatch, context=self._context)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call ``function`` in the loop's next turn, in the context of the system."""
        self.loop.call_soon(function, context=self._context)

    def base_context(self) -> contextvars.Context:
        """The caller's context; one object for all who are started in the same."""
        context = contextvars.copy_context()
        if self._base is None or not same_context(context, self._base):
            self._base = context
        return self._base

    def moment(self) -> float:
        """The time of day, to a hundredth of a second: actors started together share the number."""
        now = self.clock.wall()
        if not 0 <= now - self._moment < 0.01:
            self._moment = now
        return self._moment

    def may_run_now(self) -> bool:
        """True when an ask from plain code may give its idle target a turn at once: nobody else is waiting for one,
        and the event loop had its turn not long ago."""
        if self.ready or self._random is not None:
            return False
        self._credit -= 1
        if self._credit > 0:
            return True
        self._credit = CREDIT
        return False

    def may_run_next(self, cell: Cell) -> bool:
        """As :meth:`may_run_now`, for a target that has been told something already: it is the only one that is ready,
        and is taken from the list."""
        ready = self.ready
        if len(ready) != 1 or ready[0] is not cell:
            return False
        ready.clear()
        if self.may_run_now():
            return True
        ready.append(cell)
        return False

    def _dispatch(self) -> None:
        """Give ready actors their turns, some at a time, so that the loop's I/O goes on between."""
        ready = self.ready
        try:
            for _ in range(ROUND):
                if not ready:
                    self.dispatching = False
                    return
                if self._random is not None:
                    ready.rotate(-self._random.randrange(len(ready)))
                cell = ready.popleft()
                cell.context.run(cell.run)
        except BaseException:
            self.loop.call_soon(self._dispatch, context=self._context)
            raise
        self.loop.call_soon(self._dispatch, context=self._context)

    def on_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` on the system's loop: now if this is it, else soon, in order per thread."""
        if asyncio._get_running_loop() is self.loop:
            function(*args)
            return
        try:
            self.loop.call_soon_threadsafe(function, *args)  # in the caller's context: who sends is known
        except RuntimeError:  # the loop is closed: everybody is dead
            self.dead_letters += 1

    def ask_from_outside(self, ref: Ref[Any], request: object, timeout: float | None) -> concurrent.futures.Future[Any]:
        """An ask from another thread or loop, carried out on the system's loop."""
        if not self._entered or self.loop.is_closed():
            raise ActorDied(ref.label, "noproc", request)
        coroutine: Coroutine[Any, Any, Any] = ref.ask(request, timeout=timeout)
        return self.start_there(coroutine)

    def start_there(self, coroutine: Coroutine[Any, Any, R]) -> concurrent.futures.Future[R]:
        """Run ``coroutine`` on the system's loop, from another thread. Raises ActorDied when that is closed."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:  # closed
            coroutine.close()
            raise ActorDied(repr(self), SHUTDOWN) from None

    async def await_there(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Await ``coroutine`` on the system's loop, from a coroutine on another one."""
        future = asyncio.wrap_future(self.start_there(coroutine))
        while not (await asyncio.wait([future], timeout=1.0))[0]:
            if self.loop.is_closed():  # nobody will complete it any more
                raise ActorDied(repr(self), SHUTDOWN)
        return future.result()

    def wait_from_outside(self, future: concurrent.futures.Future[R]) -> R:
        """Block this thread until the system's loop has settled ``future``, or is closed."""
        while True:
            try:
                return future.result(timeout=1.0)
            except concurrent.futures.CancelledError:
                raise ActorDied(repr(self), SHUTDOWN) from None
            except TimeoutError:
                if future.done():  # it is the answer
                    raise
                if self.loop.is_closed():
                    raise ActorDied(repr(self), SHUTDOWN) from None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` on the system's loop and return its result: at once if this is it, else this
        thread blocks for as long as that takes. Current actor and context go along."""
        if asyncio._get_running_loop() is self.loop:
            return function(*args, **kwargs)
        future: concurrent.futures.Future[R] = concurrent.futures.Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # raised in the calling thread
                future.set_exception(error)

        try:
            self.loop.call_soon_threadsafe(run)
        except RuntimeError:  # closed
            raise ActorDied(repr(self), SHUTDOWN) from None
        return self.wait_from_outside(future)

    # -- endings ----------------------------------------------------------------------------------------

    def forget(self, cell: Cell) -> None:
        """A cell is dead: its number, names and registry entries are free."""
        self.cells.pop(cell.number, None)
        if cell.names:
            self.names.forget(cell)
        self.registry.forget(cell)

    def report_end(self, cell: Cell) -> None:
        if not is_clean(cell.reason):
            for listener in self._end_listeners:
                _guarded(listener, cell.ref, cell.reason)

    def on_end(self, listener: Callable[[Ref[Any], object], None]) -> None:
        """Have ``listener(ref, reason)`` called at every abnormal end, besides the log entry for crashes."""
        self._end_listeners.append(listener)

    def _log_crash(self, ref: Ref[Any], reason: object) -> None:
        detail = reason.detail if isinstance(reason, Shutdown) else reason
        if isinstance(detail, Crashed):

            def text() -> str:
                return f"{ref.label} ended: {format_exit(reason)}\n{format_traceback(reason)}"

            self.report(CrashReport(ref, ref, None, reason, text))

    def dead_letter(self, cell: Cell, message: object) -> None:
        self.dead_letters += 1
        for listener in self._dead_letter_listeners:
            _guarded(listener, cell.ref, message)

    def on_dead_letter(self, listener: Callable[[Ref[Any], object], None]) -> None:
        """Have ``listener(target, message)`` called for each message to a dead actor."""
        self._dead_letter_listeners.append(listener)


def _guarded(listener: Callable[[Ref[Any], object], None], ref: Ref[Any], value: object) -> None:
    """A listener's own failure must not stop the ending, or the sending, that it is told of."""
    try:
        listener(ref, value)
    except BaseException as error:
        failure_of(error)
        logger.error("the listener %r failed on %s", listener, ref.label, exc_info=fold(error))


def _log_report(report: CrashReport) -> None:
    logger.error("%s", report)
