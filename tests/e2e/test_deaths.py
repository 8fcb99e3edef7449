"""A death of pi is noticed by the program; a death of the program leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from ramure.testing import Hang, ScriptedModel
from tests.e2e import kill_pi, kill_program
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]


@pytest.mark.parametrize("turn", kill_pi.TURNS)
async def test_the_program_ends_with_agent_died_after_kill_9(stage: Stage, turn: str) -> None:
    await kill_pi.kill_once(stage, turn)


async def test_so_it_does_on_the_oldest_pi(oldest_stage: Stage) -> None:
    await kill_pi.kill_once(oldest_stage, "tool runs")


@pytest.mark.parametrize("moment", ["pi starts", "tool runs"])
async def test_nothing_is_left_15_s_after_sigkill_of_the_program(stage: Stage, moment: str) -> None:
    await kill_program.kill_once(stage, moment)


async def test_nothing_is_left_of_the_oldest_pi_either(oldest_stage: Stage) -> None:
    await kill_program.kill_once(oldest_stage, "model asked")


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        (["kill-session", "-t", "=worker:"], "pi's tmux session was closed"),
        (["kill-server"], "pi's tmux server died"),
        (["send-keys", "-t", "=worker:", "C-c", "C-c"], "pi exited by itself, with status 0"),
    ],
)
async def test_every_other_death_has_its_reason_too(stage: Stage, death: list[str], reason: str) -> None:
    async with ScriptedModel([[Hang()]]) as model:
        stage.serve(model)
        async with stage.python(kill_pi.PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=40)
            stage.tmux(run_id, *death)
            assert await program.ends(40) == 1
    assert f"AgentDied: agent 'worker' died: crashed: PiExited: {reason}" in program.said


async def test_the_death_can_be_caught_and_another_agent_started(stage: Stage) -> None:
    async with ScriptedModel([[Hang()]]) as model:
        stage.serve(model)
        async with stage.python(SECOND_TRY) as program:
            run_id = await program.run_id()
            for number in (1, 2):
                await model.wait_for_requests(number, timeout=40)
                [pi] = await asyncio.to_thread(stage.panes, run_id)
                os.kill(pi, signal.SIGKILL)
            assert await program.ends(40) == 0, program.said
    assert program.said.count("died, caught") == 2


SECOND_TRY = """
import asyncio
from ramure import AgentDied, agent, agent_process, current_runtime, wait

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    for _ in range(2):
        worker = await agent("worker", restart="temporary")
        await worker.send("Begin.")
        try:
            await wait()
        except AgentDied as died:
            print("died, caught", died.__class__, flush=True)

asyncio.run(main())
"""
