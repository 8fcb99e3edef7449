"""The actors around the core: subscribers, requests as messages, and ends that nobody ordered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure.actors import Actor, Ignore, Stop, receive, self_ref
from ramure.errors import RequestRefused, StartFailed
from ramure.exits import Crashed
from ramure.supervisors import ChildSpec, ChildStartFailed, Notice, StartWith, Supervisor, SupervisorStopping
from ramure.supervisors import messages as m
from ramure.testing import virtual_time
from tests.supervisors.kit import Stubborn, Trapping, Tree, Worker, running, spec, start


async def test_subscribers_get_notices_until_they_leave_or_end() -> None:
    got: list[Notice] = []
    all_three = asyncio.Event()

    async def listener() -> None:
        while True:
            got.append(await receive(Notice))
            if len(got) == 3:
                all_three.set()

    async with running() as system:
        tree = await start(system, spec("a"), intensity=9)
        staying, leaving, ending = (system.spawn(listener) for _ in range(3))
        for ref in (staying, leaving, ending):
            await tree.calls.subscribe(ref)
        await tree.calls.unsubscribe(leaving)
        ending.exit("kill")
        await tree.end("a", "crash")
        await tree.calls.terminate_child("a")
        await all_three.wait()
    assert [notice.event.kind for notice in got] == ["restarting", "restarted", "child_ended"]
    assert {notice.supervisor for notice in got} == {tree.ref}


async def test_a_listener_that_raises_costs_no_child(caplog: Any) -> None:
    def listen(event: object) -> None:
        raise ValueError("listener")

    async with running() as system:
        ref = await system.start(Supervisor, [spec("a")], on_event=listen)
        assert await Tree(ref).states() == {"a": "running"}
    assert "on_event raised" in caplog.text


async def test_what_is_no_request_is_refused_and_strange_messages_are_logged(caplog: Any) -> None:
    async with running() as system:
        tree = await start(system)
        with pytest.raises(RequestRefused):
            await tree.ref.ask("what?")
        tree.ref.tell("hello")
        assert await tree.ref.ask(m.CountChildren()) == m.ChildCounts(0, 0, 0, 0)
        tree.ref.exit("nonsense")
        tree.ref.call_soon(Supervisor.start_child, spec("a"))
        tree.ref.call_soon(Supervisor.delete_child, "a")
        assert await tree.states() == {"a": "running"}
    assert "unexpected message: 'hello'" in caplog.text


@virtual_time()
async def test_a_supervisor_that_crashes_stops_its_children_in_order() -> None:
    def never(reason: object) -> bool:
        raise LookupError("a predicate's mistake")

    async with running() as system:
        children = (spec("a", Trapping), spec("b", Stubborn, shutdown=3), spec("c", restart_if=never))
        tree = await start(system, *children)
        one, two, three = (await tree.refs()).values()
        three.tell("crash")
        reason = await tree.ref.wait()
        assert isinstance(reason, Crashed)
        assert isinstance(reason.exception, LookupError)
        assert (await one.wait(), await two.wait()) == ("shutdown", "killed")
        assert system.clock.monotonic() == 3.0


@virtual_time()
async def test_a_boot_that_fails_waits_for_a_stubborn_child() -> None:
    async with running() as system:
        with pytest.raises(StartFailed):
            await start(system, spec("a", Stubborn, shutdown=2), ChildSpec("b", Worker, kwargs={"nonsense": 1}))
        assert system.actors() == []
        assert system.clock.monotonic() == 2.0


@virtual_time()
async def test_calls_are_answered_while_the_supervisor_is_shut_down() -> None:
    async with running() as system:
        inner = ChildSpec("inner", Supervisor, ([spec("a", Stubborn, shutdown=5)],), type="supervisor")
        tree = await start(system, inner)
        below = Tree(await tree.ref_of("inner"))
        stopping = system.spawn(_stop, tree)
        await system.clock.sleep(1)
        assert await tree.states() == {"inner": "stopping"}
        assert await below.states() == {"a": "stopping"}
        with pytest.raises(SupervisorStopping):
            await below.calls.start_child(spec("late"))
        below.ref.exit("kill")
        assert await stopping.wait() == "normal"
        assert system.clock.monotonic() == 1.0


async def _stop(tree: Tree) -> None:
    await tree.ref.stop()


async def test_functions_and_classes_are_children_alike() -> None:
    seen = []

    async def body(word: str) -> None:
        seen.append((word, self_ref().label))
        await receive()

    class Plain(Actor):
        pass

    async with running() as system:
        tree = await start(system, spec("f", body, "hello"), spec("c", Plain))
        assert await tree.states() == {"f": "running", "c": "running"}
        first = await tree.ref_of("f")
        first.tell("go")
        await first.wait()
        await tree.counts()
        assert (await tree.ref_of("f")) is not first
    assert seen[0][0] == "hello"


async def test_a_start_function_refuses_by_ignore_or_stop() -> None:
    async def ignore() -> None:
        raise Ignore

    async def refuse() -> None:
        raise Stop("not now")

    async with running() as system:
        tree = await start(system)
        assert await tree.calls.start_child(spec("a", StartWith(ignore))) is None
        with pytest.raises(ChildStartFailed) as failure:
            await tree.calls.start_child(spec("b", StartWith(refuse)))
        assert failure.value.reason == "not now"
