"""What an agent is at, in a line, and how much of its time it works."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.agents.tools.call_text import call_text
from ramure.agents.work import Work


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("bash", {"command": "pytest -q\n  tests", "timeout": 60}, "bash: pytest -q tests"),
        ("write", {"path": "notes.md", "content": "x" * 10_000_000}, "write: notes.md"),
        ("note", {"text": "a note"}, "note: a note"),
        ("message", {"to": "ann", "text": "Hello."}, "message: to=ann, text=Hello."),
        ("finish", {}, "finish"),
        ("finish", None, "finish"),
        ("score", {"values": [1, 2.5, None, True, "x", 7], "of": {"a": {"b": 1}}}, None),
        ("bash", {"command": "x" * 100}, "bash: " + "x" * 73 + "…"),
    ],
)
def test_a_call_is_told_in_a_line(name: str, arguments: Any, text: str | None) -> None:
    said = call_text(name, arguments, 80)
    assert said == (text or "score: values=[1, 2.5, None, True, x, …], of={a: {b: 1}}")


@given(st.text(), st.recursive(st.text() | st.integers() | st.none(), lambda c: st.dictionaries(st.text(), c)))
def test_whatever_a_call_has_is_one_short_line(name: str, arguments: Any) -> None:
    said = call_text(name, arguments, 30)
    assert len(said) <= 30
    assert len(said.splitlines()) <= 1


def call(number: int, name: str = "bash") -> dict[str, Any]:
    return {"tool_call_id": str(number), "name": name, "arguments": {"command": f"c{number}"}, "ok": True, "text": ""}


def test_the_calls_under_way_are_known_until_they_end_or_pi_does() -> None:
    work = Work()
    work.on_tool("tool_start", call(1), 10.0)
    work.on_tool("tool_start", call(2), 11.0)
    assert [(each.text, each.since) for each in work.tools] == [("bash: c1", 10.0), ("bash: c2", 11.0)]
    work.on_tool("tool_end", call(1), 12.0)
    assert ([each.text for each in work.tools], work.since) == (["bash: c2"], 12.0)
    work.on_down()
    assert (work.tools, work.since) == ([], None)


def test_it_works_while_it_is_busy_or_waits_for_its_model() -> None:
    work = Work()
    for state, now in (("idle", 0), ("busy", 10), ("waiting_for_model", 12), ("busy", 15), ("idle", 20), ("busy", 30)):
        work.on_state(state, now)
    assert (work.worked(30), work.worked(37)) == (10, 17)


def test_tokens_a_minute_are_those_of_the_last_minute() -> None:
    work = Work()
    for now in range(0, 100, 10):
        work.on_tokens(100, now)
    assert [work.tokens_a_minute(now) for now in (90, 99.9, 120, 1000)] == [600, 600, 300, 0]


def test_of_very_many_answers_none_is_lost() -> None:
    work = Work()
    for number in range(10_000):
        work.on_tokens(1, number / 1000)
    assert work.tokens_a_minute(10) == 10_000
    assert len(work._answers) <= 600
