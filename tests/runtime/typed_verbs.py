"""Read by type checkers only (test_typing.py): verbs with and without their `await`. A mark stands where it must not pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_type

from ramure import (
    Agent,
    ChildHandle,
    Each,
    ItemResult,
    MachineHandle,
    TreeHandle,
    agent,
    agent_process,
    bubble,
    child,
    connect,
    done,
    each,
    machine,
    spawn,
    start_task,
    supervise,
    wait,
)


@agent_process
async def half(n: int) -> int:
    return n // 2


@agent_process
async def names() -> list[str]:
    return await wait(list[str])


@agent_process
async def results() -> dict[str, int]:
    one = await agent("one")
    assert_type(await one.ask("Which?"), str)
    assert_type(await one.ask("Which?", result=int), int)
    assert_type(await one.ask("Which?", result=list[str], tries=5), list[str])
    assert_type(await wait(dict[str, int]), dict[str, int])
    assert_type(await wait(), Any)
    assert_type(await wait(int | None), Any)
    assert_type(await names(), list[str])
    one.ask("Which?", result=int)  # wrong: no await
    wait(int)  # wrong: no await
    return await wait(dict[str, int])


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


@agent_process
async def size(path: str | Path, unit: str = "bytes") -> str:
    return f"{path} {unit}"


@agent_process
async def trees() -> None:
    tree = await supervise(child(half, 1), child(half, 2, id="b", restart="temporary"), child(half, n=3), limit=2)
    assert_type(tree, TreeHandle[int])
    assert_type(await tree, dict[Any, int])
    assert_type(tree["b"], ChildHandle[int])
    assert_type(await tree["b"], int)
    assert_type(await (await tree.add(child(half, 4, id="c"))), int)
    tree["b"].cancel()
    await tree["b"].cancel()
    await supervise(child(half, 1), child(size, "a", id="a"), child(size, "a", "MB", id="b"))
    await supervise(*(child(size, text, id=text, restart="transient", restart_if=OSError) for text in ("a", "b")))
    replace(child(size, "a", unit="MB"), id="c")
    child(half, "a")  # wrong: it takes a number
    child(half, "a", id="a")  # wrong: it takes a number
    child(half, id="a")  # wrong: it takes an argument
    child(half, 1, 2, id="a")  # wrong: it takes one
    child(numbers)  # wrong: it is no process
    child(half, 1, id="a", restart="never")  # wrong: there is no such choice
    await tree.add(child(size, "a"))  # wrong: its results are texts
    tree["b"].restart()  # wrong: its await is missing
    tree.remove("b")  # wrong: its await is missing


async def numbers() -> AsyncIterator[int]:
    yield 1


@agent_process
async def bounded() -> list[str]:
    working = each(half, [1, 2], limit=2, key=lambda n: n + 1)
    assert_type(working, Each[int, int])
    bubble(working)
    async for result in working:
        assert_type(result, ItemResult[int, int])
        assert_type(result.value, int)
        assert_type(result.item, int)
        assert_type(result.error, Exception | None)
    assert_type(await each(half, numbers()), list[int])
    each(half, ["a"])  # wrong: it takes numbers
    each(numbers, ["a"])  # wrong: it is no process
    each(half, [1], key=str.lower)  # wrong: that takes texts
    paths: list[Path] = []
    return await each(size, paths, key=str)
