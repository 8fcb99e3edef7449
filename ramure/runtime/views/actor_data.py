"""What ``tree``, ``inspect`` and ``trace`` tell, as data: for the run that makes it, and the program that gets it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ActorDetails", "ActorRow", "BusyActor", "Child", "Neighbour", "Specification", "Supervision", "TraceRecord"]


@dataclass(frozen=True, slots=True)
class ActorRow:
    """One actor in the tree."""

    id: int
    label: str
    path: str
    """The labels from the root to it, with ``/`` between."""
    parent: int | None
    """The number of the actor that started it linked to itself, while that lives."""
    depth: int
    kind: str
    """The class or function that it runs."""
    name: str | None
    """Its registered name."""
    state: str
    """``starting idle busy suspended stopping``."""
    doing: str | None
    """What it does: the message in its hands; of an agent, its tool call or its state."""
    mailbox: int
    """Messages that wait."""
    restarts: int
    """How often its supervisor has started it again; of an agent, its session."""


@dataclass(frozen=True, slots=True)
class BusyActor(ActorRow):
    """An actor, and how much it does."""

    busy: float
    """The share of a core that its handlers used."""
    handled_per_second: float
    """Messages."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An actor that another one is linked to, monitors, or is monitored by."""

    id: int
    label: str


@dataclass(frozen=True, slots=True)
class Specification:
    """How its supervisor starts, restarts and stops a child."""

    id: str
    supervisor: Neighbour
    restart: str
    shutdown: float | str
    type: str
    significant: bool
    status: str
    start: str


@dataclass(frozen=True, slots=True)
class Child:
    """One place of a supervisor."""

    id: str
    actor: int | None
    status: str
    restart: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Supervision:
    """A supervisor's settings, and its children."""

    strategy: str
    intensity: int
    period: float
    restarts: int
    """Within the last ``period`` seconds; more than ``intensity`` end it."""
    phase: str
    children: tuple[Child, ...]


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One thing that happened to an actor. ``kind`` is of ``started sent received handled replied signal ended``."""

    at: float
    """Seconds since 1970."""
    kind: str
    actor: Neighbour
    value: str | None
    """The message or the reason, as a short text."""
    peer: Neighbour | None
    """Who sent it; None when no actor did."""


@dataclass(frozen=True, slots=True)
class ActorDetails:
    """All that is known about one actor, at one moment."""

    actor: ActorRow
    phase: str
    started_at: float
    """Seconds since 1970."""
    trap_exit: bool
    thread: int | None
    dropped: int
    """Messages that found no room in a mailbox with a limit."""
    waiting: tuple[str, ...]
    """The first messages in its mailbox."""
    links: tuple[Neighbour, ...]
    monitors: tuple[Neighbour, ...]
    monitored_by: tuple[Neighbour, ...]
    specification: Specification | None
    supervision: Supervision | None
    statistics: dict[str, Any] | None
    """Counted since its recording was switched on; None while it is off."""
    messages: tuple[TraceRecord, ...] | None
    """The last ones that it took, while it is recorded."""
    attributes: dict[str, str] | None
    """Its own state; None when its turn did not come in time."""
    not_shown: str | None
    """Why the attributes are not there."""
    agent: dict[str, Any] | None
    process: dict[str, Any] | None
    events: tuple[str, ...]
    """The last events of an agent or a process."""
