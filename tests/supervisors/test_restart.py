"""OTP's supervisor_SUITE: restart types, strategies, intensity. Each test has the name of its case there."""

from __future__ import annotations

from typing import Any

import pytest

from ramure.exits import Shutdown
from ramure.supervisors import ChildSpec, Supervisor
from ramure.testing import virtual_time
from tests.supervisors.kit import Tree, Worker, end, fails, restarted, running, spec, start, start_dynamic

LONG: dict[str, Any] = {"intensity": 2, "period": 3600}


# ------------------------------------------------------------------ restart type × exit


async def after(restart: Any, *reasons: object) -> list[str]:
    """What becomes of a child of this restart type after each of these ends."""
    seen = []
    async with running() as system:
        for reason in reasons:
            tree = await start(system, spec("child1", restart=restart), **LONG)
            before = await tree.end("child1", reason)
            states = await tree.states()
            if "child1" not in states:
                seen.append("gone")
            else:
                seen.append("restarted" if await restarted(tree, "child1", before) else states["child1"])
            await tree.ref.stop()
    return seen


async def test_permanent_normal() -> None:
    assert await after("permanent", "normal") == ["restarted"]


async def test_permanent_shutdown() -> None:
    assert await after("permanent", "shutdown", Shutdown("x")) == ["restarted"] * 2


async def test_permanent_abnormal() -> None:
    assert await after("permanent", "abnormal", "kill") == ["restarted"] * 2


async def test_transient_normal() -> None:
    assert await after("transient", "normal") == ["undefined"]


async def test_transient_shutdown() -> None:
    assert await after("transient", "shutdown", Shutdown("x")) == ["undefined"] * 2


async def test_transient_abnormal() -> None:
    assert await after("transient", "abnormal", "kill") == ["restarted"] * 2


async def test_temporary_normal() -> None:
    assert await after("temporary", "normal") == ["gone"]


async def test_temporary_shutdown() -> None:
    assert await after("temporary", "shutdown", Shutdown("x")) == ["gone"] * 2


async def test_temporary_abnormal() -> None:
    assert await after("temporary", "abnormal", "kill") == ["gone"] * 2


async def test_temporary_bystander() -> None:
    async with running() as system:
        for strategy in ("one_for_all", "rest_for_one"):
            tree = await start(system, spec("child1"), spec("child2", restart="temporary"), strategy=strategy, **LONG)
            before = await tree.refs()
            await tree.end("child1", "normal")
            assert await restarted(tree, "child1", before["child1"])
            assert list(await tree.refs()) == ["child1"]
            assert not before["child2"].is_alive()


@virtual_time()
async def test_multiple_restarts() -> None:
    """More than one restart in a period ends it; with time between them they may go on for ever."""
    async with running() as system:
        tree = await start(system, spec("child1", shutdown="brutal_kill"), intensity=1, period=1)
        for _ in range(5):
            before = await tree.end("child1", "crash")
            assert await restarted(tree, "child1", before)
            await system.clock.sleep(2)
        await tree.end("child1", "crash")
        await tree.end("child1", "crash")
        assert await tree.ref.wait() == "shutdown"
        assert tree.kinds()[-1] == "gave_up"


# ------------------------------------------------------------------ strategies


async def affected(strategy: str, failing: str) -> set[str]:
    """Which of four children are other processes after one of them crashed."""
    async with running() as system:
        tree = await start(system, *(spec(id) for id in "abcd"), strategy=strategy, **LONG)
        before = await tree.refs()
        await tree.end(failing, "crash")
        now = await tree.refs()
        assert list(now) == list("abcd")
        assert all(ref is not None and ref.is_alive() for ref in now.values())
        return {id for id in now if now[id] is not before[id]}


async def test_one_for_one() -> None:
    assert await affected("one_for_one", "b") == {"b"}


async def test_one_for_all() -> None:
    assert await affected("one_for_all", "b") == set("abcd")


async def test_rest_for_one() -> None:
    assert await affected("rest_for_one", "b") == set("bcd")
    assert await affected("rest_for_one", "d") == {"d"}


async def test_simple_one_for_one() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w"), **LONG)
        one, two = await tree.calls.start_child(), await tree.calls.start_child()
        await end(one, "crash")
        live = await tree.live()
        assert len(live) == 2
        assert two in live
        assert one not in live


async def escalates(tree: Tree, failing: Any, *others: Any) -> None:
    await end(failing, "crash")
    assert await tree.ref.wait() == "shutdown"
    assert [await other.wait() for other in others] == ["shutdown"] * len(others)


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_escalation_takes_the_others_down(strategy: str) -> None:
    async with running() as system:
        tree = await start(system, spec("child1"), spec("child2"), strategy=strategy, intensity=0)
        one, two = (await tree.refs()).values()
        await escalates(tree, one, two)


async def escalation(strategy: str) -> None:
    """The restart fails until the supervisor gives up."""
    async with running() as system:
        bad = ChildSpec("child1", Worker, kwargs=fails(*[ValueError()] * 9))
        tree = await start(system, bad, spec("child2"), strategy=strategy, intensity=4, period=3600)
        one, two = (await tree.refs()).values()
        await escalates(tree, one, two)
        assert tree.kinds("child1") == ["child_started", "restarting", "gave_up"]


async def test_one_for_one_escalation() -> None:
    await escalation("one_for_one")


async def test_one_for_all_escalation() -> None:
    await escalation("one_for_all")


async def test_rest_for_one_escalation() -> None:
    await escalation("rest_for_one")


async def test_simple_one_for_one_escalation() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w"), intensity=4, period=3600)
        bad = await tree.calls.start_child(**fails(*[ValueError()] * 9))
        good = await tree.calls.start_child()
        await escalates(tree, bad, good)


async def other_child_fails_restart(strategy: str) -> None:
    """The first child's restart takes the others with it, and the start of a later one fails once."""
    async with running() as system:
        fragile = ChildSpec("child2", Worker, kwargs=fails(ValueError("once")))
        tree = await start(system, spec("child1"), fragile, spec("child3"), strategy=strategy, intensity=3, period=3600)
        before = await tree.refs()
        await tree.end("child1", "crash")
        await tree.calls.which_children()
        now = await tree.refs()
        assert list(now) == ["child1", "child2", "child3"]
        assert all(now[id] is not None and now[id] is not before[id] for id in now)
        assert tree.kinds("child2")[-1] == "restarted"


async def test_one_for_all_other_child_fails_restart() -> None:
    await other_child_fails_restart("one_for_all")


async def test_rest_for_one_other_child_fails_restart() -> None:
    await other_child_fails_restart("rest_for_one")


async def test_simple_one_for_one_shutdown() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", shutdown=1000), intensity=1)
        refs = [await tree.calls.start_child() for _ in range(3)]
        await tree.ref.stop("shutdown")
        assert [await ref.wait() for ref in refs] == ["shutdown"] * 3


async def test_simple_one_for_one_extra() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Worker, "of the template"), **LONG)
        ref = await tree.calls.start_child("extra")
        assert await ref.proxy().said() == ("of the template", "extra")
        await end(ref, "crash")
        (again,) = await tree.live()
        assert await again.proxy().said() == ("of the template", "extra")


# ------------------------------------------------------------------ significant children


async def ends_with(auto_shutdown: Any, restart: Any, reason: object, significant: bool = True) -> str:
    """What becomes of a supervisor whose one significant child ends so: ``shutdown``, or ``lives``."""
    async with running() as system:
        children = (spec("child1"), spec("child2", restart=restart, significant=significant))
        tree = await start(system, *children, auto_shutdown=auto_shutdown, **LONG)
        await tree.end("child2", reason)
        if reason == "abnormal" and restart == "transient":
            await tree.ref_of("child2")
        if not significant or (restart == "transient" and reason == "abnormal"):
            await tree.calls.which_children()
            return "lives"
        return str(await tree.ref.wait())


async def test_nonsignificant_temporary() -> None:
    for auto_shutdown in ("any_significant", "all_significant"):
        assert await ends_with(auto_shutdown, "temporary", "normal", False) == "lives"
        assert await ends_with(auto_shutdown, "temporary", "abnormal", False) == "lives"


async def test_nonsignificant_transient() -> None:
    for auto_shutdown in ("any_significant", "all_significant"):
        assert await ends_with(auto_shutdown, "transient", "normal", False) == "lives"
        assert await ends_with(auto_shutdown, "transient", "abnormal", False) == "lives"


async def test_significant_temporary() -> None:
    for auto_shutdown in ("any_significant", "all_significant"):
        for reason in ("normal", "shutdown", "abnormal"):
            assert await ends_with(auto_shutdown, "temporary", reason) == "shutdown"


async def test_significant_transient() -> None:
    for auto_shutdown in ("any_significant", "all_significant"):
        for reason in ("normal", "shutdown", Shutdown("x")):
            assert await ends_with(auto_shutdown, "transient", reason) == "shutdown"
        assert await ends_with(auto_shutdown, "transient", "abnormal") == "lives"


async def test_all_significant_waits_for_the_last() -> None:
    async with running() as system:
        children = [spec(id, restart="transient", significant=True) for id in "ab"]
        tree = await start(system, *children, auto_shutdown="all_significant")
        await tree.end("a", "normal")
        assert await tree.states() == {"a": "undefined", "b": "running"}
        await tree.end("b", "normal")
        assert await tree.ref.wait() == "shutdown"


async def test_significant_simple() -> None:
    async with running() as system:
        for auto_shutdown, ends in (("any_significant", 1), ("all_significant", 3)):
            template = spec("w", restart="transient", significant=True)
            tree = await start_dynamic(system, template, auto_shutdown=auto_shutdown)
            refs = [await tree.calls.start_child() for _ in range(3)]
            for ref in refs[: ends - 1]:
                await end(ref, "normal")
            assert len(await tree.live()) == 4 - ends
            await end(refs[ends - 1], "normal")
            assert await tree.ref.wait() == "shutdown"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
async def test_significant_bystander(strategy: str, auto_shutdown: Any) -> None:
    """Significant children that a sibling's restart takes down do not end the supervisor."""
    async with running() as system:
        significant = {"restart": "transient", "significant": True}
        tree = await start(
            system,
            spec("child1", **significant),
            spec("child2", restart="transient"),
            spec("child3", **significant),
            strategy=strategy,
            auto_shutdown=auto_shutdown,
            intensity=5,
        )
        await tree.end("child2", "kill")
        assert set((await tree.states()).values()) == {"running"}


async def test_significant_escalation() -> None:
    """A significant worker ends its supervisor, which is significant to the one above, and so on."""
    inner = [spec("worker", restart="transient", significant=True)]
    options = {"type": "supervisor", "restart": "transient", "significant": True}
    nested = ChildSpec("sup", Supervisor, (inner,), {"auto_shutdown": "any_significant"}, **options)  # type: ignore[arg-type]
    async with running() as system:
        tree = await start(system, nested, auto_shutdown="any_significant")
        sup = await tree.ref_of("sup")
        ((worker),) = [info.ref for info in await sup.proxy().which_children()]
        await end(worker, "normal")
        assert (await sup.wait(), await tree.ref.wait()) == ("shutdown", "shutdown")
