"""What a life of pi starts ends with it, its successor is told so, and pi finds the user's environment as it is."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path

import pytest

from ramure.testing import ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.steps import Step
from tests.e2e.conftest import any_stage, stage
from tests.e2e.kit import Stage, nothing_left, owned, until
from tests.edges.deaths import KINDS, PROGRAM, Deaths, script, sleepers

__all__ = ["any_stage", "stage"]

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(240)]


@pytest.fixture
def base() -> int:
    """A number from which on the sleepers of a test are numbered."""
    return 40_000_000 + 100_000 * (os.getpid() % 10_000)


OF_THE_SHELL = ("background", "nohup", "disown", "setsid", "no environment", "foreground")
"""Children of the shell that pi started."""


@pytest.mark.parametrize("victim", ["pi", "parent", "holder"])
async def test_after_a_kill_all_kinds_of_daemons_and_the_foreground_command_are_gone_and_told(
    stage: Stage, base: int, victim: str
) -> None:
    lives: list[list[int]] = []
    async with ScriptedModel(script(random.Random(1), lives, base, list(KINDS))) as model:
        stage.serve(model)
        async with stage.python(PROGRAM.replace("{more}", "")) as program:
            deaths = Deaths(stage, program, await program.run_id(), model, lives, base)
            await deaths.under_way()
            await deaths.kill(victim)
            await model.wait_for_requests(2, timeout=40)
            notice = next(text for text in model.requests[1].conversation.user_texts if "restarted" in text)
            program.signal(signal.SIGINT)
            await program.ends(40)
    assert "ended with your process" in notice
    for kind, number in zip([*KINDS, "foreground"], lives[0], strict=True):
        # Where its parents were killed, pi may have had the time to end its own shell.
        assert str(number) in notice or (victim != "pi" and kind in OF_THE_SHELL), notice
    assert not sleepers(base, base + 1000)


async def test_so_they_are_at_the_end_of_the_agent_and_of_its_machine(stage: Stage, base: int) -> None:
    lives: list[list[int]] = []
    async with ScriptedModel(script(random.Random(1), lives, base, list(KINDS))) as model:
        stage.serve(model)
        async with stage.python(TWO_ENDS) as program:
            run_id = await program.run_id()
            for number in (1, 2):
                await until(lambda number=number: len(lives) >= number, 40, "a life begins its command")  # type: ignore[misc]
                await until(lambda: len(sleepers(base, base + 1000)) > len(KINDS), 40, "all run")
                await asyncio.sleep(0.2)
                program.signal(signal.SIGUSR1)
                await program.says(f"ended {number}")
                assert not sleepers(base, base + 1000)
            program.signal(signal.SIGINT)
            await program.ends(40)
            await nothing_left(stage, run_id)


TWO_ENDS = """
import asyncio, signal
from ramure import agent, agent_process, current_runtime, machine, spawn, wait, done

@agent_process
async def child():
    worker = await agent("worker")
    await worker.send("Begin.")
    await wait()

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    handle = spawn(child)
    await asked.wait()
    await handle.cancel()
    print("ended 1", flush=True)
    asked.clear()
    host = await machine()
    worker = await agent("worker", machine=host)
    @worker.on_exit
    async def on_exit(reason):
        pass
    await worker.send("Begin.")
    await asked.wait()
    await host.stop()
    print("ended 2", flush=True)
    await wait()

asyncio.run(main())
"""


async def test_daemons_that_are_kept_live_until_the_machine_is_stopped(stage: Stage, base: int) -> None:
    lives: list[list[int]] = []
    kinds = ["background", "nohup", "setsid", "setsid fork", "no environment", "double fork", "tmux"]
    async with ScriptedModel(script(random.Random(1), lives, base, kinds)) as model:
        stage.serve(model)
        async with stage.python(KEPT) as program:
            deaths = Deaths(stage, program, await program.run_id(), model, lives, base)
            await deaths.under_way()
            first = lives[0]
            await asyncio.sleep(1)  # what has just begun is not known as a daemon yet
            [pi] = stage.panes(deaths.run_id)
            os.kill(pi, signal.SIGKILL)
            await until(lambda: len(lives) == 2, 40, "the next life begins its command")
            await deaths.under_way()
            left = {int(word) for line in sleepers(base, base + 10).values() for word in line.split() if word.isdigit()}
            assert left & set(first) == set(first[1:-1]), "all but what the shell itself had under way"
            program.signal(signal.SIGUSR1)
            await program.says("stopped")
            assert not sleepers(base, base + 1000)
            await program.ends(40)


KEPT = """
import asyncio, signal
from ramure import agent, agent_process, current_runtime, machine
from ramure.supervisors import Backoff

@agent_process
async def main():
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    host = await machine()
    worker = await agent("worker", machine=host, daemons="keep", backoff=Backoff(first=0.01, limit=0.01))
    @worker.on_exit
    async def on_exit(reason):
        pass
    print("run", current_runtime().execution_id, flush=True)
    await worker.send("Begin.")
    await asked.wait()
    await host.stop()
    print("stopped", flush=True)

asyncio.run(main())
"""


def reapers(run_id: str) -> list[int]:
    """The reapers of a run."""
    return [pid for pid, command in owned(run_id) if "reaper_program" in command]


@pytest.mark.parametrize("how", ["the program ends", "the program is killed too, and gc runs"])
async def test_nothing_is_left_when_all_reapers_were_killed(stage: Stage, base: int, how: str) -> None:
    lives: list[list[int]] = []
    async with ScriptedModel(script(random.Random(1), lives, base, list(KINDS))) as model:
        stage.serve(model)
        async with stage.python(REAPED.replace("{number}", str(base + 900))) as program:
            run_id = await program.run_id()
            deaths = Deaths(stage, program, run_id, model, lives, base)
            await deaths.under_way()
            found = reapers(run_id)
            assert len(found) >= 2
            if how == "the program ends":
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                await program.ends(60)
            else:
                for pid in (*found, program.process.pid):
                    os.kill(pid, signal.SIGKILL)
                await program.ends(60)
                async with stage.ramure("gc") as gc:
                    assert await gc.ends(40) == 0, gc.said
        assert not sleepers(base, base + 1000)
        assert not owned(run_id)
        await nothing_left(stage, run_id)


REAPED = """
import asyncio
from ramure import agent, agent_process, current_runtime, machine, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    host = await machine()
    await host.exec("setsid sleep {number} >/dev/null 2>&1 &")
    worker = await agent("worker", machine=host)
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""


async def test_a_pi_that_was_idle_is_told_of_its_servers_with_its_next_message(stage: Stage, base: int) -> None:
    def turn(conversation: Conversation) -> Step:
        if conversation.turn == 1:
            return ToolCall("bash", {"command": f"setsid sleep {base} >/dev/null 2>&1 & sleep 0.1"})
        return Text("Well.")

    async with ScriptedModel(turn) as model:
        stage.serve(model)
        async with stage.python(PROGRAM.replace("{more}", "")) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(2, timeout=40)
            log = stage.logs(run_id) / "worker.jsonl"
            await until(lambda: _idle(log), 40, "it is idle")
            [pi] = stage.panes(run_id)
            os.kill(pi, signal.SIGKILL)
            await until(lambda: '"agent_restarted"' in log.read_text(), 40, "it is restarted")
            assert len(model.requests) == 2
            async with stage.ramure("send", "worker", "And now?") as sent:
                assert await sent.ends(40) == 0
            await model.wait_for_requests(3, timeout=40)
            said = "\n".join(model.requests[2].conversation.user_texts)
            program.signal(signal.SIGINT)
            await program.ends(40)
    assert f"sleep {base}" in said
    assert "restarted" not in said


def _idle(log: Path) -> bool:
    states = [json.loads(line)["data"]["state"] for line in log.read_text().splitlines() if '"type": "state"' in line]
    return states[-1:] == ["idle"] and "busy" in states


async def test_ctrl_z_does_not_freeze_the_screen(any_stage: Stage) -> None:
    async with ScriptedModel([Text("one"), Text("and two")]) as model:
        any_stage.serve(model)
        async with any_stage.python(PROGRAM.replace("{more}", "")) as program:
            run_id = await program.run_id()
            screen = lambda: any_stage.tmux(run_id, "capture-pane", "-p", "-t", "=worker:")  # noqa: E731
            await until(lambda: "one" in screen(), 40, "the first answer is shown")
            any_stage.tmux(run_id, "send-keys", "-t", "=worker:", "C-z")
            await asyncio.sleep(0.5)
            any_stage.tmux(run_id, "send-keys", "-t", "=worker:", "-l", "typed by hand")
            await until(lambda: "typed by hand" in screen(), 20, "what is typed is shown")
            any_stage.tmux(run_id, "send-keys", "-t", "=worker:", "Enter")
            await until(lambda: "and two" in screen(), 40, "the next answer is shown")
            program.signal(signal.SIGINT)
            await program.ends(40)


ODD = {
    "UID": "4711", "EUID": "17", "PPID": "1", "BASHOPTS": "cdspell", "SHELLOPTS": "braceexpand",
    "with.dot": "1", "with-dash": "2", "BASH_FUNC_hello%%": "() {  echo hello from a function\n}",
}  # fmt: skip


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo", ""])
async def test_pi_has_the_users_environment_whole_and_what_is_unset_stays_unset(stage: Stage, zone: str | None) -> None:
    async with ScriptedModel([ToolCall("bash", {"command": "hello; date +%Z"}), Text("Done.")]) as model:
        stage.serve(model)
        async with stage.python(ENVIRONMENT, env={**ODD, "TZ": zone}) as program:
            run_id = await program.run_id()
            zone_of_exec = (await program.says(r"exec \[(.*)\]"))[1]
            await model.wait_for_requests(2, timeout=40)
            [pi] = stage.panes(run_id)
            entries = Path(f"/proc/{pi}/environ").read_bytes().split(b"\0")
            seen = dict(entry.decode().partition("=")[::2] for entry in entries if entry)
            result = model.requests[1].conversation.tool_results[-1].text
            assert not list(stage.scratch(run_id).glob("*.env"))
            program.signal(signal.SIGINT)
            await program.ends(40)
    assert {name: seen.get(name) for name in ODD} == ODD
    assert seen.get("TZ") == zone
    assert "TMUX" not in seen
    assert result.split("\n")[:2] == ["hello from a function", zone_of_exec]


ENVIRONMENT = """
import asyncio
from ramure import agent, agent_process, current_runtime, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    worker = await agent("worker")
    print(f"exec [{(await worker.exec('date +%Z')).stdout.strip()}]", flush=True)
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""
