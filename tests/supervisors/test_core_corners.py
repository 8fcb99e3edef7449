"""The corners of the core that scenarios and properties do not, or not always, reach; and its table of strategies."""

from __future__ import annotations

from typing import Any

import pytest

from ramure.supervisors import Backoff, ChildSpec, Flags, InvalidSpec, SupervisorStopping
from ramure.supervisors import messages as m
from ramure.supervisors.core import step
from ramure.supervisors.pmap import PMap
from ramure.supervisors.state import State, new
from ramure.supervisors.strategies import STRATEGIES


def nothing() -> None:
    raise AssertionError("the core starts nothing itself")


class Core:
    """A core whose starts succeed, unless told otherwise."""

    def __init__(self, *ids: str, **flags: Any) -> None:
        state = new(Flags(**flags), [ChildSpec(id, nothing) for id in ids])
        assert isinstance(state, State)
        self.state = state
        self.good = True
        self.effects: list[m.Effect] = []
        self.feed(m.Boot(0.0))

    def feed(self, event: m.Event) -> list[m.Effect]:
        self.state, effects = step(self.state, event)
        seen = list(effects)
        for effect in effects:
            if isinstance(effect, m.Start) and self.good:
                seen += self.feed(m.Started(effect.key, effect.serial, effect.key, 0.0))
        return seen

    def exited(self, id: str, reason: object = "crash") -> list[m.Effect]:
        return self.feed(m.Exited(id, self.state.children[id].serial, reason, 0.0))


def of(kind: type, effects: list[m.Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def test_told_to_end_while_a_child_starts_it_waits_for_that_start() -> None:
    core = Core("a", intensity=3)
    core.good = False
    (start,) = of(m.Start, core.exited("a"))
    assert core.feed(m.Terminate("shutdown", 0.0)) == []
    effects = core.feed(m.Started("a", start.serial, "a", 0.0))
    assert [effect.signal for effect in of(m.Stop, effects)] == ["shutdown"]


def test_told_to_end_twice_it_ends_with_the_second_reason_and_once() -> None:
    core = Core("a")
    core.feed(m.Terminate("shutdown", 0.0))
    assert core.feed(m.Terminate("other", 0.0)) == []
    assert core.exited("a", "shutdown")[-1] == m.End("other")
    assert core.feed(m.Terminate("late", 0.0)) == []


def between_retry_and_group() -> tuple[Core, m.Timer]:
    """``a`` waits to be tried again; ``b`` and ``c`` were started by hand, and ``b`` takes ``c`` down."""
    core = Core("a", "b", "c", strategy="rest_for_one", intensity=5, backoff=Backoff(jitter=0))
    core.exited("a")
    core.exited("c", "shutdown")
    (retry,) = [effect.timer for effect in of(m.SetTimer, core.exited("b", "shutdown")) if effect.seconds == 1.0]
    for call, id in enumerate("bc"):
        assert of(m.Start, core.feed(m.Call(call, m.RestartChild(id), 0.0)))
    core.exited("b")
    assert core.state.children["c"].status == "stopping"
    return core, retry


def test_a_retry_that_comes_while_a_group_is_stopped_is_put_off() -> None:
    core, retry = between_retry_and_group()
    assert core.feed(m.TimerFired(retry, 0.0)) == []
    effects = core.exited("c", "shutdown")
    assert [start.key for start in of(m.Start, effects)] == ["a", "b", "c"]


def test_a_retry_that_was_put_off_is_dropped_when_the_supervisor_is_told_to_end() -> None:
    core, retry = between_retry_and_group()
    core.feed(m.TimerFired(retry, 0.0))
    core.feed(m.Terminate("shutdown", 0.0))
    assert core.exited("c", "shutdown")[-1] == m.End("shutdown")


def test_what_was_put_off_is_dropped_when_the_supervisor_is_told_to_end() -> None:
    core = Core("a", "b", "c", strategy="rest_for_one", intensity=9)
    core.exited("b")  # c is being stopped
    core.feed(m.Call(1, m.DeleteChild("a"), 0.0))
    core.exited("a", "boom")
    assert len(core.state.deferred) == 2
    effects = core.feed(m.Terminate("shutdown", 0.0))
    assert isinstance(of(m.Refuse, effects)[0].error, SupervisorStopping)
    assert core.exited("c", "shutdown")[-1] == m.End("shutdown")


def test_a_stop_timer_of_a_child_that_runs_is_old_news() -> None:
    core = Core("a")
    assert core.feed(m.TimerFired(m.StopTimer("a", core.state.children["a"].serial), 0.0)) == []
    assert core.feed(m.TimerFired(m.RetryTimer("a", core.state.children["a"].serial), 0.0)) == []
    assert core.feed(m.TimerFired(m.RetryTimer("z", 1), 0.0)) == []
    assert core.feed(m.Started("a", 99, "a", 0.0)) == []
    assert core.feed(m.Boot(0.0)) == []


def test_restarts_are_counted_in_whole_seconds() -> None:
    """As OTP's: 1.95 s is second 1, in which a restart at 0.9 s, of second 0, is one period of 1 s old, and counts."""
    core = Core("a", intensity=1, period=1)
    core.feed(m.Exited("a", core.state.children["a"].serial, "crash", 0.9))
    effects = core.feed(m.Exited("a", core.state.children["a"].serial, "crash", 1.95))
    assert effects[-1] == m.End("shutdown")


def test_old_news_that_was_put_off_is_dropped_too() -> None:
    core = Core("a", "b", "c", strategy="rest_for_one", intensity=9)
    core.exited("b")
    serial = core.state.children["a"].serial
    core.feed(m.Exited("a", serial, "boom", 0.0))
    core.feed(m.Exited("a", serial, "boom", 0.0))
    core.feed(m.Terminate("shutdown", 0.0))
    assert core.exited("c", "shutdown")[-1] == m.End("shutdown")


def test_a_dynamic_supervisor_has_one_template_at_most() -> None:
    flags = Flags(strategy="simple_one_for_one")
    wrong = new(flags, [ChildSpec("a", nothing), ChildSpec("b", nothing)])
    assert isinstance(wrong, InvalidSpec)
    assert new(flags, [ChildSpec("a", nothing)]).template.id == "a"  # type: ignore[union-attr]
    assert State(flags, PMap()).dynamic


def test_an_exit_of_a_predecessor_is_old_news() -> None:
    core = Core("a", intensity=5)
    first = core.state.children["a"].serial
    assert of(m.Start, core.exited("a"))
    assert core.feed(m.Exited("a", first, "crash", 0.0)) == []


def test_a_significant_child_that_is_being_restarted_has_not_ended() -> None:
    core = Core(auto_shutdown="all_significant", backoff=Backoff())
    for id in "ab":
        child = ChildSpec(id, nothing, restart="transient", significant=True)
        core.feed(m.Call(id, m.StartChild(child), 0.0))
    core.exited("b", "crash")
    assert core.state.children["b"].status == "restarting"
    core.exited("a", "normal")
    assert core.state.phase == "running"


def test_a_call_before_boot_waits() -> None:
    state = new(Flags(), [])
    assert isinstance(state, State)
    state, effects = step(state, m.Call(1, m.DeleteChild("a"), 0.0))
    assert effects == ()
    state, effects = step(state, m.Boot(0.0))
    assert [type(effect) for effect in effects] == [m.Ready, m.Refuse]


def test_terminate_child_of_a_child_without_process_or_twice() -> None:
    core = Core("a")
    core.feed(m.Call(1, m.TerminateChild(m.ById("a")), 0.0))
    core.feed(m.Call(2, m.TerminateChild(m.ById("a")), 0.0))
    assert of(m.Refuse, core.feed(m.Call(3, m.RestartChild("a"), 0.0)))
    assert [reply.call for reply in of(m.Reply, core.exited("a", "shutdown"))] == [1, 2]
    assert of(m.Reply, core.feed(m.Call(4, m.TerminateChild(m.ById("a")), 0.0)))


ORDER = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one_for_all", "abcd"), ("rest_for_one", "cd"), ("one_for_one", None), ("simple_one_for_one", None)],
)
def test_strategies(strategy: str, restarted: str | None) -> None:
    function = STRATEGIES[strategy]
    assert (None if function is None else "".join(map(str, function(ORDER, "c")))) == restarted


@pytest.mark.parametrize(
    ("field", "value"),
    [("first", -1), ("factor", 0.5), ("limit", "a"), ("jitter", 1.5), ("jitter", -0.1), ("reset_after", -1)],
)
def test_a_backoff_is_validated_field_by_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidSpec) as failure:
        Backoff(**{field: value})
    assert (failure.value.field, failure.value.value) == (field, value)


def test_backoff_delays() -> None:
    backoff = Backoff(first=1, factor=3, limit=10, jitter=0.5)
    assert [backoff.delay(n, 0.0) for n in (1, 2, 3, 4, 10_000)] == [1, 3, 9, 10, 10]
    assert [backoff.delay(n, 1.0) for n in (1, 4)] == [0.5, 5]
    assert Backoff(limit=1e308, first=1.0).delay(100_000, 0.0) == 1e308
    assert (backoff.forgotten(9.9), backoff.forgotten(10)) == (False, True)
    assert Backoff(reset_after=3).forgotten(3)


def test_a_persistent_map_is_a_dict_that_does_not_change() -> None:
    old: PMap[int, int] = PMap()
    maps = [old]
    for number in range(2000):
        maps.append(maps[-1].put(number * 7, number))
    assert [len(each) for each in maps] == list(range(2001))
    full = maps[-1]
    assert sorted(full.values()) == list(range(2000))
    assert full[7] == 1
    assert full.get(8) is None
    assert full.get(8, 3) == 3
    assert 14 in full
    assert 15 not in full
    less = full
    for number in range(2000):
        less = less.remove(number * 7)
    assert len(less) == 0
    assert len(full) == 2000
    with pytest.raises(KeyError):
        full.remove(8)


@pytest.mark.parametrize(
    ("restart", "shutdown", "reason", "as_told"),
    [
        ("permanent", 5.0, "shutdown", True),
        ("permanent", 5.0, "normal", False),
        ("permanent", 5.0, "crash", False),
        ("permanent", "brutal_kill", "killed", True),
        ("permanent", "brutal_kill", "shutdown", False),
        ("transient", 5.0, "normal", True),
        ("transient", 5.0, "crash", False),
        ("temporary", 5.0, "killed", False),
    ],
)
def test_an_end_other_than_the_one_it_was_told_is_reported(
    restart: Any, shutdown: Any, reason: str, as_told: bool
) -> None:
    core = Core()
    spec = ChildSpec("a", nothing, restart=restart, shutdown=shutdown)
    core.feed(m.Call(1, m.StartChild(spec), 0.0))
    core.feed(m.Terminate("shutdown", 0.0))
    reports = of(m.CrashReport, core.exited("a", reason))
    assert [report.context for report in reports] == ([] if as_told else ["shutdown_error"])


def test_told_to_end_again_it_begins_nothing_anew() -> None:
    core = Core("a", "b", "c")
    core.feed(m.Call(1, m.TerminateChild(m.ById("b")), 0.0))
    core.feed(m.Terminate("shutdown", 0.0))
    before = core.state
    assert core.feed(m.Terminate("shutdown", 0.0)) == []
    assert core.state == before
