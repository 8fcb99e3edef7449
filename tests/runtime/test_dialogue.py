"""A run as a conversation, told from the entries of its logs."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.cli import dialogue as writing
from ramure.cli.dialogue import shown
from ramure.runtime.views.dialogue import Dialogue, Line

TYPES = [
    "message", "system_prompt", "user", "assistant", "tool_start", "tool_end", "tool_call", "tool_result", "state", "run_end",
    "connection", "agent_down", "agent_restarted", "agent_gave_up", "model_error", "problem", "interrupt", "tool_unknown",
    "run_started", "run_ended", "run_died", "event", "connected", "crash_report", "agent_died", "operator", "stalled", "alarm",
]  # fmt: skip


def of(log: str, type: str, at: float = 0.0, origin: str = "agent", **data: Any) -> dict[str, Any]:
    if log == "_runtime":
        return {"log": log, "ts": at, "type": type, **data}
    return {"log": log, "ts": at, "seq": 1, "type": type, "origin": origin, "data": data}


def told(*entries: dict[str, Any]) -> list[str]:
    dialogue = Dialogue()
    lines = [*dialogue.add(entries), *dialogue.pending()]
    return [plain(line).partition("  ")[2] for line in lines]


def plain(line: Line, most: int | None = None) -> str:
    return click.unstyle(shown(line, most, live=False))


def call(at: float, type: str, **more: Any) -> dict[str, Any]:
    return of("w", type, at, tool_call_id="c1", name="bash", **more)


BEGUN = call(1, "tool_start", arguments={"command": "pytest -q"})


def test_who_said_what_to_whom() -> None:
    assert told(
        of("w", "message", origin="run", text="Do it."),
        of("w", "message", origin="agent:ann", text="Hello."),
        of("w", "message", origin="person", text="Well?"),
        of("w", "user", seq=7, text="[ramure 7 x] Do it."),
        of("w", "user", seq=None, text="typed"),
        of("w", "assistant", text="", stop_reason="toolUse"),
        of("w", "assistant", text="Done.", stop_reason="stop"),
        of("w", "run_end", text="Done."),
    ) == [
        "program → w: Do it.",
        "ann → w: Hello.",
        "person → w: Well?",
        "person → w: typed",
        "w: Done.",
    ]


def test_a_call_is_one_line_with_its_outcome_and_time() -> None:
    assert told(BEGUN, call(13, "tool_end", ok=True, text="3 passed\n")) == ["w ✓ bash: pytest -q → 3 passed  12s"]
    assert told(BEGUN, call(1.5, "tool_end", ok=False, text="no")) == ["w ✗ bash: pytest -q → no  0.5s"]
    assert told(BEGUN) == ["w … bash: pytest -q  no outcome"]
    assert told(call(9, "tool_end", ok=True, text="")) == ["w ✓ bash"]  # its begin is older than --since
    assert told(BEGUN, of("w", "agent_down", 5, reason="killed", did="restarted after 1 s")) == [
        "w ✗ bash: pytest -q  pi ended meanwhile",
        "w pi died: killed; restarted after 1 s",
    ]


def test_a_model_that_fails_again_and_again_is_told_once() -> None:
    failed = of("w", "assistant", stop_reason="error", error="429 slow down")
    again = of("w", "model_error", text="429 slow down", answer="retry", did="tried again after 1 s")
    end = of("w", "model_error", text="429 slow down", answer="end", did="gave up")
    reply = of("w", "assistant", text="At last.", stop_reason="stop")
    once = "w its model failed: 429 slow down"
    assert told(failed, failed, again, failed, again) == [once]
    assert told(failed, end) == [once, f"{once}; gave up"]
    assert told(failed, reply, failed) == [once, "w: At last.", once]


def test_of_the_run_what_no_agent_s_log_tells() -> None:
    assert told(
        of("_runtime", "run_started", 1, pid=7, ramure="1.0"),
        of("_runtime", "agent_down", 2, agent="w", reason="killed"),
        of("_runtime", "event", 3, process="main#1", event="ready", source=None, data=None),
        of("_runtime", "event", 3, process="main#1", event="ready", source="child", data=None),
        of("_runtime", "event", 4, process="main#1/a#2", event="failed", source=None, data="ValueError: no"),
        of("_runtime", "crash_report", 4, who="Process a#2", reason="ValueError: no"),
        of("_runtime", "agent_died", 5, agent="w", reason="agent 'w' died: machine_down"),
        of("_runtime", "run_ended", 6, outcome="done", reason=None),
    ) == [
        "run started by program 7, ramure 1.0",
        "main#1 emits ready",
        "main#1/a#2 failed: ValueError: no",
        "run agent w has died: machine_down",
        "run ended: done",
    ]


def test_on_a_narrow_terminal_texts_go_on_below_and_calls_stay_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "width", lambda: 40)
    text = Line(0.0, "w", "said", "One two three four five six seven eight nine ten.\n\n  - a point")
    begin, *rest = plain(text).splitlines()
    indent = len(begin) - len(begin.partition("w: ")[2]) - 3
    assert all(line.startswith(" " * indent) or not line for line in rest)
    assert max(map(len, (begin, *rest))) <= 40
    assert rest[-1].strip() == "- a point"
    done = Line(0.0, "w", "call", "bash: " + "x" * 100, ok=True, result="y" * 100, seconds=3.0)
    [line] = plain(done).splitlines()
    assert len(line) == 40
    assert line.endswith("…  3.0s")


def test_of_a_long_text_the_first_lines_are_shown() -> None:
    text = Line(0.0, "w", "said", "\n".join(map(str, range(100))))
    lines = plain(text, 20).splitlines()
    assert len(lines) == 21
    assert lines[-1].strip() == "… (100 lines; --full shows them)"
    assert len(plain(text).splitlines()) == 100


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    "text seq stop_reason error name arguments tool_call_id ok state reason did seconds agent who process event source data "
    "outcome one direction answer".split()
)


@given(st.sampled_from(["_runtime", "w", "w@2"]), st.sampled_from(TYPES), st.dictionaries(FIELDS, ANYTHING), ANYTHING)
def test_whatever_an_entry_has_it_is_told_or_passed_over(log: str, type: str, data: Any, origin: Any) -> None:
    entry = {**of(log, type, **data), "origin": origin}
    for each in (entry, {**entry, "data": origin}):
        told(each, each)
