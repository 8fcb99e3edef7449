"""The programs that ramure was asked for, as printed: on real pi, with `connect` and `cancel` un-awaited."""

from __future__ import annotations

import pytest

from ramure.testing import Conversation, ScriptedModel, Step, Text, ToolCall
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]

HEAD = """
import asyncio
from ramure import agent, agent_process, bubble, connect, current_runtime, done, emit, expose, spawn, wait

@agent_process
async def run_task(spec: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def on_finish(summary: str) -> str:
        \"\"\"Call with your result when the task is done.\"\"\"
        done(summary)
        return "Recorded."

    await worker.send(f"Task:\\n\\n{spec}\\n\\nWhen done, call finish(summary).")
    return await wait()

@agent_process
async def pool() -> None:
    @expose
    async def add_task(spec: str) -> str:
        bubble(spawn(run_task, spec), source=spec)
        return spec
    emit("ready", None)
    await wait()
"""

POOL = """
@agent_process
async def main():
    handle = spawn(pool)
    async for event in handle.events:
        if event.type == "ready":
            break
    await handle.call("add_task", spec="Write a haiku about git rebase.")
    monitor = await agent("monitor", system_prompt="You run a pool of workers.")
    await handle.attach(monitor, prefix="pool_")
    await monitor.send("Add a task: a haiku about tmux.")
    async for event in handle.events:
        if event.type == "done" and event.source == "a haiku about tmux":
            return event.data

print("result", asyncio.run(main()))
"""

CONNECTED = """
@agent_process
async def main():
    handle = spawn(pool)
    planner, coder = await agent("planner"), await agent("coder")
    connect(planner, coder)

    @coder.on("finish")
    async def on_finish(summary: str) -> str:
        \"\"\"Call with your result when the task is done.\"\"\"
        handle.cancel()
        done(summary)
        return "Recorded."

    await planner.send("Tell coder: write it.")
    result = await wait()
    return result, [event.type async for event in handle.events]

print("result", asyncio.run(main()))
"""

RETRY = """
tries = []

@agent_process
async def flaky_task(spec: str) -> str:
    tries.append(spec)
    if len(tries) <= FAILURES:
        raise ConnectionError(f"try {len(tries)}")
    return await run_task(spec)

@agent_process
async def main():
    handle = spawn(flaky_task, "a haiku about tmux")
    async for event in handle.events:
        if event.type == "failed":
            handle = spawn(flaky_task, "a haiku about tmux")
        elif event.type == "done":
            return event.data

print("result", asyncio.run(main()), "after", len(tries), "tries")
"""

LINES = {"rebase": "Old commits find a new branch.", "tmux": "One window, four panes."}


def script(conversation: Conversation) -> Step:
    if conversation.new_tool_results:
        return Text("Done.")
    told = conversation.last_user_text
    if "Message from planner" in told:
        return ToolCall("finish", {"summary": "written"})
    if "Tell coder: " in told:
        return ToolCall("message", {"to": "coder", "text": told.partition("Tell coder: ")[2]})
    _, adds, task = told.partition("Add a task: ")
    if adds:
        return ToolCall("pool_add_task", {"spec": task.rstrip(".")})
    return ToolCall("finish", {"summary": next(line for word, line in LINES.items() if word in told)})


PROGRAMS = {
    "a pool and its monitor": (HEAD + POOL, "result One window, four panes."),
    "two that are connected, and a pool that is cancelled": (
        HEAD + CONNECTED,
        "result ('written', ['ready', 'cancelled'])",
    ),
    "the second try": (HEAD + "FAILURES = 1" + RETRY, "result One window, four panes. after 2 tries"),
    "the tenth try": (HEAD + "FAILURES = 9" + RETRY, "result One window, four panes. after 10 tries"),
}


@pytest.mark.parametrize("program", PROGRAMS)
async def test_it_runs_as_printed_and_leaves_nothing(program: str, any_stage: Stage) -> None:
    code, result = PROGRAMS[program]
    async with ScriptedModel(script) as model:
        any_stage.serve(model)
        async with any_stage.python(code) as running:
            assert await running.ends(90) == 0, running.said
    assert result in running.said
    for word in ("Traceback", "Warning", "warning", "never awaited"):
        assert word not in running.said, running.said
