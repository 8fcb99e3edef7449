"""The Hypothesis strategies: what they draw can be simulated, is sound where it should be, and shrinks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from ramure import ChildrenFailed, GaveUp, agent, agent_process, done, wait
from ramure.testing import (
    AgentScript,
    Conversation,
    Faults,
    ProcessProgram,
    SimulationFailed,
    Step,
    Text,
    ToolCall,
    Tree,
    agent_scripts,
    fault_schedules,
    process_programs,
    simulate,
    supervision_trees,
)
from tests import scale


def working(conversation: Conversation) -> Step:
    """Calls finish until that is recorded."""
    if any("Recorded." in result.text for result in conversation.tool_results):
        return Text("Done.")
    return ToolCall("finish", {"summary": "it is done"})


@agent_process
async def task(name: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Call with your result."""
        done(name)
        return "Recorded."

    await worker.send("Do it, then call finish.")
    return await wait(str)


@agent_process
async def farm(tree: Tree) -> dict[str, str]:
    return await tree.run(task)


def all_done(run: Any) -> None:
    [tree] = run.args
    if run.succeeded:
        assert run.result == {leaf: leaf for leaf in tree.leaves}


@scale.long_in_a_soak
@settings(max_examples=scale.examples(50))
@given(supervision_trees(), fault_schedules(["worker", "worker~2"]))
def test_a_tree_of_workers_is_sound_under_any_faults(tree: Tree, faults: Faults) -> None:
    simulate(farm, tree, model=working, faults=faults, seeds=1, invariants=[all_done])


@scale.long_in_a_soak
@settings(max_examples=scale.examples(60))
@given(process_programs(), fault_schedules())
def test_whole_programs_are_sound_under_any_faults(program: ProcessProgram, faults: Faults) -> None:
    def counted(run: Any) -> None:
        assert not run.succeeded or run.result == program.tasks

    simulate(program, model=ProcessProgram.model, faults=faults, seeds=1, invariants=[counted])


@scale.long_in_a_soak
@settings(max_examples=scale.examples(60))
@given(agent_scripts(working))
def test_a_worker_is_sound_with_any_model(model: AgentScript) -> None:
    simulate(task, "a", model=model, faults=Faults(model_stops=1.0), seeds=1)


@agent_process
async def forgetful(tree: Tree) -> dict[str, str]:
    """Takes a tree that has failed for one that has done all."""
    try:
        return await tree.run(task)
    except (ChildrenFailed, GaveUp):
        return {leaf: leaf for leaf in tree.leaves[:-1]}


@pytest.mark.edges
@pytest.mark.timeout(300)
def test_a_planted_bug_shrinks_to_one_leaf_and_few_faults() -> None:
    drawn: list[tuple[Tree, Faults]] = []

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(
        supervision_trees(most=2, deep=1),
        fault_schedules(["worker"], kinds=["slow", "kill_machine"], moments=1, most=2),
    )
    def property(tree: Tree, faults: Faults) -> None:
        drawn.append((tree, faults))
        simulate(forgetful, tree, model=working, faults=faults, seeds=1, invariants=[all_done])

    with pytest.raises(SimulationFailed) as failed:
        property()
    tree, faults = drawn[-1]
    assert tree.leaves == ["0"]
    assert len(faults.exactly) == 1
    assert "all_done" in str(failed.value)
    assert len(str(failed.value).splitlines()) <= 12
