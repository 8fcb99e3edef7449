"""A child's events in its parent's stream."""

from __future__ import annotations

import asyncio

from ramure import Event, agent_process, bubble, emit, spawn, wait
from ramure.testing import virtual_time


@agent_process
async def worker(name: str, steps: int = 2) -> str:
    for n in range(steps):
        emit("step", (name, n))
        await asyncio.sleep(1)
    return name


@virtual_time()
async def test_the_default_tag_is_the_child_s_name() -> None:
    @agent_process
    async def pool() -> None:
        handle = spawn(worker, "a")
        bubble(handle)
        await handle

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(pool).events]

    assert await main() == [
        Event("step", ("a", 0), "worker"),
        Event("step", ("a", 1), "worker"),
        Event("done", "a", "worker"),
        Event("done", None),
    ]


@virtual_time()
async def test_a_tag_can_be_given() -> None:
    @agent_process
    async def pool() -> None:
        handle = spawn(worker, "a", 0)
        bubble(handle, source="first")
        await handle

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(pool).events]

    assert await main() == [Event("done", "a", "first"), Event("done", None)]


@virtual_time()
async def test_the_deepest_tag_is_kept() -> None:
    @agent_process
    async def inner() -> None:
        handle = spawn(worker, "a", 1)
        bubble(handle, source="deepest")
        await handle

    @agent_process
    async def outer() -> None:
        handle = spawn(inner)
        bubble(handle, source="middle")
        await handle

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(outer).events]

    assert await main() == [
        Event("step", ("a", 0), "deepest"),
        Event("done", "a", "deepest"),
        Event("done", None, "middle"),
        Event("done", None),
    ]


@virtual_time()
async def test_bubbled_events_always_have_a_source() -> None:
    @agent_process
    async def pool() -> None:
        handle = spawn(worker, "a", 1)
        bubble(handle, source="")
        await handle

    @agent_process
    async def outer() -> None:
        handle = spawn(pool)
        bubble(handle, source="outer")
        await handle

    @agent_process
    async def main() -> list[str | None]:
        return [event.source async for event in spawn(outer).events]

    *bubbled, own = await main()
    assert bubbled == ["", "", "outer"]  # an empty tag is a tag, and kept
    assert own is None


@virtual_time()
async def test_each_child_s_events_are_in_order_and_there_once() -> None:
    @agent_process
    async def pool() -> None:
        handles = [spawn(worker, name, 5) for name in "abc"]
        for handle, name in zip(handles, "abc", strict=True):
            bubble(handle, source=name)
        await asyncio.gather(*handles)

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(pool).events]

    events = await main()
    for name in "abc":
        own = [event for event in events if event.source == name]
        assert own == [*(Event("step", (name, n), name) for n in range(5)), Event("done", name, name)]


@virtual_time()
async def test_a_bubble_that_comes_late_brings_what_was_before_too() -> None:
    @agent_process
    async def pool() -> None:
        handle = spawn(worker, "a", 1)
        await handle
        bubble(handle)

    @agent_process
    async def main() -> list[str]:
        return [event.type async for event in spawn(pool).events]

    assert await main() == ["step", "done", "done"]


@virtual_time()
async def test_what_is_emitted_after_bubble_may_come_before_what_is_bubbled_but_the_ending_is_last() -> None:
    @agent_process
    async def stays() -> None:
        emit("here")
        await wait()

    @agent_process
    async def pool() -> None:
        handle = spawn(stays)
        bubble(handle)
        await handle.events.listen_for("here")
        emit("own")

    @agent_process
    async def main() -> list[Event]:
        return [event async for event in spawn(pool).events]

    events = await main()
    assert sorted((event.type, event.source or "") for event in events[:-1]) == [
        ("cancelled", "stays"),
        ("here", "stays"),
        ("own", ""),
    ]
    assert events[-1] == Event("done", None)
