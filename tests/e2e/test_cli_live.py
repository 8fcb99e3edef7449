"""``ramure ls`` and ``ramure connect`` on a live run with a real agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest

from ramure.testing import Conversation, Hang, ScriptedModel, Step, Text
from tests.e2e.kit import Stage
from tests.e2e.screen import Screen

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(90)]

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process(on_idle="report")
async def main():
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        \"\"\"Call with your result.\"\"\"
        done(summary)
        return "Recorded."

    other = await agent("other.one")
    await worker.send("Begin.")
    print("run", current_runtime().execution_id, flush=True)
    print("result", await wait(), flush=True)

asyncio.run(main())
"""


def talker(conversation: Conversation) -> Step:
    """Hangs after the program's message; answers what a person types."""
    if "typed by hand" in conversation.last_user_text:
        return Text("I have heard you, person.")
    return Hang() if conversation.turn == 1 else Text("Nothing more.")


@pytest.fixture
def terminal(stage: Stage) -> Iterator[Screen]:
    terminal = Screen(stage.run.directory, stage.environ)
    yield terminal
    terminal.close()


async def test_ls_shows_the_live_runs_and_what_their_agents_do(stage: Stage) -> None:
    async with stage.ramure("ls") as ls:
        assert await ls.ends(20) == 0
    assert ls.said.strip() == "no run is live"
    async with ScriptedModel(talker) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            async with stage.ramure("ls", "--json") as ls:
                assert await ls.ends(20) == 0
            [run] = json.loads(ls.said)["runs"]
            assert (run["execution_id"], run["pid"]) == (run_id, program.process.pid)
            assert [(agent["address"], agent["state"]) for agent in run["agents"]] == [
                ("worker", "busy"),
                ("other.one", "idle"),
            ]
            async with stage.ramure("ls") as ls:
                assert await ls.ends(20) == 0
            head, worker, other = ls.said.splitlines()
            assert head.split() == ["RUN", "PROGRAM", "AGE", "PID", "TOKENS", "AGENT", "STATE", "FOR", "DOING"]
            assert worker.split()[:2] == [run_id, "main"]
            assert worker.split()[5:7] + worker.split()[8:] == ["worker", "busy", "thinking"]
            assert other.split()[:2] == ["other.one", "idle"]
            program.signal(2)
            await program.ends(20)
    async with stage.ramure("ls") as ls:
        assert await ls.ends(20) == 0
    assert ls.said.strip() == "no run is live"


async def test_connect_shows_the_agent_takes_keys_and_leaves_it_alive(stage: Stage, terminal: Screen) -> None:
    async with ScriptedModel(lambda c: Text("I have heard you, person.") if c.turn > 1 else Text("Hello.")) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            terminal.start(sys.executable, "-m", "ramure.cli", "connect", "worker")
            await terminal.shows("Hello.")
            terminal.keys("typed by hand", "Enter")
            await model.wait_for_requests(2, timeout=20)
            await terminal.shows("I have heard you, person.")
            assert "typed by hand" in model.requests[1].conversation.last_user_text
            terminal.keys("C-b", "d")
            await terminal.shows("status 0")
            [*pis] = stage.panes(run_id)
            assert len(pis) == 2
            for pi in pis:
                os.kill(pi, 0)
            program.signal(2)
            await program.ends(20)


async def test_connect_read_only_takes_no_keys(stage: Stage, terminal: Screen) -> None:
    async with ScriptedModel(lambda c: Text("Hello.")) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            terminal.start(sys.executable, "-m", "ramure.cli", "connect", "--id", run_id[:6], "--read-only", "worker")
            await terminal.shows("Hello.")
            terminal.keys("typed by hand", "Enter", "C-c", "C-c", "C-d")
            terminal.keys("C-b", "d")
            await terminal.shows("status 0")
            shown = stage.tmux(run_id, "capture-pane", "-p", "-t", "=worker:")
            assert "Hello." in shown
            assert "typed by hand" not in shown
            assert len(model.requests) == 1
            assert len(stage.panes(run_id)) == 2
            program.signal(2)
            await program.ends(20)


async def test_an_agent_with_a_dot_in_its_name_can_be_shown(stage: Stage, terminal: Screen) -> None:
    async with ScriptedModel(talker) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            await program.run_id()
            terminal.start(sys.executable, "-m", "ramure.cli", "connect", "other.one")
            await terminal.shows("ramure: other.one")
            terminal.keys("C-b", "d")
            await terminal.shows("status 0")
            await model.wait_for_requests(1, timeout=20)
            program.signal(2)
            await program.ends(20)


async def test_what_connect_cannot_show_is_said(stage: Stage) -> None:
    async with stage.ramure("connect", "worker") as connect:
        assert await connect.ends(20) == 3
    assert "no run is live" in connect.said
    async with ScriptedModel(talker) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            await program.run_id()
            async with stage.ramure("connect", "nobody") as connect:
                assert await connect.ends(20) == 4
            assert "no live agent 'nobody'; there are: other.one, worker" in connect.said
            async with stage.ramure("connect", "worker") as connect:
                assert await connect.ends(20) == 2
            assert "needs a terminal" in connect.said
            program.signal(2)
            await program.ends(20)
