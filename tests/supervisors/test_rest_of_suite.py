"""OTP's supervisor_SUITE: restart loops, names, order and scale. Each test has the name of its case there."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ramure.actors import Ref
from ramure.errors import AskTimeout
from ramure.supervisors import (
    Backoff,
    ChildRestarting,
    ChildSpec,
    DynamicSupervisor,
    StartWith,
    Supervisor,
    SupervisorStopping,
    TooManyChildren,
)
from ramure.testing import virtual_time
from tests.supervisors.kit import Tree, Worker, end, restarted, running, spec, start, start_dynamic


class Gate:
    """A start that fails, after a second, for as long as it is shut."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.shut = False

    async def __call__(self, *args: Any) -> Ref[Any]:
        if self.shut:
            await self.system.clock.sleep(1)
            raise ValueError("the gate is shut")
        return await self.system.start_link(Worker, *args)


async def hanging(tree: Tree, gate: Gate, id: str) -> None:
    """The calls of OTP's case, while the child's restart fails again and again."""
    for call, error in ((tree.calls.restart_child, ChildRestarting), (tree.calls.delete_child, ChildRestarting)):
        try:
            await call(id)
        except error:
            continue
        raise AssertionError(f"{call.__name__} should have been refused")
    assert (await tree.states())[id] == "restarting"
    await tree.calls.terminate_child(id)
    gate.shut = False
    assert await tree.calls.restart_child(id)


@virtual_time()
async def test_hanging_restart_loop() -> None:
    async with running() as system:
        gate = Gate(system)
        tree = await start(system, spec("child1", StartWith(gate)), spec("child2"), intensity=8, period=10)
        gate.shut = True
        await tree.end("child1", "error")
        await hanging(tree, gate, "child1")
        gate.shut = True
        last = await tree.end("child1", "error")
        await tree.ref.stop("shutdown")
        assert await last.wait() == "error"


@virtual_time()
async def test_hanging_restart_loop_rest_for_one() -> None:
    async with running() as system:
        gate = Gate(system)
        children = (spec("child1"), spec("child2", StartWith(gate)), spec("child3"))
        tree = await start(system, *children, strategy="rest_for_one", intensity=8, period=10)
        third = await tree.ref_of("child3")
        gate.shut = True
        await tree.end("child2", "error")
        assert await third.wait() == "shutdown"
        assert await tree.states() == {"child1": "running", "child2": "restarting", "child3": "undefined"}
        await hanging(tree, gate, "child2")
        assert (await tree.states())["child3"] == "undefined"
        await tree.ref.stop()


@virtual_time()
async def test_hanging_restart_loop_simple() -> None:
    async with running() as system:
        gate = Gate(system)
        tree = await start_dynamic(system, spec("w", StartWith(gate)), intensity=8, period=10)
        ref = await tree.calls.start_child()
        gate.shut = True
        await end(ref, "error")
        assert await tree.counts() == (1, 0, 0, 1)
        assert [info.status for info in await tree.calls.which_children()] == ["restarting"]
        await tree.calls.terminate_child(ref)
        assert await tree.calls.which_children() == ()
        gate.shut = False
        assert await tree.calls.start_child()
        await tree.ref.stop()


async def test_simple_global_supervisor() -> None:
    """The supervisor and its children have names; a restarted child takes its name again."""
    async with running() as system:

        async def named(name: str) -> Ref[Any]:
            return await system.options(name=name, link=True).start(Worker)

        events: list[Any] = []
        pool = await system.options(name="pool").start(
            DynamicSupervisor, spec("w", StartWith(named)), on_event=events.append
        )
        tree = Tree(pool, events)
        assert system.whereis("pool") is pool
        first = await tree.calls.start_child("one")
        assert system.whereis("one") is first
        await end(first, "crash")
        await tree.counts()
        second = system.whereis("one")
        assert second is not None
        assert second is not first


async def test_order_of_children() -> None:
    """Start order, and its reverse in stopping, do not depend on what the ids look like."""
    ids = ["ch7", "ch3", "ch10", "ch2", "ch5"]
    async with running() as system:
        ends: list[str] = []

        class Noting(Worker):
            async def init(self, id: str) -> None:  # type: ignore[override]
                self.trap_exit = True
                self.id = id

            def terminate(self, reason: object) -> None:
                ends.append(self.id)

        tree = await start(system, *(spec(id, Noting, id) for id in ids), strategy="rest_for_one", intensity=2)
        before = await tree.refs()
        assert list(before) == ids
        assert [before[id].id for id in ids] == sorted(ref.id for ref in before.values())
        await tree.end("ch10", "kill")
        await tree.settled()
        assert ends == ["ch5", "ch2"]
        now = await tree.refs()
        assert list(now) == ids
        assert [now[id].id for id in ids] == sorted(ref.id for ref in now.values())
        assert [id for id in ids if now[id] is before[id]] == ["ch7", "ch3"]
        ends.clear()
        await tree.ref.stop()
        assert ends == ids[::-1]


async def test_scale_start_stop_many_children() -> None:
    """What starting and stopping a child costs does not grow with their number."""
    async with running() as system:
        cost = {}
        for count in (200, 2000):
            tree = await start(system)
            began = time.process_time()
            for number in range(count):
                await tree.calls.start_child(spec(f"c{number}", restart="temporary"))
            for number in range(count):
                await tree.calls.terminate_child(f"c{number}")
            cost[count] = (time.process_time() - began) / count
            assert await tree.counts() == (0, 0, 0, 0)
        assert cost[2000] < 4 * cost[200]


async def test_simple_one_for_one_scale_many_temporary_children() -> None:
    async with running() as system:
        cost = {}
        for count in (200, 2000):
            tree = await start_dynamic(system, spec("w", restart="temporary"))
            began = time.process_time()
            refs = [await tree.calls.start_child() for _ in range(count)]
            for ref in refs:
                ref.tell("normal")
            for ref in refs:
                await ref.wait()
            assert await tree.counts() == (1, 0, 0, 0)
            cost[count] = (time.process_time() - began) / count
        assert cost[2000] < 4 * cost[200]


# ------------------------------------------------------------------ beyond OTP's suite


@virtual_time()
async def test_backoff_grows_is_limited_and_is_forgotten() -> None:
    async with running() as system:
        backoff = Backoff(first=1, factor=2, limit=5, jitter=0, reset_after=60)
        tree = await start(system, spec("a", backoff=backoff), intensity=100, period=1000)
        waits = []
        for uptime in (0, 0, 0, 0, 61):
            await system.clock.sleep(uptime)
            began = system.clock.monotonic()
            before = await tree.end("a", "crash")
            while not await restarted(tree, "a", before):
                await system.clock.sleep(0.25)
            waits.append(system.clock.monotonic() - began)
        assert waits == [1, 2, 4, 5, 1]
        restarts = [event for event in tree.events if event.kind == "restarted"]
        assert [event.attempt for event in restarts] == [1, 2, 3, 4, 1]
        assert [event.incarnation for event in restarts] == [2, 3, 4, 5, 6]
        assert [event.reason for event in restarts] == ["crash"] * 5
        assert [event.delay for event in tree.events if event.kind == "restarting"] == waits


@virtual_time()
async def test_backoff_of_a_group_stops_the_others_first() -> None:
    async with running() as system:
        tree = await start(system, spec("a"), spec("b"), strategy="one_for_all", backoff=Backoff(first=3, jitter=0))
        await tree.end("a", "crash")
        assert await tree.states() == {"a": "restarting", "b": "undefined"}
        await system.clock.sleep(3)
        assert await tree.states() == {"a": "running", "b": "running"}


async def test_restart_if_by_exception_type_and_predicate() -> None:
    class Moody(Worker):
        async def fail(self, error: Exception) -> None:
            raise error

    async def then(error: Exception, **options: Any) -> str:
        tree = await start(system, spec("a", Moody, **options))
        ref = await tree.ref_of("a")
        ref.call_soon(Moody.fail, error)
        await ref.wait()
        return (await tree.states())["a"]

    async with running() as system:
        assert await then(ConnectionError(), restart_if=OSError) == "running"
        assert await then(ValueError(), restart_if=(OSError, KeyError)) == "undefined"
        assert await then(ValueError(), restart_if=lambda reason: "Value" in repr(reason)) == "running"


@virtual_time()
async def test_max_children_refuses_or_queues() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", restart="temporary"), max_children=1)
        first = await tree.calls.start_child()
        with pytest.raises(TooManyChildren):
            await tree.calls.start_child()
        with pytest.raises(AskTimeout):
            await tree.ref.proxy(timeout=1).start_child(wait=True)
        waiting = system.spawn(_start_one, tree)
        await system.clock.sleep(1)
        await end(first, "normal")
        await waiting.wait()
        (second,) = await tree.live()
        assert second is not first
        third = system.spawn(_start_one, tree)
        third_ends = third.wait()
        await system.clock.sleep(1)
        await tree.ref.stop()
        reason = await third_ends
        assert isinstance(reason.exception, SupervisorStopping)  # type: ignore[attr-defined]


async def _start_one(tree: Tree) -> None:
    await tree.calls.start_child(wait=True)


async def test_a_killed_supervisor_takes_its_children_with_it() -> None:
    async with running() as system:
        tree = await start(system, spec("a"), ChildSpec("s", Supervisor, ([spec("b")],), type="supervisor"))
        ref, inner = (await tree.refs()).values()
        tree.ref.exit("kill")
        assert await ref.wait() == "killed"
        await inner.wait()
        assert await tree.ref.wait() == "killed"


async def test_a_crash_report_says_what_why_how_often_and_what_was_done(caplog: Any) -> None:
    class Broken(Worker):
        async def work(self) -> None:
            raise ValueError("no such page")

    async with running() as system:
        tree = await start(system, spec("crawler", Broken))
        ref = await tree.ref_of("crawler")
        ref.call_soon(Broken.work)
        await ref.wait()
        await tree.counts()
    (text,) = [record.getMessage() for record in caplog.records if "  done: " in record.getMessage()]
    assert "child 'crawler'" in text
    assert "crashed while handling work(): ValueError: no such page" in text
    assert "started once; 1 restarts here within the last 5 s, at most 1 allowed" in text
    assert "done: restart (one_for_one)" in text
