"""``agent()`` and ``machine()`` that their caller leaves, as with a timeout: nothing stays of what they were making."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import agent, agent_process, current_runtime, machine, spawn, wait
from ramure.machines.base import Image
from ramure.runtime.errors import ProcessCancelled
from ramure.testing import InProcessHarness, Text, run_virtual
from ramure.testing.harness import InProcessMachine
from ramure.testing.virtual import VirtualLoop


class SlowImage(Image):
    """Machines of a harness, of which the first ``slow`` need 100 seconds each."""

    def __init__(self, slow: int) -> None:
        self.harness = InProcessHarness(lambda _: Text("Hello."))
        self.slow = slow

    async def spawn(self) -> InProcessMachine:
        self.slow -= 1
        if self.slow >= 0:
            await asyncio.sleep(100)
        return await self.harness.image.spawn()

    def running(self) -> int:
        """How many machines there are."""
        return sum(not each._stopped for each in self.harness.machines)


def there_is(agents: int, machines: int) -> None:
    run = current_runtime()
    assert (len(run.agents), len(run.statistics.machines)) == (agents, machines)


def test_a_timed_out_agent_can_be_tried_again_with_its_name_and_nothing_stays_of_it() -> None:
    image = SlowImage(2)

    @agent_process(image=image)
    async def main() -> str:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await agent("w")
        worker = await agent("w")
        await asyncio.sleep(200)
        there_is(agents=1, machines=1)
        assert image.running() == 1
        return await worker.ask("Hello?")

    assert run_virtual(main()) == "Hello."


def test_a_timed_out_agent_ends_on_the_machine_that_it_was_given_which_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = InProcessHarness(lambda _: Text("Hello."))

    @agent_process(image=harness.image)
    async def main() -> str:
        host = await machine()
        made = harness.machines[0]
        write = made.write_private

        async def slow(path: str, data: bytes) -> None:
            await asyncio.sleep(100)
            await write(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(made, "write_private", slow)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await agent("w", machine=host)
            first = await agent("w", machine=host)
        there_is(agents=1, machines=1)
        return await first.ask("Hello?")

    assert run_virtual(main()) == "Hello."
    assert harness.machines[0].tmux.lives == {}


MOST_STEPS = 1000
"""No start takes as many."""


async def steps(made: asyncio.Future[Any], count: int) -> bool:
    """Let the loop go on by that many steps; whether what is made was ready before the last of them."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    for _ in range(count):
        if made.done():
            return True
        await asyncio.sleep(0)
        while not loop._ready and not made.done():  # a socket or a thread has the next step: turns until then are none
            await asyncio.sleep(0)
    return False


def test_an_agent_that_is_left_at_any_step_of_its_start_ends() -> None:
    async def main(count: int) -> bool:
        asked = asyncio.ensure_future(agent("w"))
        ready = await steps(asked, count)
        asked.cancel()
        await asyncio.wait([asked])
        assert not (ready and asked.cancelled())
        if asked.cancelled():
            await agent("w")
        await asyncio.sleep(10)
        there_is(agents=1, machines=1)
        return ready

    for count in range(MOST_STEPS):
        harness = InProcessHarness(lambda _: Text("Hello."))
        if run_virtual(agent_process(image=harness.image)(main)(count)):
            break
    assert 20 < count < MOST_STEPS - 1  # each step of a start was tried, up to its end


def test_an_agent_that_is_ready_in_the_turn_in_which_it_is_left_ends() -> None:
    harness = InProcessHarness(lambda _: Text("Hello."))

    @agent_process(image=harness.image)
    async def main() -> None:
        asked = asyncio.ensure_future(agent("w"))
        await asyncio.sleep(0)
        run = current_runtime()
        while not (made := list(run.agents.values())) or not made[0].announced:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        again = await agent("w")
        await asyncio.sleep(10)
        there_is(agents=1, machines=1)
        assert await again.ask("Hello?") == "Hello."

    run_virtual(main())


def test_timed_out_machines_do_not_stay() -> None:
    image = SlowImage(3)

    @agent_process(image=image)
    async def main() -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10):
                    await machine()
        await asyncio.sleep(200)
        there_is(agents=0, machines=0)
        await machine()
        there_is(agents=0, machines=1)

    run_virtual(main())


def test_a_machine_that_is_left_at_any_step_of_its_start_ends() -> None:
    async def main(count: int) -> bool:
        asked = asyncio.ensure_future(machine())
        ready = await steps(asked, count)
        asked.cancel()
        await asyncio.wait([asked])
        assert not (ready and asked.cancelled())
        await asyncio.sleep(10)
        there_is(agents=0, machines=0 if asked.cancelled() else 1)
        return ready

    for count in range(MOST_STEPS):
        if run_virtual(agent_process(image=InProcessHarness([]).image)(main)(count)):
            break
    assert 3 < count < MOST_STEPS - 1  # each step of a start was tried, up to its end


@pytest.mark.parametrize("what", ["agent", "machine"])
def test_a_process_that_is_cancelled_while_it_makes_something_is_just_cancelled(what: str) -> None:
    image = SlowImage(1)

    @agent_process(image=image)
    async def makes() -> None:
        await (agent("w") if what == "agent" else machine())

    @agent_process
    async def main() -> None:
        made: Any = spawn(makes)
        await asyncio.sleep(10)
        await made.cancel()
        with pytest.raises(ProcessCancelled):
            await made
        there_is(agents=0, machines=0)
        assert image.running() == 0

    run_virtual(main())


def test_the_end_of_an_agent_that_was_left_is_no_death() -> None:
    image = SlowImage(1)

    @agent_process(image=image)
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await agent("w")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await wait()

    run_virtual(main())
