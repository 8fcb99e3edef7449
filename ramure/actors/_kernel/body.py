"""Function-style actors: an ``async`` function that receives from its mailbox, as an Erlang process does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from ramure.actors._kernel import relations
from ramure.actors._kernel.cell import DEAD, TRACED, Cell, current_cell
from ramure.actors.inbox import Match, ReceiveTimeout, Selective
from ramure.actors.messages import Ask, Exit, Stop, StopRequest, SysRequest
from ramure.errors import NotInActor, UsageError
from ramure.exits import NORMAL, Crashed, Phase

if TYPE_CHECKING:
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["ReceiveTimeout", "alias", "exit", "monitor", "receive", "self_ref", "trap_exit"]


class BodyCell(Cell, Selective):
    """The cell of a function-style actor."""

    phase: Literal["starting", "running", "stopping"]
    coro: Coroutine[Any, Any, Any] | None
    receiver: tuple[Match, asyncio.Future[Any]] | None

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
        if not self.flags & DEAD:
            self.offer(message)

    def taken(self, message: Any) -> None:
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
    return await cell.receive(pattern, timeout, cell, cell.system.clock)


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
