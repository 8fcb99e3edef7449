"""Programs as users write them: on real pi where pi matters, on the harness where it does not."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from ramure import (
    UsageError,
    agent,
    agent_process,
    current_runtime,
    done,
    machine,
    wait,
)
from ramure.testing import Conversation, Hang, InProcessHarness, ScriptedModel, Step, Text, ToolCall
from ramure.testing.leaks import LeakCheck
from tests.e2e.kit import Stage

PAIR = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, machine, wait

@agent_process
async def main():
    host = await machine()
    a, b = await asyncio.gather(agent("a", machine=host), agent("b", machine=host))
    c = await agent("c")
    heard = {}
    for worker in (a, b, c):
        def handler(worker):
            async def report(text: str) -> str:
                \"\"\"Reports.\"\"\"
                heard[worker.name] = text
                if len(heard) == 3:
                    done(sorted(heard.items()))
                return "ok"
            return report
        worker.on("report")(handler(worker))
        await worker.send(f"You are {worker.name}.")
    places = [(await worker.exec("pwd")).stdout for worker in (a, b, c)]
    print("run", current_runtime().execution_id)
    print("same", places[0] == places[1], places[0] == places[2])
    print("heard", await wait())

asyncio.run(main())
"""


@pytest.mark.real_pi
@pytest.mark.timeout(60)
async def test_several_agents_at_once_two_of_them_on_one_machine(any_stage: Stage) -> None:
    def script(conversation: Conversation) -> Step:
        if conversation.new_tool_results:
            return Text("Done.")
        return ToolCall("report", {"text": conversation.last_user_text[-2:]})

    async with ScriptedModel(script) as model:
        any_stage.serve(model)
        async with any_stage.python(PAIR) as program:
            assert await program.ends(40) == 0, program.said
    assert "same True False" in program.said
    assert "heard [('a', 'a.'), ('b', 'b.'), ('c', 'c.')]" in program.said


RAISES = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process
async def main():
    worker = await agent("worker")

    @worker.on("divide")
    def divide(a: int, b: int) -> str:
        \"\"\"Divides.\"\"\"
        return str(a // b)

    @worker.on("finish")
    async def finish(summary: str) -> str:
        \"\"\"Finishes.\"\"\"
        done(summary)
        return "Recorded."

    await worker.send("Begin.")
    return await wait()

print("result", asyncio.run(main()))
"""


@pytest.mark.real_pi
@pytest.mark.timeout(60)
async def test_a_handler_that_raises_and_bad_arguments_are_answered_to_the_model(any_stage: Stage) -> None:
    answers: list[str] = []

    def script(conversation: Conversation) -> Step:
        answers.extend(result.text for result in conversation.new_tool_results)
        calls = [
            ToolCall("divide", {"a": 1, "b": 0}),
            ToolCall("divide", {"a": "one", "b": 2}),
            ToolCall("divide", {"a": 7, "b": 2}),
            ToolCall("finish", {"summary": "all three"}),
            Text("Done."),
        ]
        return calls[len(answers)]

    async with ScriptedModel(script) as model:
        any_stage.serve(model)
        async with any_stage.python(RAISES) as program:
            assert await program.ends(40) == 0, program.said
    assert "result all three" in program.said
    assert "ZeroDivisionError" in answers[0], answers
    assert "a" in answers[1], answers
    assert answers[2] == "3"
    assert program.said.count("Traceback") == 1, "the handler's, in one warning"
    assert "/ramure/" not in program.said.partition("Traceback")[2], program.said


MEMORY = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process
async def main():
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        \"\"\"Finishes.\"\"\"
        done(summary)
        return "Recorded."

    print("run", current_runtime().execution_id, flush=True)
    await worker.send("The word is heron.")
    return await wait()

print("result", asyncio.run(main()))
"""


@pytest.mark.real_pi
@pytest.mark.timeout(60)
async def test_a_killed_pi_goes_on_with_its_conversation(any_stage: Stage) -> None:
    """It is killed while the model thinks; the restarted one still has the message, and finishes."""

    def script(conversation: Conversation) -> Step:
        if len(model.requests) == 1:
            return Hang()
        if conversation.new_tool_results:
            return Text("Done.")
        assert sum("The word is heron." in text for text in conversation.user_texts) == 1
        return ToolCall("finish", {"summary": "heron"})

    async with ScriptedModel(script) as model:
        any_stage.serve(model)
        async with any_stage.python(MEMORY) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=40)
            [pi] = any_stage.panes(run_id)
            os.kill(pi, signal.SIGKILL)
            assert await program.ends(30) == 0, program.said
    assert "result heron" in program.said
    entries = [json.loads(line) for line in (any_stage.logs(run_id) / "worker.jsonl").read_text().splitlines()]
    assert [entry["type"] for entry in entries].count("agent_down") == 1
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))


# -- no pi needed --------------------------------------------------------------------------------------------------


def finisher(conversation: Conversation) -> Step:
    if conversation.new_tool_results:
        return Text("Done.")
    return ToolCall("finish", {"summary": conversation.last_user_text})


async def work(text: str) -> str:
    """The body that the programs below share."""
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Finishes."""
        done(summary)
        return "Recorded."

    await worker.send(text)
    result: str = await wait()
    return result


async def test_two_roots_in_one_program_are_two_runs(leak_check: LeakCheck) -> None:
    harness = InProcessHarness(finisher)
    ids: list[str] = []

    @agent_process(image=harness.image)
    async def root(text: str) -> str:
        ids.append(current_runtime().execution_id)
        return await work(text)

    first, second = await asyncio.gather(root("one"), root("two"))
    assert (first[-3:], second[-3:]) == ("one", "two")
    assert len(set(ids)) == 2
    assert sorted(path.name for path in (leak_check.home / "logs").iterdir()) == sorted(ids)
    harness.check()


async def test_one_root_after_another_on_one_loop(leak_check: LeakCheck) -> None:
    harness = InProcessHarness(finisher)
    root = agent_process(image=harness.image)(work)
    assert [(await root(text))[-3:] for text in ("one", "two")] == ["one", "two"]
    before = asyncio.all_tasks()
    assert before == {asyncio.current_task()}


def test_a_root_in_another_thread_leaves_signals_alone(leak_check: LeakCheck) -> None:
    harness = InProcessHarness(finisher)
    root = agent_process(image=harness.image)(work)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async def main() -> str:
        return await asyncio.to_thread(lambda: asyncio.run(root("in a thread")))

    assert asyncio.run(main()).endswith("in a thread")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".", "..", "-x/..", "näme", "a\n", "a\0", "x" * 300, "a~2"])
async def test_a_name_that_will_not_do_is_refused_before_anything_is_made(leak_check: LeakCheck, name: str) -> None:
    harness = InProcessHarness(finisher)

    @agent_process(image=harness.image)
    async def root() -> None:
        await agent(name)

    with pytest.raises(UsageError, match="name"):
        await root()
    assert harness.machines == []


async def test_a_name_is_taken_while_its_agent_lives(leak_check: LeakCheck) -> None:
    harness = InProcessHarness(finisher)

    @agent_process(image=harness.image)
    async def root() -> list[str]:
        first = asyncio.create_task(agent("worker"))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="worker"):
            await agent("worker")
        return [(await first).address, (await agent("other", machine=await machine())).address]

    assert await root() == ["worker", "other"]


async def test_a_tool_is_described_wrongly_the_program_is_told(leak_check: LeakCheck) -> None:
    harness = InProcessHarness(finisher)

    @agent_process(image=harness.image)
    async def root() -> None:
        worker = await agent("worker")

        @worker.on("bad")
        async def bad(*args: int) -> str:
            """Takes anything."""
            return ""

    with pytest.raises(UsageError, match="args"):
        await root()
