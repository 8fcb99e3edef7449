"""A run as a conversation, told from its logs: who said what to whom, which tools were called with what outcome, what went
wrong. What ``ramure logs`` shows.

Pure: what comes in are log entries with ``"log"``, the name of their log. Entries that are not understood are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ramure.agents.models.words import brief
from ramure.agents.tools.call_text import call_text
from ramure.runtime.log.entries import number

__all__ = ["Dialogue", "Line", "event_text"]

Entry = Mapping[str, Any]

LONGEST_CALL: Final = 400
"""Characters of a tool call, and of what it returned."""

LONGEST: Final = 1000
"""Characters of anything else that is a line."""

MOST_PENDING: Final = 10_000
"""Tool calls without an outcome that are kept."""


@dataclass(slots=True)
class Line:
    """One thing that was said, done, or happened."""

    at: float
    """Seconds since 1970."""
    who: str
    """An agent, ``program``, ``person``, ``ramure``, ``run``, or a process."""
    kind: Literal["said", "call", "event", "trouble"]
    text: str
    to: str | None = None
    """To whom it was said."""
    ok: bool | None = None
    """The outcome of a call; None: it has none yet, or never had."""
    result: str = ""
    """In a line: what the call returned."""
    seconds: float | None = None
    """How long the call took."""
    cut: bool = False
    """True when pi ended during the call."""


class Dialogue:
    """Tells the entries that it is given, in the order of time."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], Line] = {}  # under way, by the log and pi's id of the call
        self._last: dict[str, str] = {}  # the last trouble of each, so that the same one is not told again

    def add(self, entries: Iterable[Entry]) -> list[Line]:
        """The lines that these entries make. A call is told when its outcome is known; its time is that of its begin."""
        found: list[Line] = []
        for entry in entries:
            log = str(entry.get("log") or "")
            found += self._of_the_run(entry) if log == "_runtime" else self._of_an_agent(log.partition("@")[0], entry)
        return sorted(found, key=lambda line: line.at)

    def pending(self) -> list[Line]:
        """The calls without an outcome."""
        return list(self._calls.values())

    # -- an agent's log -----------------------------------------------------------------------------------------------

    def _of_an_agent(self, agent: str, entry: Entry) -> list[Line]:
        data, at = entry.get("data"), _at(entry)
        fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        type = str(entry.get("type"))
        match type:
            case "system_prompt" | "message":
                who = "system" if type == "system_prompt" else _sender(entry.get("origin"))
                return [Line(at, who, "said", str(fields.get("text") or ""), to=agent)]
            case "user" if fields.get("seq") is None and not str(fields.get("text")).startswith("[ramure"):
                return [Line(at, "person", "said", str(fields.get("text") or ""), to=agent)]
            case "assistant":
                return self._reply(agent, at, fields)
            case "tool_start":
                self._begin(agent, at, fields)
                return []
            case "tool_end":
                return self._end(agent, at, fields)
            case "agent_down":
                cut = [self._calls.pop(key) for key in list(self._calls) if key[0] == agent]
                for call in cut:
                    call.cut = True
                return [
                    *cut,
                    Line(at, agent, "trouble", f"pi died: {_line(fields.get('reason'))}; {fields.get('did')}"),
                ]
        text = _AGENT_EVENTS[type](fields) if type in _AGENT_EVENTS else None
        if text is None:
            return []
        if type in TROUBLES:
            return self._trouble(agent, at, text)
        return [Line(at, agent, "event", text)]

    def _reply(self, agent: str, at: float, fields: Mapping[str, Any]) -> list[Line]:
        if fields.get("stop_reason") == "error":
            return self._trouble(agent, at, f"its model failed: {brief(str(fields.get('error') or 'unknown'))}")
        self._last.pop(agent, None)
        text = str(fields.get("text") or "")
        lines = [Line(at, agent, "said", text)] if text.strip() else []
        return [*lines, Line(at, agent, "event", "interrupted")] if fields.get("stop_reason") == "aborted" else lines

    def _trouble(self, who: str, at: float, text: str) -> list[Line]:
        """A model that fails fails again and again."""
        if self._last.get(who) == text:
            return []
        self._last[who] = text
        return [Line(at, who, "trouble", text)]

    def _begin(self, agent: str, at: float, fields: Mapping[str, Any]) -> None:
        if len(self._calls) < MOST_PENDING:
            text = call_text(fields.get("name"), fields.get("arguments"), LONGEST_CALL)
            self._calls[agent, str(fields.get("tool_call_id"))] = Line(at, agent, "call", text)

    def _end(self, agent: str, at: float, fields: Mapping[str, Any]) -> list[Line]:
        call = self._calls.pop((agent, str(fields.get("tool_call_id"))), None)
        if call is None:
            call = Line(at, agent, "call", str(fields.get("name")))
        else:
            call.seconds = max(0.0, at - call.at)
        call.ok = fields.get("ok") is not False
        call.result = _line(fields.get("text") or "", LONGEST_CALL)
        return [call]

    # -- the run's log ------------------------------------------------------------------------------------------------

    def _of_the_run(self, entry: Entry) -> list[Line]:
        type, at = str(entry.get("type")), _at(entry)
        if type in TOLD_ELSEWHERE or (type == "problem" and entry.get("agent") is not None):
            return []
        if type == "crash_report" and (entry.get("address") or str(entry.get("who")).startswith("Process ")):
            return []  # its agent's log, or the event of the process, tells it
        if type == "event":
            if entry.get("source") is not None:
                return []
            bad = entry.get("event") == "failed"
            return [Line(at, str(entry.get("process")), "trouble" if bad else "event", event_text(entry))]
        return [Line(at, "run", "trouble" if type in TROUBLES else "event", event_text(entry))]


TOLD_ELSEWHERE: Final = frozenset({"agent_down", "agent_restarted", "agent_gave_up", "model_error", "tool_error"})
"""Entries of the run's log that an agent's log has too."""

TROUBLES: Final = frozenset(
    {
        "agent_died",
        "agent_gave_up",
        "alarm",
        "blocked",
        "crash_report",
        "model_error",
        "problem",
        "run_died",
        "stall_failed",
        "stalled",
        "tool_unknown",
    }
)
"""Types of entries that something went wrong with."""


def _at(entry: Entry) -> float:
    return number(entry.get("ts")) or 0.0


def _line(value: object, most: int = LONGEST) -> str:
    text = " ".join(str(value)[: 4 * most].split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _sender(origin: object) -> str:
    """Who wrote a message."""
    name = str(origin)
    return {"run": "program", "agent": "agent"}.get(name) or name.removeprefix("agent:")


def _connection(fields: Mapping[str, Any]) -> str | None:
    match fields.get("state"):
        case "new":
            return f"pi {fields.get('pi')} is ready"
        case "lost":
            return f"its connection was lost: {_line(fields.get('reason'))}"
        case "back":
            return "its connection is back"
    return None


def _model_error(fields: Mapping[str, Any]) -> str | None:
    words = f"its model failed: {brief(str(fields.get('text') or 'unknown'))}"
    return words if fields.get("answer") == "retry" else f"{words}; {fields.get('did')}"


def _restarted(fields: Mapping[str, Any]) -> str:
    seconds = number(fields.get("seconds"))
    return "is back, with its conversation" + (f", {seconds:.2g} s after its death" if seconds is not None else "")


_AGENT_EVENTS: Final[dict[str, Callable[[Mapping[str, Any]], str | None]]] = {
    "connection": _connection,
    "agent_restarted": _restarted,
    "agent_gave_up": lambda fields: f"gives up: {_line(fields.get('reason'))}",
    "model_error": _model_error,
    "problem": lambda fields: _line(fields.get("message")),
    "interrupt": lambda fields: "is interrupted",
    "paused": lambda fields: "is paused",
    "resumed": lambda fields: "goes on",
    "tool_unknown": lambda fields: f"whether {fields.get('name') or 'a call'} took effect is not known",
    "state": lambda fields: "has ended" if fields.get("state") == "ended" else None,
}


# -- entries of the run's log in a line -----------------------------------------------------------------------------


def event_text(entry: Entry) -> str:
    """An entry of the run's log in a line, without its time: what matters first."""
    type = str(entry.get("type"))
    teller = _RUN_EVENTS.get(type)
    if teller is not None:
        return _line(teller(entry))
    hidden = ("ts", "at", "type", "log", "traceback", "screen")
    rest = " ".join(f"{key}={value}" for key, value in entry.items() if key not in hidden and value is not None)
    return _line(f"{type} {rest}".strip())


def _emitted(entry: Entry) -> str:
    name, data = entry.get("event"), entry.get("data")
    said = "" if data is None else f": {_line(data)}"
    return f"{name}{said}" if name in ("done", "failed", "cancelled") else f"emits {name}{said}"


def _ended(entry: Entry) -> str:
    reason = f": {entry['reason']}" if entry.get("reason") and entry.get("outcome") != "done" else ""
    return f"ended: {entry.get('outcome')}{reason}"


def _blamed(entry: Entry) -> str:
    who = entry.get("agent") or entry.get("process")
    text = _line(entry.get("text") or entry.get("message") or entry.get("reason") or "unknown")
    return f"{who}: {text}" if who else text


def _why_died(entry: Entry) -> str:
    return _line(entry.get("reason")).removeprefix(f"agent {entry.get('agent')!r} died: ")


def _operator(entry: Entry) -> str:
    return f"by hand: {entry.get('command')} {entry.get('actor')}" + (
        f" ({entry['reason']})" if entry.get("reason") else ""
    )


_RUN_EVENTS: Final[dict[str, Callable[[Entry], str]]] = {
    "run_started": lambda entry: f"started by program {entry.get('pid')}, ramure {entry.get('ramure')}",
    "run_ended": _ended,
    "run_died": lambda entry: "died: its program was killed",
    "event": _emitted,
    "connected": lambda e: (
        f"connects {e.get('one')} {'→' if e.get('direction') == 'forward' else '↔'} {e.get('other')}"
    ),
    "crash_report": lambda entry: f"{entry.get('who')}: {_line(entry.get('reason'))}; {entry.get('did')}",
    "agent_died": lambda entry: f"agent {entry.get('agent')} has died: {_why_died(entry)}",
    "agent_down": lambda entry: f"agent {entry.get('agent')}: pi died: {_line(entry.get('reason'))}",
    "agent_restarted": lambda entry: f"agent {entry.get('agent')} {_restarted(entry)}",
    "agent_gave_up": lambda entry: f"agent {entry.get('agent')} gives up: {_line(entry.get('reason'))}",
    "model_error": lambda entry: f"agent {entry.get('agent')}: {_model_error(entry)}",
    "tool_error": lambda e: f"agent {e.get('agent')}: its tool {e.get('tool')} failed: {_line(e.get('error'))}",
    "problem": _blamed,
    "stalled": lambda entry: f"stalled: {_line(entry.get('text'))}",
    "operator": _operator,
}
