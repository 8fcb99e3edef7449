"""What a simulated pi may report, on the vectors that the extension is held to as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ramure.agents.wire import MAX_FRAME, Report, decode, encode
from ramure.testing.sim_reports import LIMITS, Limits, fitted

VECTORS = json.loads((Path(__file__).parents[1] / "agents" / "vectors" / "reports.json").read_text())
LARGE: dict[str, Any] = {
    "bytes": {"content": "x" * MAX_FRAME},
    "values": {"content": [0] * 300_000},
    "depth": json.loads("[" * 120 + "]" * 120),
}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_a_report_is_cut_to_its_limits(case: dict[str, Any]) -> None:
    kind, data = fitted(case["kind"], case["data"], Limits(**VECTORS["limits"]))
    assert {"kind": kind, "data": data} == case["fitted"]


@pytest.mark.parametrize("limit", LARGE)
def test_what_is_left_of_a_report_is_a_frame_that_the_run_reads(limit: str) -> None:
    frame = Report(1, *fitted("tool_start", {"name": "n", "arguments": LARGE[limit]}))
    assert decode(encode(frame)) == frame
    assert "left_out" in frame.data["arguments"]


def test_what_is_just_within_the_limits_is_read_whole() -> None:
    deep: Any = 0
    for _ in range(LIMITS.depth - 2):
        deep = [deep]
    wide = [0] * (LIMITS.values - LIMITS.depth - 10)
    frame = Report(2**53 - 1, *fitted("tool_start", {"name": "n", "arguments": {"deep": deep, "wide": wide}}))
    assert "left_out" not in frame.data["arguments"]
    assert decode(encode(frame)) == frame
    data = {"text": "x" * (LIMITS.bytes - len('{"text":""}'))}
    assert fitted("assistant", data) == ("assistant", data)
    assert decode(encode(Report(2**53 - 1, "assistant", data))).data == data  # type: ignore[union-attr]
