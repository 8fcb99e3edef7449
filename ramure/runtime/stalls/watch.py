"""Notices stalled processes, says so, reminds their agents, and ends their waits. The rule itself is pure: ``stall.py``.

It looks when something has changed that may leave a process with nothing that could decide it: an agent is idle, code
enters a wait of ours, a child or a task has ended, a timer was due. It looks by the clock, less and less often, only where a
process waits and all that could decide it is a thread, a socket, a task or a person at a terminal: nothing tells when that
stops to be so.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.requests import Say
from ramure.errors import ActorDied
from ramure.machines.errors import MachineError
from ramure.masking import get_logger
from ramure.runtime.errors import Stalled
from ramure.runtime.stalls import rule as stall
from ramure.runtime.stalls.carriers import OURS, can_look
from ramure.runtime.stalls.snapshot import PERSON, Seen, may_be_stalled, process_actor, take, tool_owners
from ramure.runtime.stalls.text import TurnView, describe, reminder
from ramure.runtime.views.status import agent_actor

if TYPE_CHECKING:
    from ramure.clock import TimerHandle
    from ramure.runtime.process.record import AgentRecord, OnIdle, ProcessRecord
    from ramure.runtime.run.run import Run

__all__ = ["Stalls"]

logger: logging.Logger = get_logger("ramure.runtime")

SETTLE: Final = 0.1
"""Seconds from a change to the look: what follows from the change has happened by then."""

PER_TASK: Final = 0.002
"""Seconds more for each task of the run: a look costs some microseconds for each, and is to cost at most 2 % of the time."""

PATIENCE: Final = 10.0
"""Seconds before each reminder, and before the end where there is nobody to remind."""

REMINDERS: Final = 2

AGAIN: Final = (2.0, 600.0)
"""Seconds, first and at most, until the next look where nothing tells when to look; doubled each time."""

ATTENDED: Final = 30.0
"""Seconds until it is looked again whether a person is still at the terminal."""

TERMINALS: Final = 5.0
"""Seconds that a machine has to say who is at the terminal. In doubt, somebody is."""


@dataclass(eq=False)
class _Case:
    """One process that was found stalled; it stands until something changes."""

    record: ProcessRecord
    fingerprint: object
    """What is the same as long as there is no real progress."""
    standing: bool = True
    announced: bool = False
    reminders: int = 0
    text: str = ""
    timer: TimerHandle | None = None
    acting: asyncio.Task[None] | None = None


@dataclass(eq=False)
class Stalls:
    """Of one run."""

    run: Run
    _cases: dict[ProcessRecord, _Case] = field(default_factory=dict)
    _next: TimerHandle | None = None
    _later: TimerHandle | None = None
    _later_at: float = 0.0
    _pause: float = AGAIN[0]
    _hooked: weakref.WeakSet[asyncio.Task[Any]] = field(default_factory=weakref.WeakSet)
    _attended: dict[str, float] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _closed: bool = False

    # -- when to look -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something has changed: look soon."""
        self._pause = AGAIN[0]
        if self._next is None:
            self._schedule()

    def _schedule(self) -> None:
        if self._next is None and not self._closed:
            self._next = self._call_later(SETTLE + PER_TASK * len(self.run.system.tasks), self._look)

    def close(self) -> None:
        """The run ends."""
        self._closed = True
        for timer in (self._next, self._later, *(case.timer for case in self._cases.values())):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()

    def _call_later(self, seconds: float, function: Callable[[], None]) -> TimerHandle:
        """In an empty context: a timer of ours is not to look like one of a process's."""
        return contextvars.Context().run(self.run.system.clock.call_later, seconds, function)

    def _look(self) -> None:
        self._next = None
        if self._closed:
            return
        if not may_be_stalled(self.run):
            self._judge({})
            return
        seen, found = self._examine()
        self._look_again(seen, bool(found))
        self._judge(found)

    def _examine(self) -> tuple[Seen, dict[int, stall.ProcessView]]:
        if not can_look(self.run.system.loop):
            return Seen(stall.Snapshot()), {}
        seen = take(self.run, self._is_attended, threads=False)
        found = stall.stalled(seen.snapshot)
        if found:  # threads are looked at last: that is the dearest
            seen = take(self.run, self._is_attended, threads=True)
            found = stall.stalled(seen.snapshot)
        return seen, found

    def _look_again(self, seen: Seen, found: bool) -> None:
        """See to it that the end of what keeps a process from being stalled is noticed."""
        for task in seen.tasks:
            if task not in self._hooked:
                self._hooked.add(task)
                task.add_done_callback(self._task_ended, context=contextvars.Context())
        now = self.run.system.clock.monotonic()
        moments = [] if seen.due is None else [seen.due - self.run.system.loop.time()]
        moments += [until - now for until in self._attended.values() if until > now]
        moments += [moment - now for moment in self._persons_until() if moment > now]
        if not found and (seen.silent or seen.tasks or seen.snapshot.strangers):
            moments.append(self._pause)
        if moments:
            self._look_at(now + max(0.0, min(moments)))

    def _persons_until(self) -> Iterable[float]:
        for agent in self.run.agents.values():
            actor = agent_actor(agent)
            if actor is not None and actor.turns.person_at is not None:
                yield actor.turns.person_at + PERSON

    def _look_at(self, moment: float) -> None:
        now = self.run.system.clock.monotonic()
        if self._later is not None:
            if now < self._later_at <= moment:
                return
            self._later.cancel()
        self._later_at = moment
        self._later = self._call_later(moment - now, self._look_by_clock)

    def _look_by_clock(self) -> None:
        self._pause = min(2 * self._pause, AGAIN[1])
        self._schedule()

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self.look()

    # -- cases ------------------------------------------------------------------------------------------------

    def _judge(self, found: dict[int, stall.ProcessView]) -> None:
        for record, case in list(self._cases.items()):
            if record.outcome is not None:
                self._drop(case)
            elif record.number not in found:
                self._take_back(case)
        for number, view in found.items():
            record = self.run.processes[number]
            fingerprint = self._fingerprint(record, view)
            known = self._cases.get(record)
            if known is None or known.fingerprint != fingerprint:
                if known is not None:
                    self._drop(known)
                case = self._cases[record] = _Case(record, fingerprint)
                self._act(case)
            elif not known.standing:
                known.standing = True
                self._act(known)

    def _fingerprint(self, record: ProcessRecord, view: stall.ProcessView) -> object:
        actors = [(agent.address, agent_actor(agent)) for agent in self._agents(record)]
        progress = tuple((address, actor.turns.progress) for address, actor in actors if actor is not None)
        return view.waits, record.spawned, progress

    def _agents(self, record: ProcessRecord) -> list[AgentRecord]:
        """Those that it owns, and those that have tools of it."""
        agents = self.run.agents.values()
        return [each for each in agents if each.process is record or record.number in tool_owners(each).values()]

    def _take_back(self, case: _Case) -> None:
        """Something can decide it again."""
        case.standing = False
        if case.timer is not None:
            case.timer.cancel()
            case.timer = None
        if case.record.stalled is not None:
            case.record.stalled = None
            self.run.log("stall_over", {"process": case.record.path, "agents": self._addresses(case.record)})

    def _drop(self, case: _Case) -> None:
        """It is over: what comes counts anew."""
        if case.standing and case.record.outcome is None:
            self._take_back(case)
        if case.timer is not None:
            case.timer.cancel()
        case.standing = False
        case.record.stalled = None
        self._cases.pop(case.record, None)

    def _act(self, case: _Case, due: bool = False) -> None:
        """Take the next step with a case, in a task: whether a person is at a terminal takes a moment to know."""
        self._start(self._step(case, due), f"stall of {case.record.label}")

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = self.run.system.loop.create_task(coroutine, name=name, context=contextvars.Context())
        OURS.add(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _step(self, case: _Case, due: bool) -> None:
        record = case.record
        for agent in self._agents(record):
            if await _has_person(agent):
                self._attended[agent.address] = self.run.system.clock.monotonic() + ATTENDED
        seen, found = self._examine()
        if self._closed or not case.standing or self._cases.get(record) is not case:
            return
        if record.number not in found:
            self._take_back(case)
            self.look()
            return
        turns = self._turns(record)
        if not case.announced or case.record.stalled is None:
            self._announce(case, seen, turns)
        policies = self._policies(record)
        if "fail" in policies:
            self._fail(case, seen)
        elif "remind" not in policies:
            return
        elif case.reminders >= REMINDERS:
            self._fail(case, seen)
        elif not due:
            case.timer = self._call_later(PATIENCE, lambda: self._act(case, due=True))
        elif not await self._remind(case, turns):
            self._fail(case, seen)

    # -- what is said and done ----------------------------------------------------------------------------------

    def _turns(self, record: ProcessRecord) -> dict[AgentRecord, TurnView]:
        found = {}
        for agent in self._agents(record):
            actor = agent_actor(agent)
            if actor is not None:
                owners, turns = tool_owners(agent), actor.turns
                mine = [tool.tool for name, tool in actor.tool_table().items() if owners.get(name) == record.number]
                tools = tuple((tool.name, str(tool.definition().get("description") or "")) for tool in mine)
                called = frozenset(turns.called)
                refused = "" if turns.prompted else _refusal(record, agent)
                found[agent] = TurnView(
                    agent.address, turns.prompted, turns.said, turns.stopped, tools, called, refused
                )
        return found

    def _addresses(self, record: ProcessRecord) -> list[str]:
        return [agent.address for agent in self._agents(record)]

    def _policies(self, record: ProcessRecord) -> set[OnIdle]:
        """What is to follow: as each agent with tools of it says, else as the process does."""
        having = [agent for agent in self._agents(record) if record.number in tool_owners(agent).values()]
        return {each.on_idle if each.on_idle is not None else record.on_idle for each in having} or {record.on_idle}

    def _announce(self, case: _Case, seen: Seen, turns: dict[AgentRecord, TurnView]) -> None:
        record, first = case.record, not case.announced
        places = [
            self._place(place.view) for place in seen.places.get(record.number, ()) if place.view.kind != "handle"
        ]
        shown = [turn for turn in turns.values() if turn.tools] or list(turns.values())
        case.text = record.stalled = describe(record.label, places, shown)
        self.run.log("stalled", {"process": record.path, "text": case.text, "agents": self._addresses(record)})
        if not first:
            return
        case.announced = True
        logger.warning("%s is stalled: %s", record.path, case.text)
        data = {
            "text": case.text,
            "agents": [
                {"agent": turn.address, "last_words": turn.said, "not_called": [name for name, _ in turn.uncalled]}
                for turn in shown
            ],
        }
        if record.recorder is not None:
            record.recorder.emit("stalled", data)
        for handler in self._policies(record):
            if callable(handler):
                self._call(record, handler, Stalled(case.text))

    def _place(self, view: stall.WaitView) -> str:
        match view.kind:
            case "wait":
                return "wait()"
            case "receive":
                return "receive()"
            case "each":
                return "each()"
            case "agent_events":
                return f"a loop over the events of agent {view.of!r}"
        process = self.run.processes.get(view.of) if isinstance(view.of, int) else None
        return f"a loop over the events of {process.label if process is not None else view.of}"

    def _call(self, record: ProcessRecord, handler: Callable[[Stalled], Any], stalled: Stalled) -> None:
        """In a task of the process: what the handler raises is the process's failure."""

        async def call() -> None:
            result = handler(stalled)
            if asyncio.iscoroutine(result):
                await result

        actor = process_actor(record)
        if actor is not None and record.tasks is not None:
            actor._cell.context.copy().run(record.tasks, call(), f"on_idle of {record.label}")

    async def _remind(self, case: _Case, turns: dict[AgentRecord, TurnView]) -> bool:
        """Remind those who can decide it. False if there is none."""
        record = case.record
        able = {
            agent: turn
            for agent, turn in turns.items()
            if turn.tools and turn.prompted and (agent.on_idle or record.on_idle) == "remind"
        }
        chosen = {agent: turn for agent, turn in able.items() if turn.uncalled} or able
        if not chosen:
            return False
        case.reminders += 1
        self._take_back(case)
        for agent, turn in chosen.items():
            self.run.log("reminded", {"process": record.path, "agent": agent.address, "reminder": case.reminders})
            assert agent.ref is not None  # it has had a turn
            try:
                await agent.ref.ask(Say(reminder(record.name, turn), origin="ramure"), timeout=None)
            except ActorDied:  # its process learns it by itself
                continue
        self.look()
        return True

    def _fail(self, case: _Case, seen: Seen) -> None:
        self.run.log("stall_failed", {"process": case.record.path, "reminders": case.reminders})
        self._cases.pop(case.record, None)  # who catches it, and waits again, begins anew
        for place in seen.places.get(case.record.number, ()):
            if place.view.kind in stall.LISTED:
                place.fail(Stalled(case.text))

    def _is_attended(self, agent: AgentRecord) -> bool:
        until = self._attended.get(agent.address)
        return until is not None and self.run.system.clock.monotonic() < until


async def _has_person(agent: AgentRecord) -> bool:
    """True where a person is attached to the agent's terminal."""
    actor: Any = agent_actor(agent)
    session: Any = actor.session._cell.actor if actor is not None and actor.session is not None else None
    if session is None or session.place is None:
        return False
    try:
        async with asyncio.timeout(TERMINALS):
            return bool(await session.place.tmux.clients(agent.address))
    except TimeoutError:
        return True
    except MachineError:  # its end is noticed elsewhere
        return False


def _refusal(record: ProcessRecord, agent: AgentRecord) -> str:
    """Why a message to the agent failed that the process sent and did not await."""
    failed = [answer for answer in record.unawaited if answer.failed and answer.what == f"{agent.name}.send()"]
    first = min(failed, key=lambda answer: answer.number, default=None)
    return "" if first is None else f"{first.exception()} (from {first.what}, called at {first.where})"
