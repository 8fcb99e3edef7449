"""Tasks under supervision."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ramure.errors import ActorDied, UsageError
from ramure.exits import Crashed
from ramure.supervisors import DynamicSupervisor
from ramure.supervisors.tasks import TIMED_OUT, Failed, Ok, TaskFailed, TaskSupervisor
from ramure.testing import virtual_time
from tests.supervisors.kit import running


async def double(n: int) -> int:
    await asyncio.sleep(n)
    return 2 * n


async def fail(n: int) -> int:
    raise ValueError(f"no {n}")


@virtual_time()
async def test_a_task_returns_its_value_or_raises_where_it_is_awaited() -> None:
    async with running() as system, TaskSupervisor(system) as tasks:
        assert await (await tasks.async_nolink(double, 3)) == 6
        broken = await tasks.async_nolink(fail, 1)
        with pytest.raises(TaskFailed, match="no 1") as failure:
            await broken
        assert isinstance(failure.value.__cause__, ValueError)
        killed = await tasks.async_nolink(double, 100)
        killed.kill()
        assert await killed.outcome() == Failed("killed")
        with pytest.raises(TaskFailed, match="killed"):
            await killed
        assert tasks.ref.is_alive()


@virtual_time()
async def test_leaving_stops_the_tasks_that_still_run() -> None:
    async with running() as system:
        async with TaskSupervisor(system) as tasks:
            task = await tasks.async_nolink(double, 1000)
        assert await task.outcome() == Failed("shutdown")
        with pytest.raises(ActorDied):
            await tasks.async_nolink(double, 1)
        with pytest.raises(UsageError):
            _ = TaskSupervisor(system).ref
        pool = await system.start(DynamicSupervisor)
        async with TaskSupervisor(system, pool) as tasks:
            assert await (await tasks.async_nolink(double, 1)) == 2
        assert pool.is_alive()


@virtual_time()
async def test_a_stream_is_in_order_with_so_many_at_a_time() -> None:
    at_once: list[int] = [0, 0]

    async def work(n: int) -> int:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(5 - n)
        at_once[0] -= 1
        return n

    async with running() as system, TaskSupervisor(system) as tasks:
        got = [outcome async for outcome in tasks.async_stream(work, range(5), max_concurrency=2, timeout=None)]
        assert got == [Ok(n) for n in range(5)]
        assert at_once[1] == 2
        stream = tasks.async_stream(work, range(5), max_concurrency=5, ordered=False, timeout=None)
        assert [outcome async for outcome in stream] == [Ok(n) for n in (4, 3, 2, 1, 0)]


@virtual_time()
async def test_a_stream_goes_on_past_failures_and_kills_what_takes_too_long() -> None:
    async def work(n: int) -> int:
        if n == 1:
            await fail(n)
        return await double(n)

    async def items() -> AsyncIterator[int]:
        for n in (0, 1, 7, 2):
            yield n

    async with running() as system, TaskSupervisor(system) as tasks:
        good, broken, late, last = [outcome async for outcome in tasks.async_stream(work, items(), timeout=5)]
        assert (good, late, last) == (Ok(0), Failed(TIMED_OUT), Ok(4))
        assert isinstance(broken, Failed)
        assert isinstance(broken.reason, Crashed)
        assert system.clock.monotonic() == 5.0
        assert (await tasks.ref.proxy().count_children()).active == 0
        with pytest.raises(UsageError):
            await anext(tasks.async_stream(work, [1], max_concurrency=0))


@virtual_time()
async def test_tasks_of_a_stream_do_not_outlive_a_killed_reader() -> None:
    async with running() as system, TaskSupervisor(system) as tasks:

        async def read() -> None:
            async for _ in tasks.async_stream(double, [100] * 5, timeout=None):
                pass

        reader = system.spawn(read)
        await asyncio.sleep(1)
        assert (await tasks.ref.proxy().count_children()).active == 5
        reader.exit("kill")
        await asyncio.sleep(1)
        assert (await tasks.ref.proxy().count_children()).active == 0


@virtual_time()
async def test_a_stream_that_is_left_early_kills_what_runs() -> None:
    async with running() as system, TaskSupervisor(system) as tasks:
        async with contextlib.aclosing(tasks.async_stream(double, range(1, 9), max_concurrency=3)) as stream:
            async for outcome in stream:
                assert outcome == Ok(2)
                break
        assert (await tasks.ref.proxy().count_children()).active == 0
