"""Links, monitors and aliases between actors, and the exit signals that run along them.

All of it happens on the system's event loop, synchronously: a signal has arrived when the call that
sent it returns, so there is no window in which one could be lost (Erlang's reference manual,
"Signals" and "Processes/Links/Monitors", gives the rules; ``tests/conformance`` compares them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramure.actors.messages import Down, Exit
from ramure.errors import ActorDied, UsageError
from ramure.exits import KILL, KILLED, NOPROC, NORMAL

if TYPE_CHECKING:
    from ramure.actors._kernel.cell import Cell
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["Alias", "Monitor"]


class Alias:
    """A temporary address of an actor that can be switched off, so that late replies are dropped."""

    __slots__ = ("__weakref__", "_active", "_cell", "_once")

    def __init__(self, cell: Cell, once: bool = False) -> None:
        self._cell = cell
        self._once = once
        self._active = True

    def tell(self, message: object) -> None:
        """Send ``message`` to the alias's actor; dropped, silently, when the alias is off."""
        self._cell.system.on_loop(self._deliver, message)

    def _deliver(self, message: object) -> None:
        if self._active:
            self._cell.deliver(message)  # first: a full mailbox refuses it, and the alias stays on
            if self._once:
                self._active = False

    def off(self) -> bool:
        """Switch it off; True when it was on (Erlang's ``unalias/1``)."""
        was, self._active = self._active, False
        return was


class Monitor:
    """A monitor of one actor by another; its DOWN comes once, as :class:`~ramure.actors.Down`."""

    __slots__ = ("__weakref__", "_owner", "_sender", "_target", "alias")

    def __init__(self, owner: Cell, target: Cell | None, sender: Ref[Any] | str) -> None:
        self._owner = owner
        self._target = target
        self._sender = sender
        self.alias: Alias | None = None
        """The alias made with ``monitor(..., alias=True)``: off from the DOWN or the demonitor on."""

    def cancel(self, *, flush: bool = False, info: bool = False) -> bool:
        """Stop monitoring, as ``erlang:demonitor/2``: ``flush`` also removes a DOWN that waits in the
        mailbox. True; with ``info``, whether the monitor was still on (and, with flush, found no DOWN)."""
        return self._owner.system.call(lambda: demonitor(self, flush=flush, info=info))

    def __repr__(self) -> str:
        return f"<Monitor of {self._sender!r}>"


# -- links ------------------------------------------------------------------------------------------


def link(one: Cell, other: Cell) -> None:
    """Link two actors; once, however often it is called. Linking to oneself does nothing.

    Raises :class:`ActorDied` (noproc) when ``other`` is dead, unless ``one`` traps exits: then it gets
    an EXIT message with ``noproc`` (``erlang:link/1``).
    """
    if one is other:
        return
    _same_system(one, other)
    if one.dead:  # code of an actor that has just been ended runs on to its next wait
        signal(other, one, one.reason, linked=True)
        return
    if other.dead:
        if not one.trap_exit:
            raise ActorDied(other.label, NOPROC)
        one.deliver(Exit(other.ref, NOPROC))
        return
    if one.links is None:
        one.links = {}
    if other.links is None:
        other.links = {}
    one.links[other] = None
    other.links[one] = None


def _same_system(one: Cell, other: Cell) -> None:
    if one.system is not other.system:
        raise UsageError(
            f"{one.label} of {one.system!r} and {other.label} of {other.system!r} cannot be linked or "
            "monitor each other: links and monitors do not cross actor systems"
        )


def unlink(one: Cell, other: Cell) -> None:
    """Remove the link, if there is one."""
    if one.links:
        one.links.pop(other, None)
    if other.links:
        other.links.pop(one, None)


# -- monitors ---------------------------------------------------------------------------------------


def monitor(owner: Cell, target: Cell | None, sender: Ref[Any] | str, alias: bool = False) -> Monitor:
    """Monitor ``target``; if it is dead or unknown (None), the DOWN (noproc) comes at once."""
    if target is not None:
        _same_system(owner, target)
    made = Monitor(owner, target, sender)
    if owner.dead:
        target = owner
    if alias:
        made.alias = Alias(owner)
    if target is owner:
        made._target = None  # monitoring oneself is allowed and never fires
        return made
    if target is None or target.dead:
        made._target = None
        if made.alias:
            made.alias.off()
        owner.deliver(Down(made, sender, NOPROC))
        return made
    if target.monitors is None:
        target.monitors = {}
    if owner.monitoring is None:
        owner.monitoring = {}
    target.monitors[made] = None
    owner.monitoring[made] = None
    return made


def demonitor(made: Monitor, *, flush: bool = False, info: bool = False) -> bool:
    target, owner = made._target, made._owner
    active = target is not None
    if target is not None:
        made._target = None
        if target.monitors:
            target.monitors.pop(made, None)
        if owner.monitoring:
            owner.monitoring.pop(made, None)
    if made.alias:
        made.alias.off()
    if flush and not active:
        owner.remove_from_queue(lambda message: type(message) is Down and message.monitor is made)
    return active if info else True


# -- signals ----------------------------------------------------------------------------------------


def signal(target: Cell, sender: Cell | None, reason: object, linked: bool = False) -> None:
    """An exit signal arrives at ``target``.

    ``kill`` cannot be trapped, unless it came along a link from an actor that *ended* with the reason
    ``kill``. ``normal`` from another actor does nothing to one that does not trap exits.
    """
    if target.flags:
        if target.dead:
            return
        if target.probe is not None:
            target.probe.signal(sender, reason)
    word = reason if isinstance(reason, str) else None  # a user's reason may compare in its own way
    if word == KILL and not linked:
        target.die(KILLED)
    elif target.trap_exit:
        target.deliver(Exit(sender.ref if sender is not None else None, reason))
    elif word != NORMAL or sender is target:
        target.die(reason)


def ended(cell: Cell) -> None:
    """``cell`` is dead: tell its links and monitors, and forget its own.

    Works off a queue, not by recursion, so that a chain of any length can fall.
    """
    system = cell.system
    links, monitors, monitoring = cell.links, cell.monitors, cell.monitoring
    cell.links = cell.monitors = cell.monitoring = None
    for made in monitoring or ():
        target, made._target = made._target, None
        if target is not None and target.monitors:
            target.monitors.pop(made, None)
        if made.alias:
            made.alias.off()
    pending = system.pending_signals
    for made in monitors or ():
        made._target = None
        if made._owner.monitoring:
            made._owner.monitoring.pop(made, None)
        if made.alias:
            made.alias.off()
        pending.append((made._owner, cell, made))
    for other in links or ():
        if other.links:
            other.links.pop(cell, None)
        pending.append((other, cell, None))
    if not system.delivering:
        _deliver_pending(system)


def _deliver_pending(system: ActorSystem) -> None:
    pending = system.pending_signals
    system.delivering = True
    try:
        while pending:
            receiver, sender, made_by = pending.popleft()
            if made_by is None:
                signal(receiver, sender, sender.reason, linked=True)
            elif not receiver.dead:
                receiver.deliver(Down(made_by, made_by._sender, sender.reason))
    finally:
        system.delivering = False
