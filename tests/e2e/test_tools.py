"""Tool calls of real pi: several in one turn, and every type of argument."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest

from ramure import LocalImage, agent, agent_process, current_runtime
from ramure.testing import Conversation, ScriptedModel, Step, Text, ToolCall

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(120)]


async def test_of_parallel_calls_the_fast_does_not_wait_for_the_slow(ramure_home: Path, tmp_path: Path) -> None:
    """The slow call comes first in the turn, and cannot end before the fast one has."""

    def script(conversation: Conversation) -> list[Step]:
        if conversation.new_tool_results:
            return [Text(" ".join(result.text for result in conversation.new_tool_results))]
        return [ToolCall("slow"), ToolCall("fast"), ToolCall("fast")]

    async with ScriptedModel(script) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> tuple[str, list[str]]:
            worker = await agent("worker")
            fast_ones = asyncio.Semaphore(0)
            ended: list[str] = []

            @worker.on("slow")
            async def slow() -> str:
                """Waits for two fast ones."""
                async with asyncio.timeout(30):
                    for _ in range(2):
                        await fast_ones.acquire()
                ended.append("slow")
                return "slow"

            @worker.on("fast")
            async def fast() -> str:
                """Waits for nobody."""
                ended.append("fast")
                fast_ones.release()
                return "fast"

            return await worker.ask("Begin."), ended

        said, ended = await main()
    assert ended == ["fast", "fast", "slow"]
    assert said == "slow fast fast"


async def test_a_tool_that_is_added_to_a_live_agent_is_there_in_its_next_run(ramure_home: Path, tmp_path: Path) -> None:
    offered: list[list[str]] = []

    def script(conversation: Conversation) -> Step:
        offered.append([name for name in ("first", "second") if name in conversation.tools])
        if conversation.new_tool_results:
            return Text(conversation.new_tool_results[-1].text)
        return ToolCall(conversation.last_user_text.rpartition(" ")[2])

    async with ScriptedModel(script) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> list[str]:
            worker = await agent("worker")

            @worker.on("first")
            def first() -> str:
                """Adds the second, while it is at work."""

                @worker.on("second")
                def second() -> str:
                    """Is there now."""
                    return "second"

                return "first"

            return [await worker.ask("Call first"), await worker.ask("Call second")]

        assert await main() == ["first", "second"]
    assert offered[0] == ["first"]
    assert offered[-1] == ["first", "second"]


async def test_an_abort_by_hand_cancels_the_call_and_ends_the_run(ramure_home: Path, tmp_path: Path) -> None:
    """As far as pi says it is no other than the abort with which it begins its own exit."""
    async with ScriptedModel([[ToolCall("hold")], Text("Here I am.")]) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> tuple[Any, str]:
            worker = await agent("worker")
            holding, cancelled = asyncio.Event(), asyncio.Event()

            @worker.on("hold")
            async def hold() -> None:
                """Holds."""
                holding.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

            await worker.send("Hold.")
            await holding.wait()
            socket = current_runtime().paths.scratch / "tmux" / "server"
            keys = ["tmux", "-S", str(socket), "send-keys", "-t", "=worker:", "Escape"]
            await asyncio.to_thread(subprocess.run, keys, check=True)
            await cancelled.wait()
            end = await worker.events.listen_for("run_end")
            return end.data["stop_reason"], await worker.ask("Are you there?")

        assert await main() == ("aborted", "Here I am.")


GIVEN: dict[str, Any] = {
    "text": "naïve \N{SNOWMAN}",
    "count": 7,
    "share": 0.25,
    "sure": True,
    "names": ["a", "b"],
    "sizes": {"a": 1},
    "colour": "green",
}


async def test_each_basic_type_arrives_as_that_type(ramure_home: Path, tmp_path: Path) -> None:
    turns = [
        ToolCall("take", GIVEN),
        ToolCall("take", {**GIVEN, "share": 3, "sure": False, "names": [], "note": "given", "limit": 1}),
        ToolCall("take", {**GIVEN, "colour": "blue"}),
        Text("Done."),
    ]
    async with ScriptedModel(turns) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> list[tuple[Any, ...]]:
            worker = await agent("worker")
            taken: list[tuple[Any, ...]] = []

            @worker.on("take")
            async def take(
                text: str,
                count: int,
                share: float,
                sure: bool,
                names: list[str],
                sizes: dict[str, int],
                colour: Literal["red", "green"],
                note: str | None = None,
                limit: int = 10,
            ) -> str:
                """Take all of these."""
                taken.append((text, count, share, sure, names, sizes, colour, note, limit))
                return "Taken."

            assert await worker.ask("Begin.") == "Done."
            return taken

        first, second = await main()
        schema = model.requests[0].conversation.tools["take"]
    assert first == (*GIVEN.values(), None, 10)
    assert [type(value) for value in first] == [str, int, float, bool, list, dict, str, type(None), int]
    assert second == ("naïve \N{SNOWMAN}", 7, 3.0, False, [], {"a": 1}, "green", "given", 1)
    assert type(second[2]) is float
    assert schema.description == "Take all of these."
    assert schema.parameters["required"] == list(GIVEN)
    results = [result.text for result in model.requests[-1].conversation.tool_results]
    assert results[:2] == ["Taken.", "Taken."]
    assert "colour" in results[2]
