"""The scripted model as real pi sees it: what a script says arrives in pi's own events."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ramure.agents.pi.toolchain import Toolchain
from ramure.testing import DropConnection, Hang, HTTPError, ScriptedModel, ScriptError, Text, Thinking, ToolCall, Usage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(60)]

ONE_TRY = {"retry": {"enabled": False}}


class Pi:
    """pi in its print mode, with events as JSON."""

    def __init__(self, command: tuple[str, ...], directory: Path) -> None:
        self.command = command
        self.directory = directory

    async def start(
        self, model: ScriptedModel, prompt: str, settings: dict[str, Any] | None = None
    ) -> asyncio.subprocess.Process:
        environment = {**os.environ, **model.write_config(self.directory / "agent", settings)}
        arguments = ["-p", "--mode", "json", "--no-session", "--thinking", "low", prompt]
        return await asyncio.create_subprocess_exec(
            *self.command,
            *arguments,
            cwd=self.directory,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )

    async def messages(
        self, model: ScriptedModel, prompt: str, settings: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run to its end; every message that came into the conversation."""
        process = await self.start(model, prompt, settings)
        output, _ = await asyncio.wait_for(process.communicate(), 40)
        events = [json.loads(line) for line in output.splitlines()]
        messages = [event["message"] for event in events if event["type"] == "message_end"]
        return [message for message in messages if message["role"] != "system"]  # which the newest pi has too


@pytest.fixture
def pi(toolchain: Toolchain, tmp_path: Path) -> Pi:
    """The newest; the harness's tests, which compare with pi, run on the oldest too."""
    return Pi(toolchain.pi_argv, tmp_path)


async def test_text_thinking_and_usage_arrive(pi: Pi) -> None:
    async with ScriptedModel([[Thinking("let me see"), Text("Hello."), Usage(1000, 20, cache_read=500)]]) as model:
        user, assistant = await pi.messages(model, "hi")
    assert user["content"] == [{"type": "text", "text": "hi"}]
    assert [(part["type"], part.get("text") or part.get("thinking")) for part in assistant["content"]] == [
        ("thinking", "let me see"),
        ("text", "Hello."),
    ]
    assert (assistant["stopReason"], assistant["usage"]["input"], assistant["usage"]["cacheRead"]) == (
        "stop",
        1000,
        500,
    )
    assert assistant["usage"]["cost"]["total"] == pytest.approx(1000e-6 + 40e-6 + 50e-6)
    seen = model.requests[0].conversation
    assert seen.last_user_text == "hi"
    assert {"bash", "read"} <= set(seen.tools)


async def test_parallel_tool_calls_are_run_by_pi(pi: Pi) -> None:
    calls = [ToolCall("bash", {"command": "echo $((40+2))"}), ToolCall("read", {"path": "nope.txt"})]
    async with ScriptedModel([calls, Text("Done.")]) as model:
        messages = await pi.messages(model, "go")
    assert [message["role"] for message in messages] == ["user", "assistant", "toolResult", "toolResult", "assistant"]
    results = model.requests[1].conversation.new_tool_results
    assert [(result.name, result.text[:6]) for result in results] == [("bash", "42\n"), ("read", "ENOENT")]
    assert model.requests[0].conversation.id == model.requests[1].conversation.id


async def test_pi_waits_as_retry_after_says(pi: Pi) -> None:
    async with ScriptedModel([HTTPError(429, "slow down", retry_after=1), "ok"]) as model:
        messages = await pi.messages(model, "go")
    assert messages[-1]["content"][0]["text"] == "ok"
    assert 0.9 <= model.requests[1].at - model.requests[0].at < 5


async def test_a_dropped_stream_is_an_error_in_pi(pi: Pi) -> None:
    async with ScriptedModel([["half an answer", DropConnection()]]) as model:
        messages = await pi.messages(model, "go", ONE_TRY)
    assert (messages[-1]["stopReason"], messages[-1]["content"][0]["text"]) == ("error", "half an answer")
    assert model.requests[0].outcome == "cut"


async def test_a_used_up_script_is_an_error_in_pi_that_names_it(pi: Pi) -> None:
    async def run() -> None:
        async with ScriptedModel([]) as model:
            messages = await pi.messages(model, "go", ONE_TRY)
            assert "the script is used up" in messages[-1]["errorMessage"]
            assert len(model.requests) == 1

    with pytest.raises(ScriptError, match="used up"):
        await run()


async def test_killing_pi_in_the_middle_of_a_turn_is_seen(pi: Pi) -> None:
    async with ScriptedModel([["half", Hang()]]) as model:
        process = await pi.start(model, "go")
        [request] = await model.wait_for_requests(1, timeout=20)
        process.kill()
        assert await request.ended() == "client gone"
        await process.communicate()
