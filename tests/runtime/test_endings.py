"""A stream ends with exactly one of ``done``, ``failed`` and ``cancelled``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from ramure import (
    ActorDied,
    Event,
    ProcessHandle,
    UsageError,
    agent,
    agent_process,
    done,
    emit,
    expose,
    fail,
    spawn,
    wait,
)
from ramure.runtime.process.stream import ENDINGS
from ramure.testing import InProcessHarness, virtual_time


@agent_process
async def returns() -> str:
    emit("a")
    return "value"


@agent_process
async def says_done() -> None:
    emit("a")
    done("value")


@agent_process
async def raises() -> None:
    emit("a")
    raise ValueError("broken")


@agent_process
async def says_fail() -> None:
    emit("a")
    fail("broken")
    await wait()


@agent_process
async def waits() -> None:
    emit("a")
    await wait()


@agent_process
async def raises_without_a_text() -> None:
    emit("a")
    raise AssertionError


@agent_process
async def fails_without_a_text() -> None:
    emit("a")
    fail("")
    await wait()


@agent_process(timeout=3)
async def too_slow() -> None:
    emit("a")
    await wait()


async def nothing(handle: ProcessHandle[object]) -> None:
    pass


async def cancel(handle: ProcessHandle[object]) -> None:
    await handle.cancel()


async def cancel_why(handle: ProcessHandle[object]) -> None:
    await handle.cancel("not needed any more")


async def kill(handle: ProcessHandle[object]) -> None:
    (await handle.ref()).exit("kill")


async def kill_for_a_reason(handle: ProcessHandle[object]) -> None:
    (await handle.ref()).exit({"code": 5})


ENDS = [
    (returns, nothing, Event("done", "value")),
    (says_done, nothing, Event("done", "value")),
    (raises, nothing, Event("failed", "ValueError: broken")),
    (says_fail, nothing, Event("failed", "ProcessFailed: broken")),
    (raises_without_a_text, nothing, Event("failed", "AssertionError")),
    (fails_without_a_text, nothing, Event("failed", "ProcessFailed: it failed, and gave no reason")),
    (
        too_slow,
        nothing,
        Event("failed", "ProcessTimeout: the process too_slow#2 did not end within its timeout of 3 s"),
    ),
    (waits, cancel, Event("cancelled", "shutdown")),
    (waits, cancel_why, Event("cancelled", "not needed any more")),
    (waits, kill, Event("failed", "ProcessFailed: killed")),
    (waits, kill_for_a_reason, Event("failed", "ProcessFailed: exit signal from <Process 'main#1'>: {'code': 5}")),
]


@pytest.mark.parametrize(("child", "then", "ending"), ENDS, ids=lambda each: getattr(each, "__name__", None))
def test_a_stream_has_exactly_one_ending_and_it_is_last(
    child: Callable[[], Awaitable[object]], then: Callable[[ProcessHandle[object]], Awaitable[None]], ending: Event
) -> None:
    @agent_process
    async def main() -> list[Event]:
        handle = spawn(child)
        await handle.events.listen_for("a")
        await then(handle)
        return [event async for event in handle.events]

    @virtual_time()
    async def go() -> None:
        first, *between, last = await main()
        assert first == Event("a")
        assert all(event.type == "stalled" for event in between)  # its own timeout= does not keep it from being that
        assert (last.type, re.sub(r" #\d+>", ">", last.data), last.source) == (ending.type, ending.data, None)

    go()


@virtual_time()
async def test_a_process_s_own_events_have_no_source() -> None:
    @agent_process
    async def main() -> list[Event]:
        handle = spawn(returns)
        return [event async for event in handle.events]

    assert [event.source for event in await main()] == [None, None]


@virtual_time()
async def test_the_endings_cannot_be_emitted() -> None:
    @agent_process
    async def main() -> list[str]:
        errors = []
        for type in (*sorted(ENDINGS), ""):
            with pytest.raises(UsageError, match="emit") as caught:
                emit(type)
            errors.append(str(caught.value))
        return errors

    assert len(await main()) == 4


@virtual_time()
async def test_the_ending_follows_what_the_cleanup_and_the_handlers_emit() -> None:
    @agent_process
    async def child() -> None:
        @expose
        async def slow() -> None:
            emit("handler began")
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(1)
                emit("handler ended")

        emit("ready")
        try:
            await wait()
        finally:
            await asyncio.sleep(0.5)
            emit("cleaned up")

    @agent_process
    async def main() -> list[str]:
        handle = spawn(child)
        await handle.events.listen_for("ready")
        call = asyncio.create_task(handle.call("slow"))
        await handle.events.listen_for("handler began")
        await handle.cancel()
        with pytest.raises(Exception, match="has ended"):
            await call
        return [event.type async for event in handle.events]

    assert await main() == ["ready", "handler began", "cleaned up", "handler ended", "cancelled"]


@virtual_time()
async def test_a_process_that_could_not_start_has_an_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    @agent_process
    async def never() -> None:
        raise AssertionError("not to be run")

    @agent_process
    async def main() -> list[Event]:
        def no_recorder(record: object) -> None:
            raise OSError("no room")

        monkeypatch.setattr("ramure.runtime.process.process.Recorder", no_recorder)
        handle = spawn(never)
        with pytest.raises(Exception, match="no room"):
            await handle
        return [event async for event in handle.events]

    [event] = await main()
    assert (event.type, event.source) == ("failed", None)
    assert "no room" in event.data


@virtual_time()
async def test_what_is_spawned_when_its_parent_has_ended_its_children_has_an_ending() -> None:
    harness = InProcessHarness([])
    spawned: list[ProcessHandle[str]] = []

    @agent_process
    async def parent() -> None:
        async def spawns() -> None:  # a task that the process does not own
            async for event in worker.events:
                if event.type == "state" and event.data["state"] == "ended":
                    spawned.append(spawn(returns))
                    return

        worker = await agent("worker")
        left.append(asyncio.create_task(spawns()))

    left: list[asyncio.Task[None]] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        await spawn(parent)
        await asyncio.gather(*left)
        with pytest.raises(ActorDied, match=r"children of parent#2"):
            await spawned[0]

    await main()
    assert [event.type for event in spawned[0].events.snapshot()] == ["failed"]
