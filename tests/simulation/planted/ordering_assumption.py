"""An ordering assumption: results are put beside the tasks in the order in which they come."""

from __future__ import annotations

from typing import Any

from ramure import agent, agent_process, done, each, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process
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
async def planted(tasks: list[str]) -> dict[str, str]:
    results = [result.value async for result in each(do, tasks, limit=2)]
    return dict(zip(tasks, results, strict=True))


@agent_process
async def mended(tasks: list[str]) -> dict[str, str]:
    return {result.item: result.value async for result in each(do, tasks, limit=2)}


FOUND = "results: "
"""What its story says."""

ARGS = (["a", "b", "c"],)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation).upper()})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert all(result == task.upper() for task, result in run.result.items()), f"results: {run.result}"
