"""``usage``: tokens and cost by model, of an agent, of a process and all below it, and of the run."""

from __future__ import annotations

from typing import Any

import pytest

from ramure import Usage, agent, agent_process, child, current_runtime, emit, spawn, supervise, wait
from ramure.agents.requests import MOST_MODELS
from ramure.testing import Conversation, InProcessHarness, virtual_time
from ramure.testing import Usage as Tokens


def model(conversation: Conversation) -> list[Any]:
    return [Tokens(input=10, output=int(conversation.last_user_text.partition("use ")[2][0])), "Yes."]


@virtual_time()
async def test_it_is_summed_up_the_tree_while_agents_and_processes_live_and_after() -> None:
    harness = InProcessHarness(model)

    @agent_process
    async def leaf(text: str) -> Usage:
        worker = await agent("worker")
        await worker.ask(text)
        return worker.usage

    @agent_process
    async def branch() -> tuple[Usage, Usage]:
        first = await leaf("use 1")
        second = spawn(leaf, "use 2")
        return first, await second

    @agent_process(image=harness.image)
    async def main() -> list[Usage]:
        worker = await agent("worker")
        await worker.ask("use 4")
        handle = spawn(branch)
        one, two = await handle
        assert (one.output, two.output, handle.usage.output) == (1, 2, 3)
        alive = spawn(asks, "use 7")
        await alive.events.listen_for("asked")
        assert (alive.usage.output, alive.usage.input) == (7, 10)
        run = current_runtime()
        return [handle.usage, worker.usage, run.usage, run.processes[1].usage()]

    @agent_process
    async def asks(text: str) -> None:
        worker = await agent("other")
        await worker.ask(text)
        emit("asked")
        await wait()

    of_branch, of_worker, of_run, of_main = await main()
    assert (of_branch.input, of_branch.output) == (20, 3)
    assert (of_worker.input, of_worker.output) == (10, 4)
    assert of_run == of_main
    assert (of_run.input, of_run.output) == (40, 14)
    assert list(of_run.by_model) == list(of_worker.by_model) == list(of_branch.by_model)
    ((name, by_model),) = of_run.by_model.items()
    assert name.count("/") == 1
    assert by_model.totals() == of_run.totals()
    harness.check()


@virtual_time()
async def test_the_place_of_a_child_sums_all_its_lives() -> None:
    harness = InProcessHarness(model)
    lives: list[str] = []

    @agent_process
    async def task(text: str) -> None:
        lives.append(text)
        worker = await agent("worker")
        await worker.ask(text)
        if lives.count("use 3") == 1:
            raise ConnectionError("not yet")

    @agent_process(image=harness.image)
    async def main() -> tuple[Usage, Usage, Usage]:
        tree = await supervise(child(task, "use 3", id="it"))
        await tree["it"].events.listen_for("restarted")
        other = await tree.add(child(task, "use 1", id="other"))
        await tree
        return tree["it"].usage, other.usage, tree.usage

    of_it, of_other, of_tree = await main()
    assert (of_it.output, of_it.input) == (6, 20)
    assert of_other.output == 1
    assert (of_tree.output, of_tree.input) == (7, 30)
    ((_, by_model),) = of_it.by_model.items()
    assert by_model.totals() == of_it.totals()


def test_models_are_counted_apart_up_to_a_limit_since_their_names_come_from_machines() -> None:
    used, total = Usage(), Usage()
    for number in range(MOST_MODELS + 10):
        used.add({"input": 1, "output": 2, "cost": {"total": 0.5}}, f"provider/{number}")
    assert len(used.by_model) == MOST_MODELS + 1
    assert used.by_model["other"].totals() == {
        "input": 10,
        "output": 20,
        "cache_read": 0,
        "cache_write": 0,
        "cost": 5.0,
    }
    assert used.by_model["provider/0"].cost == 0.5
    total.take(used)
    total.take(used)
    assert total.input == 2 * used.input
    assert total.by_model["provider/0"].input == 2
    assert used.by_model["provider/0"].input == 1
    assert total.cost == pytest.approx(2 * (MOST_MODELS + 10) * 0.5)
