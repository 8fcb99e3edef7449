"""What a process ends with: the function's value, the ``done`` value, or an error."""

from __future__ import annotations

import asyncio

import pytest

from ramure import ProcessFailed, agent_process, done, fail, spawn, wait
from ramure.testing import virtual_time


@virtual_time()
async def test_the_result_is_what_the_function_returned() -> None:
    @agent_process
    async def main() -> str:
        done("the done value")
        return "the returned value"

    assert await main() == "the returned value"


@virtual_time()
async def test_a_returned_false_value_is_a_result_too() -> None:
    @agent_process
    async def main() -> int:
        done(7)
        return 0

    assert await main() == 0


@virtual_time()
async def test_the_result_is_the_done_value_where_the_function_returned_none() -> None:
    @agent_process
    async def main() -> None:
        done("the done value")

    assert await main() == "the done value"


@virtual_time()
async def test_without_either_the_result_is_none() -> None:
    @agent_process
    async def main() -> None:
        done()

    assert await main() is None


@virtual_time()
async def test_the_first_done_wins() -> None:
    @agent_process
    async def main() -> object:
        done(1)
        done(2)
        fail("too late")
        return await wait()

    assert await main() == 1


@virtual_time()
async def test_a_fail_before_done_wins() -> None:
    @agent_process
    async def main() -> object:
        fail("first")
        done(1)
        return await wait()

    with pytest.raises(ProcessFailed, match="first"):
        await main()


@virtual_time()
async def test_a_fail_that_no_wait_raised_fails_the_process() -> None:
    @agent_process
    async def main() -> str:
        fail("unseen")
        return "a value"

    with pytest.raises(ProcessFailed, match="unseen"):
        await main()


@virtual_time()
async def test_a_fail_that_the_function_has_seen_is_its_own_affair() -> None:
    @agent_process
    async def main() -> str:
        fail("seen")
        try:
            await wait()
        except ProcessFailed as error:
            return f"handled: {error}"
        raise AssertionError

    assert await main() == "handled: seen"


@virtual_time()
async def test_a_fail_after_a_wait_that_timed_out_was_seen_by_nobody() -> None:
    @agent_process
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await wait()
        fail("the build broke")

    with pytest.raises(ProcessFailed, match="the build broke"):
        await main()


@virtual_time()
async def test_a_fail_is_not_seen_by_a_wait_that_is_cancelled_before_it_begins() -> None:
    @agent_process
    async def main() -> None:
        fail("the build broke")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await wait()

    with pytest.raises(ProcessFailed, match="the build broke"):
        await main()


@virtual_time()
async def test_fail_may_be_given_an_exception() -> None:
    error = LookupError("mine")

    @agent_process
    async def main() -> None:
        fail(error)
        await wait()

    with pytest.raises(LookupError) as caught:
        await main()
    assert caught.value is error


@virtual_time()
async def test_an_exception_after_done_fails_the_process() -> None:
    @agent_process
    async def main() -> None:
        done("fine")
        raise ValueError("not fine")

    with pytest.raises(ValueError, match="not fine"):
        await main()


@virtual_time()
async def test_wait_returns_the_same_again() -> None:
    @agent_process
    async def main() -> list[object]:
        done(5)
        return [await wait(), await wait()]

    assert await main() == [5, 5]


@virtual_time()
async def test_a_handle_keeps_the_result() -> None:
    @agent_process
    async def child() -> str:
        return "kept"

    @agent_process
    async def main() -> list[str]:
        handle = spawn(child)
        return [await handle, await handle]

    assert await main() == ["kept", "kept"]


@virtual_time()
async def test_a_handle_keeps_the_error() -> None:
    @agent_process
    async def child() -> None:
        raise ValueError("kept")

    @agent_process
    async def main() -> list[BaseException]:
        handle = spawn(child)
        caught: list[BaseException] = []
        for _ in range(2):
            try:
                await handle
            except ValueError as error:
                caught.append(error)
        return caught

    first, second = await main()
    assert first is second
    assert str(first) == "kept"


@virtual_time()
async def test_exception_groups_stay_whole() -> None:
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])

    @agent_process
    async def child() -> None:
        raise group

    @agent_process
    async def main() -> None:
        await child()

    with pytest.raises(ExceptionGroup) as caught:
        await main()
    assert caught.value is group


@virtual_time()
async def test_a_process_awaited_in_another_gives_its_result_or_raises() -> None:
    @agent_process
    async def half(n: int) -> int:
        if n % 2:
            raise ValueError(f"{n} is odd")
        return n // 2

    @agent_process
    async def main() -> tuple[int, str]:
        even = await half(4)
        try:
            await half(3)
        except ValueError as error:
            return even, str(error)
        raise AssertionError

    assert await main() == (2, "3 is odd")
