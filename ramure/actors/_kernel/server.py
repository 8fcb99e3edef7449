"""Runs a class-style actor: OTP's gen_server loop, one message at a time."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.actors._kernel.cell import BOUNDED, CANCELLED, DEAD, EMPTY, STOPPING, SUSPENDED, TIMEOUT, TRACED, Cell
from ramure.actors._kernel.sparse import Sparse
from ramure.actors.messages import (
    NO_REPLY,
    Ask,
    Call,
    Cast,
    Continue,
    Exit,
    Ignore,
    Stop,
    StopRequest,
    SysRequest,
    TimeoutFired,
)
from ramure.actors.messages import Timeout as TimeoutMessage
from ramure.actors.proxy import check_public_method
from ramure.exits import NORMAL, Crashed
from ramure.faults import is_of_a_signal

if TYPE_CHECKING:
    from ramure.actors.actor import Actor
    from ramure.actors.system import ActorSystem
    from ramure.actors.timers import Timer


class ServerCell(Cell):
    """The cell of an :class:`~ramure.actors.Actor`."""

    __slots__ = ("actor", "actor_class")

    flags: int
    phase: Literal["starting", "running", "stopping"]
    queue: deque[Any]
    current: object
    coro: Coroutine[Any, Any, Any] | None
    timeout: Sparse[Timer | None] = Sparse(None)
    stop_reason: Sparse[object] = Sparse(None)
    ignored: Sparse[bool] = Sparse(False)
    waiters_for_start: Sparse[asyncio.Future[None] | None] = Sparse(None)

    def __init__(
        self, system: ActorSystem, number: int, context: contextvars.Context, actor_class: type[Actor]
    ) -> None:
        super().__init__(system, number, context)
        self.actor_class: type[Actor] = actor_class
        actor = actor_class.__new__(actor_class)
        self.actor: Any = actor
        actor._cell = self

    @property
    def kind(self) -> str:
        return self.actor_class.__name__

    def check_method(self, name: str) -> None:
        check_public_method(self.actor_class, _base_class(), name)

    def end(self, reason: object) -> None:
        self.stop(reason)

    # -- starting -----------------------------------------------------------------------------------

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run ``__init__`` and ``init`` in this actor's context, as far as they go without waiting."""
        self.scheduled: bool = True  # messages queue up until init is done
        try:
            self.actor.__init__()
            result = self.actor.init(*args, **kwargs)
            if type(result) is CoroutineType:
                self.coro = result
                try:
                    trap = result.send(None)
                except StopIteration as stop:
                    self.coro = None
                    result = stop.value
                else:
                    self._wait_for(trap)
                    return
        except BaseException as error:
            self.coro = None
            self._failed(error)
            if is_of_a_signal(error):
                raise
            return
        self._started()

    def _started(self) -> None:
        if self.flags & DEAD:
            return
        self.phase = "running"
        if self.flags & TRACED:
            self.probe.started()
        self.refresh()
        self.scheduled = False
        if self.flags & STOPPING or self.queue:
            self.wake()
        else:
            self.rest()
        if self.waiters_for_start is not None:
            self._tell_start()

    def _tell_start(self) -> None:
        future, self.waiters_for_start = self.waiters_for_start, None
        if future is not None and not future.done():
            future.set_result(None)

    def refresh(self) -> None:
        """``plain`` actors take the short way through ``Ref.tell``."""
        self.plain: bool = not self.flags & (DEAD | BOUNDED | TRACED)

    # -- running ------------------------------------------------------------------------------------

    def run(self) -> None:  # noqa: C901  # the one hot loop: calls would cost more than the handlers
        loop, queue, lookup = self.loop, self.queue, _HANDLERS.get
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            for _ in range(self.system.batch):
                if self.flags and not self._attend():
                    return
                if not queue:
                    queue = self.queue
                    if not queue:
                        self.queue = EMPTY
                        self.scheduled = False
                        self.rest()
                        return
                message = queue.popleft()
                if self.flags:
                    self._taken(message)
                self.current = message
                handler = lookup(type(message))
                try:
                    result = self.actor.handle_info(message) if handler is None else handler(self, message)
                    if type(result) is CoroutineType:
                        self.coro = result
                        trap = result.send(None)
                        self._wait_for(trap)
                        return
                except StopIteration as stop:
                    if self.coro is None:  # raised by a plain function: not the end of a coroutine
                        self._failed(stop)
                        return
                    self.coro = None
                    result = stop.value
                except BaseException as error:
                    self.coro = None
                    self._failed(error)
                    if is_of_a_signal(error):
                        raise
                    return
                if handler is _ask:
                    if result is NO_REPLY:
                        self._defer(message)
                    elif not message.future.done():
                        message.future.set_result(result)
                self.current = None
            self.system.ready.append(self)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _defer(self, ask: Ask) -> None:
        if not ask.future.done():
            if self.deferred is None:
                self.deferred = {}
            self.deferred[ask] = None

    def _finished(self, value: Any) -> None:
        """A coroutine that had to wait has returned."""
        if self.flags & DEAD:
            return
        if self.phase == "stopping":
            self.die(self.stop_reason)
        elif self.phase == "starting":
            self._started()
        else:
            message = self.current
            if type(message) is Ask:
                if value is NO_REPLY:
                    self._defer(message)
                elif not message.future.done():
                    message.future.set_result(value)
            self.current = None
            if self.flags & TRACED:
                self.probe.handled()
            self.scheduled = False
            if self.queue or self.flags:
                self.wake()
            else:
                self.queue = EMPTY
                self.rest()

    def _failed(self, error: BaseException) -> None:
        """An exception left init, a handler or terminate: the actor ends, however the message came."""
        if self.flags & DEAD:
            return
        reason = error.reason if isinstance(error, Stop) else Crashed(error, self.doing())
        if self.phase == "starting":
            if isinstance(error, Ignore):
                self.ignored = True
                reason = NORMAL
            self.die(reason)
        elif self.phase == "stopping":
            self.die(reason)
        else:
            self._terminate(reason)

    # -- what the flags ask for -----------------------------------------------------------------------

    def _attend(self) -> bool:
        """See to the flags before the next message; False when no message is to be taken now."""
        flags = self.flags
        if flags & DEAD:
            return False
        if flags & STOPPING:
            self._terminate(self.stop_reason)
            return False
        if flags & CANCELLED:
            self._forget_cancel()
        if flags & TRACED:
            self.probe.handled()
        if flags & SUSPENDED:
            return self._bring_forward()
        return True

    def _forget_cancel(self) -> None:
        """A cancellation is for what the actor did then, not for the next message."""
        self.flags &= ~CANCELLED
        self._cancel_requests = 0
        self._must_cancel = False

    def _taken(self, message: Any) -> None:
        """A message was taken from the queue while a flag was up."""
        if self.flags & BOUNDED:
            self._give_room()
        if self.flags & TIMEOUT and type(message) not in (SysRequest, TimeoutFired):
            self.clear_timeout()
        if self.flags & TRACED:
            self.probe.received(message)

    def _bring_forward(self) -> bool:
        """A suspended actor serves system requests, stop requests and its parent's EXIT only."""
        for index, message in enumerate(self.queue):
            if type(message) in (SysRequest, StopRequest) or self._from_parent(message):
                del self.queue[index]
                self.queue.appendleft(message)
                return True
        self.scheduled = False
        return False

    def _from_parent(self, message: Any) -> bool:
        if type(message) is not Exit:
            return False
        if message.sender is None:
            return self.system.closing
        return self.parent is not None and message.sender is self.parent.ref

    def stop(self, reason: object) -> None:
        """End after the current message, through ``terminate``. One that is ending already goes on as it is."""
        if self.phase == "stopping":
            return
        self.flags |= STOPPING
        self.stop_reason = reason
        self.wake()

    def _terminate(self, reason: object) -> None:
        """The orderly way out: ``terminate(reason)``, then the end. Must not be inside the actor's code."""
        if type(self.current) is Ask and not self.current.future.done():
            self._defer(self.current)  # terminate may still answer it
        self.phase = "stopping"
        self.flags &= ~(STOPPING | TIMEOUT)
        self._forget_cancel()
        self.scheduled = True
        self.stop_reason = reason
        self.coro = None
        try:
            result = self.actor.terminate(reason)
            if type(result) is CoroutineType:
                self.coro = result
                trap = result.send(None)
                self._wait_for(trap)
                return
        except BaseException as error:
            returned = self.coro is not None and isinstance(error, StopIteration)
            self.coro = None
            if not returned:
                self._failed(error)
                if is_of_a_signal(error):
                    raise
                return
        self.die(reason)

    def _released(self) -> None:
        self.actor = None
        self.stop_reason = None
        if self.timeout is not None:
            self.timeout.cancel()
        if self.waiters_for_start is not None:
            self._tell_start()

    # -- the timeout of OTP's callbacks -----------------------------------------------------------------

    def set_timeout(self, seconds: float | None) -> None:
        self.clear_timeout()
        if seconds is not None:
            self.timeout = self.system.send_after(seconds, self.ref, TimeoutFired())
            self.flags |= TIMEOUT

    def clear_timeout(self) -> None:
        timer, self.timeout = self.timeout, None
        self.flags &= ~TIMEOUT
        if timer is not None and timer.cancel() is None:  # it has fired
            self.remove_from_queue(lambda message: type(message) is TimeoutFired)


def _base_class() -> type[Actor]:
    from ramure.actors.actor import Actor

    return Actor


# -- what each kind of message does; every other type goes to handle_info ---------------------------------


def _ask(cell: ServerCell, ask: Ask) -> Any:
    request = ask.request
    if type(request) is Call:
        method = getattr(cell.actor, request.method)
        try:
            return method(*request.args, **request.kwargs)
        except TypeError as error:
            if not inspect.iscoroutinefunction(method):
                raise
            ask.fail(error)  # the arguments do not fit: none of the method has run, and it is the asker's mistake
            return NO_REPLY
    return cell.actor.handle_call(request, ask)


def _cast(cell: ServerCell, cast: Cast) -> Any:
    return cell.actor.handle_cast(cast.message)


def _call(cell: ServerCell, call: Call[Any]) -> Any:
    return getattr(cell.actor, call.method)(*call.args, **call.kwargs)


def _exit(cell: ServerCell, message: Exit) -> Any:
    if cell._from_parent(message):
        return _told_to_end(cell, message.reason)
    return cell.actor.handle_info(message)


def _continue(cell: ServerCell, message: Continue) -> Any:
    return cell.actor.handle_continue(message.value)


def _stop(cell: ServerCell, message: StopRequest) -> Any:
    return _told_to_end(cell, message.reason)


def _told_to_end(cell: ServerCell, reason: object) -> Any:
    """The actor may put its end off; not while it is suspended, since then it handles nothing that it waits for."""
    if isinstance(cell.actor, _base_class()) and not cell.flags & SUSPENDED:
        return cell.actor.handle_stop(reason)
    raise Stop(reason)


def _sys(cell: ServerCell, message: SysRequest) -> Any:
    message.run(cell)


def _timeout(cell: ServerCell, message: TimeoutFired) -> Any:
    cell.timeout = None
    cell.flags &= ~TIMEOUT
    return cell.actor.handle_info(TimeoutMessage())


_HANDLERS: Final[dict[type, Callable[[ServerCell, Any], Any]]] = {
    Ask: _ask,
    Cast: _cast,
    Call: _call,
    Exit: _exit,
    Continue: _continue,
    StopRequest: _stop,
    SysRequest: _sys,
    TimeoutFired: _timeout,
}
