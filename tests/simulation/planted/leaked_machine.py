"""A leaked machine: each task has one of its own, which is stopped when the task is done, but not when it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ramure import ExecutionFailed, OperationalError, agent, agent_process, done, machine, wait
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Work:
    tasks: list[str]
    failed: list[str] = field(default_factory=list)


@agent_process
async def do(task: str, box: Any) -> str:
    worker = await agent("worker", machine=box, max_restarts=0)

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {task}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def planted(work: Work) -> int:
    for task in work.tasks:
        box = await machine()
        try:
            await do(task, box)
        except ExecutionFailed:
            work.failed.append(task)
            continue
        await box.stop()
    return len(work.failed)


@agent_process
async def mended(work: Work) -> int:
    for task in work.tasks:
        box = await machine()
        try:
            await do(task, box)
        except (ExecutionFailed, OperationalError):
            work.failed.append(task)
        finally:
            await box.stop()
    return len(work.failed)


FOUND = "machines run"
"""What its story says."""

ARGS = (Work(["a", "b", "c", "d"]),)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})


def always(run: Any) -> None:
    assert run.machines <= 1, f"{run.machines} machines run"
