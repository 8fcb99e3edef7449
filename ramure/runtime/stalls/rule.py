"""Which processes are stalled: they wait, and nothing can decide them any more. Pure: a rule over a frozen snapshot.

``docs/semantics.md`` has the rule as a table. In short, two questions, both of reachability:

* *May a process act?* Some code of it runs or will run: its function outside our waits, a task, timer or thread, an
  endpoint that may be called, an agent at work that can call its tools or reach its agents, a child that may act.
* *Is a process decided?* It waits, and one of those that concern it may act. A child under way always decides: where a
  child cannot act, it is the child that is stalled, and its end that decides its parent.

A process that waits for what anybody may send it (``receive``, or an agent that has had no message yet) is decided by
any process that may act. What is in doubt counts as able to decide: a false accusation ends a program that works.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["AgentView", "ProcessView", "Snapshot", "WaitKind", "WaitView", "deciders", "stalled"]

WaitKind = Literal["wait", "events", "agent_events", "receive", "each", "handle"]

LISTED: Final = frozenset({"wait", "events", "agent_events", "receive", "each"})
"""The waits that raise Stalled. ``await handle`` is none: what it waits for is accused itself."""


@dataclass(frozen=True, slots=True)
class WaitView:
    """One of our waits that code of a process is in."""

    kind: WaitKind
    of: int | str | None = None
    """Whose events, or end, it waits for: a process's number, an agent's address."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A live process."""

    number: int
    parent: int | None = None
    waits: tuple[WaitView, ...] | None = None
    """Where its function waits (in several places, if it waits for tasks of its own); None: it is outside our waits."""
    beside: tuple[WaitView, ...] = ()
    """Where its other tasks wait."""
    wakers: tuple[str, ...] = ()
    """Tasks outside our waits, timers, threads and sockets that carry its context; its own ``timeout=`` is none."""
    endpoints: tuple[str, ...] = ()
    deciding: bool = False
    """True when its outcome is on its way: it ends, or an agent of it died and it is told within the grace."""
    ends: bool = True
    """False when it is only reported (``on_idle="report"``): then its stall decides nobody."""
    idle: bool = False
    """True for the tree of an ``each`` that waits for its next item: as a child, it decides nothing."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """A live agent."""

    address: str
    owner: int
    idle: bool = True
    """True where its state is idle and it is not paused. One that is restarting or waits for its model is not idle."""
    outstanding: bool = False
    """True while a message, a question or a call of a tool is under way."""
    person: bool = False
    """True where a person is attached to its terminal, or wrote to it in the last hour."""
    prompted: bool = True
    """False where nobody has sent it anything."""
    tools_of: frozenset[int] = frozenset()
    """The processes whose tools it has."""
    reaches: frozenset[str] = frozenset()
    """The agents that it can send messages to."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    processes: tuple[ProcessView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    outside: tuple[str, ...] = ()
    """Tasks of the program that belong to no process, and wait for none."""
    strangers: tuple[str, ...] = ()
    """Threads and actors of the program's that carry no context of a process: they can send messages for ``receive``."""


def stalled(snapshot: Snapshot) -> dict[int, ProcessView]:
    """The stalled processes, by number."""
    rule = _Rule(snapshot)
    active = rule.active(frozenset())
    first = {p.number for p in rule.waiting if not rule.depends(p) and not rule.is_decided(p, active)}
    # Their ends decide others: those that depend on others are judged with that.
    ending = frozenset(number for number in first if rule.processes[number].ends)
    active = rule.active(ending)
    second = {p.number for p in rule.waiting if rule.depends(p) and not rule.is_decided(p, active)}
    return {number: rule.processes[number] for number in sorted(first | second)}


def deciders(snapshot: Snapshot, number: int) -> list[str]:
    """What can decide a process now, in words; empty where nothing can, or where it does not wait."""
    rule = _Rule(snapshot)
    return list(rule.decided_by(rule.processes[number], rule.active(frozenset())))


class _Rule:
    """The rule over one snapshot, which is indexed once: a run may have thousands of processes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.processes = {process.number: process for process in snapshot.processes}
        self.waiting = tuple(process for process in snapshot.processes if _waits(process))
        self.outside = tuple(process.number for process in snapshot.processes if process.waits is None)
        self.awake = _awake(snapshot.agents)
        self.children: defaultdict[int | None, list[int]] = defaultdict(list)
        for process in snapshot.processes:
            if not process.idle:
                self.children[process.parent].append(process.number)
        self.agents: defaultdict[int, list[AgentView]] = defaultdict(list)
        """Of each process, the agents that it owns, and those that have tools of it."""
        for agent in snapshot.agents:
            for number in {agent.owner, *agent.tools_of}:
                self.agents[number].append(agent)

    # -- whom what concerns -----------------------------------------------------------------------------------

    def is_open(self, process: ProcessView) -> bool:
        """True where anybody who acts may decide it: by a message to it, or by the first one to an agent of it."""
        agents = self.agents[process.number]
        if agents and not any(agent.prompted for agent in agents):
            return True
        return any(place.kind == "receive" for place in _places(process))

    def sources(self, process: ProcessView) -> list[int]:
        """The processes, other than its own children, whose events or ends it waits for."""
        found = [
            self.processes[n] for place in _places(process) if isinstance(n := place.of, int) and n in self.processes
        ]
        return [each.number for each in found if each.parent != process.number and each is not process]

    def depends(self, process: ProcessView) -> bool:
        """True where what decides it may be what another process does."""
        return self.is_open(process) or bool(self.sources(process))

    # -- the rule ---------------------------------------------------------------------------------------------

    def own_deciders(self, process: ProcessView) -> Iterator[str]:
        """What can decide it without any other process."""
        yield from process.wakers
        if process.deciding:
            yield "its end"
        yield from (f"endpoint {name}" for name in process.endpoints)
        watched = (place.of for place in _places(process) if isinstance(place.of, str))
        near = (*(agent.address for agent in self.agents[process.number]), *watched)
        yield from (f"agent {address}" for address in near if address in self.awake)
        yield from self.snapshot.outside

    def active(self, ending: frozenset[int]) -> frozenset[int]:
        """The processes that may act; ``ending``: those that are stalled, and will be ended for it."""
        found = {
            process.number
            for process in self.snapshot.processes
            if process.waits is None or process.number in ending or _any(self.own_deciders(process))
        }
        left = [process for process in self.snapshot.processes if process.number not in found]
        while more := {process.number for process in left if self._is_woken(process, found)}:
            found |= more
            left = [process for process in left if process.number not in more]
        return frozenset(found)

    def _is_woken(self, process: ProcessView, active: set[int]) -> bool:
        """True where one of those that may act can have it act."""
        if not active.isdisjoint(self.children[process.number]) or not active.isdisjoint(self.sources(process)):
            return True
        return self.is_open(process) and bool(active or self.snapshot.strangers)

    def decided_by(self, process: ProcessView, active: frozenset[int]) -> Iterator[str]:
        """What can decide a process that waits."""
        me = process.number
        yield from self.own_deciders(process)
        yield from (f"child {number}" for number in self.children[me])
        yield from (f"process {number}" for number in self.outside if number != me)
        yield from (f"process {number}" for number in self.sources(process) if number in active)
        if self.is_open(process):
            yield from (f"process {number}" for number in active if number != me)
            yield from self.snapshot.strangers

    def is_decided(self, process: ProcessView, active: frozenset[int]) -> bool:
        """True where something can."""
        return _any(self.decided_by(process, active))


def _any(deciders: Iterator[str]) -> bool:
    return next(deciders, None) is not None


def _places(process: ProcessView) -> tuple[WaitView, ...]:
    return (*(process.waits or ()), *process.beside)


def _waits(process: ProcessView) -> bool:
    return process.waits is not None and any(place.kind in LISTED for place in process.waits)


def _awake(agents: tuple[AgentView, ...]) -> frozenset[str]:
    """The agents that work or may be set to work: by a person, a message under way, or an agent that reaches them."""
    reaches = {each.address: each.reaches for each in agents}
    found = {each.address for each in agents if not each.idle or each.outstanding or each.person}
    ahead = list(found)
    while ahead:
        more = reaches.get(ahead.pop(), frozenset()) - found
        found |= more
        ahead += more
    return frozenset(found)
