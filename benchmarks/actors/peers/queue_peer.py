"""The floor: an ``asyncio.Queue`` and a task that reads it, without any of an actor's guarantees."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.actors.measure import ALIVE, RING, now, per, resident

TELLS, ASKS, HOPS, SPAWNS, KILLS, ACTORS = 100_000, 20_000, 100_000, 20_000, 5_000, 20_000


async def tell() -> float:
    queue: asyncio.Queue[int] = asyncio.Queue()
    done = asyncio.Event()
    seen = 0

    async def consume() -> None:
        nonlocal seen
        while True:
            await queue.get()
            seen += 1
            if seen == TELLS:
                done.set()

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    start = now()
    for n in range(TELLS):
        queue.put_nowait(n)
    await done.wait()
    took = now() - start
    task.cancel()
    return per(TELLS, took)


async def ask() -> float:
    requests: asyncio.Queue[int] = asyncio.Queue()
    replies: asyncio.Queue[int] = asyncio.Queue()

    async def serve() -> None:
        while True:
            replies.put_nowait(await requests.get())

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    start = now()
    for n in range(ASKS):
        requests.put_nowait(n)
        await replies.get()
    took = now() - start
    task.cancel()
    return per(ASKS, took)


async def ring() -> float:
    queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(RING)]
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def node(mine: asyncio.Queue[int], following: asyncio.Queue[int]) -> None:
        while True:
            left = await mine.get()
            if left:
                following.put_nowait(left - 1)
            else:
                done.set_result(None)

    tasks = [asyncio.create_task(node(q, n)) for q, n in zip(queues, queues[1:] + queues[:1], strict=True)]
    await asyncio.sleep(0)
    start = now()
    queues[0].put_nowait(HOPS)
    await done
    took = now() - start
    for task in tasks:
        task.cancel()
    return per(HOPS, took)


async def body(queue: asyncio.Queue[int]) -> None:
    while True:
        await queue.get()
        queue.task_done()


async def started(count: int) -> list[tuple[asyncio.Queue[int], asyncio.Task[None]]]:
    made = []
    for _ in range(count):
        queue: asyncio.Queue[int] = asyncio.Queue()
        made.append((queue, asyncio.create_task(body(queue))))
    await asyncio.sleep(0)  # each has run up to its first wait
    return made


def cancel(made: list[tuple[Any, asyncio.Task[None]]]) -> None:
    for _, task in made:
        task.cancel()


async def spawn() -> float:
    start = now()
    made = await started(SPAWNS)
    took = now() - start
    cancel(made)
    return per(SPAWNS, took)


async def kill() -> float:
    took = 0.0
    for _, task in await started(KILLS):
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _, told=told: told.set_result(None))  # type: ignore[misc]
        start = now()
        task.cancel()
        await told
        took += now() - start
    return per(KILLS, took)


async def memory() -> float:
    warm = await started(100)
    before = resident()
    made = await started(ACTORS)
    for queue, _ in made:
        queue.put_nowait(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    after = resident()
    cancel(warm + made)
    return (after - before) / ACTORS


async def alive() -> float:
    start = now()
    made = await started(ALIVE)
    for queue, _ in made:
        queue.put_nowait(1)
    for queue, _ in made:
        await queue.join()
    took = now() - start
    cancel(made)
    return took


def measure() -> dict[str, float]:
    told = asyncio.run(tell())
    return {
        "memory": asyncio.run(memory()),
        "tell": told,
        "tell_async": told,
        **{f.__name__: asyncio.run(f()) for f in (ask, ring, spawn, kill, alive)},
    }
