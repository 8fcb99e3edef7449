"""Names of agents: alike ones do not harm each other, and one name is one agent of a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import agent, agent_process, spawn
from ramure.agents.pi.toolchain import Toolchain
from ramure.runtime.process.handle import Agent
from ramure.runtime.process.ownership import AgentNameTaken
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, ScriptedModel, Text, ToolCall, run_virtual
from ramure.testing.leaks import LeakCheck
from tests.delivery.trial import environment
from tests.e2e.kit import Stage

AT_ONCE = Backoff(first=0.01, factor=1, limit=0.01)


async def restarted(made: Agent, kill: Any) -> None:
    """Kill its pi and wait until it is back."""
    before = made.restarts
    await kill(made)
    async for event in made.events:
        if event.type == "agent_restarted" and event.data["restarts"] > before:
            return


async def alike(kill: Any) -> None:
    """w1 and w10, each restarted and ended beside the other."""
    one, ten = await agent("w1", backoff=AT_ONCE), await agent("w10", backoff=AT_ONCE)
    await restarted(one, kill)
    assert await ten.ask("Hello?") == "Hello."
    await restarted(ten, kill)
    assert await one.ask("Hello?") == "Hello."
    assert (one.restarts, ten.restarts) == (1, 1)
    await one.ref.stop()
    assert await ten.ask("Hello?") == "Hello."
    again = await agent("w1")
    await ten.ref.stop()
    assert await again.ask("Hello?") == "Hello."
    assert again.restarts == 0


def test_agents_with_names_alike_do_not_harm_each_other() -> None:
    harness = InProcessHarness(lambda _: Text("Hello."))

    async def kill(made: Agent) -> None:
        harness.kill(made.address)

    @agent_process(image=harness.image)
    async def main() -> None:
        await alike(kill)

    run_virtual(main())


@pytest.mark.real_pi
@pytest.mark.timeout(120)
async def test_nor_do_they_on_real_pi(toolchain: Toolchain, leak_check: LeakCheck) -> None:
    stage = Stage(toolchain, leak_check)

    def model(conversation: Any) -> Any:
        if conversation.last_user_text.endswith("Die."):
            return ToolCall("bash", {"command": "kill -9 $PPID"})
        return Text("Hello.")

    async def kill(made: Agent) -> None:
        await made.send("Die.")

    @agent_process
    async def main() -> None:
        await alike(kill)

    async with ScriptedModel(model) as served:
        stage.serve(served)
        with environment(stage):
            await main()


def test_of_two_at_once_with_one_name_one_wins_and_one_machine_is_made() -> None:
    harness = InProcessHarness(lambda _: Text("Hello."))

    @agent_process(image=harness.image)
    async def main() -> list[Any]:
        made = await asyncio.gather(agent("w"), agent("w"), return_exceptions=True)
        assert len(harness.machines) == 1
        return sorted(type(each).__name__ for each in made)

    assert run_virtual(main()) == sorted([Agent.__name__, AgentNameTaken.__name__])


def test_in_two_processes_both_work_at_addresses_of_their_own() -> None:
    harness = InProcessHarness(lambda _: Text("Hello."))

    @agent_process
    async def child() -> tuple[str, str]:
        worker = await agent("w")
        answer = await worker.ask("Hello?")
        await asyncio.sleep(1)  # both live at once
        return worker.address, answer

    @agent_process(image=harness.image)
    async def main() -> list[Any]:
        return await asyncio.gather(spawn(child), spawn(child))

    assert sorted(run_virtual(main())) == [("w", "Hello."), ("w~2", "Hello.")]
