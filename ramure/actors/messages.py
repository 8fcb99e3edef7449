"""What travels in mailboxes besides the user's own messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ramure.data import data
from ramure.exits import NORMAL, safe_repr
from ramure.faults import failure_of

if TYPE_CHECKING:
    from ramure.actors._kernel.cell import Cell
    from ramure.actors._kernel.relations import Monitor
    from ramure.actors.ref import Ref

__all__ = ["NO_REPLY", "Call", "Cast", "Continue", "Down", "Exit", "Ignore", "Request", "Stop", "Timeout"]

R_co = TypeVar("R_co", covariant=True)


class _NoReply:
    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""Returned by ``handle_call`` (or a public method) that answers later, with ``caller.reply(value)``."""


@data
class Exit:
    """An exit signal, as a message to an actor that traps exits (Erlang's ``{'EXIT', Pid, Reason}``)."""

    sender: Ref[Any] | None
    reason: object


@data
class Down:
    """A monitored actor ended (Erlang's ``'DOWN'``). ``sender`` is its ref, or the name it was monitored by."""

    monitor: Monitor
    sender: Ref[Any] | str
    reason: object


@data
class Timeout:
    """No message came within the time given to ``Actor.set_timeout``."""


@data
class Cast:
    """A one-way request: goes to ``handle_cast``."""

    message: object


class Request(Generic[R_co]):
    """Base for typed requests: ``class Get(Request[int])`` makes ``await ref.ask(Get())`` an ``int``."""

    __slots__ = ()


class Call(Generic[R_co]):
    """A call of a public method, as a message. ``ref.proxy().add(2)`` asks ``Call("add", (2,), {})``."""

    __slots__ = ("args", "kwargs", "method")

    def __init__(self, method: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        self.method: str = method
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs or {}

    def __repr__(self) -> str:
        parts = [safe_repr(a, 80) for a in self.args] + [f"{k}={safe_repr(v, 80)}" for k, v in self.kwargs.items()]
        return f"{self.method}({', '.join(parts)})"


class Stop(Exception):
    """Raise it in a handler to end the actor with ``reason`` (``terminate`` is called), as ``exit/1``."""

    def __init__(self, reason: object = NORMAL) -> None:
        self.reason = reason
        super().__init__(reason)


class Ignore(Exception):
    """Raise it in ``init`` to say that this actor is not wanted now, as OTP's ``ignore``."""


class Ask:
    """A request that waits for its answer; ``handle_call`` gets it as ``caller`` (OTP's ``From``)."""

    __slots__ = ("__weakref__", "asker", "future", "request", "target")

    def __init__(self, target: Cell, request: object, future: asyncio.Future[Any], asker: Cell | None) -> None:
        self.target: Cell = target
        self.request: object = request
        self.future: asyncio.Future[Any] = future
        self.asker: Cell | None = asker

    def reply(self, value: object) -> None:
        """Answer with ``value``. A second answer, or one that comes too late, is dropped. From any thread."""
        self._settle(self.future.set_result, value)

    def fail(self, error: BaseException) -> None:
        """Answer with an error: ``ask`` raises it in the asker; the answering actor lives. From any thread."""
        self._settle(self.future.set_exception, error)

    def _settle(self, how: Callable[[Any], None], value: object) -> None:
        future = self.future
        loop = self.target.loop
        if asyncio._get_running_loop() is not loop:
            loop.call_soon_threadsafe(self._settle, how, value)
            return
        if not future.done():
            how(value)
        self.target.answered(self)

    def __repr__(self) -> str:
        return f"ask {safe_repr(self.request, 80)}"


class Continue:
    """Queued in front of everything by ``continue_with``: OTP's ``{continue, Value}``."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: object = value


class TimeoutFired:
    """In the queue: the time of ``set_timeout`` is up. Any message that waits before it cancels it."""

    __slots__ = ()


class StopRequest:
    """``ref.stop(reason)``: ends the actor when its turn in the queue comes, as ``gen_server:stop``."""

    __slots__ = ("reason",)

    def __init__(self, reason: object) -> None:
        self.reason: object = reason


class SysRequest:
    """An inspection request that queues like a message and runs in the actor's turn, as OTP's ``sys``."""

    __slots__ = ("function", "future")

    def __init__(self, function: Callable[[Cell], Any], future: asyncio.Future[Any]) -> None:
        self.function: Callable[[Cell], Any] = function
        self.future: asyncio.Future[Any] = future

    def run(self, cell: Cell) -> None:
        try:
            value = self.function(cell)
        except BaseException as error:  # it is the requester's
            failure = failure_of(error)
            if not self.future.done():
                self.future.set_exception(failure)
        else:
            if not self.future.done():
                self.future.set_result(value)
