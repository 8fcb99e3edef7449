"""OTP's supervisor_SUITE: calls, counts, specifications. Each test has the name of its case there."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from ramure.errors import ActorDied, UsageError
from ramure.exits import Shutdown
from ramure.supervisors import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    ChildStarted,
    DynamicSupervisor,
    InvalidSpec,
    NotForDynamic,
    StartChild,
    StartWith,
    Supervisor,
)
from ramure.testing import virtual_time
from tests.supervisors.kit import Worker, end, restarted, running, spec, start, start_dynamic


async def test_child_adm() -> None:
    child = spec("child1")
    async with running() as system:
        tree = await start(system, child, intensity=2, period=3600)
        ref = await tree.ref_of("child1")
        with pytest.raises(AlreadyStarted) as started:
            await tree.calls.start_child(child)
        assert started.value.ref is ref
        with pytest.raises(ChildNotFound):
            await tree.calls.terminate_child("hej")
        await tree.calls.terminate_child("child1")
        assert await ref.wait() == "shutdown"
        assert await tree.states() == {"child1": "undefined"}
        assert await tree.counts() == (1, 0, 0, 1)
        await tree.calls.terminate_child("child1")
        with pytest.raises(AlreadyPresent):
            await tree.calls.start_child(child)
        again = await tree.calls.restart_child("child1")
        assert await tree.refs() == {"child1": again}
        for call, error in ((tree.calls.restart_child, ChildRunning), (tree.calls.delete_child, ChildRunning)):
            with pytest.raises(error):
                await call("child1")
            with pytest.raises(ChildNotFound):
                await call("hej")
        await tree.calls.terminate_child("child1")
        await tree.calls.delete_child("child1")
        with pytest.raises(ChildNotFound):
            await tree.calls.restart_child("child1")
        assert await tree.counts() == (0, 0, 0, 0)
        third = await tree.calls.start_child(child)
        with pytest.raises(ChildNotFound):  # by ref only under a dynamic supervisor
            await tree.calls.terminate_child(third)
        await tree.ref.stop()
        with pytest.raises(ActorDied):
            await tree.calls.which_children()


async def test_child_adm_simple() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("child", restart="permanent"), intensity=2, period=3600)
        assert await tree.counts() == (1, 0, 0, 0)
        one, two = await tree.calls.start_child(), await tree.calls.start_child()
        assert await tree.live() == [one, two]
        assert await tree.counts() == (1, 2, 0, 2)
        await end(one, "crash")
        assert len(await tree.live()) == 2
        for call in (tree.calls.terminate_child, tree.calls.restart_child, tree.calls.delete_child):
            with pytest.raises(NotForDynamic):
                await call("child")
        await tree.calls.terminate_child(two)
        assert await two.wait() == "shutdown"
        await tree.calls.terminate_child(two)
        assert await tree.counts() == (1, 1, 0, 1)
        with pytest.raises(ChildNotFound):
            await tree.calls.terminate_child(tree.ref)
        assert await tree.calls.get_childspec(two) == await tree.calls.get_childspec("child")
        with pytest.raises(ChildNotFound):
            await tree.calls.get_childspec(tree.ref)
        with pytest.raises(ChildNotFound):
            await tree.calls.get_childspec("other")


async def test_extra_return() -> None:
    async def connect() -> Any:
        return await system.start_link(Worker), "extra"

    async with running() as system:
        tree = await start(system, spec("child1", StartWith(connect)))
        ref = await tree.ref_of("child1")
        await tree.calls.terminate_child("child1")
        again = await tree.calls.restart_child("child1")
        assert again is not ref
        await tree.end("child1", "abnormal")
        assert await restarted(tree, "child1", ref, again)
        answer = await tree.ref.ask(StartChild(spec("child2", StartWith(connect))))
        assert answer == ChildStarted(await tree.ref_of("child2"), "extra")


async def test_a_start_function_that_returns_no_ref_is_a_failed_start() -> None:
    async def wrong() -> Any:
        return "ok"

    async with running() as system:
        tree = await start(system)
        with pytest.raises(Exception, match="must return a Ref"):
            await tree.calls.start_child(spec("child1", StartWith(wrong)))


FAULTY: list[tuple[str, object]] = [
    ("id", []),
    ("start", "Worker"),
    ("args", [1]),
    ("kwargs", [1]),
    ("restart", "never"),
    ("restart", []),
    ("shutdown", -1),
    ("shutdown", "soon"),
    ("shutdown", True),
    ("shutdown", float("nan")),
    ("type", "boss"),
    ("significant", 1),
    ("restart_if", int),
    ("restart_if", "ValueError"),
    ("restart_if", (3,)),
    ("backoff", 1),
]


@pytest.mark.parametrize(("field", "value"), FAULTY)
def test_child_specs_map(field: str, value: Any) -> None:
    with pytest.raises(InvalidSpec) as failure:
        ChildSpec(**({"id": "a", "start": Worker} | {field: value}))
    assert failure.value.field == field
    assert failure.value.value is value or failure.value.value == value
    assert isinstance(failure.value, UsageError)


def test_child_specs_map_defaults() -> None:
    worker, supervisor = ChildSpec("a", Worker), ChildSpec("b", Supervisor, type="supervisor")
    assert (worker.restart, worker.shutdown, worker.significant) == ("permanent", 5.0, False)
    assert supervisor.shutdown == "infinity"


async def test_child_specs_map_in_calls() -> None:
    async with running() as system:
        tree = await start(system, spec("a"))
        with pytest.raises(InvalidSpec, match="auto_shutdown is never"):
            await tree.calls.start_child(spec("b", restart="transient", significant=True))
        with pytest.raises(Exception, match="id='a'"):
            await start(system, spec("a"), spec("a"))
        one = spec("c", shutdown=2, restart="transient")
        await tree.calls.start_child(one)
        assert await tree.calls.get_childspec("c") == one
        pool = await start_dynamic(system)
        with pytest.raises(InvalidSpec, match="give one ChildSpec"):
            await pool.calls.start_child("no template")
        assert await pool.calls.start_child(one)


async def test_sup_flags() -> None:
    async with running() as system:
        with pytest.raises(Exception, match="permanent child never ends"):
            await start(system, spec("a", significant=True), auto_shutdown="any_significant")


async def test_count_children() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", restart="temporary"))
        refs = [await tree.calls.start_child() for _ in range(5)]
        assert await tree.counts() == (1, 5, 0, 5)
        await end(refs[0], "normal")
        assert await tree.counts() == (1, 4, 0, 4)
        empty = await start(system)
        assert await empty.counts() == (0, 0, 0, 0)


async def test_count_children_supervisor() -> None:
    nested = spec("nested", Supervisor, type="supervisor")
    async with running() as system:
        tree = await start(system, nested, spec("pool", DynamicSupervisor, type="supervisor"), spec("w"))
        assert await tree.counts() == (3, 3, 2, 1)
        await tree.calls.terminate_child("nested")
        assert await tree.counts() == (3, 2, 2, 1)


@virtual_time()
async def test_count_restarting_children() -> None:
    """Some children are being restarted, some of them are terminated meanwhile: the counts stay true."""
    async with running() as system:
        tree = await start_dynamic(system, spec("w"), intensity=50, backoff=Backoff(jitter=0))
        refs = [await tree.calls.start_child() for _ in range(4)]
        for ref in refs[:2]:
            ref.tell("crash")
        assert [await ref.wait() for ref in refs[:2]] == ["crash", "crash"]
        assert await tree.counts() == (1, 2, 0, 4)
        await tree.calls.terminate_child(refs[0])
        assert await tree.counts() == (1, 2, 0, 3)
        await system.clock.sleep(1)
        assert await tree.counts() == (1, 3, 0, 3)


async def test_child_unlink() -> None:
    """A child that unlinks itself does not hang the supervisor that terminates it."""
    async with running() as system:
        tree = await start(system, spec("naughty"))
        ref = await tree.ref_of("naughty")
        await ref.proxy().leave(tree.ref)
        await tree.calls.terminate_child("naughty")
        assert await ref.wait() == "shutdown"
        assert await tree.states() == {"naughty": "undefined"}


async def test_tree() -> None:
    """A tree of two levels: the death of a worker below stays below, until its supervisor gives up."""
    below = [spec("w1"), spec("w2")]
    nested = ChildSpec("nested", Supervisor, (below,), {"intensity": 1, "period": 3600}, type="supervisor")
    async with running() as system:
        tree = await start(system, spec("w0"), nested, intensity=1, period=3600)
        inner = await tree.ref_of("nested")
        worker = {info.id: info.ref for info in await inner.proxy().which_children()}["w1"]
        await end(worker, "crash")
        again = {info.id: info.ref for info in await inner.proxy().which_children()}["w1"]
        assert again is not worker
        await end(again, "crash")
        assert await inner.wait() == "shutdown"
        assert await restarted(tree, "nested", inner)
        second = await tree.ref_of("nested")
        await end(second, "kill")
        assert await tree.ref.wait() == "shutdown"
    assert system.actors() == []


async def test_do_not_save_start_parameters_for_temporary_children() -> None:
    class Big:
        pass

    async with running() as system:
        for make in (start, start_dynamic):
            tree = await make(system)
            held = {}
            for restart in ("temporary", "permanent"):
                thing = Big()
                held[restart] = weakref.ref(thing)
                child = ChildSpec(restart, Forgetful, (thing,), restart=restart)
                await tree.calls.start_child(child)
                del thing, child
            gc.collect()
            assert held["temporary"]() is None
            assert held["permanent"]() is not None


class Forgetful(Worker):
    async def init(self, thing: object) -> None:  # type: ignore[override]
        pass


async def test_do_not_save_child_specs_for_temporary_children() -> None:
    async with running() as system:
        tree = await start(system, spec("a", restart="temporary"), spec("b", restart="temporary"))
        await tree.end("a", "normal")
        await tree.calls.terminate_child("b")
        assert await tree.refs() == {}
        for id in "ab":
            with pytest.raises(ChildNotFound):
                await tree.calls.get_childspec(id)


@virtual_time()
async def test_a_restarting_child_is_neither_restarted_nor_deleted_by_hand() -> None:
    async with running() as system:
        tree = await start(system, spec("a", backoff=Backoff(jitter=0)))
        old = await tree.end("a", Shutdown("x"))
        assert await tree.states() == {"a": "restarting"}
        for call in (tree.calls.restart_child, tree.calls.delete_child):
            with pytest.raises(ChildRestarting):
                await call("a")
        with pytest.raises(AlreadyPresent):
            await tree.calls.start_child(spec("a"))
        await system.clock.sleep(2)
        assert await restarted(tree, "a", old)
