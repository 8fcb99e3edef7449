"""autogen-core's SingleThreadedAgentRuntime. An agent comes into being with its first message, and cannot be killed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)

from benchmarks.actors.measure import ALIVE, RING, now, per, resident

TELLS, ASKS, HOPS, SPAWNS, ACTORS = 3_000, 3_000, 3_000, 2_000, 10_000


@dataclass
class Note:
    number: int


@dataclass
class Hop:
    left: int


class Plain(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("plain")
        self.seen = 0

    @message_handler
    async def note(self, message: Note, ctx: MessageContext) -> Note:
        self.seen += 1
        return message

    @message_handler
    async def hop(self, message: Hop, ctx: MessageContext) -> None:
        if message.left:
            following = TopicId("node", str((int(self.id.key) + 1) % RING))
            await self.publish_message(Hop(message.left - 1), following)
        else:
            DONE[0].set_result(None)


DONE: list[asyncio.Future[None]] = []


async def tell(runtime: SingleThreadedAgentRuntime) -> float:
    start = now()
    for n in range(TELLS):
        await runtime.publish_message(Note(n), TopicId("node", "1"))
    await runtime.stop_when_idle()
    took = now() - start
    runtime.start()
    return per(TELLS, took)


async def ask(runtime: SingleThreadedAgentRuntime) -> float:
    start = now()
    for n in range(ASKS):
        await runtime.send_message(Note(n), AgentId("plain", "1"))
    return per(ASKS, now() - start)


async def ring(runtime: SingleThreadedAgentRuntime) -> float:
    DONE[:] = [asyncio.get_running_loop().create_future()]
    for n in range(RING):
        await runtime.send_message(Note(n), AgentId("plain", str(n)))
    start = now()
    await runtime.publish_message(Hop(HOPS), TopicId("node", "0"))
    await DONE[0]
    return per(HOPS, now() - start)


async def spawn(runtime: SingleThreadedAgentRuntime) -> float:
    start = now()
    for n in range(SPAWNS):
        await runtime.send_message(Note(n), AgentId("plain", f"new{n}"))
    return per(SPAWNS, now() - start)


async def memory(runtime: SingleThreadedAgentRuntime) -> float:
    for n in range(100):
        await runtime.send_message(Note(n), AgentId("plain", f"warm{n}"))
    before = resident()
    for n in range(ACTORS):
        await runtime.send_message(Note(n), AgentId("plain", f"more{n}"))
    return (resident() - before) / ACTORS


async def alive(runtime: SingleThreadedAgentRuntime) -> float:
    start = now()
    for n in range(ALIVE):
        await runtime.send_message(Note(n), AgentId("plain", f"alive{n}"))
    return now() - start


async def with_runtime(row: Any) -> float:
    runtime = SingleThreadedAgentRuntime()
    await Plain.register(runtime, "plain", Plain)
    await runtime.add_subscription(TypeSubscription("node", "plain"))
    runtime.start()
    try:
        return float(await row(runtime))
    finally:
        await runtime.stop()


def measure() -> dict[str, float]:
    figures = {row.__name__: asyncio.run(with_runtime(row)) for row in (memory, tell, ask, ring, spawn, alive)}
    figures["tell_async"] = figures["tell"]  # it knows coroutine functions only
    return figures
