"""Read by type checkers only (test_typing.py): verbs with and without their `await`. A mark stands where it must not pass."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, assert_type

from ramure import Agent, MachineHandle, agent, agent_process, connect, done, machine, spawn, start_task, wait


@agent_process
async def half(n: int) -> int:
    return n // 2


@agent_process
async def eager_verbs() -> None:
    one, two = await asyncio.gather(agent("one"), agent("two"))
    host, handle = await machine(), spawn(half, 4)
    assert_type(one, Agent)
    assert_type(host, MachineHandle)

    connect(one, two)
    one.send("hello")
    one.interrupt()
    handle.cancel()
    host.stop()

    await connect(one, two)
    await one.send("hello")
    await one.interrupt()
    await handle.cancel()
    await host.stop()

    async with asyncio.TaskGroup() as group:
        group.create_task(one.send("hello"))
    async with asyncio.timeout(5):
        await asyncio.gather(handle.cancel(), host.stop())
    await asyncio.wait_for(asyncio.shield(connect(one, two)), 5)
    asyncio.run_coroutine_threadsafe(one.send("hello"), asyncio.get_running_loop()).result()
    await start_task(handle.cancel())
    act: Coroutine[Any, Any, None] = one.send("hello")
    await act


@agent_process
async def the_others() -> None:
    worker = await agent("worker")
    host = await machine()
    handle = spawn(half, 4)
    assert_type(await handle, int)
    assert_type(await half(4), int)
    assert_type(await worker.ask("How are you?"), str)

    wait()  # wrong: its await is missing
    machine()  # wrong: its await is missing
    agent("other")  # wrong: its await is missing
    worker.ask("How are you?")  # wrong: its await is missing
    host.exec("true")  # wrong: its await is missing
    handle.call("add_task")  # wrong: its await is missing
    half(4)  # wrong: its await is missing
    done(await wait())
