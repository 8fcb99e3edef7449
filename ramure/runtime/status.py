"""What a run says of itself to the control socket: plain data, for msgpack and JSON."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ramure.actors import Ref

if TYPE_CHECKING:
    from ramure.agents.agent import AgentActor
    from ramure.runtime.record import AgentRecord
    from ramure.runtime.run import Run

__all__ = ["agent_actor", "run_status", "run_summary"]


def run_summary(run: Run) -> dict[str, Any]:
    """The run and its agents' states: as much as a list of many runs shows of each."""
    roots = [record.name for record in run.processes.values() if record.parent is None]
    return {
        "execution_id": run.execution_id,
        "pid": os.getpid(),
        "started_at": run.started_at,
        "program": roots[0] if roots else None,
        "log_dir": str(run.paths.logs),
        "agents": [_brief(record) for record in run.agents.values()],
    }


def run_status(run: Run) -> dict[str, Any]:
    """The run, its processes and agents now."""
    return {
        **run_summary(run),
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
    }


def _brief(record: AgentRecord) -> dict[str, Any]:
    actor = agent_actor(record)
    return {
        "address": record.address,
        "state": actor.state if actor else "provisioning",
        "since": actor.since if actor else None,
    }


def _agent(record: AgentRecord) -> dict[str, Any]:
    actor = agent_actor(record)
    return {
        **_brief(record),
        "name": record.name,
        "process": record.process.path,
        "restarts": actor.restarts if actor else 0,
        "usage": asdict(record.usage),
    }


def agent_actor(record: AgentRecord) -> AgentActor | None:
    """The agent's live actor object: its plain attributes are read at once, as process_info would."""
    ref: Ref[Any] | None = record.ref
    return None if ref is None else ref._cell.actor  # type: ignore[attr-defined]
