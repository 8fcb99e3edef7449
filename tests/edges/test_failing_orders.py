"""Transient errors in any order, beside kills, cuts, pauses and messages: the conversation goes on, and nothing is said or done twice.

Simulated pis in virtual time. 300 orders in ``make edges``, a tenth of them in ``make test``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramure import agent, agent_process, done, wait
from ramure.agents.requests import Pause, Unpause
from ramure.supervisors import Backoff
from ramure.testing import Conversation, Delay, DropConnection, HTTPError, InProcessHarness, ToolCall, run_virtual
from tests.scale import examples, long_in_a_soak

STEPS = {
    "429": HTTPError(429, "slow down"),
    "500": HTTPError(500, "oops"),
    "no retry by pi": HTTPError(418, "the frobnicator is askew", retry=False),
    "please wait": HTTPError(429, "Please try again in 20s.", retry=False),
    "cut": ["Half", DropConnection()],
    "slow": [Delay(7), DropConnection()],
    "note": ToolCall("note"),
}

happenings = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from(["kill", "drop", "pause", "message", "queued"])), max_size=6
)


@long_in_a_soak
@settings(max_examples=examples(300), suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=30), happenings)
def test_whatever_fails_for_a_while_the_task_completes(steps: list[str], happens: list[tuple[float, str]]) -> None:
    asked: list[Conversation] = []
    sent: list[str] = ["Do it."]

    def script(conversation: Conversation) -> Any:
        asked.append(conversation)
        if len(asked) <= len(steps):
            return STEPS[steps[len(asked) - 1]]
        finished = any(result.name == "finish" for result in conversation.tool_results)
        return "Done." if finished else ToolCall("finish")

    harness = InProcessHarness(script)

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", retry_for=1e6, max_restarts=1000, backoff=Backoff(first=1), on_idle="report")

        @worker.on("note")
        async def note() -> str:
            """Notes."""
            return "noted"

        @worker.on("finish")
        async def finish() -> str:
            """Call when done."""
            done("all green")
            return "Recorded."

        async def happen(after: float, what: str) -> None:
            await asyncio.sleep(after)
            if what == "kill" and worker.state not in ("restarting", "launching", "connecting"):
                harness.kill("worker")
            elif what == "drop" and worker.state not in ("restarting", "launching", "connecting"):
                harness.pi("worker").link.drop()
            elif what == "pause":
                await worker.ref.ask(Pause())
                await asyncio.sleep(30)
                await worker.ref.ask(Unpause())
            elif what in ("message", "queued"):
                text = f"More {len(sent)}"
                sent.append(text)
                await worker.send(text, how="queue" if what == "queued" else "steer")

        await worker.send("Do it.")
        others = [asyncio.ensure_future(happen(*one)) for one in happens]
        assert await wait() == "all green"
        await asyncio.gather(*others)
        await worker.ask("Is that all?")

    run_virtual(main())
    harness.check()
    said = [text.partition("] ")[2] for text in asked[-1].user_texts if "(ramure)" not in text]
    assert Counter(said) == Counter([*sent, "Is that all?"])
    results = [result.id for result in asked[-1].tool_results]
    assert len(results) == len(set(results))
    for earlier, later in pairwise(asked):  # what was said once stays said
        kept = [text for text in later.user_texts if text in earlier.user_texts]
        assert kept == earlier.user_texts


@pytest.mark.parametrize("what", ["kill", "pause", "drop"])
def test_each_alone_while_the_agent_waits_for_its_model(what: str) -> None:
    inner = test_whatever_fails_for_a_while_the_task_completes.hypothesis.inner_test  # type: ignore[attr-defined]
    for after in (5.0, 20.0, 21.5):
        inner(["500"] * 20, [(after, what)])
