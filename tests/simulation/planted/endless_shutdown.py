"""A shutdown that waits for ever: it counts the workers that have said goodbye, and one that has died says nothing."""

from __future__ import annotations

import asyncio

from ramure import ExecutionFailed, agent, agent_process, bubble, done, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process
async def work(task: str) -> str:
    worker = await agent("worker", max_restarts=1)

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {task}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def planted(tasks: list[str]) -> list[str]:
    goodbyes: list[str] = []
    all_gone = asyncio.Event()

    async def goodbye(task: str) -> None:
        handle = spawn(work, task)
        bubble(handle, source=task)
        event = await handle.events.listen_for("done")
        goodbyes.append(event.data)
        if len(goodbyes) == len(tasks):
            all_gone.set()

    leaving = [asyncio.create_task(goodbye(task)) for task in tasks]
    await all_gone.wait()
    await asyncio.gather(*leaving)
    return goodbyes


@agent_process
async def mended(tasks: list[str]) -> list[str]:
    goodbyes: list[str] = []
    for handle in [spawn(work, task) for task in tasks]:
        try:
            goodbyes.append(await handle)
        except ExecutionFailed:
            continue
    return goodbyes


FOUND = ": "
"""What its story says."""

ARGS = (["a", "b", "c"],)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})
