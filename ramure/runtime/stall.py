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

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["AgentView", "ProcessView", "Snapshot", "WaitView", "deciders", "stalled"]

WaitKind = Literal["wait", "events", "agent_events", "receive", "handle"]

LISTED: Final = frozenset({"wait", "events", "agent_events", "receive"})
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
    first = {p.number for p in rule.waiting if not rule.depends(p) and not rule.decided_by(p, active)}
    # Their ends decide others: those that depend on others are judged with that.
    ending = frozenset(number for number in first if rule.processes[number].ends)
    active = rule.active(ending)
    second = {p.number for p in rule.waiting if rule.depends(p) and not rule.decided_by(p, active)}
    return {number: rule.processes[number] for number in sorted(first | second)}


def deciders(snapshot: Snapshot, number: int) -> list[str]:
    """What can decide a process now, in words; empty where nothing can, or where it does not wait."""
    rule = _Rule(snapshot)
    process = rule.processes[number]
    return rule.decided_by(process, rule.active(frozenset()))


@dataclass(slots=True)
class _Rule:
    snapshot: Snapshot
    processes: Mapping[int, ProcessView] = field(init=False)
    waiting: tuple[ProcessView, ...] = field(init=False)
    awake: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.processes = {process.number: process for process in self.snapshot.processes}
        self.waiting = tuple(process for process in self.snapshot.processes if _waits(process))
        self.awake = _awake(self.snapshot.agents)

    # -- whom what concerns -----------------------------------------------------------------------------------

    def agents_of(self, number: int) -> Iterable[AgentView]:
        """The agents that it owns, and those that have tools of it."""
        return (agent for agent in self.snapshot.agents if agent.owner == number or number in agent.tools_of)

    def children(self, number: int) -> Iterable[ProcessView]:
        return (process for process in self.snapshot.processes if process.parent == number)

    def is_open(self, process: ProcessView) -> bool:
        """True where anybody who acts may decide it: by a message to it, or by the first one to an agent of it."""
        agents = list(self.agents_of(process.number))
        if agents and not any(agent.prompted for agent in agents):
            return True
        return any(place.kind == "receive" for place in (*(process.waits or ()), *process.beside))

    def sources(self, process: ProcessView) -> list[ProcessView]:
        """The processes, other than its own children, whose events or ends it waits for."""
        places = (*(process.waits or ()), *process.beside)
        found = [
            self.processes[place.of] for place in places if isinstance(place.of, int) and place.of in self.processes
        ]
        return [each for each in found if each.parent != process.number and each is not process]

    def depends(self, process: ProcessView) -> bool:
        """True where what decides it may be what another process does."""
        return self.is_open(process) or bool(self.sources(process))

    def watched(self, process: ProcessView) -> Iterable[str]:
        """The agents whose events it waits for."""
        places = (*(process.waits or ()), *process.beside)
        return (place.of for place in places if isinstance(place.of, str))

    # -- the rule ---------------------------------------------------------------------------------------------

    def own_deciders(self, process: ProcessView) -> list[str]:
        """What can decide it without any other process."""
        found = list(process.wakers)
        if process.deciding:
            found.append("its end")
        found += [f"endpoint {name}" for name in process.endpoints]
        found += [f"agent {agent.address}" for agent in self.agents_of(process.number) if agent.address in self.awake]
        found += [f"agent {address}" for address in self.watched(process) if address in self.awake]
        return found + list(self.snapshot.outside)

    def active(self, ending: frozenset[int]) -> frozenset[int]:
        """The processes that may act; ``ending``: those that are stalled, and will be ended for it."""
        found = {
            process.number
            for process in self.snapshot.processes
            if process.waits is None or process.number in ending or self.own_deciders(process)
        }
        while True:
            more = {p.number for p in self.snapshot.processes if p.number not in found and self._woken(p, found)}
            if not more:
                return frozenset(found)
            found |= more

    def _woken(self, process: ProcessView, active: set[int]) -> bool:
        """True where one of those that may act can have it act."""
        if any(child.number in active for child in self.children(process.number)):
            return True
        if any(source.number in active for source in self.sources(process)):
            return True
        return self.is_open(process) and bool(active or self.snapshot.strangers)

    def decided_by(self, process: ProcessView, active: frozenset[int]) -> list[str]:
        """What can decide a process that waits."""
        others = [other for other in self.snapshot.processes if other is not process]
        found = self.own_deciders(process)
        found += [f"child {child.number}" for child in self.children(process.number)]
        found += [f"process {other.number}" for other in others if other.waits is None]
        found += [f"process {source.number}" for source in self.sources(process) if source.number in active]
        if self.is_open(process):
            found += [f"process {other.number}" for other in others if other.number in active]
            found += self.snapshot.strangers
        return found


def _waits(process: ProcessView) -> bool:
    return process.waits is not None and any(place.kind in LISTED for place in process.waits)


def _awake(agents: tuple[AgentView, ...]) -> frozenset[str]:
    """The agents that work or may be set to work: by a person, a message under way, or an agent that reaches them."""
    found = {each.address for each in agents if not each.idle or each.outstanding or each.person}
    while True:
        more = {address for each in agents if each.address in found for address in each.reaches if address not in found}
        if not more:
            return frozenset(found)
        found |= more
