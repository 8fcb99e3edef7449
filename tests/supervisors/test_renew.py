"""renew_child: a running child is stopped and started again, as its own end would have it, but not counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure.actors import ActorSystem, Ref
from ramure.supervisors import (
    Backoff,
    ChildNotFound,
    ChildRestarting,
    ChildSpec,
    ChildStopping,
    ChildTemporary,
    DynamicSupervisor,
    Supervisor,
    SupervisorEvent,
)
from ramure.testing import virtual_time
from tests.supervisors.kit import Trapping, Worker


async def refs(reaper: Ref[Any]) -> dict[Any, Any]:
    return {child.id: child.ref for child in await reaper.proxy().which_children()}


async def quiet(reaper: Ref[Any]) -> dict[Any, Any]:
    """The children, when the supervisor has come round to all that is queued."""
    for _ in range(20):
        await asyncio.sleep(0)
    return await refs(reaper)


async def test_a_child_is_renewed_by_id_and_by_ref_without_being_counted() -> None:
    async with ActorSystem() as system:
        events: list[SupervisorEvent] = []
        specs = [ChildSpec("a", Worker), ChildSpec("b", Worker, restart="transient")]
        reaper = await system.start(Supervisor, specs, intensity=0, on_event=events.append)
        before = await refs(reaper)
        for _ in range(5):
            await reaper.proxy().renew_child("b")
            await quiet(reaper)
        await reaper.proxy().renew_child((await refs(reaper))["b"])
        after = await quiet(reaper)
        assert after["a"] is before["a"]
        assert after["b"] is not before["b"]
        assert after["b"].is_alive()
        assert not before["b"].is_alive()
        kinds = [event.kind for event in events]
        assert kinds == ["child_started"] * 2 + ["restarting", "restarted"] * 6
        assert next(c.incarnation for c in await reaper.proxy().which_children() if c.id == "b") == 7


@pytest.mark.parametrize(("strategy", "renewed"), [("one_for_all", "abc"), ("rest_for_one", "bc")])
async def test_the_strategy_says_who_else(strategy: str, renewed: str) -> None:
    async with ActorSystem() as system:
        reaper = await system.start(Supervisor, [ChildSpec(id, Worker) for id in "abc"], strategy=strategy, intensity=0)
        before = await refs(reaper)
        await reaper.proxy().renew_child("b")
        after = await quiet(reaper)
        assert "".join(sorted(id for id in "abc" if after[id] is not before[id])) == renewed
        assert all(ref.is_alive() for ref in after.values())


async def test_a_dynamic_child_is_renewed_by_ref() -> None:
    async with ActorSystem() as system:
        pool = await system.start(DynamicSupervisor, ChildSpec("w", Worker, ("x",)), intensity=0)
        one = await pool.proxy().start_child()
        assert one is not None
        await pool.proxy().renew_child(one)
        await quiet(pool)
        [child] = await pool.proxy().which_children()
        assert child.ref is not one
        assert await child.ref.proxy().said() == ("x",)


async def test_what_cannot_be_renewed_is_refused() -> None:
    async with ActorSystem() as system:
        specs = [ChildSpec("t", Worker, restart="temporary"), ChildSpec("w", Worker, backoff=Backoff(first=100))]
        reaper = await system.start(Supervisor, specs, intensity=9)
        with pytest.raises(ChildTemporary, match="never starts it again"):
            await reaper.proxy().renew_child("t")
        with pytest.raises(ChildNotFound):
            await reaper.proxy().renew_child("none")
        with pytest.raises(ChildNotFound):
            await reaper.proxy().renew_child(reaper)
        (await refs(reaper))["w"].exit("fell")
        await quiet(reaper)
        with pytest.raises(ChildRestarting):
            await reaper.proxy().renew_child("w")
        assert (await refs(reaper))["t"].is_alive()


async def test_one_that_was_terminated_is_started() -> None:
    async with ActorSystem() as system:
        reaper = await system.start(Supervisor, [ChildSpec("w", Worker)])
        await reaper.proxy().terminate_child("w")
        await reaper.proxy().renew_child("w")
        assert (await refs(reaper))["w"].is_alive()


@virtual_time()
async def test_a_slow_child_is_killed_in_time_and_calls_are_answered_meanwhile() -> None:
    async with ActorSystem() as system:
        reaper = await system.start(Supervisor, [ChildSpec("w", Trapping, (None, 1e6), shutdown=3.0)])
        before = (await refs(reaper))["w"]
        renewing = asyncio.ensure_future(reaper.proxy(timeout=None).renew_child("w"))
        await quiet(reaper)
        with pytest.raises(ChildStopping):
            await reaper.proxy().renew_child("w")
        await renewing
        after = (await quiet(reaper))["w"]
        assert after is not before
        assert after.is_alive()
        stopping = asyncio.ensure_future(reaper.proxy(timeout=None).renew_child("w"))
        await quiet(reaper)
        await reaper.stop("shutdown")  # the end of the supervisor is stronger
        await asyncio.wait([stopping])
        assert not after.is_alive()
        assert not system.actors()
