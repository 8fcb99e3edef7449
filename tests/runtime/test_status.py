"""What a run says that its agents do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import agent, agent_process, current_runtime, spawn, wait
from ramure.clock import LoopClock
from ramure.runtime.views.status import run_status, run_summary
from ramure.testing import Delay, InProcessHarness, Text, ToolCall, Usage, virtual_time

SCRIPT = [
    [ToolCall("look", {"path": "src"}), Usage(input=100, output=10)],
    [Delay(30), Text("All is well.")],
]


def told(run: Any) -> tuple[str, str | None, float]:
    """Of the only agent: its state, what it does, and for how many seconds it has done so."""
    [one] = run_summary(run)["agents"]
    return one["state"], one["doing"], round(run.system.clock.wall() - one["doing_since"])


@virtual_time()
async def test_what_an_agent_does_is_said_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopClock, "wall", LoopClock.monotonic)  # the time of day is virtual too
    harness = InProcessHarness(SCRIPT)

    @agent_process(image=harness.image)
    async def main() -> list[tuple[str, str | None, float]]:
        worker = await agent("worker")
        in_hand = asyncio.Event()
        run, said = current_runtime(), []

        @worker.on("look")
        async def look(path: str) -> str:
            """Look at it."""
            in_hand.set()
            await asyncio.sleep(20)
            return "Seen."

        await worker.send("Look.")
        await in_hand.wait()
        await asyncio.sleep(12)
        said.append(told(run))
        await asyncio.sleep(18)
        said.append(told(run))
        await worker.events.listen_for("run_end")
        await asyncio.sleep(40)
        return [*said, told(run)]

    assert await main() == [("busy", "look: src", 12), ("busy", "thinking", 10), ("idle", "said: All is well.", 40)]


@virtual_time()
async def test_an_agent_whose_actor_is_gone_is_never_shown_as_being_made() -> None:
    harness = InProcessHarness([])
    seen: list[tuple[str, str]] = []

    @agent_process(image=harness.image)
    async def child() -> None:
        await agent("worker")
        await wait()

    @agent_process
    async def main() -> None:
        handle = spawn(child)
        run = current_runtime()
        while not (run.agents and run.agents["worker"].prompted is False and run.agents["worker"].announced):
            await asyncio.sleep(0.01)
        handle.cancel()
        while run.agents or run.statistics.machines:
            status = run_status(run)
            seen.extend(("agent", each["state"]) for each in status["agents"])
            seen.extend(("machine", each["state"]) for each in status["machines"])
            await asyncio.sleep(0)

    await main()
    assert ("agent", "ended") in seen
    assert not [each for each in seen if "provisioning" in each]
