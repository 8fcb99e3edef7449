"""Stopping and starting several children, one after the other: boot, group restarts, shutdown.

Pure: no clock, no asyncio, no I/O.
"""

from __future__ import annotations

from collections.abc import Hashable

from ramure.supervisors.errors import SupervisorStopping
from ramure.supervisors.messages import Call, End, Exited, Ready
from ramure.supervisors.state import Child, Group
from ramure.supervisors.turn import Turn

__all__ = ["advance", "boot", "group_restart", "shut_down"]


def boot(turn: Turn) -> None:
    """Start the children that are specified, in order."""
    turn.phase = "starting"
    turn.group = Group("boot", start=() if turn.dynamic else turn.order())
    advance(turn)


def group_restart(turn: Turn, cause: Child, members: tuple[Hashable, ...], pause: float) -> None:
    """Stop the members, last to first, and start them, first to last. ``cause`` has no process any more."""
    turn.put(cause._replace(status="restarting" if pause else "undefined"))
    others = tuple(key for key in members if key != cause.key)
    turn.group = Group("restart", stop=others, start=members, cause=cause.key, pause=pause)
    advance(turn)


def shut_down(turn: Turn, reason: object) -> None:
    """Stop every child, last to first (a dynamic supervisor's all at once), and end with ``reason``."""
    turn.reason = reason
    if turn.phase == "stopping":
        return
    turn.phase = "stopping"
    for waiting in turn.queue:
        turn.refuse(waiting.call, SupervisorStopping(waiting.request.spec.id))
    turn.queue = ()
    _drop_deferred(turn)
    order = turn.order()
    for key in order:
        child = turn.children[key]
        if child.status == "restarting":
            turn.end_retries(child)
        elif turn.dynamic and child.status == "running":
            turn.stop(child)
    turn.group = Group("shutdown", stop=() if turn.dynamic else order)
    advance(turn)


def advance(turn: Turn) -> None:
    """Carry the group on as far as it goes: to the next awaited end or start, or to its own end."""
    while (group := turn.group) is not None and group.awaiting is None:
        if group.stop:
            turn.group = group._replace(stop=group.stop[:-1])
            _stop_one(turn, turn.group, group.stop[-1])
        elif group.pause:
            turn.group = None
            cause = turn.children[group.cause]
            turn.retry(cause, cause.reason, group.pause, counted=True)
        elif group.start and group.start[0] not in turn.children:
            turn.group = group._replace(start=group.start[1:])
        elif group.start:
            turn.group = group._replace(start=group.start[1:])
            turn.start(turn.children[group.start[0]], "group")
            return
        elif group.kind == "shutdown" and turn.dynamic and len(turn.children):
            return
        else:
            turn.group = None
            _finish(turn, group)


def _stop_one(turn: Turn, group: Group, key: Hashable) -> None:
    child = turn.children.get(key)
    if child is None:
        return
    if child.status == "running":
        turn.stop(child)
        turn.group = group._replace(awaiting=child.serial)
    elif child.status == "stopping":  # a terminate_child call was first
        turn.group = group._replace(awaiting=child.serial)
    elif child.status == "restarting":
        turn.end_retries(child)


def _finish(turn: Turn, group: Group) -> None:
    if group.kind == "boot":
        turn.phase = "running"
        turn.effects.append(Ready())
    elif group.kind == "shutdown":
        turn.phase = "ended"
        turn.effects.append(End(turn.reason))


def _drop_deferred(turn: Turn) -> None:
    """What was put off is not decided any more: calls are refused, the dead are known to be dead."""
    deferred, turn.deferred = turn.deferred, ()
    for event in deferred:
        if isinstance(event, Call):
            turn.refuse(event.call, SupervisorStopping())
        elif isinstance(event, Exited):
            child = turn.children.get(event.key)
            if child is not None and child.serial == event.serial and child.status in ("running", "stopping"):
                turn.stopped(child, event.reason)
