"""What a run says of itself (:mod:`ramure.runtime.views.status`), as types: plain data, with these fields. Versions only add some."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "AgentStatus",
    "BriefAgent",
    "ConnectionStatus",
    "EndedRun",
    "EndedStatus",
    "MachineStatus",
    "ProcessStatus",
    "RunEvent",
    "RunStatus",
    "RunSummary",
    "TokenUsage",
]


class TokenUsage(TypedDict):
    """Tokens, and what they cost."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: float
    """In the currency of the model's price list."""


class BriefAgent(TypedDict):
    """An agent's state."""

    address: str
    state: Literal[
        "provisioning", "launching", "connecting", "idle", "busy", "waiting_for_model", "restarting", "ended"
    ]
    since: float | None
    """When it came into the state: seconds since 1970."""
    paused: bool
    doing: str | None
    """What it does, in a line: a tool call under way, its last words, why it is restarted."""
    doing_since: float | None
    """Since when it does that: seconds since 1970."""


class AgentStatus(BriefAgent):
    """An agent."""

    name: str
    process: str
    machine: str | None
    model: str | None
    restarts: int
    usage: TokenUsage


class ProcessStatus(TypedDict):
    """A process, live or lately ended."""

    path: str
    name: str
    state: Literal["running", "done", "failed", "cancelled", "died"]
    reason: str | None
    """Why it failed or was cancelled."""
    endpoints: list[str]
    stalled: str | None
    """Why nothing can decide it any more, while that is so."""


class MachineStatus(TypedDict):
    """A machine."""

    name: str
    what: str | None
    state: Literal["provisioning", "running", "ended"]
    process: str


class ConnectionStatus(TypedDict):
    """Two agents that may send each other messages."""

    one: str
    other: str
    direction: Literal["both", "forward"]
    """With ``forward``, the one to the other alone."""


class RunEvent(TypedDict):
    """An entry of the run's log."""

    ts: float
    type: str
    data: dict[str, Any]
    """Its other fields, long values cut."""


class _Run(TypedDict):
    execution_id: str
    pid: int
    started_at: float
    """Seconds since 1970."""
    now: float
    """Seconds since 1970, at the run."""
    program: str | None
    """The first root process."""
    paused: bool
    """Whether agents that are started now begin paused."""
    alarms: list[str]
    """Full disks that hold the run up: a line each."""
    log_dir: str
    usage: TokenUsage


class RunSummary(_Run):
    """A run in a few lines, as ``ramure ls`` shows it."""

    agents: list[BriefAgent]


class RunStatus(_Run):
    """A run, as ``ramure status`` shows it."""

    agents: list[AgentStatus]
    agents_ended: int
    processes: list[ProcessStatus]
    machines: list[MachineStatus]
    connections: list[ConnectionStatus]
    events: list[RunEvent]
    """The last entries of the run's log, the newest last."""


class EndedStatus(RunStatus):
    """A run that is not live, told from its logs: of its agents, what they did last."""

    outcome: Literal["done", "failed", "cancelled", "died"]
    """``died``: its program was killed."""
    reason: str | None
    ended_at: float


class EndedRun(TypedDict):
    """A run that is not live."""

    execution_id: str
    program: str | None
    outcome: Literal["done", "failed", "cancelled", "died"]
    """``died``: it was killed, and never said that it ended."""
    reason: str | None
    started_at: float | None
    """Seconds since 1970."""
    seconds: float | None
    """How long it ran."""
    agents: int
    """All that it ever had."""
    usage: TokenUsage
    log_dir: str
    passed_over: str | None
    """What in its logs is no valid entry, or no file of yours."""
