"""An endpoint that waits for its caller: a place in the pool gets free when a result is collected, by who waits for one."""

from __future__ import annotations

import asyncio
from typing import Any

from ramure import agent, agent_process, done, expose, spawn, wait
from tests.simulation.planted.models import diligent, task_of


@agent_process(timeout=3600)
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
async def pool(places: int, free_when_done: bool) -> None:
    free = asyncio.Semaphore(places)
    running: list[Any] = []

    async def watched(task: str) -> str:
        try:
            return await do(task)
        finally:
            if free_when_done:
                free.release()

    @expose
    async def add_task(task: str) -> None:
        await free.acquire()
        running.append(asyncio.ensure_future(watched(task)))

    @expose
    async def collect() -> list[str]:
        results = []
        while running:
            results.append(await running.pop(0))
            if not free_when_done:
                free.release()
        done()
        return results

    await wait()


@agent_process
async def planted(tasks: list[str]) -> list[str]:
    handle = spawn(pool, 2, False)
    for task in tasks:
        await handle.call("add_task", task=task)
    results: list[str] = await handle.call("collect")
    await handle
    return results


@agent_process
async def mended(tasks: list[str]) -> list[str]:
    handle = spawn(pool, 2, True)
    for task in tasks:
        await handle.call("add_task", task=task)
    results: list[str] = await handle.call("collect")
    await handle
    return results


FOUND = "hangs: "
"""What its story says."""

ARGS = (["a", "b", "c"],)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})
