"""Function-style actors: an ``async`` function that receives from its mailbox, as an Erlang process does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramure.actors import relations
from ramure.actors.cell import DEAD, TRACED, Cell, current_cell
from ramure.actors.cell import fail_future as _fail
from ramure.actors.inbox import ReceiveTimeout, matcher
from ramure.actors.messages import Ask, Exit, Stop, StopRequest, SysRequest
from ramure.errors import NotInActor, UsageError
from ramure.exits import NORMAL, Crashed, Phase
from ramure.faults import failure_of

if TYPE_CHECKING:
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["ReceiveTimeout", "alias", "exit", "monitor", "receive", "self_ref", "trap_exit"]


class BodyCell(Cell):
    """The cell of a function-style actor."""

    receiver: tuple[Callable[[Any], bool], asyncio.Future[Any]] | None = None

    def __init__(
        self, system: ActorSystem, number: int, context: contextvars.Context, function: Callable[..., Any]
    ) -> None:
        super().__init__(system, number, context)
        self.function = function
        self.phase = "running"

    @property
    def kind(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__).rpartition(".")[2]

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Schedule the function; it runs from the system's next turn on."""
        coroutine = self.function(*args, **kwargs)
        if not asyncio.iscoroutine(coroutine):
            raise UsageError(f"spawn needs an async function; {self.function!r} returned {coroutine!r}")
        self.coro = coroutine
        if self.flags & TRACED:
            self.probe.started()
        self.wake()

    def run(self) -> None:
        """The first activation; from then on the function's own waits drive it."""
        if not self.flags & DEAD:
            self._step(None)
        # `scheduled` stays True: messages do not activate a body, `deliver` wakes its receive.

    def deliver(self, message: Any) -> None:
        kind = type(message)
        if kind is StopRequest and not self.flags & DEAD:
            if not self.trap_exit:
                self.die(message.reason)
                return
            message = Exit(None, message.reason)
        if kind is SysRequest and not self.flags & DEAD:
            message.run(self)
            return
        super().deliver(message)
        if self.receiver is not None and not self.flags & DEAD:
            match, future = self.receiver
            if future.done():
                return
            try:
                if match(message):  # the reader takes it out when it runs: till then it is in its place
                    future.set_result(message)
            except BaseException as error:  # the reader's predicate: raised there, not in the sender
                future.set_exception(failure_of(error))

    def take(self, match: Callable[[Any], bool]) -> tuple[bool, Any]:
        """Remove and return the first waiting message that matches."""
        for index, message in enumerate(self.queue):
            if match(message):
                self._take_at(index)
                return True, message
        return False, None

    def take_this(self, message: Any) -> bool:
        """Remove this very message (not an equal one); False when it is not there any more."""
        for index, waiting in enumerate(self.queue):
            if waiting is message:
                self._take_at(index)
                return True
        return False

    def _take_at(self, index: int) -> None:
        message = self.queue[index]
        del self.queue[index]
        self._give_room()
        if self.flags & TRACED:
            self.probe.received(message)
        if type(message) is Ask and not message.future.done():
            self.deferred = self.deferred or {}
            self.deferred[message] = None

    def _finished(self, value: Any) -> None:
        self.die(NORMAL)

    def _failed(self, error: BaseException) -> None:
        if not self.flags & DEAD:
            self.die(error.reason if isinstance(error, Stop) else Crashed(error, Phase("running")))

    def _released(self) -> None:
        self.receiver = None


def _body(what: str) -> BodyCell:
    cell = current_cell()
    if not isinstance(cell, BodyCell):
        raise NotInActor(what)
    return cell


async def receive(pattern: object = None, *, timeout: float | None = None) -> Any:
    """The first message in the mailbox that matches; waits for one if none does (Erlang's ``receive``).

    ``pattern`` is a type or tuple of types, a predicate, a value to be equal to, or None for any message.
    Messages that do not match stay, in order. An ask comes as :class:`~ramure.actors.Ask`: answer it with
    ``ask.reply(value)``. Raises :class:`ReceiveTimeout` after ``timeout`` seconds (0: look, do not wait).
    """
    cell = _body("receive()")
    match = matcher(pattern)
    found, message = cell.take(match)
    if found:
        return message
    if timeout is not None and timeout <= 0:
        raise ReceiveTimeout(cell.label, pattern, timeout)
    if cell.receiver is not None:
        raise UsageError(f"two receive() at once in {cell.label}: a mailbox has one reader")
    future: asyncio.Future[Any] = cell.loop.create_future()
    cell.receiver = (match, future)
    timer = None
    if timeout is not None:
        error = ReceiveTimeout(cell.label, pattern, timeout)
        timer = cell.system.clock.call_later(timeout, lambda: _fail(future, error))
    try:
        while not cell.take_this(message := await future):  # a full mailbox has dropped it again
            found, message = cell.take(match)
            if found:
                return message
            future = cell.loop.create_future()
            cell.receiver = (match, future)
        return message
    finally:
        if timer is not None:
            timer.cancel()
        cell.receiver = None


def self_ref() -> Ref[Any]:
    """The ref of the actor that runs here. Raises :class:`~ramure.errors.NotInActor` outside of one."""
    cell = current_cell()
    if cell is None:
        raise NotInActor("self_ref()")
    return cell.ref


def exit(reason: object = NORMAL) -> None:
    """End the current actor with ``reason``, as ``exit/1``: raises, and can be caught."""
    if current_cell() is None:
        raise NotInActor("exit()")
    raise Stop(reason)


def trap_exit(on: bool = True) -> bool:
    """Get exit signals as :class:`~ramure.actors.Exit` messages from now on; returns the old value."""
    cell = current_cell()
    if cell is None:
        raise NotInActor("trap_exit()")
    was, cell.trap_exit = cell.trap_exit, on
    return was


def monitor(target: Ref[Any] | str, *, alias: bool = False) -> relations.Monitor:
    """Monitor a ref, or whoever has a registered name now, from the current actor."""
    cell = current_cell()
    if cell is None:
        raise NotInActor("monitor()")
    return cell.system.monitor(target, alias=alias, owner=cell)


def alias(*, once: bool = False) -> relations.Alias:
    """A second address of the current actor that can be switched off; ``once``: off after one message."""
    cell = current_cell()
    if cell is None:
        raise NotInActor("alias()")
    return relations.Alias(cell, once)
