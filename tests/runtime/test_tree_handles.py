"""Handles of a tree and of its children: restart, cancel, await, add, remove; and a limit on how many run at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure import (
    Backoff,
    ChildrenFailed,
    ChildTemporary,
    Event,
    GaveUp,
    ProcessCancelled,
    ProcessEnded,
    Stalled,
    UsageError,
    WaitsForItself,
    agent_process,
    bubble,
    child,
    emit,
    expose,
    receive,
    self_ref,
    spawn,
    supervise,
    wait,
)
from ramure.runtime.trees.handles import ChildHandle
from ramure.testing import virtual_time

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]


@agent_process
async def work(seconds: float, result: str = "done") -> str:
    emit("begun")
    await asyncio.sleep(seconds)
    return result


@agent_process
async def broken(seconds: float) -> str:
    await asyncio.sleep(seconds)
    raise ValueError("broken")


def kinds(events: Any) -> list[str]:
    return [event.type for event in events]


# -- one child --------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_awaiting_a_child_gives_its_result_when_it_has_ended_for_good() -> None:
    tries: list[float] = []

    @agent_process
    async def flaky() -> int:
        tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        if len(tries) < 3:
            raise ValueError(len(tries))
        return len(tries)

    @agent_process
    async def main() -> None:
        tree = await supervise(
            child(flaky, id="a"), child(work, 100, id="b"), child(broken, 5, id="c", restart="temporary")
        )
        assert (await tree["a"], await tree["a"], tree["a"].ended) == (3, 3, True)
        with pytest.raises(ValueError, match="broken"):
            await tree["c"]
        assert not tree["b"].ended
        await tree.cancel()
        with pytest.raises(ProcessCancelled):
            await tree["b"]

    await main()


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual_time()
async def test_a_cancelled_child_ends_for_good_and_the_others_go_on(strategy: str) -> None:
    @agent_process
    async def main() -> list[Event]:
        tree = await supervise(
            child(work, 100, "A", id="a"), child(work, 50, id="b"), child(work, 9, id="c"), strategy=strategy
        )
        await tree["b"].cancel()
        assert tree["b"].ended
        await tree["b"].cancel()  # harmless when repeated
        assert kinds(tree["b"].events.snapshot()) == ["child_started", "begun", "cancelled"]
        with pytest.raises(ProcessCancelled, match="the process b was cancelled"):
            await tree["b"]
        with pytest.raises(ProcessEnded, match="b has ended"):
            await tree["b"].restart()
        with pytest.raises(ChildrenFailed) as caught:
            await tree
        assert caught.value.results == {"a": "A", "c": "done"}
        assert list(caught.value.failures) == ["b"]
        return [event for event in tree.events.snapshot() if event.source == "b"]

    assert kinds(await main()) == ["child_started", "begun", "cancelled"]


@virtual_time()
async def test_the_tree_ends_when_its_last_child_is_cancelled_also_one_that_is_permanent_or_between_two_tries() -> None:
    @agent_process
    async def main() -> None:
        tree = await supervise(
            child(work, 1, id="a"),
            child(work, 1000, id="lasting", restart="permanent"),
            child(broken, 1, id="tries"),
            backoff=Backoff(first=100, jitter=0),
        )
        assert await tree["a"] == "done"
        await asyncio.sleep(5)
        handles = [tree["lasting"].cancel(), tree["tries"].cancel()]
        await asyncio.gather(*handles)
        with pytest.raises(ChildrenFailed) as caught:
            await tree
        assert {id: type(error) for id, error in caught.value.failures.items()} == {
            "lasting": ProcessEnded,
            "tries": ProcessEnded,
        }
        assert asyncio.get_running_loop().time() < 20

    await main()


@virtual_time()
async def test_a_child_may_cancel_itself_and_cannot_wait_for_itself() -> None:
    places: list[ChildHandle[str]] = []

    @agent_process
    async def itself() -> str:
        await asyncio.sleep(1)
        with pytest.raises(WaitsForItself):
            await places[0]
        await places[0].cancel()
        raise AssertionError("it is cancelled with the process")

    @agent_process
    async def main() -> None:
        tree = await supervise(child(itself, id="a"))
        places.append(tree["a"])
        with pytest.raises(ChildrenFailed):
            await tree
        assert kinds(tree["a"].events.snapshot()) == ["child_started", "cancelled"]

    await main()


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual_time()
async def test_restart_ends_a_process_and_returns_when_the_next_one_runs(strategy: str) -> None:
    lives: list[int] = []

    @agent_process
    async def server() -> None:
        lives.append(1)
        life = len(lives)

        @expose
        def which() -> int:
            return life

        await wait()

    @agent_process
    async def main() -> list[Event]:
        tree = await supervise(child(server, id="s"), child(work, 1, id="a"), strategy=strategy, max_restarts=0)
        assert await tree["s"].call("which") == 1
        for life in (2, 3):  # it counts for no limit
            await tree["s"].restart()
            assert await tree["s"].call("which") == life
        await tree["s"].cancel()
        with pytest.raises(ChildrenFailed):
            await tree
        return [*tree["s"].events.snapshot()]

    assert kinds(await main()) == ["child_started", "restarted", "restarted", "cancelled"]


@virtual_time()
async def test_a_temporary_child_is_not_restarted() -> None:
    @agent_process
    async def main() -> str:
        tree = await supervise(child(work, 5, id="a", restart="temporary"))
        with pytest.raises(ChildTemporary):
            await tree["a"].restart()
        return await tree["a"]

    assert await main() == "done"


# -- add and remove ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@virtual_time()
async def test_children_can_be_added_and_removed_while_it_runs(strategy: str) -> None:
    @agent_process
    async def pool() -> dict[str, str]:
        tree = await supervise(child(work, 100, "A", id="a"), strategy=strategy)
        bubble(tree)
        added = await tree.add(child(work, 5, "B", id="b"))
        assert (added.name, list(tree.children)) == ("b", ["a", "b"])
        if strategy == "one_for_one":
            assert await added == "B"
        else:  # it may be started again with another one: its last end is known with the tree's
            await added.events.listen_for("begun")
            await asyncio.sleep(10)
            assert not added.ended
        await tree.add(child(work, 1000, "C", id="c"))
        await tree.remove("c")
        await tree.remove("b")
        with pytest.raises(KeyError):
            await tree.remove("b")
        with pytest.raises(KeyError):
            tree["c"]
        await tree.add(child(work, 7, "B again", id="b"))
        return await tree

    @agent_process
    async def main() -> tuple[dict[str, str], list[tuple[str, str | None]]]:
        handle = spawn(pool)
        result = await handle
        return result, [(event.type, event.source) for event in handle.events.snapshot() if event.type == "cancelled"]

    assert await main() == ({"a": "A", "b": "B again"}, [("cancelled", "c")])


@virtual_time()
async def test_what_cannot_be_added_is_refused() -> None:
    @agent_process
    async def main() -> None:
        tree = await supervise(child(work, 5, id="a"))
        with pytest.raises(UsageError, match=r"tree.add\(\): two children have the id 'a'"):
            await tree.add(child(work, 5, id="a"))
        given: Any = work
        with pytest.raises(UsageError, match=r"tree.add\(<agent process work>\): give child\("):
            await tree.add(given)
        await tree
        with pytest.raises(ProcessEnded, match="adding 'b': the process supervise#2 has ended"):
            await tree.add(child(work, 5, id="b"))
        assert list(tree.children) == ["a"]

    await main()


@virtual_time()
async def test_removing_the_last_child_ends_the_tree_and_an_added_one_counts_for_its_limits() -> None:
    @agent_process
    async def main() -> None:
        tree = await supervise(child(work, 5, id="a"))
        await tree.remove("a")
        assert await tree == {}
        tree = await supervise(child(work, 500, id="a"), max_restarts=1)
        await tree.add(child(broken, 1, id="b"))
        with pytest.raises(GaveUp, match="the last was of child 'b'"):
            await tree

    await main()


# -- a limit ----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_no_more_than_the_limit_run_at_once_in_order_and_through_restarts() -> None:
    running: set[str] = set()
    started: list[str] = []
    most = 0

    @agent_process
    async def counted(name: str) -> str:
        nonlocal most
        started.append(name)
        running.add(name)
        most = max(most, len(running))
        try:
            await asyncio.sleep(1)
            if name in ("b", "d") and started.count(name) == 1:
                raise ValueError(name)
            if name == "e":
                self_ref().exit("kill")
                await asyncio.sleep(100)
            return name.upper()
        finally:
            running.discard(name)

    @agent_process
    async def main() -> dict[str, str]:
        tree = await supervise(
            *(child(counted, name, id=name, restart="temporary" if name == "e" else "transient") for name in "abcde"),
            limit=2,
        )
        assert started == ["a", "b"]
        assert kinds(tree["c"].events.snapshot()) == []
        added = await tree.add(child(counted, "f", id="f"))
        assert kinds(added.events.snapshot()) == []  # it waits for room
        await tree.add(child(counted, "g", id="g"))
        await tree["g"].cancel()  # before it began
        assert await added == "F"
        with pytest.raises(ChildrenFailed) as caught:
            await tree
        assert list(caught.value.failures) == ["e", "g"]
        return caught.value.results

    assert await main() == {name: name.upper() for name in "abcdf"}
    assert list(dict.fromkeys(started)) == list("abcdef")
    assert most == 2


@virtual_time()
async def test_a_call_of_a_child_that_waits_for_room_waits_too_and_a_limit_ends_with_the_tree() -> None:
    @agent_process
    async def server(name: str) -> None:
        @expose
        def who() -> str:
            return name

        await asyncio.sleep(10)

    @agent_process
    async def main() -> None:
        tree = await supervise(*(child(server, name, id=name) for name in "abc"), limit=1)
        assert await tree["b"].call("who") == "b"
        assert tree["a"].ended
        await tree.cancel()
        assert kinds(tree["c"].events.snapshot()) == ["cancelled"]

    await main()


@virtual_time()
async def test_a_limit_that_cannot_be_is_refused() -> None:
    @agent_process
    async def main() -> None:
        for limit in (0, -1, True, "3"):
            with pytest.raises(UsageError, match=rf"limit={limit!r}: give how many may run at once"):
                await supervise(child(work, 1), limit=limit)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="limit=1 with strategy='one_for_all'"):
            await supervise(child(work, 1), limit=1, strategy="one_for_all")
        with pytest.raises(UsageError, match=r"limit=1 with 1 permanent children \('p'\), which never end"):
            await supervise(child(work, 1, id="p", restart="permanent"), child(work, 1, id="a"), limit=1)

    await main()


# -- stalls -----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_who_awaits_a_child_is_not_accused_and_hides_no_stall_nor_do_those_that_wait_for_room() -> None:
    @agent_process(on_idle="fail")
    async def waits() -> None:
        await receive()

    @agent_process(on_idle="fail")
    async def main() -> list[type]:
        tree = await supervise(*(child(waits, id=id, restart="temporary") for id in "abc"), limit=1)
        with pytest.raises(Stalled, match=r"waits in receive\(\)"):
            await tree["a"]
        with pytest.raises(ChildrenFailed) as caught:
            await tree
        return [type(error) for error in caught.value.failures.values()]

    assert await main() == [Stalled] * 3
