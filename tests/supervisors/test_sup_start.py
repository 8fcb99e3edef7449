"""OTP's supervisor_SUITE, groups sup_start and sup_start_map: each test has the name of its case there."""

from __future__ import annotations

from typing import Any

import pytest

from ramure.actors import Ignore, StartIgnored
from ramure.errors import StartFailed
from ramure.exits import Crashed, Shutdown
from ramure.supervisors import (
    ChildSpec,
    ChildStartFailed,
    FailedToStartChild,
    Flags,
    InvalidSpec,
    Supervisor,
)
from tests.supervisors.kit import Failing, Ignored, Worker, fails, running, spec, start, start_dynamic


async def test_sup_start_normal() -> None:
    async with running() as system:
        tree = await start(system)
        await tree.ref.stop("shutdown")
        assert await tree.ref.wait() == "shutdown"


async def test_sup_start_ignore_init() -> None:
    class Unwanted(Supervisor):
        async def init(self, *args: Any, **kwargs: Any) -> None:
            raise Ignore

    async with running() as system:
        with pytest.raises(StartIgnored):
            await system.start(Unwanted)
        assert system.actors() == []


async def test_sup_start_ignore_child() -> None:
    async with running() as system:
        tree = await start(system)
        assert await tree.calls.start_child(spec("child1", Ignored)) is None
        ref = await tree.calls.start_child(spec("child2"))
        assert await tree.refs() == {"child1": None, "child2": ref}
        assert await tree.counts() == (2, 1, 0, 2)


async def test_sup_start_ignore_temporary_child() -> None:
    async with running() as system:
        tree = await start(system, spec("child1", Ignored, restart="temporary"), spec("child2", restart="temporary"))
        assert list(await tree.refs()) == ["child2"]
        assert await tree.counts() == (1, 1, 0, 1)


async def test_sup_start_ignore_temporary_child_start_child() -> None:
    async with running() as system:
        tree = await start(system)
        assert await tree.calls.start_child(spec("child1", Ignored, restart="temporary")) is None
        ref = await tree.calls.start_child(spec("child2", restart="temporary"))
        assert await tree.refs() == {"child2": ref}


async def test_sup_start_ignore_temporary_child_start_child_simple() -> None:
    await ignored_by_some("temporary")


async def test_sup_start_ignore_permanent_child_start_child_simple() -> None:
    await ignored_by_some("permanent")


async def ignored_by_some(restart: Any) -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Choosy, restart=restart))
        assert await tree.calls.start_child(True) is None
        ref = await tree.calls.start_child(False)
        assert await tree.live() == [ref]
        assert await tree.counts() == (1, 1, 0, 1)


class Choosy(Worker):
    async def init(self, ignored: bool) -> None:  # type: ignore[override]
        if ignored:
            raise Ignore


async def test_sup_start_error_return() -> None:
    class Broken(Supervisor):
        async def init(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("no children today")

    async with running() as system:
        with pytest.raises(StartFailed) as failure:
            await system.start(Broken)
        assert isinstance(failure.value.reason, Crashed)


async def test_sup_start_fail() -> None:
    async with running() as system:
        with pytest.raises(StartFailed) as failure:
            await start(system, strategy="none of them")
        assert isinstance(failure.value.reason, InvalidSpec)
        assert (failure.value.reason.field, failure.value.reason.value) == ("strategy", "none of them")


async def test_sup_start_child_returns_error() -> None:
    async with running() as system:
        first = spec("child1")
        with pytest.raises(StartFailed) as failure:
            await start(system, first, spec("child2", Failing, "broken"))
        assert failure.value.reason == Shutdown(FailedToStartChild("child2", "broken"))
        assert "child 'child2' did not start: broken" in str(failure.value)
        assert system.actors() == []


async def test_sup_start_restart_child_returns_error() -> None:
    async with running() as system:
        tree = await start(system, ChildSpec("child1", Worker, kwargs=fails(ValueError("again"))))
        await tree.calls.terminate_child("child1")
        with pytest.raises(ChildStartFailed):
            await tree.calls.restart_child("child1")
        assert await tree.states() == {"child1": "undefined"}
        assert await tree.calls.restart_child("child1")


async def test_sup_start_child_returns_error_simple() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("w", Failing))
        with pytest.raises(ChildStartFailed) as failure:
            await tree.calls.start_child("broken")
        assert failure.value.reason == "broken"
        assert await tree.live() == []
        assert tree.ref.is_alive()


async def test_sup_start_map() -> None:
    """The defaults of the flags are OTP's."""
    assert Flags() == Flags("one_for_one", 1, 5, "never")
    async with running() as system:
        tree = await start(system, spec("a"), strategy="rest_for_one")
        assert await tree.counts() == (1, 1, 0, 1)


async def test_sup_start_map_simple() -> None:
    async with running() as system:
        tree = await start_dynamic(system, spec("a"), intensity=0)
        assert await tree.counts() == (1, 0, 0, 0)
        assert (await tree.calls.get_childspec("a")).id == "a"


FAULTY: list[tuple[str, dict[str, Any]]] = [
    ("strategy", {"strategy": "two_for_one"}),
    ("strategy", {"strategy": None}),
    ("intensity", {"intensity": -1}),
    ("intensity", {"intensity": 1.5}),
    ("intensity", {"intensity": True}),
    ("period", {"period": 0}),
    ("period", {"period": float("inf")}),
    ("period", {"period": "5"}),
    ("auto_shutdown", {"auto_shutdown": "sometimes"}),
    ("max_children", {"max_children": -1}),
    ("backoff", {"backoff": 3}),
]


@pytest.mark.parametrize(("field", "flags"), FAULTY)
def test_sup_start_map_faulty_specs(field: str, flags: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec) as failure:
        Flags(**flags)
    assert (failure.value.field, failure.value.value) == (field, flags[field])
    assert repr(flags[field]) in str(failure.value)
