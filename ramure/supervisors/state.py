"""The whole state of a supervisor's core, as frozen data.

Pure: no clock, no asyncio, no I/O. Named tuples, since each step makes some of these anew: a frozen dataclass takes
four times as long to make.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from ramure.supervisors.errors import InvalidSpec
from ramure.supervisors.messages import Event, StartChild, Status
from ramure.supervisors.pmap import PMap
from ramure.supervisors.spec import ChildSpec, Flags, check_children
from ramure.supervisors.strategies import SIMPLE_ONE_FOR_ONE

__all__ = ["Child", "Group", "Pending", "Phase", "Restarts", "State", "Waiting", "in_order", "new"]

Phase = Literal["new", "starting", "running", "stopping", "ended"]

Restarts = tuple[tuple[int, int], ...]
"""Restarts, newest first: whole seconds, and how many in each."""


class Child(NamedTuple):
    """One child's place. ``position`` gives the start order. ``serial`` is that of its last start attempt,
    ``incarnation`` counts its successful starts, ``attempt`` its restarts in a row (for the backoff).
    ``restarts`` are those in its own window, where its specification limits them, newest first.
    ``waiters`` are the terminate_child calls that wait for its end; ``counted`` says that the restart it
    waits for is in the intensity window already; ``again`` says that it is being stopped to be started again."""

    key: Hashable
    position: int
    spec: ChildSpec
    status: Status = "undefined"
    serial: int = 0
    ref: Any = None
    incarnation: int = 0
    attempt: int = 0
    started_at: float = 0.0
    reason: Any = None
    waiters: tuple[Hashable, ...] = ()
    counted: bool = False
    again: bool = False
    restarts: Restarts = ()

    def starting(self, serial: int) -> Child:
        """It, while its start number ``serial`` is under way. (``_replace`` takes three times as long.)"""
        key, position, spec, _, _, ref, incarnation, attempt, at, reason, waiters, counted, again, restarts = self
        return Child(
            key, position, spec, "starting", serial, ref, incarnation, attempt, at, reason, waiters, counted, again,
            restarts,
        )  # fmt: skip

    def running(self, spec: ChildSpec, ref: Any, at: float) -> Child:
        """It, with a process that has started."""
        key, position, _, _, serial, _, incarnation, attempt, _, _, waiters, counted, again, restarts = self
        return Child(
            key, position, spec, "running", serial, ref, incarnation + 1, attempt, at, None, waiters, counted, again,
            restarts,
        )  # fmt: skip


class Group(NamedTuple):
    """Several children being stopped, last to first, and then started, first to last: a boot, a restart by
    one_for_all or rest_for_one, a shutdown. ``stop`` is in start order; its last is the next one. ``awaiting``
    is the serial of the child whose end is awaited. With a ``pause`` between the two halves, the group ends
    after the first, and ``cause`` is tried again after so many seconds."""

    kind: Literal["boot", "restart", "shutdown"]
    stop: tuple[Hashable, ...] = ()
    start: tuple[Hashable, ...] = ()
    awaiting: int | None = None
    cause: Hashable = None
    pause: float = 0.0


class Pending(NamedTuple):
    """A start that is under way, and whose it is: a group's, a lone restart's, or a call's."""

    key: Hashable
    serial: int
    why: Literal["group", "restart", "start_child", "restart_child"]
    call: Hashable = None


class Waiting(NamedTuple):
    """A start_child that waits for room."""

    call: Hashable
    request: StartChild


class State(NamedTuple):
    flags: Flags
    children: PMap[Hashable, Child]
    phase: Phase = "new"
    restarts: Restarts = ()
    """The restarts in the window, newest first."""
    next_serial: int = 1
    seed: int = 0
    group: Group | None = None
    pending: Pending | None = None
    deferred: tuple[Event, ...] = ()
    """Events that came at a moment when they could not be decided, in order."""
    queue: tuple[Waiting, ...] = ()
    reason: Any = None
    """What the supervisor will end with, once it is stopping."""
    template: ChildSpec | None = None
    """What a dynamic supervisor's children have in common, if anything."""

    @property
    def dynamic(self) -> bool:
        return self.flags.strategy == SIMPLE_ONE_FOR_ONE


def in_order(children: PMap[Hashable, Child]) -> list[Child]:
    """Children in start order."""
    return sorted(children.values(), key=attrgetter("position"))


def new(flags: Flags, specs: Iterable[ChildSpec] = (), *, seed: int = 0) -> State | InvalidSpec:
    """The state before Boot, or what is wrong with the specifications. ``seed`` is for the backoff's jitter.

    A dynamic supervisor starts none of its own accord: the one specification it may have is the template.
    """
    specs = tuple(specs)
    children: PMap[Hashable, Child] = PMap()
    wrong = check_children(specs, flags)
    if wrong is not None:
        return wrong
    if flags.strategy == SIMPLE_ONE_FOR_ONE:
        if len(specs) > 1:
            return InvalidSpec("dynamic supervisor", "children", specs, "give one template, or none")
        return State(flags, children, seed=seed, template=specs[0] if specs else None)
    for position, spec in enumerate(specs):
        children = children.put(spec.id, Child(spec.id, position, spec))
    return State(flags, children, next_serial=len(specs) + 1, seed=seed)
