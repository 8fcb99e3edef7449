"""What becomes of `agent.ask` when a person steps in: at pi's own screen, or with `ramure pause`."""

from __future__ import annotations

import asyncio
import json

import pytest

from ramure.testing import Conversation, Hang, HTTPError, ScriptedModel, Text
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(120)]

ASKS = """
import asyncio
from ramure import agent, agent_process, current_runtime
from ramure.agents.errors import Interrupted

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    worker = await agent("worker")
    for question in ("one", "two"):
        try:
            print("answer:", await worker.ask(question), flush=True)
        except Interrupted as interrupted:
            print("interrupted:", interrupted, flush=True)
    print("state", worker.state, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("keys", [["Escape"], ["/new", "Enter"]])
async def test_a_person_at_the_screen_ends_the_question(stage: Stage, keys: list[str]) -> None:
    def script(conversation: Conversation) -> object:
        return ["Half", Hang()] if conversation.last_user_text.endswith("one") else "the second"

    async with ScriptedModel(script) as model:
        stage.serve(model)
        async with stage.python(ASKS) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=40)
            await asyncio.sleep(1.5)  # until pi shows that it works
            for key in keys:
                stage.tmux(run_id, "send-keys", "-t", "=worker:", key)
                await asyncio.sleep(1)
            assert await program.ends(40) == 0, program.said
    assert "interrupted: agent 'worker' was interrupted before it had answered" in program.said
    assert "answer: the second" in program.said
    entries = [json.loads(line) for line in (stage.logs(run_id) / "worker.jsonl").read_text().splitlines()]
    # A new session's reports are counted from 1 again: none of them is taken for one of the old session's.
    assert len([entry for entry in entries if entry["type"] == "user"]) == 2


async def test_a_person_who_stops_pi_from_trying_again_ends_the_question(any_stage: Stage) -> None:
    """That is an abort, and no failure of the model, which is not tried again either."""

    def script(conversation: Conversation) -> object:
        return HTTPError(429, "slow down", retry=False) if conversation.last_user_text.endswith("one") else "the second"

    async with ScriptedModel(script) as model:
        any_stage.serve(model)
        async with any_stage.python(ASKS) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(2, timeout=40)
            await asyncio.sleep(1)  # in the second pause, which takes four seconds
            any_stage.tmux(run_id, "send-keys", "-t", "=worker:", "Escape")
            assert await program.ends(40) == 0, program.said
    assert "interrupted: agent 'worker' was interrupted before it had answered" in program.said
    assert "answer: the second" in program.said
    assert len(model.requests) <= 4


async def test_a_question_outlives_a_pause_and_nothing_is_asked_in_it(stage: Stage) -> None:
    asked: list[str] = []

    def script(conversation: Conversation) -> object:
        asked.append(conversation.last_user_text)
        return ["Half", Hang()] if len(asked) == 1 else f"answer {len(asked)}"

    async with ScriptedModel(script) as model:
        stage.serve(model)
        async with stage.python(ASKS) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=40)
            await command(stage, "pause", "--id", run_id)
            await command(stage, "send", "--id", run_id, "worker", "a word from a person")
            await asyncio.sleep(2)
            assert len(asked) == 1
            await command(stage, "resume", "--id", run_id)
            assert await program.ends(40) == 0, program.said
    assert "answer: answer " in program.said
    assert "interrupted" not in program.said


async def command(stage: Stage, *words: str) -> None:
    async with stage.ramure(*words) as process:
        assert await process.ends(40) == 0, process.said


ASKS_AND_RETURNS = """
import asyncio
from ramure import agent, agent_process

@agent_process
async def main():
    worker = await agent("worker")
    answers = [await worker.ask("One?"), await worker.ask("Two?")]
    return answers

print("result", asyncio.run(main()))
"""


async def test_a_program_that_returns_with_the_answer_is_not_told_that_its_agent_is_at_work(any_stage: Stage) -> None:
    """pi says that it is idle a moment after the end of the run that answered."""
    async with ScriptedModel([Text("one"), Text("two")]) as model:
        any_stage.serve(model)
        async with any_stage.python(ASKS_AND_RETURNS) as running:
            assert await running.ends(90) == 0, running.said
    assert "result ['one', 'two']" in running.said
    assert "returned while" not in running.said
