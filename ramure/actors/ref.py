"""What everybody holds of an actor: its address."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ramure.actors._kernel import relations
from ramure.actors._kernel.cell import EMPTY, Cell, current_cell
from ramure.actors.messages import Ask, Call, Cast, Request, StopRequest
from ramure.errors import ActorDied, NotInActor, StopTimeout, UsageError, WouldDeadlock
from ramure.exits import NOPROC, NORMAL

if TYPE_CHECKING:
    from ramure.actors.threaded import ThreadedActor

    class _PykkaActor(Protocol):
        """What type checkers know a user's pykka class by."""

        actor_urn: str

        def on_receive(self, message: Any) -> Any: ...


__all__ = ["DEFAULT_TIMEOUT", "Ref"]

A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")
R = TypeVar("R")
P = ParamSpec("P")

DEFAULT_TIMEOUT = 5.0
"""Seconds that an ask waits when it is not told otherwise, as ``gen_server:call/2``."""

_running_loop = asyncio._get_running_loop


class Ref(Generic[A_co]):
    """The address of one actor, event-loop or threaded, alive or dead. Equal only to itself."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    # -- identity -----------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """Its number in its system: 1, 2, 3 … in order of starting, never used again."""
        return self._cell.number

    @property
    def name(self) -> str | None:
        """Its registered name, or None."""
        names = self._cell.names
        return names[0] if names else None

    @property
    def label(self) -> str:
        """How it is called in errors and logs, as ``<Counter 'hits' #3>``."""
        return self._cell.label

    def is_alive(self) -> bool:
        """False from the moment of its end on (an actor that is still starting is alive)."""
        return not self._cell.dead

    def __repr__(self) -> str:
        return self._cell.label

    # -- messages -----------------------------------------------------------------------------------

    def tell(self, message: object) -> None:
        """Send ``message`` (to ``handle_info``, or to a function's ``receive``). Never waits; from any thread.

        To a dead actor it is dropped and counted as a dead letter. Raises
        :class:`~ramure.errors.MailboxFull` when the mailbox has a limit, is full and ``overflow="fail"``.
        """
        cell = self._cell
        if cell.plain and _running_loop() is cell.loop:
            if cell.queue is EMPTY:
                cell.queue = deque((message,))
            else:
                cell.queue.append(message)
            if not cell.scheduled:
                cell.scheduled = True
                system = cell.system
                system.ready.append(cell)
                if not system.dispatching:
                    system.start_dispatching()
        elif _running_loop() is cell.loop:
            cell.deliver(message)
        else:
            cell.system.on_loop(cell.deliver_from_outside, message)

    def tell_now(self, message: object) -> None:
        """``tell``, for plain code that has nothing else to do, as what reads a socket: an idle actor gets its turn at
        once, as for an ``ask``, without a turn of the event loop between."""
        cell = self._cell
        idle = cell.plain and cell.queue is EMPTY and not cell.scheduled
        if idle and _running_loop() is cell.loop and cell.system.may_run_now():
            cell.queue = deque((message,))
            cell.scheduled = True
            cell.run_now()
        else:
            self.tell(message)

    def cast(self, message: object) -> None:
        """Send a one-way request (to ``handle_cast``), as ``gen_server:cast``."""
        self.tell(Cast(message))

    def call_soon(self: Ref[A], method: Callable[Concatenate[A, P], object], *args: P.args, **kwargs: P.kwargs) -> None:
        """One-way, typed: ``ref.call_soon(Counter.add, 2)`` runs the method, and nobody waits for it."""
        self.tell(Call(method.__name__, args, kwargs))

    async def send(self, message: object) -> None:
        """``tell``, but wait for room when the mailbox has a limit and is full."""
        cell = self._cell
        if _running_loop() is not cell.loop:
            await cell.system.await_there(self.send(message))
            return
        await cell.wait_for_room()
        self.tell(message)

    @overload
    async def ask(self, request: Request[R], *, timeout: float | None = ...) -> R: ...
    @overload
    async def ask(self, request: object, *, timeout: float | None = ...) -> Any: ...
    async def ask(self, request: object, *, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
        """Send ``request`` (to ``handle_call``) and return the answer.

        ``timeout`` is in seconds, None for no limit. Raises :class:`~ramure.errors.ActorDied` at once
        when the actor is dead or ends before answering, :class:`~ramure.errors.AskTimeout`,
        :class:`~ramure.errors.WouldDeadlock`, :class:`~ramure.errors.MailboxFull`, and whatever error
        the actor answered on purpose.
        """
        cell = self._cell
        loop = _running_loop()
        system = cell.system
        if loop is not cell.loop:
            return await asyncio.wrap_future(system.ask_from_outside(self, request, timeout))
        if cell.dead:
            raise ActorDied(cell.label, NOPROC, request)
        asker = current_cell()
        task: Any = None if asker is None else asyncio.current_task(loop)
        waits = asker is not None and task is asker
        plain = not isinstance(task, Cell)  # in no actor's turn: a task, a callback
        if waits:
            assert asker is not None
            if timeout is None or asker is cell:
                _refuse_cycle(asker, cell)
        future: asyncio.Future[Any] = loop.create_future()
        ask = Ask(cell, request, future, asker)
        if not cell.plain:
            cell.deliver(ask)
        elif cell.queue is not EMPTY or cell.scheduled:
            cell.queue = cell.queue or deque()
            cell.queue.append(ask)
            if not cell.scheduled:
                cell.wake()
            elif plain and system.may_run_next(cell):
                cell.run_now()  # it alone is ready
        else:
            cell.queue = deque((ask,))
            if plain and system.may_run_now():
                cell.scheduled = True
                cell.run_now()  # it is idle, and we wait for nothing else: no need to go round the loop
            else:
                cell.wake()
        if timeout is None:
            if not waits:
                return await future
            assert asker is not None
            asker.waiting_for = cell
            try:
                return await future
            finally:
                asker.waiting_for = None
        bucket = system.deadlines.add(ask, timeout)
        try:
            return await future
        finally:
            bucket.pop(ask, None)

    def request(self, request: object, answer: asyncio.Future[Any] | None = None) -> asyncio.Future[Any]:
        """Send ``request`` now, and await the answer later, or never: ``gen_server:send_request``.

        On the system's own loop. The future ends at the latest when the actor does, with ``ActorDied``. ``answer``: a
        future of the system's loop to use; with it, the call may come from any thread.
        """
        cell = self._cell
        if answer is not None:
            ask = Ask(cell, request, answer, current_cell())
            loop = _running_loop()
            if loop is not cell.loop:
                cell.system.on_loop(cell.deliver, ask)
            elif isinstance(asyncio.current_task(loop), Cell):
                cell.deliver(ask)
            else:
                self.tell_now(ask)
            return answer
        future: asyncio.Future[Any] = cell.loop.create_future()
        future.add_done_callback(_retrieve)
        cell.deliver(Ask(cell, request, future, None))
        return future

    def request_stop(self, reason: object = NORMAL) -> asyncio.Future[object]:
        """Ask it to end in order, now, and await the reason that it ended with later, or never. See :meth:`stop`.

        On the system's own loop, of a live actor.
        """
        self._cell.deliver(StopRequest(reason))
        return self._cell.end_future()

    def ask_sync(self, request: object, *, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
        """``ask`` for a plain thread: blocks it until the answer. Raises as :meth:`ask` does."""
        if _running_loop() is not None:
            raise UsageError("ask_sync would block the event loop; use `await ref.ask(...)` here")
        cell, asker = self._cell, current_cell()
        waits = asker is not None and asker.in_own_thread()
        if asker is not None and waits and (timeout is None or asker is cell):
            cell.system.call(_refuse_cycle, asker, cell)
            asker.waiting_for = cell if timeout is None else None
        try:
            return cell.system.wait_from_outside(cell.system.ask_from_outside(self, request, timeout))
        finally:
            if asker is not None and waits:
                asker.waiting_for = None

    @overload
    def proxy(self: Ref[ThreadedActor | _PykkaActor], *, timeout: float | None = ...) -> Any: ...
    @overload
    def proxy(self: Ref[A], *, timeout: float | None = ...) -> A: ...
    def proxy(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> Any:
        """The actor's public ``async`` methods as asks: ``await ref.proxy().add(2)``, typed as the methods are.

        The methods of threaded actors are plain ``def``s, for which there is no such type: see :meth:`call`.
        """
        return self._cell.proxy(timeout)

    @overload
    def call(
        self: Ref[A], method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(
        self: Ref[A], method: Callable[Concatenate[A, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """``await ref.call(Counter.add, 2)``: as ``await ref.proxy().add(2)``, typed for threaded actors too."""
        return self.ask(Call(method.__name__, args, kwargs))

    # -- life -----------------------------------------------------------------------------------------

    def exit(self, reason: object) -> None:
        """Send an exit signal, as ``exit/2``; from any thread.

        ``"kill"`` cannot be trapped. Sent to oneself it ends the actor there and then.
        """
        cell, sender = self._cell, current_cell()
        if sender is not None and sender.system is not cell.system:
            sender = None
        cell.system.on_loop(relations.signal, cell, sender, reason)
        if sender is cell and cell.dead and _running_loop() is cell.loop and asyncio.current_task() is cell:  # type: ignore[comparison-overlap]
            raise asyncio.CancelledError  # unwind the code that has just ended itself

    async def stop(self, reason: object = NORMAL, *, timeout: float | None = None) -> None:
        """Ask it to end in order and wait for its end, as ``gen_server:stop``: what is queued before is
        handled first, then ``terminate(reason)`` runs.

        Raises :class:`~ramure.errors.ActorDied` when it was dead already (noproc) or ended with another
        reason, and :class:`~ramure.errors.StopTimeout` after ``timeout`` seconds.
        """
        cell = self._cell
        if _running_loop() is not cell.loop:
            await cell.system.await_there(self.stop(reason, timeout=timeout))
            return
        if cell.dead:
            raise ActorDied(cell.label, NOPROC)
        if asyncio.current_task() is cell:  # type: ignore[comparison-overlap]
            raise WouldDeadlock((cell.label, cell.label))
        cell.deliver(StopRequest(reason))
        try:
            ended = await asyncio.wait_for(self.wait(), timeout)
        except TimeoutError:
            raise StopTimeout(cell.label, timeout or 0.0) from None
        if ended != reason:
            raise ActorDied(cell.label, ended)

    async def wait(self) -> object:
        """Wait for its end, from any coroutine on any loop; returns the exit reason (noproc is never
        returned: the reason of a dead actor is remembered)."""
        cell = self._cell
        if cell.dead:
            return cell.reason
        if _running_loop() is not cell.loop:
            return await cell.system.await_there(self.wait())
        future = cell.end_future()
        try:
            return await future
        finally:
            if cell.waiters and future in cell.waiters:
                cell.waiters.remove(future)

    # -- relations of the current actor to it -----------------------------------------------------------

    def link(self) -> None:
        """Link the current actor to this one: when one ends, the other gets an exit signal."""
        self._cell.system.call(relations.link, _me("link"), self._cell)

    def unlink(self) -> None:
        """Undo :meth:`link`."""
        self._cell.system.call(relations.unlink, _me("unlink"), self._cell)

    def monitor(self, *, alias: bool = False) -> relations.Monitor:
        """Have the current actor get a :class:`~ramure.actors.Down` when this one ends."""
        return self._cell.system.call(relations.monitor, _me("monitor"), self._cell, self, alias)


Cell.ref_class = Ref


def _me(what: str) -> Cell:
    cell = current_cell()
    if cell is None:
        raise NotInActor(f"{what}()")
    return cell


def _refuse_cycle(asker: Cell, target: Cell) -> None:
    """A serial actor is about to wait without limit: refuse if those it waits for wait for it."""
    path = [asker.label, target.label]
    waits_for: Cell | None = target
    while waits_for is not None:
        if waits_for is asker:
            raise WouldDeadlock(tuple(path))
        waits_for = waits_for.waiting_for
        if waits_for is not None:
            path.append(waits_for.label)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """An answer that nobody looks at is no warning."""
    if not future.cancelled():
        future.exception()
