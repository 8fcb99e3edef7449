"""What a run says of itself to the control socket: plain data, for msgpack and JSON."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ramure.actors import Ref
from ramure.errors import UsageError

if TYPE_CHECKING:
    from ramure.agents.agent import AgentActor
    from ramure.runtime.record import AgentRecord
    from ramure.runtime.run import Run

__all__ = ["NoSuchAgent", "agent_attach", "run_status"]


class NoSuchAgent(UsageError):
    """No live agent of the run has this address."""

    def __init__(self, address: str, known: list[str]) -> None:
        super().__init__(f"no live agent {address!r}; there are: {', '.join(known) or 'none'}")


async def run_status(run: Run) -> dict[str, Any]:
    """The run, its processes and agents now."""
    return {
        "execution_id": run.execution_id,
        "pid": os.getpid(),
        "started_at": run.started_at,
        "processes": [
            {
                "path": record.path,
                "name": record.name,
                "state": record.outcome.kind if record.outcome else "running",
                "endpoints": sorted(record.endpoints),
            }
            for record in run.processes.values()
        ],
        "agents": [_agent(record) for record in run.agents.values()],
        "log_dir": str(run.paths.logs),
    }


def _agent(record: AgentRecord) -> dict[str, Any]:
    actor = _actor(record)
    return {
        "address": record.address,
        "name": record.name,
        "process": record.process.path,
        "state": actor.state if actor else "provisioning",
        "since": actor.since if actor else None,
        "usage": asdict(actor.usage) if actor else None,
    }


def _actor(record: AgentRecord) -> AgentActor | None:
    """The agent's live actor object: its plain attributes are read at once, as process_info would."""
    ref: Ref[Any] | None = record.ref
    return None if ref is None else ref._cell.actor  # type: ignore[attr-defined]


async def agent_attach(run: Run, agent: str) -> dict[str, Any]:
    """How to show an agent's terminal, on this host."""
    record = run.agents.get(agent)
    actor = _actor(record) if record is not None else None
    if record is None or actor is None or actor.machine is None:
        raise NoSuchAgent(agent, sorted(run.agents))
    tmux = await run.services.tmux_for(actor.machine)
    return {"command": tmux.attach_command(record.address)}
