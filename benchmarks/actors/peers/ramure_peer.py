"""ramure's event-loop actors, with everything compiled in: ask timeouts, links, tracing (off)."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.actors.measure import ALIVE, RING, now, per, resident
from ramure.actors import Actor, ActorSystem, Ask, Down, Ref

TELLS, ASKS, HOPS, SPAWNS, KILLS, ACTORS = 100_000, 20_000, 100_000, 20_000, 5_000, 20_000


class Plain(Actor):
    async def init(self) -> None:
        self.seen = 0

    def handle_info(self, message: Any) -> None:
        self.seen += 1

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return request


class Async(Actor):
    async def init(self) -> None:
        self.seen = 0

    async def handle_info(self, message: Any) -> None:
        self.seen += 1

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        return request


class Node(Actor):
    async def init(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.following: Ref[Node] | None = None

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Ref):
            self.following = message
        elif message:
            assert self.following is not None
            self.following.tell(message - 1)
        else:
            self.done.set_result(None)


class Watcher(Actor):
    async def init(self) -> None:
        self.told: asyncio.Future[None]

    async def watch(self, ref: Ref[Any]) -> None:
        self.monitor(ref)

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):
            self.told.set_result(None)


async def tell(kind: type[Actor]) -> float:
    async with ActorSystem() as system:
        ref = await system.start(kind)
        start = now()
        for n in range(TELLS):
            ref.tell(n)
        await ref.ask("all handled")
        return per(TELLS, now() - start)


async def ask() -> float:
    async with ActorSystem() as system:
        ref = await system.start(Plain)
        start = now()
        for n in range(ASKS):
            await ref.ask(n)
        return per(ASKS, now() - start)


async def ring() -> float:
    async with ActorSystem() as system:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refs = [await system.start(Node, done) for _ in range(RING)]
        for ref, following in zip(refs, refs[1:] + refs[:1], strict=True):
            ref.tell(following)
        start = now()
        refs[0].tell(HOPS)
        await done
        return per(HOPS, now() - start)


async def spawn() -> float:
    async with ActorSystem() as system:
        start = now()
        for _ in range(SPAWNS):
            await system.start(Plain)
        return per(SPAWNS, now() - start)


async def kill() -> float:
    async with ActorSystem() as system:
        watcher = await system.start(Watcher)
        refs = [await system.start(Plain) for _ in range(KILLS)]
        took = 0.0
        for ref in refs:
            await watcher.proxy().watch(ref)
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            watcher._cell.actor.told = told  # type: ignore[attr-defined]
            start = now()
            ref.exit("kill")
            await told
            took += now() - start
        return per(KILLS, took)


async def memory() -> float:
    async with ActorSystem() as system:
        warm = [await system.start(Plain) for _ in range(100)]
        before = resident()
        refs = [await system.start(Plain) for _ in range(ACTORS)]
        for ref in refs:
            await ref.ask(1)  # handled one after the other, so that no peak of waiting messages is counted
        after = resident()
        assert len(system.actors()) == len(warm) + ACTORS
        return (after - before) / ACTORS


async def alive() -> float:
    async with ActorSystem() as system:
        start = now()
        refs = [await system.start(Plain) for _ in range(ALIVE)]
        for ref in refs:
            ref.tell(1)
        await refs[-1].ask("all handled")
        took = now() - start
        assert all(ref.is_alive() for ref in refs)
        return took


def measure() -> dict[str, float]:
    return {
        "memory": asyncio.run(memory()),
        "tell": asyncio.run(tell(Plain)),
        "tell_async": asyncio.run(tell(Async)),
        **{f.__name__: asyncio.run(f()) for f in (ask, ring, spawn, kill, alive)},
    }
