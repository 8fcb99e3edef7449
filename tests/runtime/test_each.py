"""``each``: one process for each item, at most so many at once, in a tree of their own."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ramure import (
    Backoff,
    ChildrenFailed,
    ItemResult,
    ProcessCancelled,
    ProcessEnded,
    ProcessFailed,
    Stalled,
    UsageError,
    agent_process,
    bubble,
    current_runtime,
    each,
    emit,
    expose,
    receive,
    self_ref,
    spawn,
    wait,
)
from ramure.runtime.process.scope import current_process
from ramure.runtime.views.tree import run_tree
from ramure.testing import virtual_time
from tests.stalls import no_strangers


class Work:
    """Work on texts: ``slow`` takes 100 s, ``bad`` raises, ``flaky`` raises the first two times, the others take 1 s."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.started: list[str] = []
        self.ended: list[str] = []

        @agent_process
        async def work(text: str) -> str:
            self.started.append(text)
            self.now += 1
            self.most = max(self.most, self.now)
            emit("begun", text)
            try:
                await asyncio.sleep(100 if text.startswith("slow") else 1)
                if text.startswith("bad") or (text.startswith("flaky") and self.started.count(text) < 3):
                    raise ValueError(f"{text} broke")
                return text.upper()
            finally:
                self.now -= 1
                self.ended.append(text)

        self.work = work


async def take_all(results: AsyncIterable[ItemResult[Any, Any]], found: list[ItemResult[Any, Any]]) -> None:
    """Into ``found``, which has them also where the iteration raises."""
    async for result in results:
        found.append(result)  # noqa: PERF401


def labels(node: dict[str, Any]) -> set[str]:
    return {node["label"]}.union(*(labels(child) for child in node["children"]))


@virtual_time()
async def test_results_come_as_the_children_end_and_no_more_than_the_limit_run() -> None:
    work = Work()

    @agent_process
    async def main() -> list[tuple[str, str, int]]:
        items = ["slow", "a", "b", "c", "d"]
        return [(result.item, result.value, result.number) async for result in each(work.work, items, limit=2)]

    assert await main() == [("a", "A", 1), ("b", "B", 2), ("c", "C", 3), ("d", "D", 4), ("slow", "SLOW", 0)]
    assert work.most == 2


@virtual_time()
async def test_awaited_it_returns_all_values_in_the_order_of_the_items() -> None:
    work = Work()

    @agent_process
    async def main() -> list[str]:
        return await each(work.work, ["slow", "a", "flaky", "b"], limit=3)

    assert await main() == ["SLOW", "A", "FLAKY", "B"]
    assert await main() == ["SLOW", "A", "FLAKY", "B"]  # the second time nothing is flaky any more
    assert work.most == 3


@virtual_time()
async def test_no_items_are_no_results() -> None:
    @agent_process
    async def main() -> tuple[list[str], list[Any]]:
        return await each(Work().work, []), [result async for result in each(Work().work, [])]

    assert await main() == ([], [])


@virtual_time()
async def test_a_child_that_failed_is_started_again_with_its_item_and_the_limit_is_each_item_s_own() -> None:
    work = Work()

    @agent_process
    async def main() -> dict[str, str]:
        items = ["flaky 1", "flaky 2", "flaky 3", "bad"]
        found = [result async for result in each(work.work, items, limit=2, max_restarts=2, within=60)]
        return {result.item: repr(result.error or result.value) for result in found}

    broke = repr(ValueError("bad broke"))
    assert await main() == {"flaky 1": "'FLAKY 1'", "flaky 2": "'FLAKY 2'", "flaky 3": "'FLAKY 3'", "bad": broke}
    assert work.started.count("bad") == 3  # 1, and 2 restarts
    assert work.most == 2


@virtual_time()
async def test_restarts_wait_for_the_backoff_and_temporary_children_have_none() -> None:
    work = Work()

    @agent_process
    async def main() -> list[Any]:
        backoff = Backoff(first=10, factor=1, jitter=0)
        assert await each(work.work, ["flaky"], backoff=backoff) == ["FLAKY"]
        took = asyncio.get_running_loop().time()
        return [took, *[result.error async for result in each(work.work, ["bad"], restart="temporary")]]

    took, error = await main()
    assert 23 <= took < 24  # 3 tries, and 10 s before each of two
    assert isinstance(error, ValueError)
    assert work.started.count("bad") == 1


@virtual_time()
async def test_awaited_with_failures_it_raises_them_with_the_results_there_are() -> None:
    work = Work()

    @agent_process
    async def main() -> None:
        await each(work.work, ["a", "bad 1", "b", "bad 2"], max_restarts=0, key=str.title)

    with pytest.raises(ChildrenFailed, match="failed: 'Bad 1', 'Bad 2'") as caught:
        await main()
    assert caught.value.results == {"A": "A", "B": "B"}
    assert {key: str(error) for key, error in caught.value.failures.items()} == {
        "Bad 1": "bad 1 broke",
        "Bad 2": "bad 2 broke",
    }
    assert caught.value.stopped_by is None


@virtual_time()
async def test_a_result_with_an_error_raises_it_for_its_value() -> None:
    @agent_process
    async def main() -> None:
        async for result in each(Work().work, ["bad"], max_restarts=0):
            assert "bad broke" in repr(result)
            with pytest.raises(ValueError, match="bad broke"):
                _ = result.value

    await main()


# -- items ----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_items_are_read_only_as_fast_as_work_is_started_endless_ones_too() -> None:
    read: list[int] = []

    def numbers() -> Iterator[str]:
        while True:
            read.append(len(read))
            yield f"item {len(read)}"

    @agent_process
    async def main() -> None:
        results = aiter(each(Work().work, numbers(), limit=3))
        await anext(results)
        assert len(read) <= 6
        await asyncio.sleep(1000)  # nobody takes a result
        assert len(read) <= 6
        for _ in range(10):
            await anext(results)
        await results.aclose()

    await main()
    assert 11 <= len(read) <= 17


@virtual_time()
async def test_items_may_be_async_and_are_read_in_the_caller_s_process() -> None:
    closed: list[str] = []

    async def items() -> AsyncIterator[str]:
        try:
            for text in "abc":
                await asyncio.sleep(10)
                emit("read", text)
                yield text
            yield "slow"
            yield "slow too"
        finally:
            closed.append("closed")

    @agent_process
    async def main() -> list[str]:
        work = Work()
        async for result in each(work.work, items(), limit=1):
            if result.item == "c":
                break
        handle = spawn(counting)
        await handle
        return [event.data for event in handle.events.snapshot() if event.type == "read"]

    @agent_process
    async def counting() -> None:
        assert await each(Work().work, items()) == ["A", "B", "C", "SLOW", "SLOW TOO"]

    assert await main() == ["a", "b", "c"]
    assert closed == ["closed", "closed"]


@virtual_time()
async def test_items_that_raise_stop_the_reading_and_what_is_under_way_has_its_results() -> None:
    def items() -> Iterator[str]:
        yield "a"
        yield "slow"
        yield "flaky"
        raise ConnectionError("page 2 is gone")

    @agent_process
    async def main() -> list[str]:
        found: list[ItemResult[str, str]] = []
        with pytest.raises(ConnectionError, match="page 2 is gone"):
            await take_all(each(Work().work, items()), found)
        with pytest.raises(ChildrenFailed, match="no more were started: ConnectionError: page 2 is gone") as caught:
            await each(Work().work, items())
        assert caught.value.results == {0: "A", 1: "SLOW", 2: "FLAKY"}
        assert caught.value.failures == {}
        assert isinstance(caught.value.stopped_by, ConnectionError)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.results, str(again)) == (caught.value.results, str(caught.value))
        return [result.item for result in found]

    assert await main() == ["a", "flaky", "slow"]


@virtual_time()
async def test_a_key_that_raises_or_repeats_or_cannot_be_one_is_the_error_of_the_reading() -> None:
    @agent_process
    async def main() -> None:
        with pytest.raises(ChildrenFailed, match="'a', of item 2, is the key of an item before it too") as caught:
            await each(Work().work, ["a", "b", "A", "c"], key=str.lower)
        assert caught.value.results == {"a": "A", "b": "B"}
        found = [result.key async for result in each(Work().work, ["a", "b", "A", "c"], key=str.lower)]
        assert sorted(found) == ["a", "a", "b", "c"]  # an iteration remembers none
        with pytest.raises(UsageError, match=r"\['a'\], of item 0, is not hashable"):
            async for _ in each(Work().work, ["a"], key=list):
                pass
        with pytest.raises(TypeError, match="unbound|descriptor"):
            async for _ in each(Work().work, ["a"], key=bytes.lower):  # type: ignore[arg-type]
                pass

    await main()


@virtual_time()
async def test_a_cancelled_reading_is_not_taken_for_the_end_of_the_items() -> None:
    async def items() -> AsyncIterator[str]:
        yield "a"
        me = asyncio.current_task()
        assert me is not None
        me.cancel()
        await asyncio.sleep(1)

    @agent_process
    async def main() -> None:
        with pytest.raises(ChildrenFailed, match="the process that reads its items was cancelled") as caught:
            await each(Work().work, items())
        assert caught.value.results == {0: "A"}

    await main()


# -- leaving ----------------------------------------------------------------------------------------------------------


async def is_gone(work: Work, count: int) -> None:
    """All that was started has ended, and nothing else is."""
    await asyncio.sleep(5)
    assert work.now == 0
    assert len(work.started) == count
    tree = labels(run_tree(current_runtime()))
    assert not [label for label in tree if "each" in label or "work" in label], tree


@virtual_time()
async def test_an_iteration_that_is_left_ends_the_rest() -> None:
    @agent_process
    async def main() -> None:
        for leave in (by_break, by_error, by_timeout, by_garbage, by_cancel):
            work = Work()
            await leave(work)
            await asyncio.sleep(1)  # in the moment of leaving one more may begin
            begun = len(work.started)
            assert begun in (2, 3)
            await is_gone(work, begun)

    async def by_break(work: Work) -> None:
        async for _ in each(work.work, ["a", "slow", "slow", "slow"], limit=2):
            break

    async def by_error(work: Work) -> None:
        async def divide() -> None:
            async for _ in each(work.work, ["a", "slow"], limit=2):
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            await divide()

    async def by_timeout(work: Work) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(take_all(each(work.work, ["slow", "slow", "slow"], limit=2), []), 10)

    async def by_garbage(work: Work) -> None:
        results = aiter(each(work.work, ["a", "slow", "slow"], limit=2))
        ring: list[Any] = [results]
        ring.append(ring)
        await asyncio.sleep(0.5)
        del results, ring
        gc.collect()

    async def by_cancel(work: Work) -> None:
        async def take_all() -> list[str]:
            return await each(work.work, ["slow", "slow", "slow"], limit=2)

        task = asyncio.create_task(take_all())
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.now == 0  # await has waited for that

    await main()


@virtual_time()
async def test_a_cancelled_anext_takes_no_result_and_ends_nothing() -> None:
    @agent_process
    async def main() -> list[str]:
        results = aiter(each(Work().work, ["slow", "slow too"]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 10)
        return [result.item async for result in results]

    assert sorted(await main()) == ["slow", "slow too"]


@virtual_time()
async def test_it_ends_with_its_process() -> None:
    work = Work()

    @agent_process
    async def owner() -> None:
        await each(work.work, ["slow"] * 10, limit=3)

    @agent_process
    async def main() -> None:
        handle = spawn(owner)
        await asyncio.sleep(5)
        await handle.cancel()
        await is_gone(work, 3)

    await main()
    assert work.ended == ["slow"] * 3


@virtual_time()
async def test_a_tree_that_is_cancelled_from_outside_ends_the_iteration_with_every_item_accounted_for() -> None:
    work = Work()

    @agent_process
    async def main() -> None:
        results = aiter(each(work.work, ["a", "slow 1", "slow 2", "slow 3"], limit=3))
        assert (await anext(results)).item == "a"
        (tree,) = (record for record in current_runtime().processes.values() if record.name == "each")
        assert tree.ref is not None
        tree.ref.exit("kill")
        found: list[ItemResult[str, str]] = []
        with pytest.raises(ProcessFailed, match="killed"):
            await take_all(results, found)
        assert sorted(result.item for result in found) == ["slow 1", "slow 2", "slow 3"]  # one may not have begun
        assert all(result.error is not None for result in found)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    await main()


@virtual_time()
async def test_so_does_the_death_of_its_supervisor() -> None:
    work = Work()

    @agent_process
    async def main() -> None:
        results = aiter(each(work.work, ["a", "slow 1", "slow 2", "slow 3"], limit=3))
        assert (await anext(results)).item == "a"
        (tree,) = (record for record in current_runtime().processes.values() if record.name == "each")
        (supervisor,) = await tree.supervisor("children").proxy().which_children()
        supervisor.ref.exit("kill")
        found: list[ItemResult[str, str]] = []
        with pytest.raises(ProcessEnded, match=r"supervising each#2: the process supervisor has ended \(killed\)"):
            await take_all(results, found)
        assert sorted(result.item for result in found) == ["slow 1", "slow 2", "slow 3"]  # the last was not started
        assert all(isinstance(result.error, ProcessCancelled | ProcessFailed) for result in found)
        await is_gone(work, len(work.started))

    await main()


@virtual_time()
async def test_a_child_that_is_cancelled_has_that_as_its_error_and_one_that_is_killed_is_started_again() -> None:
    lives: dict[str, int] = {}

    @agent_process
    async def ended(how: str) -> str:
        lives[how] = lives.get(how, 0) + 1
        if lives[how] == 1:
            self_ref().exit(how)
            await asyncio.sleep(10)
        return how

    @agent_process
    async def main() -> dict[str, Any]:
        return {result.item: result.error async for result in each(ended, ["kill", "shutdown"])}

    errors = await main()
    assert errors["kill"] is None
    assert isinstance(errors["shutdown"], ProcessCancelled)
    assert lives == {"kill": 2, "shutdown": 1}


@virtual_time()
async def test_an_item_that_is_done_is_not_worked_on_again_where_its_process_is_killed_just_then() -> None:
    started: list[int] = []

    @agent_process
    async def killed(number: int) -> int:
        started.append(number)
        me, process = self_ref(), current_process()
        assert process is not None
        process.stream.subscribe(lambda event: me.exit("kill") if event.type == "done" else None)
        return number

    @agent_process
    async def main() -> list[int]:
        return await each(killed, range(5), limit=1)

    assert await main() == started == [0, 1, 2, 3, 4]


# -- the tree ---------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_its_children_are_in_the_tree_and_their_events_can_be_bubbled() -> None:
    @agent_process
    async def inner(text: str) -> list[str]:
        return await each(Work().work, [f"{text}1", f"{text}2"], name="inner")

    @agent_process
    async def owner() -> set[str]:
        working = each(inner, ["a", "b"], limit=1, key=str.upper, name="outer")
        bubble(working)
        seen: set[str] = set()
        assert working.name == "outer"
        async for _ in working:
            seen |= labels(run_tree(current_runtime()))
        return seen

    @agent_process
    async def main() -> tuple[set[str], list[Any]]:
        handle = spawn(owner)
        return await handle, [event async for event in handle.events]

    seen, events = await main()
    assert {"outer#3", "children of outer#3"} <= seen
    assert [(event.type, event.source, event.data) for event in events if event.type == "done"] == [
        ("done", "A", ["A1", "A2"]),
        ("done", "B", ["B1", "B2"]),
        ("done", None, seen),
    ]


@virtual_time()
async def test_its_stream_keeps_the_newest_events() -> None:
    @agent_process
    async def main() -> tuple[int, list[str]]:
        working = each(Work().work, "abcdef".split() * 1 + ["x", "y"], retain=5)
        results = [result.value async for result in working]
        return len(working.events.snapshot()), results

    kept, results = await main()
    assert kept == 5
    assert sorted(results) == ["ABCDEF", "X", "Y"]


@virtual_time()
async def test_who_waits_in_it_is_not_stalled_while_a_child_may_decide_and_is_when_nothing_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_strangers(monkeypatch)

    @agent_process
    async def fed(text: str) -> str:
        @expose
        async def feed(value: str) -> str:
            return value

        await asyncio.sleep(3600)  # a timer of its own
        return text

    @agent_process(on_idle="fail")
    async def main() -> list[str]:
        assert await each(fed, ["a", "b"], limit=1) == ["a", "b"]
        found: list[ItemResult[str, str]] = []
        with pytest.raises(Stalled, match=r"waits in each\(\)"):
            await take_all(each(Work().work, messages()), found)
        return [result.value for result in found]

    async def messages() -> AsyncIterator[str]:
        self_ref().tell("first")
        while True:
            yield await receive()

    assert await main() == ["FIRST"]


@virtual_time()
async def test_a_child_that_is_stalled_fails_alone() -> None:
    @agent_process(on_idle="fail")
    async def waits(text: str) -> str:
        if text == "b":
            await wait()
        return text

    @agent_process(on_idle="fail")
    async def main() -> list[Any]:
        found = [result async for result in each(waits, ["a", "b", "c"], restart="temporary")]
        return [type(result.error) for result in sorted(found, key=lambda result: result.number)]

    assert await main() == [type(None), Stalled, type(None)]


# -- mistakes ---------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_what_cannot_be_is_refused_with_the_value_and_the_remedy() -> None:
    @agent_process
    async def two(a: str, b: str) -> str:
        return a + b

    async def plain(text: str) -> str:
        return text

    async def coroutine() -> list[str]:
        return []

    work: Any = Work().work
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        (plain, [], {}, "give a function that is decorated with @agent_process"),
        (two, [], {}, r"which it does not take \(missing a required argument: 'b'\)"),
        (work, "abc", {}, "items='abc' is one text; give a list"),
        (work, 5, {}, "items=5 is no iterable; give a list of items"),
        (work, [], {"limit": 0}, "limit=0: give how many may run at once, a whole number of at least 1"),
        (work, [], {"limit": -1}, "limit=-1: give"),
        (work, [], {"limit": True}, "limit=True: give"),
        (work, [], {"limit": None}, "limit=None: give"),
        (work, [], {"restart": "permanent"}, "restart='permanent': choose transient .* a permanent child never has"),
        (work, [], {"max_restarts": -1}, "intensity=-1 is not valid"),
        (work, [], {"within": 0}, "period=0 is not valid"),
        (work, [], {"backoff": 3}, "backoff=3 is not valid; give a Backoff"),
        (work, [], {"key": "name"}, "key='name': give a function of an item"),
        (work, [], {"retain": 0}, "retain=0: give a whole number"),
    ]

    @agent_process
    async def main() -> None:
        for function, items, options, text in wrong:
            with pytest.raises(UsageError, match=text):
                each(function, items, **options)
        forgotten = coroutine()
        with pytest.raises(UsageError, match=r"coroutine\(\) *lacks an `await`|coroutine\(\).*lacks an `await`"):
            each(work, forgotten)  # type: ignore[arg-type]
        forgotten.close()
        once = each(work, ["a"])
        assert await once == ["A"]
        with pytest.raises(UsageError, match="has been iterated over or awaited already: call each"):
            await once

    await main()
    with pytest.raises(UsageError, match=r"each\(\) was called outside of a process"):
        each(work, ["a"])


@virtual_time()
async def test_one_that_nobody_uses_warns_with_its_place() -> None:
    @agent_process
    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=rf"{Path(__file__).name}:\d+, was never iterated over or awaited"):
            each(Work().work, ["a"])

    await main()
