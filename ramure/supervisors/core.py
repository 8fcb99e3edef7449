"""The core of every supervisor: what it does next, decided from what it knows and what happened.

Pure: no clock, no asyncio, no I/O. Time comes with the events, randomness from a seed in the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ramure.supervisors.calls import admit, answered, on_call, read
from ramure.supervisors.decisions import on_exited, on_outcome, on_timer
from ramure.supervisors.groups import boot, shut_down
from ramure.supervisors.messages import (
    Boot,
    Call,
    Effect,
    Event,
    Exited,
    Forget,
    Started,
    StartFailed,
    StartIgnored,
    Terminate,
    TimerFired,
)
from ramure.supervisors.state import State
from ramure.supervisors.turn import Turn

__all__ = ["step"]


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """The state after ``event``, and what is to be done, in this order.

    Every event is legal in every state: stale news are ignored, and what cannot be decided now is put off.
    After a Start effect, its outcome must be given before any other event that is to be decided at once.
    """
    if type(event) is Call and (answer := read(state, event.request)) is not None:
        return state, (answered(event.call, answer),)
    turn = Turn(state, event.at)
    _HANDLERS[type(event)](turn, event)
    while (turn.deferred or turn.queue) and not turn.busy and turn.phase == "running":
        if turn.deferred:
            event, turn.deferred = turn.deferred[0], turn.deferred[1:]
            _HANDLERS[type(event)](turn, event)
        elif not admit(turn):
            break
    return turn.freeze(), tuple(turn.effects)


def _on_boot(turn: Turn, event: Boot) -> None:
    if turn.phase == "new":
        boot(turn)


def _on_terminate(turn: Turn, event: Terminate) -> None:
    if turn.pending is not None:
        turn.deferred += (event,)
    elif turn.phase != "ended":
        shut_down(turn, event.reason)


def _on_forget(turn: Turn, event: Forget) -> None:
    turn.queue = tuple(waiting for waiting in turn.queue if waiting.call != event.call)


_HANDLERS: Final[dict[type, Callable[[Turn, Any], None]]] = {
    Boot: _on_boot,
    Started: on_outcome,
    StartIgnored: on_outcome,
    StartFailed: on_outcome,
    Exited: on_exited,
    TimerFired: on_timer,
    Call: on_call,
    Forget: _on_forget,
    Terminate: _on_terminate,
}
