"""A poison task that starves the others: what has failed is tried again before anything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ramure import ExecutionFailed, agent, agent_process, done, wait
from ramure.testing import Conversation, Step, Text
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Queue:
    tasks: list[str]
    finished: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)


@agent_process(on_idle="fail")
async def do(task: str) -> str:
    worker = await agent("worker")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {task}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def planted(queue: Queue) -> list[str]:
    while queue.tasks:
        task = queue.tasks.pop(0)
        try:
            queue.finished.append(await do(task))
        except ExecutionFailed:
            queue.tasks.insert(0, task)
    return queue.finished


@agent_process
async def mended(queue: Queue) -> list[str]:
    tries: dict[str, int] = {}
    while queue.tasks:
        task = queue.tasks.pop(0)
        try:
            queue.finished.append(await do(task))
        except ExecutionFailed:
            tries[task] = tries.get(task, 0) + 1
            (queue.tasks if tries[task] < 3 else queue.given_up).append(task)
    return queue.finished


FOUND = "models have been asked more than 40 times"
"""What its story says."""

ARGS = (Queue(["a", "poison", "b"]),)
OPTIONS = {"max_requests": 40}

works = diligent("finish", lambda conversation: {"summary": task_of(conversation)})


def model(conversation: Conversation) -> Step:
    """Cannot do one of the tasks."""
    return Text("I cannot do that.") if task_of(conversation) == "poison" else works(conversation)


def at_end(run: Any) -> None:
    queue = run.args[0]
    if run.succeeded:
        assert sorted(queue.finished + queue.given_up) == ["a", "b", "poison"], f"finished: {queue.finished}"
