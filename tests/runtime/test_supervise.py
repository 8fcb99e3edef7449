"""``supervise``: an explicit tree, whose handle, events and calls are bound to child ids."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from ramure import (
    Event,
    NoSuchEndpoint,
    ProcessEnded,
    UsageError,
    agent,
    agent_process,
    bubble,
    child,
    emit,
    expose,
    spawn,
    supervise,
    wait,
)
from ramure.runtime.trees.supervision import ChildrenFailed, GaveUp
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, ToolCall, virtual_time


class Flaky:
    """A process that fails the first ``times`` times that it is started with a name."""

    def __init__(self, **times: int) -> None:
        self.left = dict(times)

        @agent_process
        async def flaky(name: str) -> str:
            emit("try")
            await asyncio.sleep(1)
            if self.left.get(name, 0) > 0:
                self.left[name] -= 1
                raise ValueError(f"{name} broke")
            return name.upper()

        self.body = flaky


def kinds(events: Any, source: str | None = None) -> list[str]:
    return [event.type for event in events if source is None or event.source == source]


@virtual_time()
async def test_results_come_by_id_when_all_children_have_ended() -> None:
    flaky = Flaky(b=2)

    @agent_process
    async def main() -> tuple[dict[str, str], list[Event]]:
        tree = await supervise(*(child(flaky.body, name, id=name) for name in "abc"))
        return await tree, [event async for event in tree.events]

    results, events = await main()
    assert results == {"a": "A", "b": "B", "c": "C"}
    assert kinds(events, "a") == ["child_started", "try", "done"]
    assert kinds(events, "b") == ["child_started", "try", "restarted", "try", "restarted", "try", "done"]
    assert [event.source for event in events if event.type == "done"] == ["a", "c", "b"]
    assert all(event.source is not None for event in events)  # the tree's own end is that the stream closes
    restarted = [event.data for event in events if event.type == "restarted"]
    assert [(data["incarnation"], data["id"]) for data in restarted] == [(2, "b"), (3, "b")]
    assert "b broke" in restarted[0]["reason"]


@virtual_time()
async def test_intermediate_failures_are_no_endings() -> None:
    flaky = Flaky(a=2)

    @agent_process
    async def main() -> tuple[list[str], int]:
        tree = await supervise(child(flaky.body, "a", id="a"))
        await tree
        return kinds([event async for event in tree["a"].events]), tree["a"].restarts

    assert await main() == (["child_started", "try", "restarted", "try", "restarted", "try", "done"], 2)


@virtual_time()
async def test_too_many_restarts_end_the_tree_with_gave_up() -> None:
    flaky = Flaky(a=100)

    @agent_process
    async def main() -> list[Event]:
        tree = await supervise(
            child(flaky.body, "a", id="a"), child(Flaky().body, "b", id="b"), max_restarts=2, within=60
        )
        with pytest.raises(GaveUp, match="the last was of child 'a', which ended: crashed") as caught:
            await tree
        assert isinstance(caught.value.__cause__, ValueError)
        return [event async for event in tree.events]

    events = await main()
    assert [(event.type, event.source) for event in events][-2:] == [("failed", "a"), ("gave_up", "a")]
    assert kinds(events).count("restarted") == 2
    assert events[-1].data["reason"] == "crashed: ValueError: a broke"


@virtual_time()
async def test_children_that_are_not_restarted_and_failed_are_raised_together() -> None:
    flaky = Flaky(a=1, b=1)

    @agent_process
    async def main() -> None:
        tree = await supervise(*(child(flaky.body, name, id=name, restart="temporary") for name in "abc"))
        with pytest.raises(ChildrenFailed) as caught:
            await tree
        assert sorted(caught.value.failures) == ["a", "b"]
        assert caught.value.results == {"c": "C"}

    await main()


@virtual_time()
async def test_restart_if_chooses_by_exception() -> None:
    flaky = Flaky(a=1)

    @agent_process
    async def main() -> None:
        tree = await supervise(child(flaky.body, "a", id="a", restart_if=LookupError))
        with pytest.raises(ChildrenFailed):
            await tree

    await main()


@virtual_time()
async def test_backoff_delays_restarts_more_and_more() -> None:
    flaky = Flaky(a=3)

    @agent_process
    async def main() -> float:
        backoff = Backoff(first=10, factor=2, limit=15, jitter=0)
        await (await supervise(child(flaky.body, "a", id="a"), max_restarts=5, within=600, backoff=backoff))
        return asyncio.get_running_loop().time()

    assert 4 + 10 + 15 + 15 <= await main() < 50


@virtual_time()
async def test_one_for_all_restarts_the_others_too() -> None:
    flaky = Flaky(a=1)

    @agent_process
    async def stays() -> str:
        emit("began")
        await asyncio.sleep(5)
        return "stayed"

    @agent_process
    async def main() -> tuple[Any, list[str]]:
        tree = await supervise(child(stays, id="s"), child(flaky.body, "a", id="a"), strategy="one_for_all")
        return await tree, kinds([event async for event in tree["s"].events])

    results, events = await main()
    assert results == {"s": "stayed", "a": "A"}
    assert events == ["child_started", "began", "restarted", "began", "done"]


@agent_process
async def server(log: list[int]) -> None:
    log.append(len(log) + 1)
    me = len(log)

    @expose
    async def which() -> int:
        """Which incarnation answers."""
        return me

    @expose
    async def slow() -> int:
        emit("slow")
        await asyncio.sleep(100)
        return me

    emit("ready")
    await wait()


async def kill(tree: Any, id: str) -> None:
    (await tree[id]._slot.process()).ref.exit("kill")


@virtual_time()
async def test_a_call_goes_on_across_a_restart_and_waits_for_it() -> None:
    @agent_process
    async def main() -> list[int]:
        backoff = Backoff(first=30, jitter=0)
        tree = await supervise(child(server, [], id="s"), backoff=backoff)
        first = await tree["s"].call("which")
        await kill(tree, "s")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await tree["s"].call("which")
        second = await tree["s"].call("which")
        with pytest.raises(NoSuchEndpoint):
            await tree["s"].call("other")
        await tree.cancel()
        with pytest.raises(ProcessEnded):
            await tree["s"].call("which")
        return [first, second]

    assert await main() == [1, 2]


@virtual_time()
async def test_a_call_in_flight_when_the_process_dies_raises_and_is_not_sent_again() -> None:
    @agent_process
    async def main() -> list[str]:
        tree = await supervise(child(server, [], id="s"))
        call = asyncio.create_task(tree["s"].call("slow"))
        await tree.events.listen_for("slow")
        await kill(tree, "s")
        with pytest.raises(ProcessEnded, match="calling 'slow'"):
            await call
        assert await tree["s"].call("which") == 2
        await asyncio.sleep(200)
        return kinds(tree["s"].events.snapshot())

    assert await main() == ["child_started", "ready", "slow", "restarted", "ready"]


@virtual_time()
async def test_attach_and_bubble_go_on_across_a_restart() -> None:
    harness = InProcessHarness(lambda c: "ok" if c.new_tool_results else ToolCall("s_which", {}))

    @agent_process
    async def pool() -> None:
        tree = await supervise(child(server, [], id="s"))
        bubble(tree["s"], source="place")
        asker = await agent("asker")
        await tree.events.listen_for("ready")
        await tree["s"].attach(asker, prefix="s_")
        await asker.ask("first")
        await kill(tree, "s")
        await tree.events.listen_for("restarted")
        await asker.ask("second")

    @agent_process(image=harness.image)
    async def main() -> list[str]:
        handle = spawn(pool)
        await handle
        return kinds(handle.events.snapshot(), "place")

    events = await main()
    answers = [result.text for result in harness.requests[-1].conversation.tool_results]
    assert answers == ["1", "2"]
    assert events[:4] == ["child_started", "ready", "restarted", "ready"]
    harness.check()


@virtual_time()
async def test_what_is_attached_to_a_place_gets_the_endpoints_of_a_later_process_in_it() -> None:
    harness = InProcessHarness(lambda c: "ok" if c.new_tool_results else ToolCall("s_late", {}))
    lives: list[int] = []

    @agent_process
    async def fails_first() -> None:
        lives.append(len(lives) + 1)
        await asyncio.sleep(1)
        if len(lives) == 1:
            raise ValueError("before it has exposed anything")

        @expose
        async def late() -> int:
            return len(lives)

        await wait()

    @agent_process(image=harness.image)
    async def main() -> None:
        tree = await supervise(child(fails_first, id="s"))
        asker = await agent("asker")
        await tree["s"].attach(asker, prefix="s_")
        await tree.events.listen_for("restarted")
        await asyncio.sleep(5)
        await asker.ask("first")
        await kill(tree, "s")
        await asyncio.sleep(5)
        await asker.ask("second")

    await main()
    harness.check()
    assert [result.text for result in harness.requests[-1].conversation.tool_results] == ["2", "3"]


@virtual_time()
async def test_streams_keep_as_many_events_as_they_were_told_to() -> None:
    @agent_process(retain=10)
    async def chatty() -> None:
        for number in range(100):
            emit("n", number)
        await wait()

    @agent_process
    async def main() -> list[list[Any]]:
        tree = await supervise(child(chatty, id="c"), retain=20)
        await asyncio.sleep(1)
        record = tree["c"]._slot.record
        assert record is not None
        streams = (record.stream, tree["c"].events, tree.events)
        return [[event.data for event in stream.snapshot()] for stream in streams]

    assert await main() == [list(range(90, 100)), list(range(90, 100)), list(range(80, 100))]


@virtual_time()
async def test_a_permanent_child_is_restarted_after_a_good_end_too() -> None:
    flaky = Flaky()

    @agent_process
    async def main() -> int:
        tree = await supervise(child(flaky.body, "a", id="a", restart="permanent"), max_restarts=3, within=1000)
        with pytest.raises(GaveUp):
            await tree
        return tree["a"].restarts

    assert await main() == 3


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: supervise(), r"at least one child"),
        (lambda: supervise(child(server, [], id=1), child(server, [], id=1)), "two children have the id 1"),
        (lambda: supervise(server), r"give child\(function"),
        (lambda: supervise(child(len)), "decorated with @agent_process"),
        (lambda: supervise(child(server, []), retain=0), r"supervise\(\): retain=0: give a whole number of at least 1"),
    ],
)
def test_what_cannot_be_a_tree_is_refused(wrong: Any, text: str) -> None:
    @agent_process
    async def main() -> None:
        with pytest.raises(UsageError, match=text):
            await wrong()

    @virtual_time()
    async def go() -> None:
        await main()

    go()


@virtual_time()
async def test_farm_five_children_two_of_them_killed_beyond_their_agent_s_limit() -> None:
    harness = InProcessHarness(
        lambda c: "ok" if c.new_tool_results else ToolCall("finish", {"summary": c.last_user_text})
    )
    kills = {"b": 1, "d": 1}

    @agent_process
    async def run_task(spec: str) -> str:
        from ramure import done

        worker = await agent("worker", restart="temporary")

        @worker.on("finish")
        async def on_finish(summary: str) -> str:
            """Call with your result."""
            done(summary)
            return "Recorded."

        if kills.pop(spec, 0):
            harness.kill(worker.address)
            return await wait()  # type: ignore[no-any-return]
        await worker.send(spec)
        return await wait()  # type: ignore[no-any-return]

    @agent_process(image=harness.image)
    async def farm(specs: str) -> tuple[list[str], dict[str, str]]:
        workers = await supervise(
            *(child(run_task, spec, id=spec, restart="transient") for spec in specs),
            max_restarts=3,
            within=60,
            backoff=Backoff(first=1, factor=2, limit=60),
        )
        seen = [event.type async for event in workers.events]
        return seen, await workers

    seen, results = await farm("abcde")
    assert sorted(results) == list("abcde")
    assert all(results[spec].endswith(spec) for spec in "abcde")
    assert Counter(seen) == {"child_started": 5, "restarted": 2, "done": 5}
    harness.check()
