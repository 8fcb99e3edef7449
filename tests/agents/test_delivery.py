"""The run's side of the log: the vectors of docs/protocol.md, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ramure.agents import delivery as protocol
from ramure.agents.delivery import Delivery, Effect, Send
from ramure.agents.message_marks import MessageMarks
from ramure.agents.wire import EntryFrame, Hello, Report, ToolResult, encode

MARKS = MessageMarks(b"a key of the tests")
SCENARIOS = json.loads((Path(__file__).parent / "vectors" / "delivery.json").read_text())["scenarios"]


def marks(seqs: Sequence[int], given: dict[str, Any]) -> list[str]:
    said = given.get("marks", ["own"] * len(seqs))
    return [MARKS.of(seq) if mark == "own" else mark for seq, mark in zip(seqs, said, strict=True)]


def hello(**given: Any) -> Hello:
    usual: dict[str, Any] = {"protocol": 1, "launch": "l1", "agent": "w", "pi": "1.5.2", "node": "v24", "pid": 1}
    usual |= {"session_file": None, "model": None, "state": "idle", "applied": 0, "delivered": (), "calls": ()}
    given["marks"] = marks(given.get("delivered", ()), given)
    return Hello(**{**usual, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}})


def happen(delivery: Delivery, step: dict[str, Any]) -> list[Effect]:
    match step:
        case {"append": type, "data": data}:
            delivery.append(type, data, "run", 0.0)
            return []
        case {"written": upto}:
            return delivery.written(upto)
        case {"hello": given}:
            return delivery.on_hello(hello(**given))
        case {"disconnected": _}:
            return delivery.on_disconnected()
        case {"delivered": seqs}:
            return delivery.on_delivered(seqs, marks(seqs, step))
        case {"ack": applied}:
            return delivery.on_ack(applied)
        case {"resend": after}:
            return delivery.on_resend(after)
        case {"report": [n, kind, data]}:
            return delivery.on_report(Report(n, kind, data))
        case {"call_done": [call_id, ok, text]}:
            return delivery.call_done(call_id, ok, text)
    raise AssertionError(f"no such step: {step}")


def shown(effects: list[Effect]) -> tuple[list[Any], list[Any]]:
    sends: list[Any] = []
    others: list[Any] = []
    for effect in effects:
        match effect:
            case Send(EntryFrame(prev, entry)):
                sends.append({"entry": entry.seq, "prev": prev})
            case Send(frame):
                sends.append(json.loads(encode(frame)))
            case protocol.InSession(seqs) | protocol.MissingFromSession(seqs) | protocol.Forged(seqs):
                others.append({type(effect).__name__: list(seqs)})
            case protocol.BeginCall(call_id=said) | protocol.CancelCall(said) | protocol.Refuse(said):
                others.append({type(effect).__name__: said})
            case protocol.Reported(kind=kind):
                others.append({"Reported": kind})
    return sends, others


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_vector(scenario: dict[str, Any]) -> None:
    delivery = Delivery(MARKS)
    for number, step in enumerate(scenario["steps"]):
        sends, others = shown(happen(delivery, step))
        if "sends" in step:
            assert sends == step["sends"], f"step {number}: {step}"
        if "effects" in step:
            assert others == step["effects"], f"step {number}: {step}"


def call(n: int, call_id: str) -> Report:
    return Report(n, "tool_call", {"call_id": call_id, "name": "t", "arguments": {}})


def test_a_call_without_a_name_is_answered_and_begins_nothing() -> None:
    delivery = Delivery(MARKS)
    delivery.on_hello(hello())
    effects = delivery.on_report(Report(1, "tool_call", {"call_id": "c", "arguments": []}))
    assert isinstance(effects[0], Send) and isinstance(effects[0].frame, ToolResult) and not effects[0].frame.ok
    assert not delivery.running


def test_old_results_are_dropped_and_their_ids_remembered() -> None:
    delivery = Delivery(MARKS)
    delivery.on_hello(hello())
    total = protocol.KEPT_RESULTS + 1
    for n in range(1, total + 1):
        delivery.on_report(call(n, f"c{n}"))
        delivery.call_done(f"c{n}", True, "r")
    again = delivery.on_report(call(total + 1, "c1"))
    assert isinstance(again[0], Send) and isinstance(again[0].frame, ToolResult)
    assert "no longer kept" in again[0].frame.text
    kept = delivery.on_report(call(total + 2, "c2"))
    assert kept[0] == Send(ToolResult("c2", True, "r"))


def test_the_end_of_a_run_accounts_for_no_message_that_is_not_in_the_session() -> None:
    delivery = Delivery(MARKS)
    for text in "ab":
        delivery.append("message", {"text": text}, "run", 0.0)
    delivery.on_hello(hello(delivered=[1, 2], marks=[MARKS.of(1), "aaaaaaaa"]))
    ended = {"seqs": [1, 2], "text": "", "stop_reason": "stop", "error": None}
    effects = delivery.on_report(Report(1, "run_end", ended))
    assert protocol.Reported("run_end", {**ended, "seqs": [1]}) in effects


def test_a_mark_goes_out_with_its_message_and_stands_in_no_entry() -> None:
    delivery = Delivery(MARKS)
    data = {"text": "a"}
    delivery.append("message", data, "run", 0.0)
    delivery.on_hello(hello())
    [sent] = delivery.written(1)
    assert isinstance(sent, Send) and isinstance(sent.frame, EntryFrame)
    assert sent.frame.entry.data == {"text": "a", "mark": MARKS.of(1)}
    assert data == {"text": "a"}


def test_marks_of_two_agents_differ() -> None:
    assert len({MessageMarks().of(1) for _ in range(100)}) == 100
    assert len({MARKS.of(seq) for seq in range(100)}) == 100


def test_of_other_origins_messages_so_many_are_told_of_and_remembered() -> None:
    delivery = Delivery(MARKS)
    delivery.on_hello(hello())
    told = 0
    for n in range(30):
        [*effects] = delivery.on_delivered(range(n * 100, (n + 1) * 100), ["aaaaaaaa"] * 100)
        told += sum(len(effect.seqs) for effect in effects if isinstance(effect, protocol.Forged))
    assert told == protocol.MOST_FORGED


def test_what_waits_is_visible() -> None:
    delivery = Delivery(MARKS)
    delivery.append("message", {"text": "a"}, "run", 0.0)
    delivery.append("note", {}, "agent", 0.0)
    delivery.append("message", {"text": "b"}, "run", 0.0)
    assert delivery.last_seq == 3
    assert delivery.undelivered == (1, 3)
    delivery.on_delivered([3, 99], [MARKS.of(3), MARKS.of(99)])
    assert delivery.undelivered == (1,)
