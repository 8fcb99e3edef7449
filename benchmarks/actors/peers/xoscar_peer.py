"""xoscar, all in one process (``n_process=0``). It has neither links nor monitors."""

from __future__ import annotations

import asyncio
from typing import Any

import xoscar

from benchmarks.actors.measure import RING, now, per, resident

TELLS, ASKS, HOPS, SPAWNS, KILLS, ACTORS = 10_000, 5_000, 5_000, 2_000, 1_000, 10_000


class Plain(xoscar.Actor):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.following: Any = None
        self.done: Any = None

    def note(self, message: Any) -> None:
        self.seen += 1

    async def note_async(self, message: Any) -> None:
        self.seen += 1

    def echo(self, request: Any) -> Any:
        return request

    def total(self) -> int:
        return self.seen

    async def join(self, following: Any, last: bool) -> None:
        self.following = following

    async def hop(self, left: int) -> None:
        if left:
            await self.following.hop.tell(left - 1)
        else:
            DONE[0].set_result(None)


DONE: list[asyncio.Future[None]] = []


async def tell(address: str, method: str) -> float:
    ref = await xoscar.create_actor(Plain, address=address)
    start = now()
    for n in range(TELLS):
        await getattr(ref, method).tell(n)
    while await ref.total() < TELLS:  # noqa: ASYNC110  # it is the ask that is awaited
        await asyncio.sleep(0)
    return per(TELLS, now() - start)


async def ask(address: str) -> float:
    ref = await xoscar.create_actor(Plain, address=address)
    start = now()
    for n in range(ASKS):
        await ref.echo(n)
    return per(ASKS, now() - start)


async def ring(address: str) -> float:
    DONE[:] = [asyncio.get_running_loop().create_future()]
    refs = [await xoscar.create_actor(Plain, address=address) for _ in range(RING)]
    for ref, following in zip(refs, refs[1:] + refs[:1], strict=True):
        await ref.join(following, False)
    start = now()
    await refs[0].hop.tell(HOPS)
    await DONE[0]
    return per(HOPS, now() - start)


async def spawn(address: str) -> float:
    start = now()
    for _ in range(SPAWNS):
        await xoscar.create_actor(Plain, address=address)
    return per(SPAWNS, now() - start)


async def kill(address: str) -> float:
    refs = [await xoscar.create_actor(Plain, address=address) for _ in range(KILLS)]
    start = now()
    for ref in refs:
        await xoscar.destroy_actor(ref)  # the nearest that there is: it returns when the actor is gone
    return per(KILLS, now() - start)


async def memory(address: str) -> float:
    refs = [await xoscar.create_actor(Plain, address=address) for _ in range(100)]
    before = resident()
    for _ in range(ACTORS):
        refs.append(await xoscar.create_actor(Plain, address=address))
        await refs[-1].note(1)
    after = resident()
    return (after - before) / ACTORS


async def alive(address: str) -> float:
    from benchmarks.actors.measure import ALIVE

    start = now()
    refs = []
    for _ in range(ALIVE):
        refs.append(await xoscar.create_actor(Plain, address=address))
        await refs[-1].note(1)
    return now() - start


async def with_pool(row: Any, *arguments: Any) -> float:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        return float(await row(pool.external_address, *arguments))


def measure() -> dict[str, float]:
    figures = {"memory": asyncio.run(with_pool(memory))}
    figures["tell"] = asyncio.run(with_pool(tell, "note"))
    figures["tell_async"] = asyncio.run(with_pool(tell, "note_async"))
    for row in (ask, ring, spawn, kill, alive):
        figures[row.__name__] = asyncio.run(with_pool(row))
    return figures
