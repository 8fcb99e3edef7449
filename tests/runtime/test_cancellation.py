"""Each way to cancel a process: it cleans up, within bounds, and its stream ends with ``cancelled``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ramure import (
    Event,
    ProcessCancelled,
    ProcessEnded,
    ProcessTimeout,
    agent_process,
    child,
    done,
    emit,
    expose,
    spawn,
    start_task,
    supervise,
    wait,
)
from ramure.runtime.process.cleanup import CLEANUP
from ramure.testing import virtual_time


class Cleaning:
    """A process that says how its end went."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.raised: BaseException | None = None

        @agent_process
        async def body() -> None:
            emit("ready")
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError as error:
                self.raised = error
                await asyncio.sleep(1)
                self.said.append("cleaned up")
                emit("cleaned up")
                raise

        self.body = body


def ended_in_order(cleaning: Cleaning, events: tuple[Event, ...]) -> None:
    assert cleaning.said == ["cleaned up"]
    assert isinstance(cleaning.raised, asyncio.CancelledError)
    assert [event.type for event in events] == ["ready", "cleaned up", "cancelled"]


@virtual_time()
async def test_handle_cancel_returns_when_all_is_cleaned_up() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> None:
        handle = spawn(cleaning.body)
        await handle.events.listen_for("ready")
        await handle.cancel()
        assert handle.ended
        ended_in_order(cleaning, handle.events.snapshot())
        for _ in range(2):
            with pytest.raises(ProcessCancelled, match=r"body#2 was cancelled \(shutdown\)"):
                await handle
        await handle.cancel()  # harmless when repeated

    await main()


@virtual_time()
async def test_cancelling_the_caller_of_a_process_cancels_it_and_raises_when_it_is_cleaned_up() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> None:
        caller = asyncio.create_task(cleaning.body())
        await asyncio.sleep(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert cleaning.said == ["cleaned up"]

    await main()


@virtual_time()
async def test_cleanup_is_shielded_from_a_caller_that_is_cancelled_again() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> None:
        caller = asyncio.create_task(cleaning.body())
        await asyncio.sleep(1)
        for _ in range(3):
            caller.cancel()
            await asyncio.sleep(0.1)
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert cleaning.said == ["cleaned up"]

    await main()


@virtual_time()
async def test_asyncio_timeout_around_a_process_cancels_it() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await cleaning.body()
        assert cleaning.said == ["cleaned up"]
        return asyncio.get_running_loop().time()

    assert 11 <= await main() < 12


@virtual_time()
async def test_a_task_group_that_fails_cancels_the_processes_in_it() -> None:
    cleaning = Cleaning()

    @agent_process
    async def breaks() -> None:
        await asyncio.sleep(5)
        raise ValueError("broken")

    @agent_process
    async def main() -> None:
        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(cleaning.body())
                group.create_task(breaks())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert [str(error) for error in caught.value.exceptions] == ["broken"]
        assert cleaning.said == ["cleaned up"]

    await main()


@virtual_time()
async def test_asyncio_timeout_around_a_handle_leaves_the_process_alone() -> None:
    @agent_process
    async def slow() -> str:
        await asyncio.sleep(100)
        return "done"

    @agent_process
    async def main() -> str:
        handle = spawn(slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await handle
        return await handle

    assert await main() == "done"


@virtual_time()
async def test_the_parent_s_end_cancels_its_children() -> None:
    cleaning = Cleaning()
    streams = []

    @agent_process
    async def main() -> str:
        handle = spawn(cleaning.body)
        await handle.events.listen_for("ready")
        streams.append(handle.events)
        return "over"

    assert await main() == "over"
    ended_in_order(cleaning, streams[0].snapshot())


@virtual_time()
async def test_the_parent_s_failure_cancels_its_children_too() -> None:
    cleaning = Cleaning()

    @agent_process
    async def parent() -> None:
        await spawn(cleaning.body).events.listen_for("ready")
        raise ValueError("broken")

    @agent_process
    async def main() -> None:
        with pytest.raises(ValueError, match="broken"):
            await parent()
        assert cleaning.said == ["cleaned up"]

    await main()


@virtual_time()
async def test_a_killed_parent_s_children_are_cancelled_before_its_stream_ends() -> None:
    cleaning = Cleaning()

    @agent_process
    async def parent() -> None:
        inner = spawn(cleaning.body)
        await inner.events.listen_for("ready")
        emit("ready")
        await inner

    @agent_process
    async def main() -> None:
        handle = spawn(parent)
        await handle.events.listen_for("ready")
        (await handle.ref()).exit("kill")
        with pytest.raises(Exception, match="killed"):
            await handle
        assert cleaning.said == ["cleaned up"]

    await main()


@virtual_time()
async def test_the_process_s_own_timeout_fails_it() -> None:
    said: list[str] = []

    @agent_process(timeout=10)
    async def slow() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
            said.append("cleaned up")

    @agent_process
    async def main() -> tuple[float, list[str]]:
        handle = spawn(slow)
        with pytest.raises(ProcessTimeout, match=r"slow#2 did not end within its timeout of 10 s") as caught:
            await handle
        assert isinstance(caught.value, TimeoutError)
        return asyncio.get_running_loop().time(), [event.type for event in handle.events.snapshot()]

    took, events = await main()
    assert 11 <= took < 12
    assert said == ["cleaned up"]
    assert events == ["failed"]


@virtual_time()
async def test_a_root_s_timeout_fails_the_run() -> None:
    @agent_process(timeout=10)
    async def main() -> None:
        await wait()

    with pytest.raises(ProcessTimeout):
        await main()


@virtual_time()
async def test_a_supervisor_s_shutdown_cancels_its_children() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> list[str]:
        tree = await supervise(child(cleaning.body, id="c"))
        await tree.events.listen_for("ready")
        await tree.cancel()
        assert cleaning.said == ["cleaned up"]
        return [event.type for event in tree["c"].events.snapshot()]

    assert (await main())[-2:] == ["cleaned up", "cancelled"]


@virtual_time()
async def test_cancelling_the_root_ends_the_run_in_order_and_raises_cancelled() -> None:
    cleaning = Cleaning()

    @agent_process
    async def main() -> None:
        await cleaning.body()

    root = asyncio.create_task(main())
    await asyncio.sleep(5)
    root.cancel()
    with pytest.raises(asyncio.CancelledError):
        await root
    assert cleaning.said == ["cleaned up"]


@virtual_time()
async def test_children_end_one_by_one_the_last_started_first() -> None:
    order: list[str] = []

    @agent_process
    async def part(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            order.append(f"{name} is told")
            await asyncio.sleep(seconds)
            order.append(f"{name} ended")

    @agent_process
    async def main() -> None:
        for name, seconds in (("first", 0.1), ("second", 2.0), ("third", 1.0)):
            spawn(part, name, seconds)
        await asyncio.sleep(1)

    await main()
    assert order == [f"{name} {what}" for name in ("third", "second", "first") for what in ("is told", "ended")]


# -- code that does not want to end ----------------------------------------------------------------------------------


@virtual_time()
async def test_cleanup_that_takes_too_long_is_bounded_and_named(caplog: pytest.LogCaptureFixture) -> None:
    @agent_process
    async def hangs() -> None:
        emit("ready")
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1e6)

    @agent_process
    async def main() -> tuple[float, list[str]]:
        handle = spawn(hangs)
        await handle.events.listen_for("ready")
        before = asyncio.get_running_loop().time()
        await handle.cancel()
        return asyncio.get_running_loop().time() - before, [event.type for event in handle.events.snapshot()]

    with caplog.at_level(logging.WARNING, "ramure.runtime"):
        took, events = await main()
    assert CLEANUP <= took < CLEANUP + 1
    assert events == ["ready", "cancelled"]
    [text] = [record.getMessage() for record in caplog.records]
    assert "'process hangs#2' of the process hangs#2 did not end within 3 s" in text


@virtual_time()
async def test_a_body_that_swallows_its_cancellation_is_bounded() -> None:
    turns: list[float] = []

    @agent_process
    async def stubborn() -> str:
        emit("ready")
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                turns.append(asyncio.get_running_loop().time())

    @agent_process
    async def main() -> float:
        handle = spawn(stubborn)
        await handle.events.listen_for("ready")
        before = asyncio.get_running_loop().time()
        await handle.cancel()
        with pytest.raises(ProcessCancelled):
            await handle
        took = asyncio.get_running_loop().time() - before
        await asyncio.sleep(100)
        return took

    assert await main() < CLEANUP + 1
    assert len(turns) == 1


@virtual_time()
async def test_a_body_that_swallows_its_cancellation_and_returns_is_cancelled_all_the_same() -> None:
    @agent_process
    async def returns() -> str:
        emit("ready")
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            return "a value"
        return ""

    @agent_process
    async def main() -> list[Event]:
        handle = spawn(returns)
        await handle.events.listen_for("ready")
        await handle.cancel()
        return list(handle.events.snapshot())

    assert await main() == [Event("ready"), Event("cancelled", "shutdown")]


@virtual_time()
async def test_a_kill_is_final_even_if_the_body_swallows_it() -> None:
    after: list[Any] = []

    @agent_process
    async def stubborn() -> None:
        emit("ready")
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                try:
                    emit("still here")
                except ProcessEnded as error:
                    after.append(str(error))

    @agent_process
    async def main() -> list[str]:
        handle = spawn(stubborn)
        await handle.events.listen_for("ready")
        (await handle.ref()).exit("kill")
        with pytest.raises(Exception, match="killed"):
            await handle
        await asyncio.sleep(100)
        return [event.type for event in handle.events.snapshot()]

    assert await main() == ["ready", "failed"]
    assert set(after) == {"emit(): the process stubborn#2 has ended"}


@virtual_time()
async def test_an_exception_in_the_cleanup_does_not_hide_that_it_was_cancelled() -> None:
    @agent_process
    async def breaks() -> None:
        emit("ready")
        try:
            await asyncio.sleep(1e6)
        finally:
            raise ValueError("in the cleanup")

    @agent_process
    async def main() -> list[str]:
        handle = spawn(breaks)
        await handle.events.listen_for("ready")
        await handle.cancel("enough")
        return [event.type for event in handle.events.snapshot()]

    assert await main() == ["ready", "cancelled"]


@virtual_time()
async def test_a_nested_process_dies_with_its_caller() -> None:
    cleaning = Cleaning()

    @agent_process
    async def outer() -> None:
        emit("ready")
        await cleaning.body()

    @agent_process
    async def main() -> None:
        handle = spawn(outer)
        await handle.events.listen_for("ready")
        await asyncio.sleep(1)
        await handle.cancel()
        assert cleaning.said == ["cleaned up"]

    await main()


# -- tasks that the process owns -----------------------------------------------------------------------------------------


@virtual_time()
async def test_start_task_is_cancelled_at_the_process_s_end_and_may_clean_up() -> None:
    @agent_process
    async def owner() -> str:
        async def beside() -> None:
            try:
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(1)
                emit("cleaned up")

        task = start_task(beside(), name="beside")
        await asyncio.sleep(1)
        assert task.get_name() == "beside"
        return "done"

    @agent_process
    async def main() -> list[str]:
        return [event.type async for event in spawn(owner).events]

    assert await main() == ["cleaned up", "done"]


@virtual_time()
async def test_a_failure_of_a_started_task_is_the_process_s() -> None:
    @agent_process
    async def owner() -> None:
        async def breaks() -> None:
            await asyncio.sleep(5)
            raise ValueError("beside")

        start_task(breaks())
        await asyncio.sleep(1e6)

    @agent_process
    async def main() -> None:
        with pytest.raises(ValueError, match="beside"):
            await owner()

    await main()


@virtual_time()
async def test_a_started_task_has_a_value_and_may_decide_the_process() -> None:
    @agent_process
    async def owner() -> Any:
        async def value() -> int:
            done("decided")
            return 5

        return [await start_task(value()), await wait()]

    @agent_process
    async def main() -> Any:
        return await owner()

    assert await main() == [5, "decided"]


@virtual_time()
async def test_tasks_that_a_body_created_itself_and_left_pending_are_named_in_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forgotten: list[asyncio.Task[None]] = []
    said: list[str] = []

    async def later() -> None:
        await asyncio.sleep(10)
        try:
            emit("too late")
        except ProcessEnded as error:
            said.append(str(error))

    @agent_process
    async def sloppy() -> None:
        @expose
        async def another() -> None:
            forgotten.append(asyncio.create_task(later(), name="three"))

        forgotten.append(asyncio.create_task(later(), name="one"))
        forgotten.append(asyncio.create_task(later(), name="two"))
        start_task(asyncio.sleep(1e6), name="owned")
        await asyncio.create_task(asyncio.sleep(0.5), name="awaited")
        await wait()

    @agent_process
    async def main() -> None:
        handle = spawn(sloppy)
        await handle.call("another")
        await handle.cancel()
        await asyncio.sleep(1)
        assert len(caplog.records) == 1
        await asyncio.wait(forgotten)

    with caplog.at_level(logging.WARNING, "ramure.runtime"):
        await main()
    [text] = [record.getMessage() for record in caplog.records]
    assert "sloppy#2 ended and left tasks of its own pending: one, three, two; await them" in text
    assert said == ["emit(): the process sloppy#2 has ended"] * 3
