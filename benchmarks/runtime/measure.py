"""One round of the runtime's benchmark: each figure beside that of bare asyncio, which does no more than it must."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import ServerConnection, serve

import ramure
from benchmarks.runtime.fleet import Fleet

EVENTS = 5000
LEVELS = 5
CALLS = 2000
PROCESSES = 1000
TRIPS = 1500
TEXT = "x" * 100

clock = time.perf_counter
"""What says how long something took; ``benchmarks.processes`` measures CPU time."""

Figure = tuple[float, float]
"""Ours, and the reference's."""


async def figures() -> dict[str, Figure]:
    """By name; the two of each are measured right after each other."""
    return {
        "emit → reader, µs an event": (await emit_to_reader(), await queue_to_reader(1)),
        f"bubble through {LEVELS} levels, µs an event": (await bubble(), await queue_to_reader(LEVELS)),
        "handle.call, µs": (await handle_call(), await queue_call()),
        f"{PROCESSES} processes spawned and done, ms": (await processes(), await tasks()),
        "tool round trip, µs": await tool(),
    }


async def in_process(body: Callable[[], Awaitable[float]]) -> float:
    """What ``body`` returns, run as a root process."""
    result: float = await ramure.agent_process(body)()
    return result


# -- streams -----------------------------------------------------------------------------------------------


@ramure.agent_process
async def emitter() -> None:
    for number in range(EVENTS):
        ramure.emit("number", number)
        if number % 100 == 99:
            await asyncio.sleep(0)  # as any program gives the loop its turn


async def emit_to_reader() -> float:
    async def body() -> float:
        began = clock()
        count = 0
        async for event in ramure.spawn(emitter).events:
            count += event.type == "number"
        assert count == EVENTS
        return (clock() - began) / EVENTS * 1e6

    return await in_process(body)


async def bubble() -> float:
    @ramure.agent_process
    async def level(depth: int) -> None:
        handle = ramure.spawn(emitter) if depth == 1 else ramure.spawn(level, depth - 1)
        ramure.bubble(handle)
        await handle

    async def body() -> float:
        began = clock()
        count = 0
        async for event in ramure.spawn(level, LEVELS).events:
            count += event.type == "number"
        assert count == EVENTS
        return (clock() - began) / EVENTS * 1e6

    return await in_process(body)


async def queue_to_reader(hops: int) -> float:
    """A task puts into a queue; so many tasks hand on; this one reads."""
    queues: list[asyncio.Queue[int | None]] = [asyncio.Queue() for _ in range(hops)]

    async def put() -> None:
        for number in range(EVENTS):
            queues[0].put_nowait(number)
            if number % 100 == 99:
                await asyncio.sleep(0)
        queues[0].put_nowait(None)

    async def hand_on(source: asyncio.Queue[int | None], target: asyncio.Queue[int | None]) -> None:
        while (item := await source.get()) is not None:
            target.put_nowait(item)
        target.put_nowait(None)

    began = clock()
    async with asyncio.TaskGroup() as group:
        group.create_task(put())
        for source, target in itertools.pairwise(queues):
            group.create_task(hand_on(source, target))
        while await queues[-1].get() is not None:
            pass
    return (clock() - began) / EVENTS * 1e6


# -- calls and processes -------------------------------------------------------------------------------------


@ramure.agent_process
async def server() -> None:
    @ramure.expose
    async def double(number: int) -> int:
        return 2 * number

    await ramure.wait()


async def handle_call() -> float:
    async def body() -> float:
        handle = ramure.spawn(server)
        await handle.call("double", number=0)
        began = clock()
        for number in range(CALLS):
            assert await handle.call("double", number=number) == 2 * number
        took = clock() - began
        await handle.cancel()
        return took / CALLS * 1e6

    return await in_process(body)


async def queue_call() -> float:
    """A task that takes (number, future) from a queue, and answers."""
    queue: asyncio.Queue[tuple[int, asyncio.Future[int]]] = asyncio.Queue()

    async def serve_calls() -> None:
        while True:
            number, answer = await queue.get()
            answer.set_result(2 * number)

    task = asyncio.create_task(serve_calls())
    began = clock()
    for number in range(CALLS):
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        queue.put_nowait((number, answer))
        assert await answer == 2 * number
    took = clock() - began
    task.cancel()
    return took / CALLS * 1e6


async def processes() -> float:
    @ramure.agent_process
    async def child(number: int) -> int:
        ramure.emit("started", number)
        ramure.done(number)
        result: int = await ramure.wait()
        return result

    async def body() -> float:
        began = clock()
        handles = [ramure.spawn(child, number) for number in range(PROCESSES)]
        for number, handle in enumerate(handles):
            assert await handle == number
        return (clock() - began) * 1e3

    return await in_process(body)


async def tasks() -> float:
    """So many tasks with a queue each: one item to itself, one result."""

    async def child(number: int) -> int:
        queue: asyncio.Queue[int] = asyncio.Queue()
        queue.put_nowait(number)
        await asyncio.sleep(0)
        return await queue.get()

    began = clock()
    started = [asyncio.create_task(child(number)) for number in range(PROCESSES)]
    for number, task in enumerate(started):
        assert await task == number
    return (clock() - began) * 1e3


# -- tools ---------------------------------------------------------------------------------------------------


async def tool() -> Figure:
    """From a report of a call, sent by an agent in another process, to the result there; medians. Between each two calls
    comes the reference: the same text to a bare websockets server beside the run, which decodes and encodes it."""
    async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None) as bare:
        port = bare.sockets[0].getsockname()[1]
        async with Fleet({"calls": TRIPS, "text": TEXT, "echo": f"ws://127.0.0.1:{port}"}) as fleet:

            @ramure.agent_process(image=fleet.image)
            async def body() -> Figure:
                agent = await give_echo()
                done = await fleet.told(f"done {agent.address}")
                return done["ours"] * 1e6, done["bare"] * 1e6

            result: Figure = await body()
    assert fleet.failures == []
    return result


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(json.dumps(json.loads(message)))


async def give_echo() -> ramure.Agent:
    agent = await ramure.agent("worker")

    @agent.on("echo")
    async def answer(text: str) -> str:
        """Say it again."""
        return text

    return agent
