"""What may not grow: the memory of a long stream, and of many agents that call tools for long."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ramure
from benchmarks.runtime.fleet import Fleet
from benchmarks.runtime.measure import TEXT, give_echo
from ramure.agents import delivery as protocol
from ramure.runtime.process import ownership

MB = 1 << 20
EVENTS = 1_000_000
RETAIN = 1000
KEPT = 10


def resident() -> float:
    """MB that this process occupies."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


@dataclass(frozen=True)
class Growth:
    """Memory after a part of the work, and at its end, in MB."""

    early: float
    late: float

    @property
    def ratio(self) -> float:
        return self.late / self.early


async def long_stream() -> Growth:
    """A stream with a million events, of which it keeps 1,000; one reader keeps up, one has left."""
    stream = ramure.EventStream(retain=RETAIN)
    read = 0

    async def reader() -> None:
        nonlocal read
        async for event in stream:
            read += event.type == "number"

    async def leaver() -> None:
        async for _ in stream:
            return

    task, left = asyncio.create_task(reader()), asyncio.create_task(leaver())
    early = 0.0
    for number in range(EVENTS):
        stream.publish(ramure.Event("number", number))
        if number % 100 == 99:
            await asyncio.sleep(0)
        if number == EVENTS // 20:
            early = resident()
    late = resident()
    stream.close()
    await asyncio.gather(task, left)
    assert read == len(stream) == EVENTS
    assert len(stream.snapshot()) == RETAIN
    return Growth(early, late)


@dataclass(frozen=True)
class Crowd:
    """What came of many agents."""

    agents: int
    seconds: float
    started: float
    """Seconds until all were ready."""
    calls: int
    failures: list[str]
    memory: Growth

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


async def crowd(agents: int, seconds: float, pause: float) -> Crowd:
    """So many agents on one gateway, each with a tool that it calls, with such a pause between."""
    with little_kept():
        return await _crowd(agents, seconds, pause)


@contextlib.contextmanager
def little_kept() -> Iterator[None]:
    """An agent keeps its last events and results, as many as would take it hours to make here. With fewer, it holds
    all that it ever will after some seconds, and whatever grows then is a leak."""
    before = ownership.AGENT_EVENTS, protocol.KEPT_RESULTS
    ownership.AGENT_EVENTS = protocol.KEPT_RESULTS = KEPT  # type: ignore[misc]
    try:
        yield
    finally:
        ownership.AGENT_EVENTS, protocol.KEPT_RESULTS = before  # type: ignore[misc]


async def _crowd(agents: int, seconds: float, pause: float) -> Crowd:
    async with Fleet({"pause": pause, "text": TEXT}) as fleet:

        @ramure.agent_process
        async def one() -> None:
            await give_echo()
            ramure.emit("ready")
            await ramure.wait()

        @ramure.agent_process(image=fleet.image)
        async def body() -> Crowd:
            began = time.perf_counter()
            handles = [ramure.spawn(one) for _ in range(agents)]
            for handle in handles:
                await handle.events.listen_for("ready", timeout=120)
            started = time.perf_counter() - began
            await asyncio.sleep(seconds / 3)
            early, calls = resident(), await fleet.count()
            at = time.perf_counter()
            await asyncio.sleep(seconds * 2 / 3)
            calls = await fleet.count() - calls
            took = time.perf_counter() - at
            late = resident()
            ended = [handle for handle in handles if handle.ended]
            failures = [*fleet.failures, *(f"{handle!r} ended" for handle in ended)]
            return Crowd(agents, took, started, calls, failures, Growth(early, late))

        result: Crowd = await body()
    return result


@contextlib.contextmanager
def own_home(directory: Path) -> Iterator[None]:
    """Runs keep their logs and sockets in ``directory``."""
    before = os.environ.get("RAMURE_HOME")
    os.environ["RAMURE_HOME"] = str(directory)
    try:
        yield
    finally:
        del os.environ["RAMURE_HOME"]
        if before is not None:
            os.environ["RAMURE_HOME"] = before
