"""What a supervisor knows of its children, read at once, as ``process_info`` is: not an ask, so also while it starts one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from ramure.actors import Ref
from ramure.supervisors.messages import Status
from ramure.supervisors.shell import SupervisorShell
from ramure.supervisors.spec import ChildSpec, Flags
from ramure.supervisors.state import State

__all__ = ["ChildView", "SupervisorView", "child_views", "supervisor_view"]


@dataclass(frozen=True, slots=True)
class ChildView:
    """One child's place, and what is in it."""

    key: Hashable
    """Of the place: the id, or under a dynamic supervisor, whose ids need not be unique, a number."""
    id: Hashable
    ref: Ref[Any] | None
    """Its process; None before the first one, and where the start was ignored. It may have ended."""
    spec: ChildSpec
    status: Status
    restarts: int
    """How often it was started again."""


@dataclass(frozen=True, slots=True)
class SupervisorView:
    """A supervisor's settings, and where it stands."""

    flags: Flags
    phase: str
    restarts: int
    """Restarts within the last ``period`` seconds: more than ``intensity`` end it."""
    children: int


def supervisor_view(ref: Ref[Any]) -> SupervisorView | None:
    """The supervisor behind ``ref``; None for any other actor, or before it has begun. On the system's loop."""
    state = _state(ref)
    if state is None:
        return None
    oldest = math.floor(ref._cell.system.clock.monotonic()) - state.flags.period
    restarts = sum(count for second, count in state.restarts if second >= oldest)
    return SupervisorView(state.flags, state.phase, restarts, len(state.children))


def child_views(ref: Ref[Any]) -> Iterator[ChildView]:
    """The children of the supervisor behind ``ref``, in order of their places; none for any other actor."""
    state = _state(ref)
    for child in sorted(state.children.values(), key=lambda child: child.position) if state is not None else ():
        yield ChildView(child.key, child.spec.id, child.ref, child.spec, child.status, max(0, child.incarnation - 1))


def _state(ref: Ref[Any]) -> State | None:
    actor = getattr(ref._cell, "actor", None)
    return getattr(actor, "_state", None) if isinstance(actor, SupervisorShell) else None
