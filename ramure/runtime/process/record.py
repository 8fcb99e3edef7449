"""What outlives the actors: the shared, passive facts about a process and its agents.

A handle reads them at any time, also after the end; only the process's own actors write them, on the
event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ramure.actors.inbox import Inbox
from ramure.agents.requests import Usage
from ramure.errors import ActorDied
from ramure.exits import SHUTDOWN, Crashed, format_exit, is_clean
from ramure.runtime.errors import AgentDied, ProcessCancelled, ProcessFailed, Stalled
from ramure.runtime.process.mistakes import child_failed
from ramure.runtime.process.stream import Event, EventStream

if TYPE_CHECKING:
    from ramure.actors import Ref
    from ramure.agents.agent import AgentActor
    from ramure.agents.tools.kinds import Kind
    from ramure.places import Place
    from ramure.runtime.process.attachment import Attachment
    from ramure.runtime.process.eager import Answer
    from ramure.runtime.process.endpoints import Endpoint
    from ramure.runtime.process.ownership import Owned, Ownership
    from ramure.runtime.process.recorder import Recorder
    from ramure.runtime.process.retry import Retry
    from ramure.runtime.run.run import Run
    from ramure.runtime.trees.fanout import Work
    from ramure.runtime.trees.slots import Slot

__all__ = ["AgentRecord", "MachineRecord", "OnIdle", "Outcome", "ProcessRecord"]

OnIdle: TypeAlias = Literal["remind", "fail", "report"] | Callable[["Stalled"], Any]
"""What follows when a process is stalled: :func:`ramure.agent_process` says what each means."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended, and with what."""

    kind: Literal["done", "failed", "cancelled"]
    value: Any = None
    error: BaseException | None = None
    reason: object = None
    """Its exit reason, where it ended by a signal."""
    note: str = ""
    """What its text says beyond the error's own."""

    @classmethod
    def of_exit(cls, reason: object) -> Outcome:
        """The outcome of a process that ended by a signal, without words of its own."""
        if is_clean(reason):
            return cls("cancelled", reason=reason)
        error = reason.exception if isinstance(reason, Crashed) else ProcessFailed(reason)
        return cls("failed", error=error, reason=reason)

    def ending(self) -> Event:
        """The last event of the process's stream."""
        if self.kind == "done":
            return Event("done", self.value)
        return Event(self.kind, self.text())

    def text(self) -> str:
        """Why it failed or was cancelled; never empty."""
        text = format_exit(self.error if self.error is not None else self.reason)
        return f"{text} ({self.note})" if self.note else text

    def exit_reason(self) -> object:
        """The reason that the process's actor ends with."""
        if self.kind == "done":
            return "normal"
        if self.kind == "cancelled":
            return self.reason if self.reason is not None else "shutdown"
        if self.error is not None:
            return Crashed(self.error)
        return self.reason

    def result(self, label: str) -> Any:
        """The value, or raise."""
        if self.kind == "done":
            return self.value
        if self.error is not None:
            raise self.error
        raise ProcessCancelled(label, self.reason)


@dataclass(eq=False)
class MachineRecord:
    """One machine of a process."""

    name: str
    image: Any
    process: ProcessRecord
    ref: Ref[Any]


@dataclass(eq=False)
class AgentRecord:
    """One agent of a process: its name there, its address in the run, its actor."""

    name: str
    address: str
    process: ProcessRecord
    stream: EventStream
    ref: Ref[Any] | None = None
    machine: Ref[Any] | None = None
    usage: Usage = field(default_factory=Usage)
    ended: object = None
    announced: bool = False
    """True once ``agent()`` has returned it: before that, its failure is that call's error."""
    machine_is_own: bool = False
    """True when its machine was made for it."""
    on_exit: Callable[[object], Any] | None = None
    on_idle: OnIdle | None = None
    """What follows when its process is stalled and it has tools of that; None: as the process says."""
    tools: set[str] = field(default_factory=set)
    """The names of the tools that programs have given it."""
    given_tools: set[str] = field(default_factory=set)
    """Those of ``agent.on``."""
    made_at: str = ""
    """The place of ``agent()``."""
    prompted: bool = False
    """True when its program has sent it something, or asked."""
    told_idle: bool = False
    """True when somebody was told that nobody has sent it anything."""

    def gone(self, reason: object) -> AgentDied:
        """The error of who uses it after its end."""
        owner = self.process
        ended = owner.outcome is not None or (owner.ref is not None and not owner.ref.is_alive())
        return AgentDied(self.name, self.ended or reason, owner.label if ended else None)

    def actor(self) -> AgentActor | None:
        """The live actor: its plain attributes are read at once, as process_info would."""
        return None if self.ref is None else self.ref._cell.actor  # type: ignore[attr-defined]

    def free_name(self) -> None:
        """Its process may have another agent of the name from now on."""
        if self.process.agents.get(self.name) is self:
            del self.process.agents[self.name]

    def release(self) -> None:
        """The agent is gone, and cleaned up after: its name and address are free, its stream is closed."""
        self.free_name()
        self.process.run.free_address(self)
        self.stream.close()


@dataclass(eq=False, slots=True)
class ProcessRecord:
    """One process: created before its actor, kept by its handles."""

    run: Run
    name: str
    number: int
    parent: ProcessRecord | None
    stream: EventStream = field(default_factory=EventStream)
    ref: Ref[Any] | None = None
    recorder: Recorder | None = None
    """What writes its stream, and from its actor's start on gives it its ending."""
    owns: Ownership | None = None
    """Its supervisors: of child processes, of agents, of machines."""
    work: set[asyncio.Task[Any]] = field(default_factory=set)
    """Its function, its running endpoints, and the tasks that it owns."""
    body: asyncio.Task[None] | None = None
    """Its function's task."""
    awaits: ProcessRecord | None = None
    """The process whose end its function waits for now."""
    outcome: Outcome | None = None
    agents: dict[str, AgentRecord] = field(default_factory=dict)
    event_kinds: Mapping[str, Kind] = field(default_factory=dict)
    """The types of the data of its events, where they are declared."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    image: Any = None
    of_tree: bool = False
    """True for the process that ``supervise`` makes: its stream is its children's, and closes without an ending."""
    inbox: Inbox = field(default_factory=Inbox)
    """Messages of the user's own, for ``receive``."""
    tasks: Callable[[Coroutine[Any, Any, Any], str | None], asyncio.Task[Any]] | None = None
    """Starts a task that the process owns."""
    spawned_at: Place | None = None
    """The place of ``spawn()``, where it was spawned by a program."""
    used: bool = False
    """True when its program has used its handle."""
    told: bool = False
    """True when a warning has told of its failure."""
    told_failures: int = 0
    """Of its children."""
    retrieved: bool = False
    """True when somebody has seen the outcome (a failure that nobody sees is reported)."""
    emitted: itertools.count[int] = field(default_factory=itertools.count)
    offspring: dict[ProcessRecord, None] = field(default_factory=dict)
    """Its children that have not ended, in order of their start."""
    failures: list[ProcessRecord] = field(default_factory=list)
    """Its children that failed; not all of those that somebody has seen."""
    retries: list[Retry] = field(default_factory=list)
    """Loops of its code that handle the failure of a process, and may spawn another one in its place."""
    unawaited: set[Answer] = field(default_factory=set)
    """Eager verbs that its code has called: those that nobody has awaited, without an answer or with an error."""
    on_idle: OnIdle = "remind"
    """What follows when it is stalled."""
    stalled: str | None = None
    """Why nothing can decide it any more, while it is stalled."""
    spawned: int = 0
    """How many processes it has started so far."""
    slots: Mapping[Any, Slot] = field(default_factory=dict)
    """The places of its children, where it is a tree."""
    spent: Usage = field(default_factory=Usage)
    """What its agents and children that have ended used."""
    passing: bool = False
    """True for what works on an item of an ``each``, and for all below it: there may be any number, and the run forgets each
    when it has ended."""
    each: Work[Any, Any] | None = None
    """What it works on, where it is the tree of an ``each``."""
    _attachments: list[Attachment] = field(default_factory=list)
    _started: list[asyncio.Future[None]] = field(default_factory=list)
    _ended: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.name}#{self.number}"

    @property
    def path(self) -> str:
        """Its place in the tree of processes, as ``main#1/pool#2``."""
        return f"{self.parent.path}/{self.label}" if self.parent else self.label

    def ancestors(self) -> list[ProcessRecord]:
        """Its parent, that one's parent, … up to the root."""
        found, record = [], self.parent
        while record is not None:
            found.append(record)
            record = record.parent
        return found

    def circle(self) -> list[ProcessRecord]:
        """The processes that wait for each other's end, from this one to itself; empty if it may hope."""
        path, record = [self], self.awaits
        while record is not None and record not in path:
            path.append(record)
            record = record.awaits
        return [*path, self] if record is self else []

    def usage(self) -> Usage:
        """What its agents, and those of all below it, have used so far."""
        total = Usage()
        total.take(self.spent)
        for each in (*(agent.usage for agent in self.agents.values()), *(child.usage() for child in self.offspring)):
            total.take(each)
        return total

    # -- endpoints ---------------------------------------------------------------------------------------

    def expose(self, name: str, endpoint: Endpoint) -> None:
        """Add an endpoint, and show it to who is attached."""
        self.endpoints[name] = endpoint
        for attachment in list(self._attachments):
            attachment.exposed(self, name, endpoint)

    def on_expose(self, attachment: Attachment) -> None:
        """Show it each endpoint to come. Those of agents that have ended are forgotten."""
        self._attachments = [*(each for each in self._attachments if not each.over), attachment]

    def unseen_failures(self) -> list[ProcessRecord]:
        """Children that failed, where nobody has awaited the child or read its stream to its ending."""
        return [child for child in self.failures if not (child.retrieved or child.told or child.stream.ending_read)]

    @property
    def is_idle(self) -> bool:
        """True for the tree of an ``each`` that waits for its next item: it decides nothing."""
        return self.each is not None and self.each.is_idle

    def is_awaited(self) -> bool:
        """True while somebody waits for its end."""
        return any(not future.done() for future in self._ended)

    def supervisor(self, kind: Owned) -> Ref[Any]:
        """The supervisor of its children, agents or machines; started if there is none yet. Raises ActorDied at its end."""
        assert self.owns is not None  # from the start of its actor on
        return self.owns.supervisor(kind)

    # -- milestones -------------------------------------------------------------------------------------

    def started(self, ref: Ref[Any]) -> None:
        self.ref = ref
        _resolve(self._started)

    def settle(self, outcome: Outcome) -> None:
        """The process has ended. The first outcome stands."""
        if self.outcome is None:
            self.outcome = outcome
            if self.parent is not None:
                self.parent.spent.take(self.usage())
                self.parent.offspring.pop(self, None)
                if outcome.kind == "failed":
                    child_failed(self)
                    self.parent.failures = [*self.parent.unseen_failures()[:1000], self]
            if self.passing:
                self.run.processes.pop(self.number, None)
            _resolve(self._started)
            _resolve(self._ended)
            self.run.stalls.look()

    def end(self, outcome: Outcome) -> None:
        """Settle its outcome (who is called with the ending finds it), and give its stream its ending."""
        self.settle(outcome)
        try:
            if not self.of_tree:
                self.stream.publish(outcome.ending())
        finally:
            self.stream.close()

    def never_started(self, error: BaseException) -> None:
        """Its actor could not be started: there is nobody else to give it an ending."""
        if self.recorder is None:
            gone = isinstance(error, ActorDied) and is_clean(error.reason)  # who was to start it has been shut down
            outcome = Outcome("cancelled", reason=SHUTDOWN) if gone else Outcome("failed", error=error)
            self.end(outcome)

    async def belongings_ended(self) -> None:
        """Return when nothing of it is left but itself: its children have their endings, its agents their names back.
        To be awaited once its supervisors have ended."""
        for child in list(self.offspring):
            await child.wait_ended()
        for agent in list(self.agents.values()):
            agent.release()

    def tell_when_started(self, message: object) -> None:
        """Send ``message`` to its actor as soon as there is one."""

        def tell(_: object = None) -> None:
            if self.ref is not None:
                self.ref.tell(message)

        if self.ref is not None or self.outcome is not None:
            tell()
        else:
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            started.add_done_callback(tell)
            self._started.append(started)

    def answer_when_ended(self, answer: asyncio.Future[None]) -> None:
        """Complete ``answer`` when there is an outcome."""
        if self.outcome is None:
            self._ended.append(answer)
        else:
            answer.set_result(None)

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called, in a context of its own, when there is an outcome."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda _: callback(), context=contextvars.Context())
        self.answer_when_ended(ended)

    @property
    def waiters(self) -> Sequence[asyncio.Future[None]]:
        """What those who wait for its end wait for."""
        return self._ended

    async def wait_started(self) -> None:
        """Return when its actor runs, or when it is clear that it never will."""
        if self.ref is None and self.outcome is None:
            await _wait(self._started)

    async def wait_ended(self) -> Outcome:
        """Return the outcome when there is one."""
        if self.outcome is None:
            self.run.stalls.look()
            await _wait(self._ended)
        assert self.outcome is not None
        return self.outcome


async def _wait(futures: list[asyncio.Future[None]]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    futures.append(future)
    try:
        await future
    finally:
        if future in futures:
            futures.remove(future)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    waiting = futures[:]
    futures.clear()
    for future in waiting:
        if not future.done():
            future.set_result(None)
