"""The run's side of the log: the vectors of docs/protocol.md, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ramure.agents import protocol
from ramure.agents.protocol import Delivery, Effect, Send
from ramure.agents.wire import EntryFrame, Hello, Report, ToolResult, encode

SCENARIOS = json.loads((Path(__file__).parent / "vectors" / "delivery.json").read_text())["scenarios"]


def hello(**given: Any) -> Hello:
    usual: dict[str, Any] = {"protocol": 1, "launch": "l1", "agent": "w", "pi": "1.5.2", "node": "v24", "pid": 1}
    usual |= {"session_file": None, "model": None, "state": "idle", "applied": 0, "delivered": (), "calls": ()}
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
            return delivery.on_delivered(seqs)
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
            case protocol.InSession(seqs) | protocol.MissingFromSession(seqs):
                others.append({type(effect).__name__: list(seqs)})
            case protocol.BeginCall(call_id=said) | protocol.CancelCall(said) | protocol.Refuse(said):
                others.append({type(effect).__name__: said})
            case protocol.Reported(kind=kind):
                others.append({"Reported": kind})
    return sends, others


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_vector(scenario: dict[str, Any]) -> None:
    delivery = Delivery()
    for number, step in enumerate(scenario["steps"]):
        sends, others = shown(happen(delivery, step))
        if "sends" in step:
            assert sends == step["sends"], f"step {number}: {step}"
        if "effects" in step:
            assert others == step["effects"], f"step {number}: {step}"


def call(n: int, call_id: str) -> Report:
    return Report(n, "tool_call", {"call_id": call_id, "name": "t", "arguments": {}})


def test_a_call_without_a_name_is_answered_and_begins_nothing() -> None:
    delivery = Delivery()
    delivery.on_hello(hello())
    effects = delivery.on_report(Report(1, "tool_call", {"call_id": "c", "arguments": []}))
    assert isinstance(effects[0], Send) and isinstance(effects[0].frame, ToolResult) and not effects[0].frame.ok
    assert not delivery.running


def test_old_results_are_dropped_and_their_ids_remembered() -> None:
    delivery = Delivery()
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


def test_what_waits_is_visible() -> None:
    delivery = Delivery()
    delivery.append("message", {"text": "a"}, "run", 0.0)
    delivery.append("note", {}, "agent", 0.0)
    delivery.append("message", {"text": "b"}, "run", 0.0)
    assert delivery.last_seq == 3
    assert delivery.undelivered == (1, 3)
    delivery.on_delivered([3, 99])
    assert delivery.undelivered == (1,)
