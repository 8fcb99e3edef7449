"""Tool calls that end in unusual ways: the model gets an answer, and the log says what it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import agent, agent_process, current_runtime
from ramure.actors.observe.inspection import get_state
from ramure.agents.tools.schema import InvalidArguments
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))


def test_an_error_whose_text_no_frame_can_hold_is_told_as_a_result_that_is_too_large() -> None:
    errors = [ValueError("x" * 17_000_000), InvalidArguments("field", "\N{SNOWMAN}" * 3_000_000)]
    harness = InProcessHarness([*(ToolCall("breaks", {"which": which}) for which in range(2)), Text("Done.")])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("breaks")
        def breaks(which: int) -> None:
            """Breaks."""
            raise errors[which]

        async with asyncio.timeout(600):
            assert await worker.ask("Begin.") == "Done."
        results = [event.data for event in worker.events.snapshot() if event.type == "tool_result"]
        assert [result["ok"] for result in results] == [False, False]

    run_virtual(main())
    harness.check()
    told = [result.text for result in harness.requests[-1].conversation.tool_results]
    assert len(told) == 2
    assert all("is too large" in text and "ask for less of it" in text for text in told)


def test_a_call_and_its_cancellation_in_one_burst_leave_no_call_under_way() -> None:
    harness = InProcessHarness([])
    called: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> dict[str, Any]:
        worker = await agent("worker")

        @worker.on("work")
        def work() -> None:
            """Works."""
            called.append("work")

        pi = harness.pi("worker")
        pi._report("tool_call", {"call_id": "e/c", "name": "work", "arguments": {}, "tool_call_id": "c"})
        pi._report("tool_cancel", {"call_id": "e/c"})
        async with asyncio.timeout(60):
            event = await worker.events.listen_for("tool_result")
        state = await get_state(current_runtime().agents["worker"].ref)
        assert state["_calls"].running == []
        assert state["delivery"].running == frozenset()
        told: dict[str, Any] = event.data
        return told

    assert run_virtual(main()) == {"call_id": "e/c", "ok": False, "text": "The call was cancelled."}
    assert called == []
