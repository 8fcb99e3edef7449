"""What a run says of itself (:mod:`ramure.runtime.status`), as types: plain data, with these fields. Versions only add some."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "AgentStatus",
    "BriefAgent",
    "ConnectionStatus",
    "MachineStatus",
    "ProcessStatus",
    "RunEvent",
    "RunStatus",
    "RunSummary",
    "TokenUsage",
]


class TokenUsage(TypedDict):
    """Tokens, and what they cost in the currency of the model's price list."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: float


class BriefAgent(TypedDict):
    """An agent's state, and since when it has been in it (seconds since 1970); ``doing`` is what it does, in a line: a tool
    call under way, its last words, why it is restarted."""

    address: str
    state: Literal[
        "provisioning", "launching", "connecting", "idle", "busy", "waiting_for_model", "restarting", "ended"
    ]
    since: float | None
    paused: bool
    doing: str | None
    doing_since: float | None


class AgentStatus(BriefAgent):
    """An agent."""

    name: str
    process: str
    machine: str | None
    model: str | None
    restarts: int
    usage: TokenUsage


class ProcessStatus(TypedDict):
    """A process, live or lately ended; ``reason`` is why it failed or was cancelled, ``stalled`` why nothing can decide it any
    more, while that is so."""

    path: str
    name: str
    state: Literal["running", "done", "failed", "cancelled"]
    reason: str | None
    endpoints: list[str]
    stalled: str | None


class MachineStatus(TypedDict):
    """A machine."""

    name: str
    what: str | None
    state: Literal["provisioning", "running", "ended"]
    process: str


class ConnectionStatus(TypedDict):
    """Two agents that may send each other messages; with ``forward``, the one to the other alone."""

    one: str
    other: str
    direction: Literal["both", "forward"]


class RunEvent(TypedDict):
    """An entry of the run's log, its values cut to a line."""

    ts: float
    type: str
    data: dict[str, Any]


class _Run(TypedDict):
    execution_id: str
    pid: int
    started_at: float
    now: float
    program: str | None
    paused: bool
    alarms: list[str]
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
