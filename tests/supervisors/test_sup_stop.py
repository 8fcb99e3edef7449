"""OTP's supervisor_SUITE, group sup_stop: each test has the name of its case there."""

from __future__ import annotations

from typing import Any

import pytest

from ramure.exits import Shutdown
from ramure.testing import virtual_time
from tests.supervisors.kit import Stubborn, Trapping, Worker, running, spec, start, start_dynamic


@virtual_time()
async def test_sup_stop_infinity() -> None:
    async with running() as system:
        tree = await start(
            system,
            spec("child1", shutdown="infinity"),
            spec("child2", Trapping, "late", 500.0, shutdown="infinity"),
        )
        one, two = (await tree.refs()).values()
        await tree.ref.stop("shutdown")
        assert (await one.wait(), await two.wait()) == ("shutdown", "late")
        assert system.clock.monotonic() == 500.0


@virtual_time()
async def test_sup_stop_timeout() -> None:
    async with running() as system:
        tree = await start(system, spec("child1", shutdown=1), spec("child2", Stubborn, shutdown=1))
        one, two = (await tree.refs()).values()
        await tree.ref.stop("shutdown")
        assert (await one.wait(), await two.wait()) == ("shutdown", "killed")
        assert system.clock.monotonic() == 1.0


@virtual_time()
async def test_sup_stop_timeout_dynamic() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Stubborn, shutdown=1))
        refs = [await tree.calls.start_child() for _ in range(10)]
        await tree.ref.stop("shutdown")
        assert [await ref.wait() for ref in refs] == ["killed"] * 10
        assert system.clock.monotonic() == 1.0  # all at once, not one after the other


@virtual_time()
async def test_sup_stop_brutal_kill() -> None:
    async with running() as system:
        tree = await start(system, spec("child1"), spec("child2", Stubborn, shutdown="brutal_kill"))
        one, two = (await tree.refs()).values()
        await tree.ref.stop("shutdown")
        assert (await one.wait(), await two.wait()) == ("shutdown", "killed")
        assert system.clock.monotonic() == 0.0


@virtual_time()
async def test_sup_stop_brutal_kill_dynamic() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Stubborn, shutdown="brutal_kill"))
        refs = [await tree.calls.start_child() for _ in range(10)]
        await tree.ref.stop("shutdown")
        assert [await ref.wait() for ref in refs] == ["killed"] * 10


REASONS = ("normal", "shutdown", Shutdown("test"), "other")


@virtual_time()
async def test_sup_stop_race() -> None:
    """Children that end by themselves while a later one is being stopped, each in its own way."""
    async with running() as system:
        tree = await start(system, spec("child_a", restart="temporary", shutdown=1), intensity=2, period=3600)
        first = await tree.ref_of("child_a")
        ends: list[tuple[Any, object]] = []
        for restart in ("temporary", "transient", "permanent"):
            for reason in REASONS:
                id = f"{restart} {reason}"
                ends.append((await tree.calls.start_child(spec(id, restart=restart, shutdown=1)), reason))
        slow = await tree.calls.start_child(spec("z", Trapping, None, 1.0, restart="temporary", shutdown=2))
        tree.ref.exit("shutdown")
        stopping = system.spawn(_stop, tree.ref)
        await system.clock.sleep(0.5)
        for ref, reason in ends:
            ref.tell(reason)
        await stopping.wait()
        assert await tree.ref.wait() == "shutdown"
        assert await slow.wait() == "shutdown"
        assert [await ref.wait() for ref, _ in ends] == [reason for _, reason in ends]
        assert await first.wait() == "shutdown"


async def _stop(ref: Any) -> None:
    await ref.stop("shutdown")


@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
async def test_sup_stop_non_shutdown_exit_dynamic(restart: Any) -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Trapping, restart=restart))
        ends = {reason: await tree.calls.start_child(reason) for reason in REASONS}
        await tree.ref.stop("shutdown")
        assert {reason: await ref.wait() for reason, ref in ends.items()} == {reason: reason for reason in ends}


async def test_stop_is_in_reverse_order_of_start() -> None:
    order: list[str] = []

    class Noting(Worker):
        async def init(self, name: str) -> None:  # type: ignore[override]
            self.trap_exit = True
            self.name = name

        def terminate(self, reason: object) -> None:
            order.append(self.name)

    async with running() as system:
        tree = await start(system, *(spec(name, Noting, name) for name in "abc"))
        await tree.ref.stop()
    assert order == ["c", "b", "a"]


@virtual_time()
async def test_calls_are_answered_while_a_child_is_being_stopped() -> None:
    async with running() as system:
        tree = await start(system, spec("a"), spec("b", Stubborn, shutdown=5))
        stopping = system.spawn(_terminate, tree, "b")
        await system.clock.sleep(1)
        assert await tree.states() == {"a": "running", "b": "stopping"}
        assert await tree.counts() == (2, 2, 0, 2)
        assert await tree.calls.start_child(spec("c"))
        assert system.clock.monotonic() == 1.0
        await stopping.wait()
        assert system.clock.monotonic() == 5.0
        assert await tree.states() == {"a": "running", "b": "undefined", "c": "running"}


async def _terminate(tree: Any, id: str) -> None:
    await tree.calls.terminate_child(id)
