"""A supervision tree over plain actors that outlives random kills.

    python examples/worker_pool.py

A queue, and behind it a pool of workers and a counter of what they did. Workers and the pool itself are killed at
random while jobs go through; the tree is printed before and after, and the sum at the end is right.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from ramure.actors import Actor, ActorSystem, Ref
from ramure.errors import OperationalError
from ramure.supervisors import ChildSpec, DynamicSupervisor, Supervisor

JOBS = 200
WORKERS = 4


class Worker(Actor):
    """Squares numbers, slowly."""

    async def square(self, number: int) -> int:
        await asyncio.sleep(0.001)
        return number * number


class Counter(Actor):
    """Adds up results; a job counts once, however often it was done."""

    async def init(self) -> None:
        self.results: dict[int, int] = {}

    async def add(self, job: int, result: int) -> None:
        self.results[job] = result

    async def total(self) -> int:
        return sum(self.results.values())


class Pool(DynamicSupervisor):
    """A dynamic supervisor that has its workers from the start."""

    async def init(self, size: int) -> None:  # type: ignore[override]
        await super().init(ChildSpec("worker", Worker), intensity=1000, period=1)
        self.continue_with(size)

    async def handle_continue(self, value: int) -> None:
        for _ in range(value):
            await self.start_child()


async def show(supervisor: Ref[Any], indent: str = "") -> None:
    """Print the tree below a supervisor."""
    print(f"{indent}{supervisor.label}")
    children = await supervisor.proxy().which_children()
    for child in sorted(children, key=lambda child: child.ref.id if child.ref else 0):
        if child.type == "supervisor" and child.ref is not None:
            await show(child.ref, indent + "  ")
        else:
            print(f"{indent}  {child.ref.label if child.ref else child.id} ({child.status})")


async def workers(tree: Ref[Supervisor]) -> list[Ref[Worker]]:
    """The workers that run now."""
    pool = next(child.ref for child in await tree.proxy().which_children() if child.id == "pool")
    if pool is None:
        return []
    return [child.ref for child in await pool.proxy().which_children() if child.ref is not None]


async def do(tree: Ref[Supervisor], counter: Ref[Counter], job: int) -> None:
    """Have a job done by some worker; when that one dies over it, by another."""
    while True:
        try:
            worker = random.choice(await workers(tree))
            await counter.proxy().add(job, await worker.proxy().square(job))
            return
        except (OperationalError, IndexError):  # it died, or there is none just now
            await asyncio.sleep(0.001)


async def havoc(tree: Ref[Supervisor]) -> None:
    """Kill a worker now and then, and sometimes the whole pool."""
    while True:
        await asyncio.sleep(0.005)
        pool = next(child.ref for child in await tree.proxy().which_children() if child.id == "pool")
        victims = await workers(tree) if pool is not None else []
        victim = pool if pool is not None and random.random() < 0.1 else random.choice(victims or [None])
        if victim is not None:
            victim.exit("kill")


async def main() -> None:
    logging.getLogger("ramure").setLevel(logging.CRITICAL)  # the kills are meant
    async with ActorSystem("example") as system:
        tree = await system.start(
            Supervisor,
            [ChildSpec("counter", Counter), ChildSpec("pool", Pool, (WORKERS,), type="supervisor")],
            strategy="one_for_one",
            intensity=1000,
            period=1,
        )
        counter = next(child.ref for child in await tree.proxy().which_children() if child.id == "counter")
        assert counter is not None
        await show(tree)
        trouble = asyncio.create_task(havoc(tree))
        await asyncio.gather(*(do(tree, counter, job) for job in range(JOBS)))
        trouble.cancel()
        for _ in range(1000):  # the last of the killed are back soon
            if len(await workers(tree)) == WORKERS:
                break
            await asyncio.sleep(0.001)
        await show(tree)
        print(f"sum: {await counter.proxy().total()} (right: {sum(job * job for job in range(JOBS))})")


if __name__ == "__main__":
    asyncio.run(main())
