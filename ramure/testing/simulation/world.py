"""One simulated run: its agents, models and machines, the faults that befall them, and the record of what happened."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.testing.conversation import Conversation
from ramure.testing.harness import InProcessHarness
from ramure.testing.scripts import Script, ScriptPlayer
from ramure.testing.sim_model import SimulatedModel
from ramure.testing.simulation.faults import Fault, Moment, Plan
from ramure.testing.steps import Delay, DropConnection, HTTPError, Text, ToolCall, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ramure.runtime.process.record import ProcessRecord
    from ramure.testing.simulation.loop import SimulationLoop
    from ramure.testing.simulation.stage import MemoryLogs, Wall

__all__ = ["HandlerFault", "Happening", "SimulatedCall", "SimulatedRun", "World"]

LATENCY: Final = (1.0, 8.0)
"""Seconds that a model takes for an answer, at least and at most."""

HANG: Final = 300.0
"""Seconds after which pi's HTTP client gives up a provider that hangs."""


class HandlerFault(RuntimeError):
    """The simulated failure of a handler."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: when (virtual seconds), to whom, what. ``data``: an event's."""

    at: float
    who: str
    kind: str
    text: str
    data: Any = None

    def __str__(self) -> str:
        return f"{self.at:8.1f} s  {self.who}: {self.text}"


@dataclass(slots=True)
class SimulatedCall:
    """A call of a tool, as its handler got it. ``result``: what it returned; ``error``: what it raised."""

    agent: str
    tool: str
    arguments: dict[str, Any]
    call_id: str
    at: float
    result: str | None = None
    error: str | None = None
    ended: bool = False


@dataclass
class SimulatedRun:
    """What an invariant sees of a run, while it runs and at its end.

    ``args``: the program's arguments, this run's copies of them. ``result`` and ``error`` are set at the end.
    """

    seed: int
    args: tuple[Any, ...]
    result: Any = None
    error: BaseException | None = None
    ended: bool = False
    now: float = 0.0
    calls: list[SimulatedCall] = field(default_factory=list)
    """Calls of tools, in the order in which their handlers began."""
    happenings: list[Happening] = field(default_factory=list)
    """Everything that happened so far."""
    faults: list[Fault] = field(default_factory=list)
    """The faults that have happened so far."""
    agents: dict[str, str] = field(default_factory=dict)
    """The state of each agent, by address; ``ended`` for one that is gone."""
    machines: int = 0
    """How many machines run."""

    @property
    def succeeded(self) -> bool:
        """The program has returned."""
        return self.ended and self.error is None

    def events(self, type: str | None = None) -> list[Happening]:
        """The events of all processes so far, or those of a type; ``data`` is what was emitted."""
        found = [each for each in self.happenings if each.kind == "event"]
        return found if type is None else [each for each in found if each.text.split(":")[0] == type]

    def calls_of(self, tool: str) -> list[SimulatedCall]:
        """The calls of one tool."""
        return [call for call in self.calls if call.tool == tool]


class World(InProcessHarness):
    """The simulated surroundings of one run. ``changed`` is called after each happening."""

    def __init__(
        self,
        script: Script,
        plan: Plan,
        run: SimulatedRun,
        loop: SimulationLoop,
        changed: Callable[[], None],
        **more: Any,
    ) -> None:
        super().__init__(script, **more)
        self.slower_heartbeat: float = 3.0
        self.plan: Plan = plan
        self.run: SimulatedRun = run
        self.loop: SimulationLoop = loop
        self.wall: Wall | None = None
        self.logs: list[MemoryLogs] = []
        self.problems: list[tuple[str, str]] = []
        """Warnings of the runtime to the program's author: the process, the text."""
        self.processes: Mapping[int, ProcessRecord] = {}
        """All processes of the run."""
        self._changed = changed
        self._counts: Counter[tuple[str, str]] = Counter()
        self._trouble: dict[str, tuple[float, int | str]] = {}
        self._timers: list[asyncio.TimerHandle] = []

    # -- what happened

    def happened(self, who: str, kind: str, text: str, data: Any = None) -> None:
        """Record it."""
        now = self.loop.time()
        self.run.now = self.loop.progress_at = now
        self.run.happenings.append(Happening(round(now, 3), who, kind, text, data))
        self.run.machines = sum(not machine.stopped for machine in self.machines)
        self._changed()

    def on_line(self, log: str, line: bytes) -> None:
        """A line of a log."""
        entry = json.loads(line)
        kind = entry["type"]
        if log == "_runtime":
            if kind == "event":
                data = entry["data"]
                text = entry["event"] if data is None else f"{entry['event']}: {short(data)}"
                source = entry["source"]
                if source is None and "/" in entry["process"]:  # else the simulation's own
                    self.happened(process_name(entry["process"]), "event", text, data)
            elif kind == "problem" and "process" in entry:
                self.problems.append((process_name(entry["process"]), entry["text"]))
            elif kind in ("crash_report", "stalled", "reminded", "alarm", "alarm_over"):
                self._run_entry(kind, entry)
            return
        data = entry["data"]
        match kind:
            case "state":
                self.run.agents[log] = data["state"]
                if data["state"] == "ended":
                    self.happened(log, "state", "ends")
            case "message":
                self.happened(log, "message", f"is sent {short(data['text'])}")
            case "agent_down" | "agent_restarted" | "agent_gave_up" | "model_error":
                self.happened(log, kind, f"{kind}: {short(data.get('reason') or data.get('error') or data)}")

    def _run_entry(self, kind: str, entry: Mapping[str, Any]) -> None:
        match kind:
            case "crash_report" if entry.get("address") is None:
                self.happened(str(entry["who"]), "crash", f"crashes: {short(entry['reason'])}")
            case "stalled":
                self.happened(process_name(entry["process"]), "stalled", "is stalled")
            case "reminded":
                self.happened(str(entry["agent"]), "reminded", "is reminded")

    # -- moments, and what happens at them

    def moment(self, agent: str, what: Any) -> list[Fault]:
        """The faults of the next moment of this kind; those that need nobody's help happen."""
        self._counts[agent, what] += 1
        found = self.plan.at(Moment(agent, what, self._counts[agent, what]))
        for fault in found:
            self._begin(fault)
        return found

    def _begin(self, fault: Fault) -> None:
        agent = fault.moment.agent
        match fault.kind:
            case "kill_pi" | "kill_machine" | "drop_link":
                self._timers.append(self.loop.call_later(fault.after, self._strike, fault))
                return
            case "disk_full":
                for logs in self.logs:
                    logs.fill(fault.seconds)
            case "reorder":
                link = self._link(agent)
                if link is None:
                    return
                link.hold(fault.seconds)
            case "clock_jump" if self.wall is not None:
                self.wall.jump(fault.seconds)
            case "provider":
                self._trouble[agent] = (self.loop.time() + fault.seconds, fault.outcome)
        self.befell(fault)

    def befell(self, fault: Fault) -> None:
        """It has happened."""
        self.run.faults.append(fault)
        self.happened("FAULT", "fault", fault.effect)

    def _strike(self, fault: Fault) -> None:
        agent = fault.moment.agent
        for machine in self.machines:
            life = machine.tmux.lives.get(agent)
            if life is None or life.ending is not None:
                continue
            self.befell(fault)
            match fault.kind:
                case "kill_pi":
                    machine.tmux.kill(agent)
                case "kill_machine":
                    machine.fail("simulated power cut")
                case "drop_link":
                    life.pi.link.drop()

    def _link(self, agent: str) -> Any:
        for machine in self.machines:
            life = machine.tmux.lives.get(agent)
            if life is not None and life.ending is None:
                return life.pi.link.transport
        return None

    def over(self) -> None:
        """The program has ended: no further fault."""
        for timer in self._timers:
            timer.cancel()

    # -- models

    def model(self, name: str | None, agent: str = "") -> SimulatedModel:
        model = super().model(name)
        player = FaultyPlayer(self, self._player, agent)
        return SimulatedModel(player, model.name, self.requests, self.errors.append)

    def trouble(self, agent: str) -> int | str | None:
        """What the agent's provider does now, if it is in trouble."""
        until, outcome = self._trouble.get(agent, (0.0, ""))
        return outcome if self.loop.time() < until else None

    # -- handlers

    async def handle(self, calls: Any, entry: Any, call: Any, original: Callable[..., Any]) -> Any:
        """A call of a tool has come to its handler."""
        agent = str(calls._address)
        made = SimulatedCall(agent, call.name, dict(call.arguments), call.call_id, self.loop.time())
        self.run.calls.append(made)
        self.happened(agent, "call", f"calls {call.name}({_arguments(call.arguments)})")
        faults = self.moment(agent, "tool call")
        try:
            for fault in faults:
                if fault.kind == "handler_raises":
                    raise HandlerFault("simulated failure of the handler")
            result = await original(calls, entry, call)
        except BaseException as error:
            made.error = f"{type(error).__name__}: {error}"
            raise
        else:
            made.result = result.text
            return result
        finally:
            made.ended = True


class FaultyPlayer(ScriptPlayer):
    """What an agent's model says: what the script says, after a while, unless a fault has it otherwise."""

    def __init__(self, world: World, player: ScriptPlayer, agent: str) -> None:
        self._world = world
        self._script = player
        self._agent = agent

    def converse(self, body: Mapping[str, Any], session: str = "") -> Conversation:
        return self._script.converse(body, session)

    async def next_turn(self, conversation: Conversation) -> Turn:
        world, agent = self._world, self._agent
        number = world._counts[agent, "request"] + 1
        world.happened(agent, "request", "asks its model")
        faults = {fault.kind: fault for fault in world.moment(agent, "request")}
        latency = random.Random(f"latency {world.run.seed} {agent} {number}").uniform(*LATENCY)
        if not world.loop.order.is_drawn:
            latency = LATENCY[0]
        await asyncio.sleep(latency + (faults["slow"].seconds if "slow" in faults else 0.0))
        match world.trouble(agent):
            case int() as status:
                return (HTTPError(status, "simulated trouble of the provider"),)
            case "hang":
                return (Delay(HANG), DropConnection())
            case "cut":
                return (DropConnection(),)
            case "empty":
                return (Text(""),)
        if "model_stops" in faults:
            return (Text(str(faults["model_stops"].outcome)),)
        if "duplicate_call" in faults:
            again = _last_call(conversation)
            if again is not None:
                return (again,)
        return await self._script.next_turn(conversation)


def _last_call(conversation: Conversation) -> ToolCall | None:
    """The call that the model made last, to be made again."""
    for message in reversed(conversation.messages):
        for call in message.get("tool_calls") or []:
            function = call["function"]
            return ToolCall(function["name"], json.loads(function["arguments"]))
    return None


def process_name(path: str) -> str:
    """A process's path, without the process that a simulation runs it in."""
    _, _, inner = path.partition("/")
    return inner or path


def short(value: object, limit: int = 60) -> str:
    """For people, in one line."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={short(value, 30)}" for name, value in arguments.items())
