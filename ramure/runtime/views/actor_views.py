"""Actors as plain data, for the command line and for other programs: what ``tree`` and ``inspect`` show.

What the kernel knows is read at once; only an actor's own attributes wait for its turn.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from ramure.actors import Ref
from ramure.actors.observe.addresses import forest, label_of, path_of
from ramure.actors.observe.inspection import get_state, info, recorded
from ramure.actors.observe.rendering import brief
from ramure.agents.agent import AgentActor
from ramure.errors import ActorDied, AskTimeout
from ramure.exits import format_exit
from ramure.masking import masked
from ramure.runtime.process.process import Process
from ramure.runtime.views.actor_data import (
    ActorDetails,
    ActorRow,
    Child,
    Neighbour,
    Specification,
    Supervision,
    TraceRecord,
)
from ramure.runtime.views.status import at_work
from ramure.supervisors.inspection import ChildView, child_views, supervisor_view

if TYPE_CHECKING:
    from ramure.actors import ActorSystem
    from ramure.actors.observe.inspection import Statistics
    from ramure.actors.observe.tracing import TraceEvent
    from ramure.runtime.process.stream import EventStream
    from ramure.supervisors.spec import ChildSpec

__all__ = ["actor_details", "actor_rows", "place_of", "shown", "trace_record"]

MOST_NEIGHBOURS: Final = 1000
"""Links and monitors that are listed; a hub may have a hundred thousand."""

MOST_WAITING: Final = 20
"""Waiting messages that are shown."""

LONGEST: Final = 200
"""Characters of a message, or of an attribute."""

MOST_EVENTS: Final = 10
"""Events of an agent or process that are shown."""


NOWHERE: Final = re.compile(r"(?: object)? at 0x[0-9a-f]+")
"""Where an object is in memory tells nobody anything."""


def shown(value: object, limit: int) -> str:
    """A short text of a value, of at most ``limit`` characters, in which no secret stands."""
    text = NOWHERE.sub("", masked(brief(value, limit + 200)))  # before it is cut: half a secret is not found
    return text if len(text) <= limit else text[: limit - 1] + "…"


def actor_rows(system: ActorSystem) -> list[ActorRow]:
    """Every live actor, each followed by its children. On the system's loop."""
    restarts = _restarts(system)
    return [_row(ref, depth, restarts) for ref, depth in forest(system)]


def _restarts(system: ActorSystem) -> dict[Ref[Any], int]:
    found = {}
    for ref in system.actors():
        for child in child_views(ref):
            if child.ref is not None:
                found[child.ref] = child.restarts
    return found


def _row(ref: Ref[Any], depth: int, restarts: dict[Ref[Any], int]) -> ActorRow:
    cell = ref._cell
    actor = getattr(cell, "actor", None)
    agent = actor if isinstance(actor, AgentActor) else None
    current = cell.current
    doing = shown(current, 80) if current is not None else None
    return ActorRow(
        id=cell.number,
        label=label_of(ref),
        path=path_of(ref),
        parent=cell.parent.number if cell.parent is not None and not cell.parent.dead else None,
        depth=depth,
        kind=cell.kind,
        name=ref.name,
        state=cell.state,
        doing=_of_agent(agent) if agent is not None else doing,
        mailbox=len(cell.queue),
        restarts=agent.restarts if agent is not None else restarts.get(ref, 0),
    )


def _of_agent(agent: AgentActor) -> str:
    return at_work(agent)[0] if agent.state == "busy" else agent.state


# -- one of them --------------------------------------------------------------------------------------------


async def actor_details(
    system: ActorSystem, ref: Ref[Any], *, patience: float = 0.5, stream: EventStream | None = None
) -> ActorDetails:
    """Look into one actor. ``patience`` is how long its attributes are waited for, in seconds; 0: not at all.
    ``stream`` has its events, if it is an agent; a process's own is found.

    Raises :class:`~ramure.errors.ActorDied` when it has ended meanwhile.
    """
    attributes, not_shown = await _attributes(ref, patience) if ref.is_alive() else (None, None)
    if not ref.is_alive():
        raise ActorDied(ref.label, info(ref).reason)
    known, place = info(ref), place_of(ref)
    depth = path_of(ref).count("/")
    row = _row(ref, depth, {ref: place[1].restarts} if place else {})
    kept = recorded(ref)
    return ActorDetails(
        actor=row,
        phase=known.phase,
        started_at=known.started_at,
        trap_exit=known.trap_exit,
        thread=known.thread,
        dropped=known.dropped,
        waiting=tuple(
            shown(message, LONGEST) for message, _ in zip(ref._cell.queue, range(MOST_WAITING), strict=False)
        ),
        links=_neighbours(known.links),
        monitors=_neighbours(known.monitors),
        monitored_by=_neighbours(known.monitored_by),
        specification=_specification(*place) if place else None,
        supervision=_supervision(ref),
        statistics=_statistics(known.statistics),
        messages=tuple(trace_record(system, event) for event in kept) if kept is not None else None,
        attributes=attributes,
        not_shown=not_shown,
        agent=_agent(ref),
        process=_process(ref),
        events=_events(ref, stream),
    )


async def _attributes(ref: Ref[Any], patience: float) -> tuple[dict[str, str] | None, str | None]:
    if patience <= 0:
        return None, "not asked for"
    try:
        state = await get_state(ref, timeout=patience)
    except AskTimeout:
        doing = ref._cell.doing()
        return None, f"its turn did not come within {patience:g} s" + (f": it is {doing}" if doing else "")
    return {name: shown(value, LONGEST) for name, value in state.items()}, None


def place_of(ref: Ref[Any]) -> tuple[Ref[Any], ChildView] | None:
    """Its supervisor, and its place there; None where none supervises it."""
    parent = ref._cell.parent
    if parent is None:
        return None
    return next(((parent.ref, child) for child in child_views(parent.ref) if child.ref is ref), None)


def _neighbour(ref: Ref[Any]) -> Neighbour:
    return Neighbour(ref.id, label_of(ref))


def _neighbours(refs: tuple[Ref[Any], ...]) -> tuple[Neighbour, ...]:
    return tuple(_neighbour(ref) for ref in refs[:MOST_NEIGHBOURS])


def _specification(supervisor: Ref[Any], child: ChildView) -> Specification:
    spec: ChildSpec = child.spec
    shutdown = spec.shutdown
    assert shutdown is not None  # a validated one has its default
    start = getattr(spec.start, "function", spec.start)
    return Specification(
        id=_id(child.id),
        supervisor=_neighbour(supervisor),
        restart=spec.restart,
        shutdown=shutdown,
        type=spec.type,
        significant=spec.significant,
        status=child.status,
        start=getattr(start, "__qualname__", None) or brief(start, 80),
    )


def _supervision(ref: Ref[Any]) -> Supervision | None:
    view = supervisor_view(ref)
    if view is None:
        return None
    flags = view.flags
    children = (
        Child(_id(c.id), c.ref.id if c.ref is not None else None, c.status, c.spec.restart, c.restarts)
        for c, _ in zip(child_views(ref), range(MOST_NEIGHBOURS), strict=False)
    )
    return Supervision(flags.strategy, flags.intensity, flags.period, view.restarts, view.phase, tuple(children))


def _id(value: object) -> str:
    return value if isinstance(value, str) else brief(value, 80)


def _statistics(known: Statistics | None) -> dict[str, Any] | None:
    return None if known is None else asdict(known)


def _agent(ref: Ref[Any]) -> dict[str, Any] | None:
    actor = getattr(ref._cell, "actor", None)
    if not isinstance(actor, AgentActor):
        return None
    return {
        "address": actor.address,
        "state": actor.state,
        "since": actor.since,
        "restarts": actor.restarts,
        "connected": actor.connection is not None,
        "pi": actor.pi_version,
        "model": actor.options.model,
        "machine": label_of(actor.options.machine),
        "tools": actor.tools,
        "calls": actor.calls,
        "usage": actor.usage.totals(),
    }


def _process(ref: Ref[Any]) -> dict[str, Any] | None:
    actor = getattr(ref._cell, "actor", None)
    if not isinstance(actor, Process):
        return None
    record = actor.record
    return {
        "path": record.path,
        "state": record.outcome.kind if record.outcome is not None else "running",
        "endpoints": sorted(record.endpoints),
        "agents": sorted(agent.address for agent in record.agents.values()),
        "children": [child.label for child in record.offspring],
    }


def _events(ref: Ref[Any], stream: EventStream | None) -> tuple[str, ...]:
    actor = getattr(ref._cell, "actor", None)
    if isinstance(actor, Process):
        stream = actor.record.stream
    if stream is None:
        return ()
    return tuple(
        f"{event.type} {shown(event.data, 120)}" + (f" from {event.source}" if event.source else "")
        for event in stream.snapshot()[-MOST_EVENTS:]
    )


def trace_record(system: ActorSystem, event: TraceEvent) -> TraceRecord:
    """A traced event as plain data."""
    at = system.clock.wall() - (system.clock.monotonic() - event.at)
    if event.kind == "started":
        value = None
    elif event.kind in ("signal", "ended"):
        value = format_exit(event.value)
    else:
        value = shown(event.value, LONGEST)
    peer = _neighbour(event.peer) if event.peer is not None else None
    return TraceRecord(at, event.kind, _neighbour(event.actor), value, peer)
