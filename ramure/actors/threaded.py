"""The base class of actors that own something blocking: their code runs in a thread of their own.

To everybody else such an actor is like any other: its mailbox, links, monitors, names and limits live on
the system's event loop, and only its callbacks run in the thread, one at a time. ``pykka_adapter`` has
the machinery.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from ramure.actors._kernel import relations
from ramure.actors.messages import Ask
from ramure.errors import RequestRefused
from ramure.exits import NORMAL
from ramure.masking import get_logger

if TYPE_CHECKING:
    from ramure.actors._kernel.pykka_adapter import ThreadedCell
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem
    from ramure.actors.timers import Timer

__all__ = ["ThreadedActor"]

logger: logging.Logger = get_logger("ramure.actors")


class ThreadedActor:
    """Subclass it to own a blocking resource, and start it with ``await system.start(YourActor, ...)``.

    The callbacks are those of :class:`~ramure.actors.Actor`, but plain ``def``s, and each may block: they
    run in the actor's own daemon thread, ``__init__`` included, in which ``self_ref()``, ``tell`` and
    ``ask_sync`` work as usual. Public methods are called with ``await ref.proxy().method(...)``, or, with
    types, ``await ref.call(YourActor.method, ...)``.

    When the actor is ended *at once* (``kill``, or an exit signal that it does not trap) its thread may be
    stuck in a blocking call, which Python cannot interrupt. So :meth:`on_kill` runs, in another thread,
    to close what the actor owns; the stuck thread is abandoned, and ``system.leaks()`` shows it for as
    long as it lives.
    """

    _cell: ThreadedCell

    # -- callbacks, in the actor's thread ---------------------------------------------------------------

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Called first, with the arguments of ``start``, which returns when this does. To refuse, raise
        any exception (``start`` raises ``StartFailed``), ``Stop(reason)``, or ``Ignore()``."""

    def handle_call(self, request: Any, caller: Ask) -> Any:
        """An ``ask(request)``: return the answer; or return ``NO_REPLY`` and later call
        ``caller.reply(value)`` or ``caller.fail(error)``, from any thread."""
        caller.fail(RequestRefused(f"{self._cell.label} does not answer {request!r}: it has no handle_call for it"))

    def handle_cast(self, message: Any) -> None:
        """A ``cast(message)``."""
        logger.warning("%s got an unexpected cast: %r", self._cell.label, message)

    def handle_info(self, message: Any) -> None:
        """Every other message: what ``tell`` sent, and ``Exit``, ``Down``, ``Timeout``."""
        logger.warning("%s got an unexpected message: %r", self._cell.label, message)

    def handle_continue(self, value: Any) -> None:
        """What ``continue_with(value)`` asked for: runs before any other message."""

    def terminate(self, reason: object) -> None:
        """Called when the actor ends in order: after ``stop``, an exception, or (when it traps exits) an
        EXIT from its parent. Not called when an exit signal ends it at once: see :meth:`on_kill`."""

    # -- callback, in a thread of its own ---------------------------------------------------------------

    def on_kill(self) -> None:
        """Called when the actor is ended at once, instead of ``terminate``: close what it owns, so that a
        blocking call of its thread returns.

        Runs in a short-lived thread beside whatever the actor's own thread is doing, be it ``init``:
        expect attributes that are not there yet. The DOWN and EXIT of the actor do not wait for it; the
        system's end does, within its grace.
        """

    # -- who and where ------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref[Self]:
        """The actor's own address."""
        return self._cell.ref

    @property
    def system(self) -> ActorSystem:
        """The system it lives in."""
        return self._cell.system

    # -- services, from any thread ------------------------------------------------------------------------

    @property
    def trap_exit(self) -> bool:
        """True: exit signals (but ``kill``) come as :class:`~ramure.actors.Exit` messages."""
        return self._cell.trap_exit

    @trap_exit.setter
    def trap_exit(self, on: bool) -> None:
        self._cell.trap_exit = bool(on)

    def stop(self, reason: object = NORMAL) -> None:
        """End after the current message (which is still answered); ``terminate(reason)`` is called."""
        self._cell.system.call(self._cell.stop, reason)

    def continue_with(self, value: object) -> None:
        """Have ``handle_continue(value)`` called before any other message is handled."""
        self._cell.system.call(self._cell.continue_with, value)

    def set_timeout(self, seconds: float | None) -> None:
        """Get a :class:`~ramure.actors.Timeout` after ``seconds`` unless any message comes first (as the
        timeout that OTP's callbacks return); None clears it."""
        self._cell.system.call(self._cell.set_timeout, seconds)

    def send_after(self, delay: float, message: object) -> Timer:
        """Send ``message`` to this actor after ``delay`` seconds."""
        system = self._cell.system
        return system.call(system.send_after, delay, self._cell.ref, message)

    def send_interval(self, interval: float, message: object) -> Timer:
        """Send ``message`` to this actor every ``interval`` seconds until cancelled."""
        system = self._cell.system
        return system.call(system.send_interval, interval, self._cell.ref, message)

    def link(self, other: Ref[Any]) -> None:
        """Link this actor and ``other`` (``erlang:link/1``)."""
        self._cell.system.call(relations.link, self._cell, other._cell)

    def unlink(self, other: Ref[Any]) -> None:
        """Undo :meth:`link`."""
        self._cell.system.call(relations.unlink, self._cell, other._cell)

    def monitor(self, target: Ref[Any] | str, *, alias: bool = False) -> relations.Monitor:
        """Get one :class:`~ramure.actors.Down` when ``target`` (a ref, or a registered name) ends."""
        system = self._cell.system
        return system.call(lambda: system.monitor(target, alias=alias, owner=self._cell))

    def demonitor(self, monitor: relations.Monitor, *, flush: bool = False, info: bool = False) -> bool:
        """Undo :meth:`monitor`; see :meth:`Monitor.cancel`."""
        return monitor.cancel(flush=flush, info=info)

    def alias(self, *, once: bool = False) -> relations.Alias:
        """A second address of this actor that can be switched off; ``once``: off after one message."""
        return relations.Alias(self._cell, once)
