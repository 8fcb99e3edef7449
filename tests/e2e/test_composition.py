"""Processes made of processes, each with agents of its own, on real pi."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ramure import (
    Event,
    LocalImage,
    agent,
    agent_process,
    bubble,
    child,
    current_runtime,
    done,
    emit,
    expose,
    fail,
    spawn,
    supervise,
    wait,
)
from ramure.runtime.trees.handles import TreeHandle
from ramure.supervisors import Backoff
from ramure.testing import Conversation, ScriptedModel, Step, Text, ToolCall

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]


def finisher(conversation: Conversation) -> Step:
    if conversation.new_tool_results:
        return Text("Done.")
    return ToolCall("finish", {"summary": conversation.last_user_text.rpartition("Task: ")[2].upper()})


@agent_process
async def run_task(spec: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def on_finish(summary: str) -> str:
        """Call with your result."""
        done(summary)
        return "Recorded."

    emit("worker", worker.address)
    await worker.send(f"Task: {spec}")
    result: str = await wait()
    return result


async def test_one_after_the_other_and_two_at_once_each_with_an_agent_worker(ramure_home: Path, tmp_path: Path) -> None:
    async with ScriptedModel(finisher) as model:

        @agent_process(image=LocalImage(env=model.write_config(tmp_path / "agent")))
        async def main() -> tuple[str, list[str], list[str]]:
            first = await run_task("one")
            second = await run_task(f"two after {first}")
            both = await asyncio.gather(run_task("three"), run_task("four"))
            addresses = [
                record.stream.snapshot()[0].data for record in current_runtime().processes.values() if record.parent
            ]
            return second, both, addresses

        second, both, addresses = await main()
    assert second == "TWO AFTER ONE"
    assert both == ["THREE", "FOUR"]
    assert addresses[:2] == ["worker", "worker"]  # free again when the first task had ended
    assert sorted(addresses[2:]) == ["worker", "worker~2"]


async def test_a_failed_task_is_spawned_again_by_an_outer_loop(ramure_home: Path, tmp_path: Path) -> None:
    tries: list[str] = []

    @agent_process
    async def flaky() -> str:
        worker = await agent("worker")
        tries.append(worker.address)

        @worker.on("finish")
        async def on_finish(summary: str) -> str:
            """Call with your result."""
            if len(tries) < 3:
                fail(f"try {len(tries)} was no good")
            else:
                done(summary)
            return "Recorded."

        await worker.send("Task: third time lucky")
        result: str = await wait()
        return result

    async with ScriptedModel(finisher) as model:

        @agent_process(image=LocalImage(env=model.write_config(tmp_path / "agent")))
        async def main() -> tuple[str, list[str]]:
            failures: list[str] = []
            while True:
                handle = spawn(flaky)
                async for event in handle.events:
                    if event.type == "failed":
                        failures.append(event.data)
                    elif event.type == "done":
                        return event.data, failures

        result, failures = await main()
    assert result == "THIRD TIME LUCKY"
    assert ["no good" in failure for failure in failures] == [True, True]
    assert tries == ["worker"] * 3


async def test_a_farm_whose_agents_are_killed_beyond_their_limit(ramure_home: Path, tmp_path: Path) -> None:
    """Two of five children lose their agent for good, and are started again; what is bound to them goes on."""
    lives: Counter[str] = Counter()

    @agent_process
    async def farmhand(spec: str) -> str:
        lives[spec] += 1
        life = lives[spec]
        worker = await agent("worker", max_restarts=1, backoff=Backoff(first=0.1))

        @worker.on("finish")
        async def on_finish(summary: str) -> str:
            """Call with your result."""
            done(summary)
            return "Recorded."

        @expose
        async def which() -> str:
            """Which life of which child answers."""
            return f"life {life} of {spec}"

        @expose
        async def begin() -> None:
            await worker.send(f"Task: {spec}")

        emit("ready", life)
        result: str = await wait()
        return result

    def script(conversation: Conversation) -> Step:
        said = conversation.last_user_text
        if "Ask b" in said:
            result = conversation.new_tool_results
            return Text(result[0].text) if result else ToolCall("b_which")
        spec = next(text for text in conversation.user_texts if "Task: " in text)[-1]
        if spec in "bd" and lives[spec] == 1:
            return ToolCall("bash", {"command": "kill -9 $PPID"})  # each pi of the first life
        return (
            finisher(conversation) if conversation.new_tool_results else ToolCall("finish", {"summary": spec.upper()})
        )

    async def life(workers: TreeHandle[Any], spec: str, number: int) -> None:
        await workers.events.listen_for(
            "ready", timeout=90, where=lambda event: event.source == spec and event.data == number
        )

    async def begin(workers: TreeHandle[Any], spec: str) -> None:
        await life(workers, spec, 1)
        await workers[spec].call("begin")
        if spec in "bd":
            await life(workers, spec, 2)

    @agent_process
    async def farm(specs: str) -> tuple[list[Event], dict[str, Any], list[str]]:
        workers = await supervise(
            *(child(farmhand, spec, id=spec, restart="transient") for spec in specs),
            strategy="one_for_one",
            max_restarts=3,
            within=60,
            backoff=Backoff(first=0.2, factor=2, limit=60),
        )
        bubble(workers["b"], source="second")
        asker = await agent("asker")
        await life(workers, "b", 1)
        await workers["b"].attach(asker, prefix="b_")
        said = [await asker.ask("Ask b which it is."), await workers["b"].call("which")]
        await asyncio.gather(*(begin(workers, spec) for spec in specs))
        said += [await asker.ask("Ask b which it is now."), await workers["b"].call("which")]
        for spec in "bd":
            await workers[spec].call("begin")
        events = [event async for event in workers.events]
        return events, await workers, said

    async with ScriptedModel(script) as model:

        @agent_process(image=LocalImage(env=model.write_config(tmp_path / "agent")))
        async def main() -> tuple[list[Event], list[Event], dict[str, Any], list[str]]:
            handle = spawn(farm, "abcde")
            events, results, said = await handle
            return events, list(handle.events.snapshot()), results, said

        events, bubbled, results, said = await main()

    assert results == {spec: spec.upper() for spec in "abcde"}
    counted = Counter(event.type for event in events)
    assert counted == {"child_started": 5, "restarted": 2, "done": 5, "ready": 7}
    assert sorted(event.source or "" for event in events if event.type == "restarted") == ["b", "d"]
    assert all("worker" in event.data["reason"] for event in events if event.type == "restarted")
    assert said == ["life 1 of b"] * 2 + ["life 2 of b"] * 2
    assert [event.type for event in bubbled if event.source == "second"] == [
        "child_started", "ready", "restarted", "ready", "done",
    ]  # fmt: skip
