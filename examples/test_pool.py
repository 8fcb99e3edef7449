"""Tests of a pool of ten workers, without a model: the pool is run whole, from many seeds, with faults.

    pytest examples/test_pool.py
    pytest examples/test_pool.py --ramure-seeds 1000

The pool gives each of its tasks to a worker of its own, at most ten at a time, and puts a task whose worker has died
back. Before it did so, the first seed in which a worker's machine went down ended with a result too few.
"""
# test: prints=2 passed; seconds=60

from __future__ import annotations

from dataclasses import dataclass, field

from ramure import agent, agent_process, done, each, wait
from ramure.testing import Conversation, Faults, SimulatedRun, Step, Text, ToolCall, always, simulate

WORKERS = 10
TASKS = [f"task {number}" for number in range(WORKERS)]


@dataclass
class Board:
    """What is known of the work outside of the pool."""

    results: dict[str, str] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)


@agent_process
async def work(task: str) -> str:
    """One task, by one agent."""
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(result: str) -> str:
        """Call with your result when the task is done."""
        done(result)
        return "Recorded."

    await worker.send(f"Task: {task}. Do it, then call finish with the result.")
    return await wait(str)


@agent_process
async def pool(board: Board, tasks: list[str]) -> int:
    """All tasks, each tried again when its worker has died."""
    async for result in each(work, tasks, limit=WORKERS, max_restarts=3):
        if result.error is None:
            board.results[result.item] = result.value
        else:
            board.given_up.append(result.item)
    return len(board.results)


def model(conversation: Conversation) -> Step:
    """A worker's model: calls finish until its result is recorded."""
    if any("Recorded." in result.text for result in conversation.tool_results):
        return Text("It is done.")
    task = conversation.first_user_text.partition("Task: ")[2].partition(".")[0]
    return ToolCall("finish", {"result": task.upper()})


def nothing_is_lost(run: SimulatedRun) -> None:
    board, tasks = run.args
    if run.succeeded:
        assert sorted([*board.results, *board.given_up]) == sorted(tasks)
        assert all(result == task.upper() for task, result in board.results.items())


def no_more_than_ten_at_once(run: SimulatedRun) -> None:
    assert sum(state != "ended" for state in run.agents.values()) <= WORKERS


def test_a_pool_without_faults() -> None:
    simulate(pool, Board(), TASKS, model=model, seeds=2, faults=Faults(), invariants=[nothing_is_lost])


def test_a_pool_loses_no_task() -> None:
    simulate(pool, Board(), TASKS, model=model, seeds=5, invariants=[nothing_is_lost, always(no_more_than_ten_at_once)])
