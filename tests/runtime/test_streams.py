"""What readers of a stream are promised: order, replay, bounds, and that they hold nobody up."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from typing import Any

import pytest

from ramure import (
    Event,
    EventStream,
    UsageError,
    agent_process,
    bubble,
    child,
    current_runtime,
    done,
    emit,
    fail,
    spawn,
    supervise,
    wait,
)
from ramure.runtime.process.messages import Done
from ramure.runtime.process.scope import current_process
from ramure.runtime.process.stream import ListenTimeout, StreamClosed
from ramure.testing import virtual_time


def counted(stream: EventStream) -> list[Any]:
    return [event.data for event in stream.snapshot() if event.type == "n"]


@virtual_time()
async def test_no_subscriber_is_called_within_emit() -> None:
    @agent_process
    async def emitter() -> list[str]:
        await wait()  # until it is subscribed to
        seen.append("before")
        emit("n", 1)
        emit("n", 2)
        seen.append("after")
        await asyncio.sleep(0)
        return seen

    seen: list[str] = []

    @agent_process
    async def main() -> list[str]:
        handle = spawn(emitter)
        handle.events.subscribe(lambda event: seen.append(f"{event.type} {event.data}") if event.type == "n" else None)
        (await handle.ref()).tell(Done(None))
        return await handle

    assert await main() == ["before", "after", "n 1", "n 2"]


@virtual_time()
async def test_a_subscriber_that_emits_for_each_event_does_not_put_off_the_end() -> None:
    @agent_process
    async def emitter() -> None:
        emit("n", 0)
        await asyncio.sleep(0)

    @agent_process
    async def main() -> bool:
        handle = spawn(emitter)
        bubble(handle)
        seen: list[Event] = []

        def again(event: Event) -> None:
            seen.append(event)
            if event.type in ("n", "again"):
                emit("again")

        me = current_process()
        assert me is not None
        me.stream.subscribe(again)
        await handle
        return len(seen) > 1

    assert await main()


@virtual_time()
async def test_the_stream_is_in_program_order() -> None:
    @agent_process
    async def child() -> None:
        for n in range(100):
            emit("n", n)
            if n % 7 == 0:
                await asyncio.sleep(0)

    @agent_process
    async def main() -> list[int]:
        handle = spawn(child)
        return [event.data async for event in handle.events if event.type == "n"]

    assert await main() == list(range(100))


@virtual_time()
async def test_a_late_reader_gets_everything_also_after_closing() -> None:
    @agent_process
    async def child() -> None:
        emit("n", 1)
        emit("n", 2)

    @agent_process
    async def main() -> list[list[Event]]:
        handle = spawn(child)
        await handle
        assert handle.events.closed
        return [[event async for event in handle.events] for _ in range(2)]

    first, second = await main()
    assert first == second == [Event("n", 1), Event("n", 2), Event("done", None)]


@virtual_time()
async def test_readers_do_not_take_events_from_each_other() -> None:
    @agent_process
    async def child() -> None:
        for n in range(10):
            await asyncio.sleep(1)
            emit("n", n)

    @agent_process
    async def main() -> list[list[int]]:
        handle = spawn(child)

        async def read(delay: float) -> list[int]:
            await asyncio.sleep(delay)
            return [event.data async for event in handle.events if event.type == "n"]

        return await asyncio.gather(read(0), read(4.5), read(100))

    assert await main() == [list(range(10))] * 3


@virtual_time()
async def test_events_say_when_they_were_emitted_and_their_place_in_the_stream_that_they_are_read_from() -> None:
    @agent_process
    async def worker(seconds: float) -> None:
        await asyncio.sleep(seconds)
        emit("n", seconds)

    @agent_process
    async def pool() -> None:
        first, second = spawn(worker, 2), spawn(worker, 1)
        bubble(second, source="b")
        bubble(first, source="a")
        emit("begun")
        await asyncio.gather(first, second)

    @agent_process
    async def main() -> tuple[float, list[Event], list[Event]]:
        handle = spawn(pool)
        began = current_runtime().system.clock.wall()
        await handle
        handle.events.retain(2)
        return began, [event async for event in handle.events], [*handle.events.snapshot()]

    before = time.time()
    began, events, last = await main()
    assert [event.number for event in events] == [3, 4, 5]
    assert [(event.type, event.source) for event in events] == [("missed", None), ("done", "a"), ("done", None)]
    assert [event.number for event in last] == [4, 5]
    assert before <= began <= last[0].at <= last[1].at <= time.time()
    assert Event("n") == Event("n", at=1.0, number=7)  # which are no part of what it says


@virtual_time()
async def test_a_bubbled_event_keeps_its_time() -> None:
    @agent_process
    async def worker() -> None:
        emit("n")

    @agent_process
    async def main() -> tuple[list[Event], list[Event]]:
        tree = await supervise(child(worker, id="a"))
        await tree
        return [*tree["a"].events.snapshot()], [*tree.events.snapshot()]

    of_child, of_tree = await main()
    assert [event.type for event in of_child] == ["child_started", "n", "done"]
    assert [event.number for event in of_child] == [event.number for event in of_tree] == [0, 1, 2]
    assert of_child[1].at == of_tree[1].at > 0


@virtual_time()
async def test_retain_bounds_what_is_kept_and_a_late_reader_is_told_what_it_missed() -> None:
    @agent_process(retain=3)
    async def child() -> None:
        for n in range(10):
            emit("n", n)

    @agent_process
    async def main() -> list[Event]:
        handle = spawn(child)
        await handle
        assert len(handle.events) == 11
        return [event async for event in handle.events]

    assert await main() == [Event("missed", {"count": 8}), Event("n", 8), Event("n", 9), Event("done", None)]


@virtual_time()
async def test_a_handle_s_stream_can_be_bounded_later() -> None:
    @agent_process
    async def child() -> None:
        for n in range(5):
            emit("n", n)
        await wait()

    @agent_process
    async def main() -> tuple[list[Event], list[Event]]:
        handle = spawn(child)
        await handle.events.listen_for("n", where=lambda event: event.data == 4)
        handle.events.retain(2)
        bounded = list(handle.events.snapshot())
        await handle.cancel()
        handle.events.retain(None)
        return bounded, [event async for event in handle.events]

    bounded, read = await main()
    assert bounded == [Event("n", 3), Event("n", 4)]
    assert read == [Event("missed", {"count": 4}), Event("n", 4), Event("cancelled", "shutdown")]


def test_the_text_of_what_is_kept_can_be_bounded_too() -> None:
    stream = EventStream(3, most_text=100)
    for n, size in enumerate((40, 40, 30, 1, 1, 1, 500, 2)):
        stream.publish(Event("n", {"x": ["y" * (size - 1)]}))
        kept = [len(event.data["x"][0]) + 1 for event in stream.snapshot()]
        assert kept == [[40], [40, 40], [40, 30], [40, 30, 1], [30, 1, 1], [1, 1, 1], [500], [2]][n]
        assert len(stream) == n + 1
    stream.retain(2)
    for size in (300, 300, 300):
        stream.publish(Event("n", "y" * size))
    assert [len(event.data) for event in stream.snapshot()] == [300, 300]
    assert len(stream) == 11


def test_retain_keeps_one_event_at_least() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        EventStream(retain=0)
    with pytest.raises(UsageError, match="at least 1"):
        EventStream().retain(-1)


@virtual_time()
async def test_a_reader_that_falls_behind_is_told_too() -> None:
    stream = EventStream(retain=2)
    stream.publish(Event("n", 0))
    reader = aiter(stream)
    assert (await anext(reader)).data == 0
    for n in range(1, 6):
        stream.publish(Event("n", n))
    assert [await anext(reader) for _ in range(3)] == [Event("missed", {"count": 3}), Event("n", 4), Event("n", 5)]


@virtual_time()
async def test_a_slow_reader_never_holds_up_who_emits() -> None:
    @agent_process
    async def child() -> float:
        for n in range(50):
            emit("n", n)
            await asyncio.sleep(0.02)
        return asyncio.get_running_loop().time()

    @agent_process
    async def main() -> tuple[float, int]:
        handle = spawn(child)
        read = 0
        async for _ in handle.events:
            await asyncio.sleep(10)
            read += 1
        return await handle, read

    ended, read = await main()
    assert ended < 2
    assert read == 51


@virtual_time()
async def test_readers_that_left_cost_nothing() -> None:
    stream = EventStream()
    callbacks = [stream.subscribe(lambda event: None) for _ in range(100)]
    for _ in range(100):
        reader = asyncio.create_task(anext(aiter(stream)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
    for subscription in callbacks:
        subscription.cancel()
        subscription.cancel()
    gc.collect()
    assert not stream._wakers
    assert not stream._subscriptions


@virtual_time()
async def test_subscribe_calls_for_each_event_to_come() -> None:
    @agent_process
    async def child() -> None:
        emit("n", 1)
        await wait()

    @agent_process
    async def main() -> tuple[list[str], list[str]]:
        handle = spawn(child)
        await handle.events.listen_for("n")
        new: list[str] = []
        every: list[str] = []
        handle.events.subscribe(lambda event: new.append(event.type))
        handle.events.subscribe(lambda event: every.append(event.type), replay=True)
        await handle.cancel()
        return new, every

    assert await main() == (["cancelled"], ["n", "cancelled"])


@virtual_time()
async def test_a_subscriber_s_error_is_reported_and_ends_nothing() -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["message"]))

    @agent_process
    async def child() -> str:
        await asyncio.sleep(1)
        emit("n", 1)
        return "fine"

    @agent_process
    async def main() -> str:
        handle = spawn(child)

        def broken(event: Event) -> None:
            raise ValueError(event.type)

        handle.events.subscribe(broken)
        return await handle

    assert await main() == "fine"
    assert len(reported) == 2


@virtual_time()
async def test_listen_for_finds_the_first_event_of_a_type() -> None:
    @agent_process
    async def child() -> None:
        for n in range(5):
            emit("n", n)
            await asyncio.sleep(10)

    @agent_process
    async def main() -> list[Any]:
        events = spawn(child).events
        found = [await events.listen_for("n"), await events.listen_for("n", where=lambda event: event.data > 2)]
        with pytest.raises(ListenTimeout, match="no event of type 'm' within 5 s"):
            await events.listen_for("m", timeout=5)
        with pytest.raises(StreamClosed, match="without an event of type 'm'"):
            await events.listen_for("m")
        return [event.data for event in found]

    assert await main() == [0, 3]


@virtual_time()
async def test_snapshot_is_what_there_is_now() -> None:
    @agent_process
    async def child() -> None:
        emit("n", 1)
        await wait()

    @agent_process
    async def main() -> tuple[tuple[Event, ...], tuple[Event, ...]]:
        handle = spawn(child)
        before = handle.events.snapshot()
        await handle.events.listen_for("n")
        return before, handle.events.snapshot()

    assert await main() == ((), (Event("n", 1),))


# -- threads --------------------------------------------------------------------------------------------------


@virtual_time()
async def test_emit_done_and_fail_work_from_threads() -> None:
    @agent_process
    async def child(how: str) -> Any:
        def work() -> None:
            emit("from", threading.current_thread() is not threading.main_thread())
            done("value") if how == "done" else fail("broken")

        await asyncio.to_thread(work)
        return await wait()

    @agent_process
    async def main() -> list[Event]:
        found = []
        for how in ("done", "fail"):
            found += [event async for event in spawn(child, how).events]
        return found

    assert await main() == [
        Event("from", True),
        Event("done", "value"),
        Event("from", True),
        Event("failed", "ProcessFailed: broken"),
    ]


def test_the_order_across_threads_is_that_of_the_calls() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    @agent_process
    async def child() -> list[int]:
        lock, order = threading.Lock(), []

        def work(thread: int) -> None:
            for n in range(300):
                with lock:  # so that it is known which call came first
                    order.append(thread * 1000 + n)
                    emit("n", thread * 1000 + n)

        await asyncio.gather(*(asyncio.to_thread(work, thread) for thread in range(4)))
        return order

    @agent_process
    async def main() -> None:
        handle = spawn(child)
        assert await handle == counted(handle.events)

    try:
        asyncio.run(main())
    finally:
        sys.setswitchinterval(before)


# -- failures that nobody sees -----------------------------------------------------------------------------------


@agent_process
async def breaks() -> None:
    raise ValueError("broken")


@virtual_time()
async def test_a_failure_that_nobody_sees_is_named_at_once_the_first_ten_and_the_others_at_the_parent_s_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @agent_process
    async def main() -> None:
        for _ in range(12):
            spawn(breaks)
        await asyncio.sleep(1)

    with caplog.at_level(logging.WARNING, "ramure.runtime"):
        await main()
    *first, last = [record.getMessage() for record in caplog.records]
    assert len(first) == 10
    assert "its child breaks#2, spawned at " in first[0]
    assert "failed while nobody awaited it: ValueError: broken" in first[0]
    assert "children of main#1 failed (breaks#12: ValueError: broken; breaks#13: ValueError: broken)" in last


@pytest.mark.parametrize("how", ["await", "async for", "listen_for", "subscribe", "bubble"])
def test_a_failure_that_somebody_saw_is_not_named(how: str, caplog: pytest.LogCaptureFixture) -> None:
    from ramure import bubble

    @agent_process
    async def parent() -> None:
        handle = spawn(breaks)
        match how:
            case "await":
                with pytest.raises(ValueError, match="broken"):
                    await handle
            case "async for":
                async for _ in handle.events:
                    pass
            case "listen_for":
                await handle.events.listen_for("failed")
            case "subscribe":
                handle.events.subscribe(lambda event: None)
            case "bubble":
                bubble(handle)
        await asyncio.sleep(1)

    @agent_process
    async def main() -> None:
        await parent()

    @virtual_time()
    async def go() -> None:
        await main()

    go()
    assert not caplog.records
