"""The commands about actors, each as a process, in a pipe and in a pseudo-terminal, against one live run on real pi."""

from __future__ import annotations

import json
import re
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ramure.testing import Conversation, Hang, ScriptedModel, Step, Text
from tests.e2e.kit import START, Program, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(300)]

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, wait
from ramure.actors import Actor

class Ticker(Actor):
    async def init(self):
        self.label_of_mine = "tick"
        self.send_after(0.02, "tick 1")

    def handle_info(self, message):
        self.send_after(0.02, "tick %d" % (int(message.split()[1]) + 1))

@agent_process
async def main():
    worker = await agent("worker")
    run = current_runtime()
    await run.system.options(label="ticker").start(Ticker)
    await run.system.options(label="odd \\x1b[31m\\nname").start(Actor)
    await worker.send("Begin.")
    print("run", run.execution_id, flush=True)
    await wait()

asyncio.run(main())
"""


def model_script(conversation: Conversation) -> Step:
    return Hang() if conversation.turn == 1 else Text("Done.")


class Terminal:
    """The commands of one run."""

    def __init__(self, stage: Stage, run_id: str) -> None:
        self.stage = stage
        self.run_id = run_id

    async def run(self, *argv: str, status: int = 0, terminal: bool = False) -> str:
        """What a command says."""
        async with self.stage.ramure(*argv, terminal=terminal, env={"TERM": "xterm-256color"}) as program:
            ended = await program.ends(START)
        assert ended == status, program.said
        return program.said

    async def json(self, *argv: str) -> dict[str, Any]:
        """What it says with --json."""
        found: dict[str, Any] = json.loads((await self.run(*argv, "--json")).splitlines()[-1])
        assert found["schema"] == f"ramure.{argv[0]}.v1"
        return found

    @asynccontextmanager
    async def live(self, *argv: str, terminal: bool) -> AsyncIterator[Program]:
        """A command that goes on until Ctrl-C, and then ends as such commands do, with a sane terminal."""
        async with self.stage.ramure(*argv, terminal=terminal, env={"TERM": "xterm-256color"}) as program:
            yield program
            program.type(b"\x03") if terminal else program.signal(signal.SIGINT)
            assert await program.ends(START) == 130
            assert "Traceback" not in program.said
            assert "\x1b[?25l" not in program.said  # the cursor was never hidden, so it need not be shown again
            assert "\x1b[?1049h" not in program.said


@asynccontextmanager
async def live_run(stage: Stage) -> AsyncIterator[Terminal]:
    async with ScriptedModel(model_script) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=START)
            yield Terminal(stage, run_id)
            program.signal(signal.SIGINT)
            await program.ends(START)


async def test_every_command_about_actors_on_a_live_run(stage: Stage) -> None:
    async with live_run(stage) as at:
        await looking(at)
        await tracing(at)
        await acting(at)
        await refusing(at)
    ended = await at.run("why", "worker")  # from the logs, now that it has ended
    assert "worker died" in ended
    assert await at.run("why", "nobody-at-all", status=4)


async def looking(at: Terminal) -> None:
    plain = await at.run("tree")
    assert "\x1b" not in plain
    assert plain.splitlines()[0].split() == ["NAME", "ID", "KIND", "STATE", "MAILBOX", "RESTARTS", "DOING"]
    assert re.search(r"└ pi of worker +#\d+ +Session", plain)
    coloured = await at.run("tree", terminal=True)
    assert "\x1b[" in coloured
    tree = await at.json("tree")
    labels = {row["label"]: row for row in tree["actors"]}
    assert labels["worker"]["doing"] == "busy"
    async with at.live("tree", "--watch", "--every", "0.2", terminal=True) as watching:
        await watching.says(r"pi of worker")
    async with at.live("top", "--every", "0.2", terminal=True) as watching:
        await watching.says(r"ticker")
    assert (await at.json("top", "-n", "1"))["agents"][0]["address"] == "worker"
    said = await at.run("inspect", "worker")
    for expected in ("supervisor", "agents of main#1", "temporary supervisor", "agent", "busy for", "last events"):
        assert expected in said
    assert (await at.json("inspect", "ticker", "--record"))["attributes"] == {"label_of_mine": "'tick'"}
    assert "tick" in await at.run("inspect", "ticker", terminal=True)
    assert (await at.json("inspect", "ticker", "--no-record"))["messages"] is None
    assert "worker has not died" in await at.run("why", "worker")
    for said in (await at.run("tree"), await at.run("inspect", "odd*"), await at.run("kill", "[ot]*", status=4)):
        assert "odd �[31m" in said  # nothing that a terminal would act on
        assert "\x1b" not in said


async def tracing(at: Terminal) -> None:
    said = await at.run("trace", "ticker", "--messages", "-n", "5")
    numbers = [int(number) for number in re.findall(r"sent +'tick (\d+)'", said)]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    lines = (await at.run("trace", "tick*", "-n", "2", "--json")).splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["sent", "sent"]
    for terminal in (False, True):
        async with at.live("trace", "ticker", terminal=terminal) as watching:
            await watching.says(r"tick \d+")


async def acting(at: Terminal) -> None:
    assert "suspended ticker" in await at.run("suspend", "ticker")
    assert (await at.json("inspect", "ticker"))["actor"]["state"] == "suspended"
    assert "resumed: ticker" in await at.run("resume", "ticker")
    assert "nothing was paused" in await at.run("resume", "ticker")
    restarted = await at.json("restart", "worker")
    assert restarted["old"] != restarted["new"]
    killed = await at.json("kill", "pi of worker", "--reason", "to see what happens")
    assert (killed["ended"], killed["reason"]) == (True, "to see what happens")
    why = await at.run("why", "worker", terminal=True)
    assert "to see what happens" in why.splitlines()[0]
    assert (await at.json("why", "worker"))["deaths"] >= 1
    assert "ended ticker" in await at.run("kill", "ticker")


async def refusing(at: Terminal) -> None:
    for command in ("inspect", "trace", "kill", "suspend", "restart", "why"):
        said = await at.run(command, "nobody-at-all", status=4)
        assert len(said.splitlines()) == 1
        assert said.startswith("ramure: ")
        assert "`ramure tree` shows" in said
        assert await at.run(command, "worker", "--id", "no-such", status=3)
        assert "Example: ramure" in await at.run(command, "--help")
    assert "fits" in await at.run("kill", "*", status=4)
    assert "part of the run" in await at.run("restart", "log", status=1)
    await at.run("top", "--every", "0", status=2)
