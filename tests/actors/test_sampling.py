"""Who is at work is found from outside; who is not at work is not even hooked."""

from __future__ import annotations

import asyncio
import threading
import time

from ramure.actors import Actor, ActorSystem
from ramure.actors.observe.sampling import Sample, Sampler


class Worker(Actor):
    async def init(self) -> None:
        self.gate = asyncio.Event()

    async def compute(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    async def wait(self) -> None:
        await self.gate.wait()

    def handle_info(self, message: object) -> None:
        if isinstance(message, int) and message:
            self.ref.tell(message - 1)


async def sampled(sampler: Sampler, wanted: int, enough: float) -> Sample:
    """The first sample in which this actor was busy enough, within half a minute."""
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.3)
            sample = sampler.take()
            if wanted in sample.work and sample.work[wanted].busy >= enough:
                return sample


async def test_the_waiting_and_the_computing_are_found_and_the_idle_not_hooked() -> None:
    async with ActorSystem() as system:
        waiting, chatting, computing, idle = [await system.start(Worker) for _ in range(4)]
        blocked = asyncio.ensure_future(waiting.proxy(timeout=None).wait())
        async with Sampler(system) as sampler:
            sample = await sampled(sampler, waiting.id, 0.9)
            assert idle.id not in sample.work
            chatting.tell(10**9)
            sample = await sampled(sampler, chatting.id, 0.01)
            assert sample.work[chatting.id].handled > 100
            assert sample.loop is None or sample.loop > 0.1
            chatting.exit("kill")
            for _ in range(20):
                await computing.proxy(timeout=None).compute(0.05)
            work = [sampler.take().work]
            for _ in range(20):
                await computing.proxy(timeout=None).compute(0.05)
            work.append(sampler.take().work)
            assert work[1][computing.id].busy > 0.5
            assert idle._cell.probe is None
        assert all(cell.probe is None for cell in system.cells.values())
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("sampler")]
        waiting._cell.actor.gate.set()  # type: ignore[attr-defined]
        await blocked


async def test_a_look_at_nothing_is_nothing() -> None:
    async with ActorSystem() as system, Sampler(system) as sampler:
        sampler.take()
        assert sampler.take().work == {}
