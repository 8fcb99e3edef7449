"""Takes the snapshot that the rule of :mod:`ramure.runtime.stalls.rule` is about."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.runtime.process.scope import process_of
from ramure.runtime.stalls.carriers import OURS, Carriers, Frontier
from ramure.runtime.stalls.rule import AgentView, ProcessView, Snapshot, WaitKind, WaitView
from ramure.runtime.views.status import agent_actor

if TYPE_CHECKING:
    from ramure.runtime.process.process import Process
    from ramure.runtime.process.record import AgentRecord, ProcessRecord
    from ramure.runtime.run.run import Run

__all__ = ["PERSON", "Seen", "may_be_stalled", "process_actor", "take", "tool_owners"]

PERSON: Final = 3600.0
"""Seconds for which a person who wrote to an agent is expected to write again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A wait of ours, and how to end it with an error."""

    view: WaitView
    fail: Callable[[BaseException], None]


@dataclass(slots=True)
class Seen:
    """A snapshot, and what is needed to act on it."""

    snapshot: Snapshot
    places: dict[int, list[Place]] = field(default_factory=dict)
    """By process: where its function waits."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    """Those outside our waits: the end of each may change what is stalled."""
    due: float | None = None
    """When to look again at the latest (the loop's time), since a timer is due then."""
    silent: bool = False
    """True where nothing tells when to look again."""


def process_actor(record: ProcessRecord) -> Process | None:
    """The live actor of a process."""
    ref: Any = record.ref
    return None if ref is None else ref._cell.actor


def may_be_stalled(run: Run) -> bool:
    """False where a glance at the records shows that no process is stalled: nearly always, and cheap."""
    return any(_may_be(record) for record in run.processes.values())


def _may_be(record: ProcessRecord) -> bool:
    if record.outcome is not None or record.ref is None or record.of_tree or record.endpoints:
        return False
    if any(not child.is_idle for child in record.offspring):
        return False
    actors = [agent_actor(agent) for agent in record.agents.values()]
    return all(actor is not None and actor.quiet for actor in actors)


def take(run: Run, attended: Callable[[AgentRecord], bool], *, threads: bool) -> Seen:
    """Look at the run. ``attended(agent)``: whether a person is at its terminal. ``threads``: at its threads too."""
    carriers = Carriers.of(run, threads=threads)
    live = [record for record in run.processes.values() if record.outcome is None]
    agents = [record for record in run.agents.values() if record.ref is not None and record.ref.is_alive()]
    waits = _waits(run, live)
    frontier = Frontier(waits)
    seen = Seen(Snapshot(), due=carriers.due, silent=carriers.silent)
    processes = tuple(_process(record, frontier, carriers, seen) for record in live)
    outside = [task for task in carriers.outside if _is_outside(task, frontier, carriers.outside)]
    seen.tasks += outside
    reaches = _reaches(run)
    seen.snapshot = Snapshot(
        processes,
        tuple(_agent(record, attended, reaches) for record in agents),
        () if "ipykernel" in sys.modules else tuple(f"task {task.get_name()}" for task in outside),
        (*carriers.strangers, *_users_actors(run)),
    )
    return seen


# -- processes ------------------------------------------------------------------------------------------------


def _process(record: ProcessRecord, frontier: Frontier, carriers: Carriers, seen: Seen) -> ProcessView:
    actor = process_actor(record)
    parent = record.parent.number if record.parent is not None else None
    ends = record.on_idle != "report"
    if actor is None or record.body is None or getattr(actor, "body", None) is None:  # it starts, or ends
        return ProcessView(record.number, parent, None, ends=ends)
    deciding = actor.is_deciding or record.body.done()
    if record.of_tree:
        restarting = tuple(f"restart of {slot.id}" for slot in record.slots.values() if slot.is_between)
        idle = record.is_idle
        return ProcessView(record.number, parent, (), wakers=restarting, deciding=deciding, ends=ends, idle=idle)
    tasks = carriers.tasks.get(record, [])
    places = frontier.of(record.body, tasks)
    if places is None:
        seen.tasks.append(record.body)
    else:
        seen.places[record.number] = places
    wakers, beside = list(carriers.others.get(record, ())), []
    for task in tasks:
        if task is record.body:
            continue
        stands = frontier.of(task, tasks)
        if stands is None:
            wakers.append(f"task {task.get_name()}")
            seen.tasks.append(task)
        else:
            beside += stands
    return ProcessView(
        record.number,
        parent,
        None if places is None else tuple(place.view for place in places),
        tuple(place.view for place in beside),
        tuple(wakers),
        tuple(record.endpoints),
        deciding,
        ends,
    )


def _is_outside(task: asyncio.Task[Any], frontier: Frontier, others: list[asyncio.Task[Any]]) -> bool:
    return frontier.of(task, [*others, *OURS]) is None


def _waits(run: Run, live: Iterable[ProcessRecord]) -> dict[int, Place]:
    """Every future that somebody waits for in a wait of ours, by its id."""
    found: dict[int, Place] = {}

    def note(future: asyncio.Future[Any], view: WaitView, fail: Callable[[BaseException], None] | None = None) -> None:
        found[id(future)] = Place(view, fail or _failing(future))

    for record in live:
        actor = process_actor(record)
        for ask in actor.waiting if actor is not None else ():
            note(ask.future, WaitView("wait"), ask.fail)
        for future in record.stream.readers:
            note(future, WaitView("events", record.number))
        for future, kind in _of_tree(record):
            note(future, WaitView(kind, record.number))
        for future in record.waiters:
            note(future, WaitView("handle", record.number))
        reader = record.inbox.reader
        if reader is not None:
            note(reader, WaitView("receive"))
    for agent in run.agents.values():
        for future in agent.stream.readers:
            note(future, WaitView("agent_events", agent.address))
    return found


def _of_tree(record: ProcessRecord) -> Iterator[tuple[asyncio.Future[Any], WaitKind]]:
    """What those wait for who wait for a child of a tree, or for the items or results of an ``each``."""
    for future in record.each.waits if record.each is not None else ():
        yield future, "each"
    for slot in record.slots.values():
        for future in slot.stream.readers:
            yield future, "events"
        for future in slot.waits:
            yield future, "handle"


def _failing(future: asyncio.Future[Any]) -> Callable[[BaseException], None]:
    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    return fail


def _users_actors(run: Run) -> list[str]:
    """Actors of the program's own that have something to do."""
    found = []
    for cell in list(run.system.cells.values()):
        code = getattr(cell, "actor_class", None) or getattr(cell, "function", None)
        module = getattr(code, "__module__", None) or ""
        if module.partition(".")[0] != "ramure" and (cell.queue or cell.timers or cell.tasks or cell.state == "busy"):
            found.append(f"actor {cell.label}")
    return found


# -- agents -----------------------------------------------------------------------------------------------------


def _agent(record: AgentRecord, attended: Callable[[AgentRecord], bool], reaches: dict[str, set[str]]) -> AgentView:
    actor, owner = agent_actor(record), record.process.number
    if actor is None:
        return AgentView(record.address, owner, idle=False)
    wrote = actor.turns.person_at
    now = record.process.run.system.clock.monotonic()
    return AgentView(
        record.address,
        owner,
        idle=actor.state == "idle" and not actor.paused,
        outstanding=actor.outstanding,
        person=attended(record) or (wrote is not None and now - wrote < PERSON),
        prompted=actor.turns.prompted,
        tools_of=frozenset(tool_owners(record).values()),
        reaches=frozenset(reaches.get(record.address, ())),
    )


def tool_owners(record: AgentRecord) -> dict[str, int]:
    """The tools that programs have given an agent: name -> number of the process whose code the handler is."""
    actor = agent_actor(record)
    found = {}
    for name, tool in actor.tool_table().items() if actor is not None else ():
        owner = process_of(tool.context) if name in record.tools else None
        if owner is not None:
            found[name] = owner.number
    return found


def _reaches(run: Run) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in run.statistics.connections:
        found.setdefault(each.one.address, set()).add(each.other.address)
        if each.direction == "both":
            found.setdefault(each.other.address, set()).add(each.one.address)
    return found
