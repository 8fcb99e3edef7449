"""The base class of event-loop actors: OTP's gen_server, in Python's clothes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from ramure.actors._kernel import relations
from ramure.actors.messages import Ask, Continue, Stop
from ramure.errors import RequestRefused
from ramure.exits import NORMAL, safe_repr
from ramure.masking import get_logger

if TYPE_CHECKING:
    from ramure.actors._kernel.server import ServerCell
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem
    from ramure.actors.timers import Timer

__all__ = ["Actor"]

logger: logging.Logger = get_logger("ramure.actors")


class Actor:
    """Subclass it, and start it with ``await system.start(YourActor, ...)``.

    Its public ``async`` methods are what others call with ``await ref.proxy().method(...)``. The
    ``handle_…`` callbacks are OTP's; each may be ``def`` or ``async def``. One message is handled at a
    time, also while a handler awaits. An exception that leaves a callback ends the actor; raise
    :class:`~ramure.actors.Stop` to end it on purpose.
    """

    _cell: ServerCell

    # -- callbacks --------------------------------------------------------------------------------------

    async def init(self, *args: Any, **kwargs: Any) -> None:
        """Called first, with the arguments of ``start``, which returns when this does. To refuse, raise
        any exception (``start`` raises ``StartFailed``), ``Stop(reason)``, or ``Ignore()``."""

    def handle_call(self, request: Any, caller: Ask) -> Any:
        """An ``ask(request)``: return the answer; or return ``NO_REPLY`` and later call
        ``caller.reply(value)`` or ``caller.fail(error)``."""
        caller.fail(
            RequestRefused(f"{self._cell.label} does not answer {safe_repr(request)}: it has no handle_call for it")
        )

    def handle_cast(self, message: Any) -> Any:
        """A ``cast(message)``."""
        logger.warning("%s got an unexpected cast: %r", self._cell.label, message)

    def handle_info(self, message: Any) -> Any:
        """Every other message: what ``tell`` sent, and ``Exit``, ``Down``, ``Timeout``."""
        logger.warning("%s got an unexpected message: %r", self._cell.label, message)

    def handle_continue(self, value: Any) -> Any:
        """What ``continue_with(value)`` asked for: runs before any other message."""

    def handle_stop(self, reason: object) -> Any:
        """It was told to end: by ``stop(reason)``, or (when it traps exits) by an EXIT from its parent.

        Ends it, through ``terminate(reason)``. Override it to go on handling messages until what has to be
        done before has been done, and call ``self.stop(reason)`` then, as a supervisor does.
        """
        raise Stop(reason)

    def terminate(self, reason: object) -> Any:
        """Called when the actor ends in order: after ``stop``, an exception, or (when it traps exits) an
        EXIT from its parent. Not called when an exit signal ends it at once."""

    # -- who and where ------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref[Self]:
        """The actor's own address."""
        return self._cell.ref

    @property
    def system(self) -> ActorSystem:
        """The system it lives in."""
        return self._cell.system

    # -- services -----------------------------------------------------------------------------------------

    @property
    def trap_exit(self) -> bool:
        """True: exit signals (but ``kill``) come as :class:`~ramure.actors.Exit` messages."""
        return self._cell.trap_exit

    @trap_exit.setter
    def trap_exit(self, on: bool) -> None:
        self._cell.trap_exit = bool(on)

    def stop(self, reason: object = NORMAL) -> None:
        """End after the current message (which is still answered); ``terminate(reason)`` is called."""
        self._cell.stop(reason)

    def continue_with(self, value: object) -> None:
        """Have ``handle_continue(value)`` called before any other message is handled."""
        self._cell.deliver_first(Continue(value))

    def set_timeout(self, seconds: float | None) -> None:
        """Get a :class:`~ramure.actors.Timeout` after ``seconds`` unless any message comes first (as the
        timeout that OTP's callbacks return); None clears it."""
        self._cell.set_timeout(seconds)

    def send_after(self, delay: float, message: object) -> Timer:
        """Send ``message`` to this actor after ``delay`` seconds."""
        return self._cell.system.send_after(delay, self._cell.ref, message)

    def send_interval(self, interval: float, message: object) -> Timer:
        """Send ``message`` to this actor every ``interval`` seconds until cancelled."""
        return self._cell.system.send_interval(interval, self._cell.ref, message)

    def link(self, other: Ref[Any]) -> None:
        """Link this actor and ``other`` (``erlang:link/1``)."""
        relations.link(self._cell, other._cell)

    def unlink(self, other: Ref[Any]) -> None:
        """Undo :meth:`link`."""
        relations.unlink(self._cell, other._cell)

    def monitor(self, target: Ref[Any] | str, *, alias: bool = False) -> relations.Monitor:
        """Get one :class:`~ramure.actors.Down` when ``target`` (a ref, or a registered name) ends."""
        return self._cell.system.monitor(target, alias=alias, owner=self._cell)

    def demonitor(self, monitor: relations.Monitor, *, flush: bool = False, info: bool = False) -> bool:
        """Undo :meth:`monitor`; see :meth:`Monitor.cancel`."""
        return monitor.cancel(flush=flush, info=info)

    def alias(self, *, once: bool = False) -> relations.Alias:
        """A second address of this actor that can be switched off; ``once``: off after one message."""
        return relations.Alias(self._cell, once)

    def start_task(self, coroutine: Any, *, name: str | None = None) -> asyncio.Task[Any]:
        """Run ``coroutine`` beside the mailbox as a task that is cancelled when the actor ends."""
        return self._cell.own_task(coroutine, name)
