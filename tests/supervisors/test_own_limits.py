"""A child's own restart limit (not OTP's): used up, it ends that child, and neither the supervisor nor the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ramure.actors import ActorSystem, Ref
from ramure.supervisors import Backoff, ChildSpec, DynamicSupervisor, Flags, InvalidSpec, Supervisor, SupervisorEvent
from ramure.supervisors import messages as m
from ramure.supervisors.core import step
from ramure.supervisors.state import State, new
from ramure.testing import virtual_time


def nothing() -> None:
    raise AssertionError("the core starts nothing itself")


class Core:
    """A core whose starts succeed while ``good``, at a time that the test sets."""

    def __init__(self, *specs: ChildSpec, **flags: Any) -> None:
        state = new(Flags(**flags), specs)
        assert isinstance(state, State)
        self.state, self.at, self.good = state, 0.0, True
        self.feed(m.Boot(0.0))

    def feed(self, event: m.Event) -> list[m.Effect]:
        self.state, effects = step(self.state, event)
        seen = list(effects)
        for effect in effects:
            if isinstance(effect, m.Start):
                outcome: m.Event = m.Started(effect.key, effect.serial, effect.key, self.at)
                if not self.good:
                    outcome = m.StartFailed(effect.key, effect.serial, "no", self.at)
                seen += self.feed(outcome)
        return seen

    def crash(self, id: str, at: float = 0.0) -> list[str]:
        """What is told of it."""
        self.at = at
        effects = self.feed(m.Exited(id, self.state.children[id].serial, "crash", at))
        return [effect.kind for effect in effects if isinstance(effect, m.SupervisorEvent)]


def limited(id: str = "a", **more: Any) -> ChildSpec:
    return ChildSpec(id, nothing, restart="transient", intensity=2, period=10, **more)


AGAIN = ["restarting", "restarted"]


def test_more_restarts_than_its_own_limit_end_the_child_alone() -> None:
    core = Core(limited(), ChildSpec("b", nothing), intensity=0)
    assert [core.crash("a") for _ in range(3)] == [AGAIN, AGAIN, ["child_ended"]]
    assert core.state.phase == "running"
    assert core.state.children["a"].status == "undefined"
    assert core.state.restarts == ()  # its restarts are not the supervisor's
    assert core.crash("b") == ["gave_up"]


def test_restarts_longer_ago_than_its_period_are_forgotten() -> None:
    core = Core(limited(), intensity=0)
    assert [core.crash("a", at) for at in (0, 5, 11, 16, 17)] == [AGAIN, AGAIN, AGAIN, AGAIN, ["child_ended"]]


def test_its_end_counts_as_one_of_its_own_where_it_is_significant() -> None:
    core = Core(limited(significant=True), ChildSpec("b", nothing), auto_shutdown="any_significant")
    for _ in range(3):
        core.crash("a")
    assert core.state.phase == "stopping"


def test_the_report_says_its_own_limit() -> None:
    core = Core(limited(), intensity=7)
    core.crash("a")
    core.crash("a")
    effects = core.feed(m.Exited("a", core.state.children["a"].serial, "crash", 0.0))
    (report,) = [effect for effect in effects if isinstance(effect, m.CrashReport)]
    assert (report.action, report.restarts, report.intensity, report.period) == (
        "none: too many restarts of this child",
        3,
        2,
        10,
    )


def test_starts_that_fail_count_too() -> None:
    core = Core(limited(backoff=Backoff(first=1, jitter=0)), intensity=0)
    core.crash("a")
    core.good = False
    kinds: list[str] = []
    for at in range(1, 10):
        child = core.state.children["a"]
        if child.status == "restarting":
            effects = core.feed(m.TimerFired(m.RetryTimer("a", child.serial), float(at)))
            kinds += [effect.kind for effect in effects if isinstance(effect, m.SupervisorEvent)]
    assert kinds == ["child_ended"]
    assert core.state.children["a"].status == "undefined"
    assert core.state.phase == "running"


@pytest.mark.parametrize(
    ("field", "value"), [("intensity", -1), ("intensity", True), ("period", 0), ("period", float("nan"))]
)
def test_a_limit_that_is_none_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidSpec, match=rf"ChildSpec 'a': {field}={value!r} is not valid"):
        ChildSpec("a", nothing, **{field: value})


@virtual_time()
async def test_in_both_kinds_of_supervisor_the_others_go_on() -> None:
    starts: list[str] = []
    told: list[tuple[str, Any]] = []

    async def crashes(name: str) -> None:
        starts.append(name)
        raise ValueError(name)

    def on_event(event: SupervisorEvent) -> None:
        told.append((event.kind, event.id))

    async with ActorSystem() as system:
        spec = ChildSpec("a", crashes, ("static",), intensity=1, period=60)
        await system.start(Supervisor, [spec], intensity=0, on_event=on_event)
        pool: Ref[DynamicSupervisor] = await system.start(DynamicSupervisor, intensity=0, on_event=on_event)
        for name in ("one", "two"):
            await pool.proxy().start_child(ChildSpec(name, crashes, (name,), intensity=1, period=60))
        await asyncio.sleep(1)
        assert pool.is_alive()
        assert (await pool.proxy().count_children()).specs == 1
        assert len(await pool.proxy().which_children()) == 0
    assert sorted(starts) == ["one", "one", "static", "static", "two", "two"]
    assert sorted(id for kind, id in told if kind == "child_ended") == ["a", "one", "two"]
