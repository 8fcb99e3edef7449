"""A running pool as a state machine: a sound one stands all steps, one with a planted bug shrinks to few of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ramure import agent, agent_process, bubble, done, expose, spawn, wait
from ramure.testing import PoolMachine, SimulatedRun
from tests import scale
from tests.simulation.planted.models import diligent, task_of


@agent_process
async def work(spec: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {spec}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def pool() -> None:
    @expose
    async def add_task(spec: str) -> str:
        bubble(spawn(work, spec), source=spec)
        return spec

    await wait()


class Sound(PoolMachine):
    pool = pool
    model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})

    def check(self, run: SimulatedRun) -> None:
        assert all(call.arguments["summary"] in self.added for call in run.calls_of("finish"))

    def check_end(self, run: SimulatedRun) -> None:
        assert set(run.agents.values()) <= {"ended"}


class TwoAtMost(Sound):
    """Of a pool that takes more."""

    def check(self, run: SimulatedRun) -> None:
        assert sum(state != "ended" for state in run.agents.values()) <= 2, "three at once"


@scale.long_in_a_soak
def test_a_sound_pool_stands_all_steps() -> None:
    options: dict[str, Any] = {"max_examples": scale.examples(50), "stateful_step_count": 12, "deadline": None}
    run_state_machine_as_test(Sound, settings=settings(**options))


@pytest.mark.timeout(200)
def test_a_planted_bug_shrinks_to_the_steps_that_it_needs() -> None:
    options: dict[str, Any] = {"max_examples": 30, "stateful_step_count": 10, "deadline": None, "database": None}
    with pytest.raises(AssertionError, match="three at once") as failed:
        run_state_machine_as_test(TwoAtMost, settings=settings(**options, derandomize=True))
    said = "\n".join(failed.value.__notes__)
    assert 3 <= said.count("state.add_task(") <= 4
    assert not any(f"state.{other}(" in said for other in ("kill", "cancel", "advance"))
