"""Virtual time: it jumps when nothing else is to be done, and never before."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ramure.testing.virtual import DeadlockError, VirtualClock, VirtualLoop, run_virtual, virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def quick() -> Iterator[None]:
    """Fails the test when it takes more than 30 real seconds (it does hours of virtual ones).

    Where another test's machine has threads, each step of virtual time waits for what they might still bring.
    """
    limit = 30 if threading.active_count() == 1 else 60
    started = time.monotonic()
    yield
    assert time.monotonic() - started < limit


@pytest.mark.usefixtures("quick")
def test_a_long_sleep_takes_no_real_time() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 86_400


@pytest.mark.usefixtures("quick")
def test_timers_fire_in_their_order_and_time_does_not_go_back() -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, loop.time()))

        await asyncio.gather(sleeper("c", 3000), sleeper("a", 0.1), sleeper("b", 7))
        return seen

    assert run_virtual(main()) == [("a", 0.1), ("b", 7), ("c", 3000)]


@pytest.mark.usefixtures("quick")
def test_small_steps_far_out_are_not_lost_to_rounding() -> None:
    async def main() -> None:
        await asyncio.sleep(1e9)
        for _ in range(100):
            await asyncio.sleep(1e-9)

    run_virtual(main(), limit=1e10)


@pytest.mark.usefixtures("quick")
def test_time_outs_are_virtual() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 600


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


@pytest.mark.usefixtures("quick")
def test_sockets_work_and_are_waited_for_before_time_jumps() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(60)
            writer.write(line)
        writer.close()

    async def main() -> tuple[float, list[bytes]]:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            lines = []
            for n in range(20):
                writer.write(b"%d\n" % n)
                async with asyncio.timeout(61):
                    lines.append(await reader.readline())
            writer.close()
            await writer.wait_closed()
        return asyncio.get_running_loop().time(), lines

    assert run_virtual(main()) == (1200, [b"%d\n" % n for n in range(20)])


@pytest.mark.usefixtures("quick")
def test_work_in_threads_ends_before_time_jumps() -> None:
    async def main() -> float:
        async with asyncio.timeout(10):
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.05) for _ in range(4)))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


@pytest.mark.usefixtures("quick")
def test_a_thread_that_waits_for_virtual_time_gets_it() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        gate = threading.Event()
        loop.call_later(3600, gate.set)
        await asyncio.to_thread(gate.wait)
        return f"{loop.time():g}"

    assert run_virtual(main(), thread_grace=0.05) == "3600"


@pytest.mark.usefixtures("quick")
def test_threads_may_call_while_tasks_are_drawn_from() -> None:
    """A queue that is looked through while another thread appends to it must bear that."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that the threads meet often
    try:
        assert run_virtual(_calls_from_a_thread(), seed=1) == 2_000
    finally:
        sys.setswitchinterval(interval)


async def _calls_from_a_thread() -> int:
    loop = asyncio.get_running_loop()
    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1

    def work() -> None:
        for _ in range(2_000):
            loop.call_soon_threadsafe(called)

    async def spin() -> None:
        while calls < 2_000:
            await asyncio.sleep(0)

    await asyncio.gather(asyncio.to_thread(work), *(spin() for _ in range(8)))
    return calls


@pytest.mark.usefixtures("quick")
def test_a_foreign_thread_can_wake_the_loop_where_no_timer_is_set() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()
        gate = threading.Event()

        def work() -> None:
            gate.wait(0.1)
            loop.call_soon_threadsafe(done.set_result, "hello")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            return await done
        finally:
            thread.join()

    assert run_virtual(main()) == "hello"


@pytest.mark.usefixtures("quick")
def test_what_can_never_come_is_an_error_that_names_each_task_and_place() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stuck(), name="the stuck one")
        await task

    with pytest.raises(DeadlockError, match="nothing is scheduled") as caught:
        run_virtual(main())
    assert re.search(r"the stuck one waits in \S+\.stuck \(\S+test_virtual\.py:\d+\)", str(caught.value))


@pytest.mark.usefixtures("quick")
def test_a_socket_that_never_speaks_is_an_error_too() -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await asyncio.get_running_loop().sock_recv(left, 1)

    with pytest.raises(DeadlockError, match=r"nothing came from sockets or threads in 0\.05 real seconds"):
        run_virtual(main(), deadlock_after=0.05)


@pytest.mark.usefixtures("quick")
def test_a_heartbeat_does_not_keep_a_dead_program_alive_for_ever() -> None:
    async def main() -> None:
        async def heartbeat() -> None:
            while True:
                await asyncio.sleep(1)

        task = asyncio.create_task(heartbeat())
        await asyncio.Event().wait()
        task.cancel()

    with pytest.raises(DeadlockError, match="not done after 3600 virtual seconds"):
        run_virtual(main(), limit=3600)


def interleaving(seed: int | None, *, shuffle_tasks: bool = True) -> str:
    async def main() -> str:
        seen: list[str] = []

        async def worker(name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*(worker(name) for name in "abcdef"))
        return "".join(seen)

    return run_virtual(main(), seed=seed, shuffle_tasks=shuffle_tasks)


def test_a_seed_draws_the_order_of_tasks_and_the_same_seed_the_same() -> None:
    plain = interleaving(None)
    assert plain == "abcdef" * 3
    assert interleaving(7, shuffle_tasks=False) == plain
    orders = {seed: interleaving(seed) for seed in range(20)}
    assert {seed: interleaving(seed) for seed in range(20)} == orders
    assert len(set(orders.values())) > 15
    assert all(sorted(order) == sorted(plain) for order in orders.values())


@pytest.mark.parametrize("seed", range(30))
def test_what_asyncio_promises_holds_with_any_seed(seed: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[object] = []
        for n in range(10):
            loop.call_soon(seen.append, n)

        async def step() -> None:
            seen.append("task")

        task = asyncio.create_task(step())
        loop.call_soon(seen.append, "after")
        await task
        await asyncio.sleep(0)
        assert seen == [*range(10), "task", "after"]

        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
        received: list[int] = []

        async def consume() -> None:
            while (item := await queue.get()) >= 0:
                received.append(item)

        consumer = asyncio.create_task(consume())
        for n in range(20):
            await queue.put(n)
        await queue.put(-1)
        await consumer
        assert received == list(range(20))

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line)
            writer.close()
            await writer.wait_closed()

        async def client(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for n in range(3):
                writer.write(b"%d\n" % n)
                assert await reader.readline() == b"%d\n" % n
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*(client(port) for _ in range(3)))

    run_virtual(main(), seed=seed)


def test_a_scheduler_of_its_own_draws_from_the_same_seed() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert loop.random is not None
        return [loop.random.randrange(100) for _ in range(5)]

    assert run_virtual(main(), seed=3) == run_virtual(main(), seed=3) != run_virtual(main(), seed=4)


def test_the_virtual_clock_gives_the_same_day_each_time() -> None:
    async def main() -> tuple[float, float]:
        clock = VirtualClock()
        await clock.sleep(90)
        return clock.monotonic(), clock.wall()

    assert run_virtual(main()) == (90, 1_600_000_090)


def test_an_exception_and_a_cancelled_main_leave_as_from_asyncio_run() -> None:
    cleaned: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1e5)
        finally:
            cleaned.append("yes")

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        assert not task.done()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_virtual(main())
    assert cleaned == ["yes"]


@virtual_time(seed=1)
async def test_the_decorator_makes_a_plain_test(tmp_path: object) -> None:
    await asyncio.sleep(3600)
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    assert tmp_path


def test_the_decorated_function_is_plain() -> None:
    assert not inspect.iscoroutinefunction(test_the_decorator_makes_a_plain_test)
