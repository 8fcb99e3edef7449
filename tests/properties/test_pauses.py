"""An agent that is asked, paused, resumed, interrupted and killed in any order: simulated, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ramure import agent, agent_process
from ramure.agents.errors import Interrupted
from ramure.agents.requests import Pause, Unpause
from ramure.supervisors import Backoff
from ramure.testing import Conversation, Delay, InProcessHarness, Text, ToolCall
from ramure.testing.virtual import run_virtual
from tests.scale import examples, long_in_a_soak

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "send", "queue", "pause", "pause", "resume", "resume", "interrupt", "kill"]),
        st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0]),
    ),
    max_size=12,
)


def answer(conversation: Conversation) -> list[Any]:
    """One call of the tool for each message, then words."""
    if len(conversation.tool_results) < len(conversation.user_texts):
        return [Delay(1), ToolCall("work")]
    return [Delay(1), Text("well")]


@long_in_a_soak
@settings(max_examples=examples(150))
@given(STEPS)
def test_whatever_comes_is_answered_once_and_nothing_is_asked_in_a_pause(steps: list[tuple[str, float]]) -> None:
    run_virtual(live(steps))


async def live(steps: list[tuple[str, float]]) -> None:
    harness = InProcessHarness(answer)

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker", max_restarts=1000, backoff=Backoff(first=0.1))
        texts: list[str] = []
        asked: list[asyncio.Future[str]] = []
        quiet: int | None = None
        interrupted = False

        @worker.on("work")
        async def work() -> str:
            await asyncio.sleep(2)
            return "done"

        for what, seconds in steps:
            match what:
                case "ask":
                    texts.append(f"message {len(texts)}.")
                    asked.append(asyncio.ensure_future(worker.ask(texts[-1])))
                case "send" | "queue":
                    texts.append(f"message {len(texts)}.")
                    await worker.send(texts[-1], "steer" if what == "send" else "queue")
                case "pause":
                    await worker.ref.ask(Pause(), timeout=None)
                    await asyncio.sleep(1)  # until it is there
                    quiet = len(harness.requests)
                case "resume":
                    assert quiet in (None, len(harness.requests))
                    quiet = None
                    await worker.ref.ask(Unpause(), timeout=None)
                case "interrupt":
                    interrupted = True
                    await worker.interrupt()
                case "kill" if worker.state in ("idle", "busy"):
                    harness.kill("worker")
            await asyncio.sleep(seconds)
        assert quiet in (None, len(harness.requests))
        await worker.ref.ask(Unpause(), timeout=None)
        for answered in asked:
            try:
                async with asyncio.timeout(1000):
                    assert await answered == "well"
            except Interrupted:
                assert interrupted
        async with asyncio.timeout(1000):
            assert await worker.ask("the last") == "well"
        conversation = harness.requests[-1].conversation
        for text in texts:
            assert sum(told.endswith(text) for told in conversation.user_texts) == 1, conversation.user_texts
        assert worker.state == "idle"

    await main()
    harness.check()
