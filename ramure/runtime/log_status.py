"""A run that is not live, as ``ramure status`` shows it: read from its logs. Blocking."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.work import Work
from ramure.runtime.log.entries import Entry, Passed, number, parse
from ramure.runtime.log.files import lines
from ramure.runtime.log.reader import RUN_LOG, add_usage, agents_of, logs, no_usage, outline

if TYPE_CHECKING:
    from ramure.runtime.views.status_data import AgentStatus, EndedStatus, ProcessStatus, RunEvent

__all__ = ["ended_status"]

RECENT: Final = 20
"""Last entries of the run's log, and processes, that are shown."""

LONGEST: Final = 200
"""Characters of a value of these."""

OUTCOMES: Final = ("done", "failed", "cancelled")

_OF_AGENTS: Final = tuple(
    f'"type": "{type}"'.encode() for type in ("state", "assistant", "tool_start", "tool_end", "agent_restarted")
)
"""What is read of an agent's log, which may be gigabytes."""


def ended_status(directory: Path, passed: Passed | None = None) -> EndedStatus:
    """The run whose logs these are. ``state`` of its agents is ``ended``, ``doing`` what they did last; a process of a run
    that was killed has ``died``. ``passed`` gets what is passed over."""
    passed = Passed() if passed is None else passed
    known = outline(directory)
    of_run = _Reading()
    for line in lines(directory / RUN_LOG, passed):
        entry = parse(line)
        if entry is not None:
            of_run.add(entry)
    started = known["started_at"] or 0.0
    killed = known["outcome"] == "died"
    agents = [_agent(name, path, passed) for name, path in logs(directory).items() if name != "_runtime"]
    last = max([of_run.last, *(agent["doing_since"] or 0.0 for agent in agents)])
    ended_at = last if killed else started + (known["seconds"] or 0.0)
    return {
        "execution_id": known["execution_id"],
        "pid": of_run.pid,
        "started_at": started,
        "now": ended_at,
        "program": known["program"] or of_run.program,
        "paused": False,
        "alarms": [],
        "log_dir": known["log_dir"],
        "usage": known["usage"],
        "agents": agents,
        "agents_ended": len(agents_of(directory)),
        "processes": of_run.processes(killed),
        "machines": [],
        "connections": of_run.connections,
        "events": list(of_run.events),
        "outcome": known["outcome"],
        "reason": known["reason"],
        "ended_at": ended_at,
    }


class _Reading:
    """Follows the run's log."""

    def __init__(self) -> None:
        self.pid = 0
        self.program: str | None = None
        self.connections: list[Any] = []
        self.events: deque[RunEvent] = deque(maxlen=RECENT)
        self._ended: deque[ProcessStatus] = deque(maxlen=RECENT)
        self._open: dict[str, None] = {}
        self.last = 0.0
        """When it wrote its last entry itself."""

    def add(self, entry: Entry) -> None:
        type = entry.get("type")
        shown = {key: _short(value) for key, value in entry.items() if key not in ("ts", "type") and value is not None}
        self.events.append({"ts": number(entry.get("ts")) or 0.0, "type": str(type), "data": shown})
        if type != "run_died":  # written by who found it dead
            self.last = self.events[-1]["ts"]
        match type:
            case "run_started":
                self.pid = int(number(entry.get("pid")) or 0)
            case "connected":
                direction = "forward" if entry.get("direction") == "forward" else "both"
                one, other = str(entry.get("one")), str(entry.get("other"))
                self.connections.append({"one": one, "other": other, "direction": direction})
            case "event" if isinstance(entry.get("process"), str):
                self._event(str(entry["process"]), entry)

    def _event(self, path: str, entry: Entry) -> None:
        if "/" not in path and self.program is None:
            self.program = path.partition("#")[0]
        name = entry.get("event")
        if entry.get("source") is None and name in OUTCOMES:
            self._open.pop(path, None)
            reason = str(entry.get("data")) if name != "done" else None
            self._ended.append(_process(path, str(name), reason))
        else:
            self._open[path] = None

    def processes(self, killed: bool) -> list[ProcessStatus]:
        """Those whose end nobody has written down died with the program."""
        left = [_process(path, "died", "its program was killed") for path in self._open] if killed else []
        return [*self._ended, *left[:RECENT]]


def _process(path: str, state: Any, reason: str | None) -> ProcessStatus:
    name = path.rpartition("/")[2].partition("#")[0]
    return {"path": path, "name": name, "state": state, "reason": reason, "endpoints": [], "stalled": None}


def _short(value: object) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = str(value).partition("\n")[0]
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _agent(name: str, path: Path, passed: Passed) -> AgentStatus:
    """What one agent did last."""
    work, said, last, restarts, model = Work(), "", 0.0, 0, None
    usage = no_usage()
    for entry in _entries(path, passed):
        data = entry["data"] if isinstance(entry.get("data"), dict) else {}
        at = number(entry.get("ts")) or 0.0
        match entry.get("type"):
            case "assistant":
                said, last = str(data.get("text") or "") or said, at
                add_usage(usage, data, passed)
                if data.get("model"):
                    model = f"{data.get('provider') or 'unknown'}/{data['model']}"
            case "tool_start" | "tool_end" as kind:
                work.on_tool(str(kind), data, at)
                last = at
            case "agent_restarted":
                restarts += 1
    under_way = work.tools
    doing = under_way[-1].text if under_way else f"said: {said}" if said.strip() else None
    return {
        "address": name.partition("@")[0],
        "name": name.partition("@")[0].partition("~")[0],
        "state": "ended",
        "since": None,
        "paused": False,
        "doing": _short(" ".join(doing.split())) if doing else None,
        "doing_since": (under_way[-1].since if under_way else last) or None,
        "process": "",
        "machine": None,
        "model": model,
        "restarts": restarts,
        "usage": usage,
    }


def _entries(path: Path, passed: Passed) -> Iterator[Entry]:
    for line in lines(path, passed):
        if any(kind in line for kind in _OF_AGENTS):
            entry = parse(line)
            if entry is not None:
                yield entry
