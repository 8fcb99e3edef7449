"""What a run says of itself to the control socket: plain data, for msgpack and JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ramure.actors import Ref
from ramure.agents import crash_texts as deaths
from ramure.agents.models.words import brief
from ramure.exits import short
from ramure.masking import masked

if TYPE_CHECKING:
    from ramure.agents.agent import AgentActor, State
    from ramure.agents.requests import Usage
    from ramure.runtime.process.record import AgentRecord, MachineRecord, ProcessRecord
    from ramure.runtime.run.run import Run
    from ramure.runtime.views.status_data import (
        AgentStatus,
        BriefAgent,
        MachineStatus,
        ProcessStatus,
        RunEvent,
        RunStatus,
        RunSummary,
        TokenUsage,
    )

__all__ = ["agent_actor", "agent_state", "at_work", "machine_of", "run_status", "run_summary"]

ENDED_SHOWN: Final = 20
"""Processes that have ended, of those that the run still knows."""

LONGEST: Final = 200
"""Characters of what an agent does."""


def run_summary(run: Run) -> RunSummary:
    """The run and its agents' states: as much as a list of many runs shows of each."""
    return {
        "execution_id": run.execution_id,
        "pid": os.getpid(),
        "started_at": run.started_at,
        "now": run.system.clock.wall(),
        "program": run.statistics.program,
        "paused": run.statistics.paused,
        "alarms": run.alarms.as_text() if run.alarms is not None else [],
        "log_dir": str(run.paths.logs),
        "usage": _usage(run.usage),
        "agents": [_brief(record) for record in run.agents.values()],
    }


def run_status(run: Run) -> RunStatus:
    """The run, and what is in it now."""
    machines = {record.ref: record.name for record in run.statistics.machines.values()}
    processes = list(run.processes.values())
    live = [record for record in processes if record.outcome is None]
    ended = [record for record in processes if record.outcome is not None][-ENDED_SHOWN:]
    return {
        **run_summary(run),
        "processes": [_process(record) for record in (*live, *ended)],
        "agents": [_agent(record, machines) for record in run.agents.values()],
        "agents_ended": run.statistics.agents_ended,
        "machines": [_machine(record) for record in run.statistics.machines.values()],
        "connections": [
            {"one": each.one.address, "other": each.other.address, "direction": each.direction}
            for each in run.statistics.connections
        ],
        "events": [_event(entry) for entry in run.statistics.recent],
    }


def _usage(usage: Usage) -> TokenUsage:
    return {
        "input": usage.input,
        "output": usage.output,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "cost": usage.cost,
    }


def _process(record: ProcessRecord) -> ProcessStatus:
    return {
        "path": record.path,
        "name": record.name,
        "state": record.outcome.kind if record.outcome else "running",
        "reason": record.outcome.text() if record.outcome and record.outcome.kind != "done" else None,
        "endpoints": sorted(record.endpoints) if record.outcome is None else [],
        "stalled": record.stalled if record.outcome is None else None,
    }


def _machine(record: MachineRecord) -> MachineStatus:
    machine = machine_of(record)
    image = record.image.describe() if hasattr(record.image, "describe") else None
    return {
        "name": record.name,
        "what": machine.describe() if machine is not None else image,
        "state": "running" if machine is not None else "provisioning" if record.ref.is_alive() else "ended",
        "process": record.process.path,
    }


def machine_of(record: MachineRecord) -> Any:
    """The machine, if it runs."""
    actor: Any = record.ref._cell.actor  # type: ignore[attr-defined]
    return None if actor is None else actor.machine


def _brief(record: AgentRecord) -> BriefAgent:
    actor = agent_actor(record)
    doing, since = _doing(record, actor)
    return {
        "address": record.address,
        "state": agent_state(record),
        "since": actor.since if actor else None,
        "paused": actor.paused if actor else False,
        "doing": doing,
        "doing_since": since,
    }


def agent_state(record: AgentRecord) -> State:
    """Its state; ``ended`` also when its actor is gone, and it is still being cleaned up after."""
    actor = agent_actor(record)
    if actor is not None:
        return actor.state
    owner = record.process
    gone = record.ref is not None or record.ended is not None or owner.outcome is not None
    return "ended" if gone else "provisioning"


def _doing(record: AgentRecord, actor: AgentActor | None) -> tuple[str | None, float | None]:
    """What it does, in a line, and since when."""
    if actor is None:
        return (_shown(deaths.brief(record.ended)) if record.ended is not None else None), None
    if actor.ref._cell.state == "stopping":
        return "ending", actor.since
    match actor.state:
        case "launching" | "connecting":
            return "starting pi", actor.since
        case "idle":
            return (f"said: {_shown(actor.turns.said)}" if actor.turns.said else None), actor.since
        case "busy":
            return at_work(actor)
        case "waiting_for_model":
            return _shown(brief(actor.work.model_error or "it failed")), actor.since
        case "restarting":
            return _shown(deaths.brief(actor.history.last_end)), actor.since
    return None, actor.since


def at_work(actor: AgentActor) -> tuple[str, float]:
    """What a busy agent does, in a line, and since when."""
    work = actor.work
    if under_way := work.tools:
        more = f" (and {len(under_way) - 1} more)" if len(under_way) > 1 else ""
        return _shown(under_way[-1].text) + more, under_way[-1].since
    return "thinking", work.since or actor.since


def _shown(text: str) -> str:
    """In a line; no secret stands in it."""
    line = masked(" ".join(text[: 2 * LONGEST].split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _agent(record: AgentRecord, machines: Mapping[Ref[Any], str]) -> AgentStatus:
    actor = agent_actor(record)
    return {
        **_brief(record),
        "name": record.name,
        "process": record.process.path,
        "machine": machines.get(record.machine) if record.machine is not None else None,
        "model": actor.options.model if actor else None,
        "restarts": actor.restarts if actor else 0,
        "usage": _usage(record.usage),
    }


def _event(entry: Mapping[str, Any]) -> RunEvent:
    """An entry of the run's log, its values cut to a line."""
    shown = {key: _line(value) for key, value in entry.items() if key not in ("ts", "type") and value is not None}
    return {"ts": entry["ts"], "type": entry["type"], "data": shown}


def _line(value: object) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return short(value, 200).partition("\n")[0]


def agent_actor(record: AgentRecord) -> AgentActor | None:
    """The agent's live actor object: its plain attributes are read at once, as process_info would."""
    ref: Ref[Any] | None = record.ref
    return None if ref is None else ref._cell.actor  # type: ignore[attr-defined]
