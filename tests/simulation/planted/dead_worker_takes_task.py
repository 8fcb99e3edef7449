"""A worker killed more often than its restarts allow takes its task along: the others go on without it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ramure import AgentDied, agent, agent_process, done, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Queue:
    waiting: list[str]
    finished: list[str] = field(default_factory=list)


@agent_process
async def do(task: str) -> str:
    worker = await agent("worker", max_restarts=1, within=600)

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {task}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def planted(queue: Queue) -> list[str]:
    async def lane() -> None:
        while queue.waiting:
            task = queue.waiting.pop(0)
            try:
                queue.finished.append(await spawn(do, task))
            except AgentDied:
                continue  # "the next one may have more luck"

    await asyncio.gather(lane(), lane())
    return queue.finished


@agent_process
async def mended(queue: Queue) -> list[str]:
    tries: dict[str, int] = {}

    async def lane() -> None:
        while queue.waiting:
            task = queue.waiting.pop(0)
            try:
                queue.finished.append(await spawn(do, task))
            except AgentDied:
                tries[task] = tries.get(task, 0) + 1
                if tries[task] == 5:
                    raise
                queue.waiting.append(task)

    await asyncio.gather(lane(), lane())
    return queue.finished


FOUND = "done: ["
"""What its story says."""

ARGS = (Queue(["a", "b", "c", "d"]),)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert sorted(run.result) == ["a", "b", "c", "d"], f"done: {run.result}"
