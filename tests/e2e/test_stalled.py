"""A model that stops without calling the tool, on real pi; and slow ones that do call it, which nobody reminds."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from ramure.testing import Conversation, Delay, Finish, ScriptedModel, Text, ToolCall
from tests.e2e.kit import Stage
from tests.e2e.screen import Screen
from tests.scale import SOAK

README = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process
async def run_task(spec: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def on_finish(summary: str) -> str:
        \"\"\"Call with your result when the task is done.\"\"\"
        done(summary)
        return "Recorded."

    print("run", current_runtime().execution_id, flush=True)
    await worker.send(f"Task: {spec}. When done, call finish(summary).")
    return await wait()

print("result", asyncio.run(run_task("a haiku")))
"""

STOPS: dict[str, tuple[Any, str]] = {
    "I am done": ("I am done.", "its last words: 'I am done.'"),
    "a question to the user": ("Shall I write it in English?", "its last words: 'Shall I write it in English?'"),
    "an empty reply": ("", "its last reply was empty"),
    "a refusal": ([Text("I cannot help with that."), Finish("stop")], "its last words: 'I cannot help with that.'"),
    "text without a tool": ("finish(summary='autumn')", "its last words: \"finish(summary='autumn')\""),
}


@pytest.mark.real_pi
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.edges] * (number > 0)) for number, how in enumerate(STOPS)]
)
async def test_a_model_that_stops_is_noticed_within_45_seconds_of_its_last_sign_of_life(stage: Stage, how: str) -> None:
    answer, words = STOPS[how]
    async with ScriptedModel(lambda _: answer) as model:
        stage.serve(model)
        async with stage.python(README) as program:
            run_id = await program.run_id()
            await program.says("is stalled: ", 40)
            first = time.monotonic()
            why = await asyncio.to_thread(why_of, stage)
            assert why.startswith("stalled: run_task#1 waits in wait()"), why
            assert await program.ends(60) == 1, program.said
            assert time.monotonic() - first < 45
        assert "Stalled: run_task#1 waits in wait()" in program.said
        assert f"agent 'worker' ended its turn without calling finish; {words}" in program.said
        assert len(model.requests) == 3
        assert "You ended your turn" in model.requests[-1].conversation.last_user_text
    log = (stage.logs(run_id) / "_runtime.jsonl").read_text()
    assert log.count('"type": "reminded"') + log.count('"type":"reminded"') == 2


def why_of(stage: Stage) -> str:
    argv = [sys.executable, "-m", "ramure.cli", "why", "worker"]
    return subprocess.run(argv, env=stage.environ, check=True, capture_output=True, text=True, timeout=40).stdout


def slow(seed: int) -> Any:
    """A model that takes its time, with words and pi's own tools between, and finishes."""
    numbers = random.Random(seed)
    steps = numbers.randint(1, 4)

    def model(conversation: Conversation) -> Any:
        if conversation.turn <= steps:
            pause = numbers.choice([0.2, 1.0, 3.0])
            kind = numbers.choice(["bash", "bash", "text", "note"])
            if kind == "bash":
                return [Delay(pause), Text("I look."), ToolCall("bash", {"command": f"sleep {pause}; echo {pause}"})]
            if kind == "note":
                return [Text("A note.", pause=pause / 10), ToolCall("note", {"text": "on"})]
            return [Text("Thinking aloud. " * 20, pause=pause / 20), ToolCall("bash", {"command": "true"})]
        if conversation.turn == steps + 1:
            return [Delay(numbers.choice([0.0, 2.0])), ToolCall("finish", {"summary": "slow and sure"})]
        return Text("Done.")

    return model


SLOW = README.replace(
    '    print("run"',
    """    @worker.on("note")
    async def note(text: str) -> str:
        \"\"\"Note something.\"\"\"
        await asyncio.sleep(1)
        return "ok"

    print("run\"""",
)


@pytest.mark.real_pi
@pytest.mark.timeout(0)
@pytest.mark.edges
async def test_slow_models_that_go_on_are_never_reminded(stage: Stage) -> None:
    """Three here; fifty in ``make edges``."""
    room = asyncio.Semaphore(3)
    await asyncio.gather(*(goes_on(stage, seed, room) for seed in range(50 if SOAK else 3)))


async def goes_on(stage: Stage, seed: int, room: asyncio.Semaphore) -> None:
    async with room, ScriptedModel(slow(seed)) as model:
        async with stage.python(SLOW, env=model.write_config(stage.run.directory / f"agent-{seed}")) as program:
            assert await program.ends(120) == 0, program.said
        told = [request.conversation.last_user_text for request in model.requests]
    assert "result slow and sure" in program.said
    assert "stalled" not in program.said
    assert not [text for text in told if "You ended your turn" in text]


@pytest.mark.real_pi
@pytest.mark.timeout(180)
@pytest.mark.edges
async def test_while_a_person_is_at_the_terminal_nobody_is_accused(stage: Stage) -> None:
    async with ScriptedModel(lambda _: "What shall I do?") as model:
        stage.serve(model)
        terminal = Screen(stage.run.directory, stage.environ)
        try:
            async with stage.python(README.replace("worker.send(", "asyncio.sleep(8); await worker.send(")) as program:
                await program.run_id()
                terminal.start(sys.executable, "-m", "ramure.cli", "connect", "worker")
                await model.wait_for_requests(1, timeout=60)
                await terminal.shows("What shall I do?")
                await asyncio.sleep(12)
                assert "stalled" not in program.said
                program.signal(signal.SIGINT)
                await program.ends(40)
        finally:
            terminal.close()
