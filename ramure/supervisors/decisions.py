"""What is decided when a child's process ends, or a start has an outcome.

Pure: no clock, no asyncio, no I/O. After OTP's supervisor: restart_child, do_restart, restart.
"""

from __future__ import annotations

from typing import Literal

from ramure.exits import SHUTDOWN, Shutdown, is_clean
from ramure.supervisors.errors import ChildStartFailed, FailedToStartChild
from ramure.supervisors.groups import advance, group_restart, shut_down
from ramure.supervisors.messages import (
    ChildStarted,
    Exited,
    Started,
    StartFailed,
    StartIgnored,
    Stop,
    StopTimer,
    TimerFired,
)
from ramure.supervisors.state import Child, Pending
from ramure.supervisors.strategies import STRATEGIES
from ramure.supervisors.turn import Turn

__all__ = ["on_exited", "on_outcome", "on_timer"]


# ------------------------------------------------------------------ a process has ended


def on_exited(turn: Turn, event: Exited) -> None:
    child = turn.children.get(event.key)
    if child is None or child.serial != event.serial:
        return  # news of a predecessor
    if child.status == "stopping":
        turn.stopped(child, event.reason)
        if turn.group is not None and (turn.group.awaiting == event.serial or turn.group.awaiting is None):
            turn.group = turn.group._replace(awaiting=None)
            advance(turn)
    elif child.status == "running":
        if turn.group is not None and event.key in turn.group.stop:
            turn.stopped(child, event.reason)  # it is to be stopped anyway (OTP: its EXIT is flushed)
        elif turn.busy:
            turn.deferred += (event,)
        else:
            _decide(turn, child, event.reason)


def _decide(turn: Turn, child: Child, reason: object) -> None:
    if child.spec.restarts_after(reason):
        attempt = 1 if turn.recovered(child) else child.attempt + 1
        _restart(turn, child._replace(attempt=attempt, reason=reason), reason, turn.delay(child, attempt))
        return
    if not is_clean(reason):
        turn.report("child_terminated", child, reason, f"none: it is {child.spec.restart}")
    _end(turn, child, reason)


def _end(turn: Turn, child: Child, reason: object) -> None:
    """It is not started again, which may be the supervisor's end too."""
    turn.notify("child_ended", child, reason)
    turn.settle(child)
    if child.spec.significant and _ends_all(turn):
        shut_down(turn, SHUTDOWN)


def _ends_all(turn: Turn) -> bool:
    """True when the end of a significant child is the supervisor's."""
    if turn.flags.auto_shutdown == "any_significant":
        return True
    return not any(child.spec.significant and child.status != "undefined" for child in turn.children.values())


def _restart(turn: Turn, child: Child, reason: object, delay: float) -> None:
    """Count a restart, and do it: at once, after ``delay`` seconds, or not at all."""
    flags = turn.flags
    context: Literal["child_terminated", "start_error"]
    context = "child_terminated" if child.status == "running" else "start_error"
    child, allowed = turn.count_own(child)
    if not allowed:
        turn.report(context, child, reason, "none: too many restarts of this child")
        _end(turn, child, reason)
        return
    if child.spec.intensity is None and not turn.count_restart():
        turn.report(context, child, reason, "the supervisor gives up and ends: too many restarts")
        turn.notify("gave_up", child, reason)
        turn.settle(child)
        shut_down(turn, SHUTDOWN)
        return
    if child.status == "running":
        turn.report("child_terminated", child, reason, f"restart ({flags.strategy})")
        turn.notify("restarting", child, reason, delay)
    _start_again(turn, child, delay)


def _start_again(turn: Turn, child: Child, delay: float) -> None:
    strategy = STRATEGIES[turn.flags.strategy]
    if strategy is not None:
        group_restart(turn, child, strategy(turn.order(), child.key), delay)
    elif delay:
        turn.retry(child, child.reason, delay, counted=True)
    else:
        turn.start(child, "restart")


# ------------------------------------------------------------------ a timer has run out


def on_timer(turn: Turn, event: TimerFired) -> None:
    timer = event.timer
    child = turn.children.get(timer.key)
    if child is None or child.serial != timer.serial:
        return
    if isinstance(timer, StopTimer):
        if child.status == "stopping":
            turn.effects.append(Stop(child.key, child.serial, child.ref, "kill"))
    elif child.status == "restarting":
        if turn.busy:
            turn.deferred += (event,)
        elif child.counted:
            _start_again(turn, child._replace(counted=False), 0.0)
        else:
            _restart(turn, child, child.reason, 0.0)


# ------------------------------------------------------------------ a start has an outcome


def on_outcome(turn: Turn, event: Started | StartIgnored | StartFailed) -> None:
    pending = turn.pending
    if pending is None or pending.serial != event.serial:
        return
    turn.pending = None
    child = turn.children[pending.key]
    if isinstance(event, Started):
        _started(turn, child, pending, event)
    elif isinstance(event, StartIgnored):
        turn.settle(child._replace(ref=None))
        if pending.call is not None:
            turn.reply(pending.call, ChildStarted(None))
    else:
        _failed(turn, child, pending, event.reason)
    advance(turn)


def _started(turn: Turn, child: Child, pending: Pending, event: Started) -> None:
    spec = child.spec.without_arguments() if child.spec.restart == "temporary" else child.spec
    again = child.incarnation > 0 and pending.call is None
    reason = child.reason
    child = turn.put(child.running(spec, event.ref, turn.at))
    if pending.call is not None:
        turn.reply(pending.call, ChildStarted(event.ref, event.info))
    turn.notify("restarted" if again else "child_started", child, reason)


def _failed(turn: Turn, child: Child, pending: Pending, reason: object) -> None:
    if pending.why == "start_child":
        turn.remove(child)
        turn.refuse(pending.call, ChildStartFailed(child.spec.id, reason))
    elif pending.why == "restart_child":
        turn.settle(child)
        turn.refuse(pending.call, ChildStartFailed(child.spec.id, reason))
    elif turn.phase == "starting":
        turn.report("start_error", child, reason, "the supervisor does not start")
        turn.put(child._replace(status="undefined"))
        shut_down(turn, Shutdown(FailedToStartChild(child.spec.id, reason)))
    else:
        turn.group = None  # the others of the group wait for the retry, which starts them too
        attempt = child.attempt + 1
        delay = turn.delay(child, attempt)
        turn.report("start_error", child, reason, "try again")
        turn.retry(child._replace(attempt=attempt), reason, delay)
