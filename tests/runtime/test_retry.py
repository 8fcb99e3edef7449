"""A retry in the loop: an iteration that has yielded its process's `failed` goes on with the process spawned in its place.

That is the last one that the same task spawned, from the same function, while the loop handled the event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ramure import (
    ProcessFailed,
    agent_process,
    bubble,
    child,
    current_runtime,
    emit,
    spawn,
    supervise,
)
from ramure.testing import virtual_time

tries: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    tries.clear()


@agent_process
async def flaky_task(spec: str, failures: int) -> str:
    tries.append(len(tries) + 1)
    emit("try", len(tries))
    await asyncio.sleep(0.1)
    if len(tries) <= failures:
        raise ConnectionError(f"try {len(tries)}")
    return f"{spec} at try {len(tries)}"


@agent_process
async def other_task(spec: str, failures: int) -> str:
    return "another function's"


@virtual_time()
@pytest.mark.parametrize("failures", [1, 2, 9])
async def test_the_loop_as_printed_gives_the_result_of_the_try_that_succeeds(
    failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    @agent_process
    async def main() -> Any:
        handle = spawn(flaky_task, "a haiku", failures)
        async for event in handle.events:
            if event.type == "failed":
                handle = spawn(flaky_task, "a haiku", failures)
            elif event.type == "done":
                alive = [record.label for record in current_runtime().processes.values() if record.outcome is None]
                assert alive == ["main#1"]
                return event.data
        return "the loop ended"

    assert await main() == f"a haiku at try {failures + 1}"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@virtual_time()
async def test_the_events_of_all_tries_come_in_order_each_with_its_ending() -> None:
    @agent_process
    async def main() -> list[tuple[str, Any]]:
        seen = []
        handle = spawn(flaky_task, "x", 2)
        async for event in handle.events:
            seen.append((event.type, event.data))
            if event.type == "failed":
                handle = spawn(flaky_task, "x", 2)
        return seen

    assert await main() == [
        ("try", 1), ("failed", "ConnectionError: try 1"),
        ("try", 2), ("failed", "ConnectionError: try 2"),
        ("try", 3), ("done", "x at try 3"),
    ]  # fmt: skip


@virtual_time()
async def test_of_several_the_last_counts() -> None:
    @agent_process
    async def main() -> tuple[list[Any], str]:
        seen, others = [], []
        handle = spawn(flaky_task, "first", 1)
        async for event in handle.events:
            if event.type == "failed":
                others.append(spawn(flaky_task, "second", 1))
                spawn(other_task, "third", 1)
                handle = spawn(flaky_task, "fourth", 1)
                spawn(other_task, "fifth", 1)
            if event.type == "done":
                seen.append(event.data)
        return seen, await others[0]

    seen, second = await main()
    assert seen == ["fourth at try 3"]
    assert second == "second at try 3"


async def helper(*args: Any) -> Any:
    await asyncio.sleep(0.1)
    return spawn(flaky_task, *args)


@virtual_time()
async def test_a_helper_that_the_loop_awaits_counts_after_a_pause_too() -> None:
    @agent_process
    async def main() -> Any:
        handle = spawn(flaky_task, "x", 3)
        async for event in handle.events:
            if event.type == "failed":
                await asyncio.sleep(60)
                handle = await helper("x", 3)
            if event.type == "done":
                return event.data
        return None

    assert await main() == "x at try 4"


@virtual_time()
async def test_a_loop_in_a_loop_retries_what_it_is_over() -> None:
    @agent_process
    async def part(name: str) -> str:
        if name not in seen:
            seen.append(name)
            raise ConnectionError(name)
        return name

    seen: list[str] = []

    @agent_process
    async def main() -> list[Any]:
        results = []
        outer = spawn(part, "outer")
        async for event in outer.events:
            if event.type == "failed":
                inner = spawn(part, "inner")
                async for within in inner.events:
                    if within.type == "failed":
                        inner = spawn(part, "inner")
                    if within.type == "done":
                        results.append(within.data)
                outer = spawn(part, "outer")
            if event.type == "done":
                results.append(event.data)
        return results

    assert await main() == ["inner", "outer"]


@virtual_time()
async def test_a_method_is_the_same_function_at_each_look() -> None:
    class App:
        tries = 0

        @agent_process
        async def work(self) -> int:
            self.tries += 1
            if self.tries < 3:
                raise ConnectionError
            return self.tries

    @agent_process
    async def main() -> Any:
        app = App()
        handle = spawn(app.work)
        async for event in handle.events:
            if event.type == "failed":
                handle = spawn(app.work)
            if event.type == "done":
                return event.data
        return None

    assert await main() == 3


# -- as before --------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_with_break_the_loop_is_over() -> None:
    @agent_process
    async def main() -> list[str]:
        seen = []
        handle = spawn(flaky_task, "x", 1)
        async for event in handle.events:
            seen.append(event.type)
            if event.type == "failed":
                handle = spawn(flaky_task, "x", 1)
                break
        return [*seen, await handle]

    assert await main() == ["try", "failed", "x at try 2"]


@virtual_time()
async def test_another_function_another_task_and_a_nested_call_do_not_count() -> None:
    @agent_process
    async def main(how: str) -> list[str]:
        seen = []
        async for event in spawn(flaky_task, "x", 1).events:
            seen.append(event.type)
            if event.type == "failed":
                if how == "function":
                    await spawn(other_task, "x", 1)
                elif how == "task":
                    await (await asyncio.create_task(helper("x", 1)))
                elif how == "call":
                    await flaky_task("x", 1)
                elif how == "tree":
                    await (await supervise(child(flaky_task, "x", 1)))
        return seen

    for how in ("function", "task", "call", "tree", "nothing"):
        tries.clear()
        assert await main(how) == ["try", "failed"]


@virtual_time()
async def test_what_was_spawned_before_the_failure_does_not_count() -> None:
    @agent_process
    async def main() -> list[str]:
        seen = []
        handle = spawn(flaky_task, "x", 5)
        async for event in handle.events:
            seen.append(event.type)
            if event.type == "try":
                spawn(other_task, "x", 0)
                late = spawn(flaky_task, "y", 0)
        assert await late == "y at try 2"
        return seen

    assert await main() == ["try", "failed"]


@virtual_time()
async def test_a_failure_of_a_bubbled_child_is_no_failure_of_the_process() -> None:
    @agent_process
    async def pool() -> str:
        handle = spawn(flaky_task, "x", 1)
        bubble(handle)
        await handle.events.listen_for("failed")
        await asyncio.sleep(1)
        return "pool is done"

    @agent_process
    async def main() -> list[str]:
        seen = []
        handle = spawn(pool)
        async for event in handle.events:
            seen.append(event.type)
            if event.type == "failed":
                assert event.source == "flaky_task"
                await spawn(flaky_task, "y", 1)
        return seen

    assert await main() == ["try", "failed", "done"]


@virtual_time()
async def test_a_second_reader_that_spawns_nothing_ends_at_the_failure() -> None:
    @agent_process
    async def main() -> tuple[list[str], list[str]]:
        handle = spawn(flaky_task, "x", 1)

        async def read(stream: Any, retries: bool) -> list[str]:
            seen = []
            async for event in stream:
                seen.append(event.type)
                if event.type == "failed" and retries:
                    spawn(flaky_task, "x", 1)
            return seen

        first, second = await asyncio.gather(read(handle.events, True), read(handle.events, False))
        return first, second

    assert await main() == (["try", "failed", "try", "done"], ["try", "failed"])


@virtual_time()
async def test_await_handle_and_listen_for_stay_with_their_own_process() -> None:
    @agent_process
    async def main() -> str:
        handle = first = spawn(flaky_task, "x", 1)
        async for event in handle.events:
            if event.type == "failed":
                handle = spawn(flaky_task, "x", 1)
        with pytest.raises(ConnectionError, match="try 1"):
            await first
        assert (await first.events.listen_for("failed")).data == "ConnectionError: try 1"
        assert [event.type for event in first.events.snapshot()] == ["try", "failed"]
        return await handle

    assert await main() == "x at try 2"


@virtual_time()
async def test_who_gives_up_leaves_no_try_behind() -> None:
    @agent_process
    async def main() -> None:
        handle = spawn(flaky_task, "x", 100)
        async for event in handle.events:
            if event.type == "failed":
                if len(tries) == 5:
                    raise ProcessFailed(f"gave up: {event.data}")
                handle = spawn(flaky_task, "x", 100)

    with pytest.raises(ProcessFailed, match="gave up: ConnectionError: try 5"):
        await main()
    assert len(tries) == 5
