"""What holds for the pure core, whatever happens to it and in whatever order.

The world here answers the core's effects as a world may: starts succeed, fail or are ignored; children end by
themselves, when told to, or only when killed; calls come at any moment; news come late, twice, or of the dead.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ramure.exits import Crashed, Shutdown
from ramure.supervisors import Backoff, ChildSpec, Flags, InvalidSpec
from ramure.supervisors import messages as m
from ramure.supervisors.core import step
from ramure.supervisors.state import State, new
from tests.scale import examples, long_in_a_soak

REASONS = ("normal", "shutdown", Shutdown("x"), "crash", "killed", Crashed(ValueError("x")))
OUTCOMES = ("started", "started", "started", "failed", "ignored")


def nothing() -> None:
    raise AssertionError("the core starts nothing itself")


@st.composite
def specs(draw: Any, id: str) -> ChildSpec:
    restart = draw(st.sampled_from(["permanent", "transient", "temporary"]))
    return ChildSpec(
        id,
        nothing,
        restart=restart,
        shutdown=draw(st.sampled_from([0, 1.5, "infinity", "brutal_kill"])),
        type=draw(st.sampled_from(["worker", "supervisor"])),
        significant=restart != "permanent" and draw(st.booleans()),
        restart_if=draw(st.sampled_from([None, None, ValueError, OSError, lambda reason: reason != "crash"])),
        backoff=draw(st.sampled_from([None, None, Backoff(first=2)])),
    )


@st.composite
def flags(draw: Any) -> Flags:
    return Flags(
        strategy=draw(st.sampled_from(["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"])),
        intensity=draw(st.integers(0, 4)),
        period=draw(st.sampled_from([1, 5, 20])),
        auto_shutdown=draw(st.sampled_from(["any_significant", "all_significant"])),
        max_children=draw(st.sampled_from([None, 2])),
    )


class World:
    """Everything around one core, at the mercy of Hypothesis."""

    def __init__(self, data: Any) -> None:
        self.draw = data.draw
        self.now = 0.0
        self.flags = self.draw(flags())
        self.dynamic = self.flags.strategy == "simple_one_for_one"
        count = 1 if self.dynamic else self.draw(st.integers(0, 4))
        state = new(self.flags, [self.draw(specs(f"c{n}")) for n in range(count)], seed=1)
        assert isinstance(state, State)
        self.state: State = state
        self.live: dict[int, tuple[m.Start, str]] = {}
        self.told: dict[int, str] = {}
        self.past: list[m.Event] = []
        self.timers: dict[m.Timer, None] = {}
        self.calls = 0
        self.open: set[int] = set()
        self.restarts: list[float] = []
        self.ended = False
        self.ids = [f"c{n}" for n in range(count)] + ["new1", "new2"]

    def feed(self, event: m.Event) -> None:
        before = self.state
        copy, children = State(*before), list(before.children.values())
        self.state, effects = step(before, event)
        assert (before, list(before.children.values())) == (copy, children), "a step must not change what it was given"
        self.past.append(event)
        assert not (self.ended and any(isinstance(e, (m.Start, m.Stop, m.End, m.Ready)) for e in effects))
        unread = {each.serial for each in before.deferred if isinstance(each, m.Exited)}
        for effect in effects:
            self.carry_out(effect, unread)

    def carry_out(self, effect: m.Effect, unread: set[int]) -> None:
        match effect:
            case m.Start():
                self.carry_out_start(effect)
            case m.Stop(serial=serial, signal=signal):
                # Calls and exits are handled in the order in which they came, as OTP's supervisor reads its mailbox: a
                # child whose exit waits behind a call is told to stop, and its exit is then what ended it.
                assert serial in self.live or serial in unread, "only what runs is told to stop"
                if serial in self.live:
                    self.told[serial] = signal
            case m.SetTimer(timer=timer, seconds=seconds):
                assert seconds >= 0
                self.timers[timer] = None
            case m.CancelTimer(timer=timer):
                self.timers.pop(timer, None)
            case m.Reply(call=call) | m.Refuse(call=call):
                self.open.remove(call)  # type: ignore[arg-type]
            case m.SupervisorEvent(kind="restarting"):
                self.restarts.append(self.now)
            case m.End():
                assert not self.live, "it ends when every child has ended"
                assert not self.open, "nobody is left without an answer"
                self.ended = True

    def carry_out_start(self, effect: m.Start) -> None:
        spec = effect.spec
        seen = [start.key for start, _ in self.live.values()]
        assert effect.key not in seen, "one process for each place"
        assert self.state.phase not in ("stopping", "ended")
        outcome = self.draw(st.sampled_from(OUTCOMES))
        if self.draw(st.booleans()):  # something comes between
            self.something()
        if outcome == "started":
            self.live[effect.serial] = (effect, spec.restart)
            self.feed(m.Started(effect.key, effect.serial, f"ref{effect.serial}", self.now))
        elif outcome == "failed":
            self.feed(m.StartFailed(effect.key, effect.serial, "no", self.now))
        else:
            self.feed(m.StartIgnored(effect.key, effect.serial, self.now))

    # -------------------------------------------------------------- what may happen

    def something(self) -> None:
        what = self.draw(st.sampled_from(["exit", "exit", "obey", "timer", "call", "call", "time", "stale", "forget"]))
        getattr(self, what)()

    def exit(self) -> None:
        if self.live:
            self.die(self.draw(st.sampled_from(sorted(self.live))), self.draw(st.sampled_from(REASONS)))

    def die(self, serial: int, reason: object) -> None:
        start, _ = self.live.pop(serial)
        self.told.pop(serial, None)
        self.feed(m.Exited(start.key, serial, reason, self.now))

    def obey(self) -> None:
        if self.told:
            serial = self.draw(st.sampled_from(sorted(self.told)))
            self.die(serial, "killed" if self.told[serial] == "kill" else "shutdown")

    def timer(self) -> None:
        if self.timers:
            timer = self.draw(st.sampled_from(list(self.timers)))
            del self.timers[timer]
            self.feed(m.TimerFired(timer, self.now))

    def time(self) -> None:
        self.now += self.draw(st.sampled_from([0.5, 1, 3, 30]))

    def stale(self) -> None:
        news = [
            each for each in self.past if isinstance(each, (m.Exited, m.TimerFired, m.Started, m.StartFailed, m.Boot))
        ]
        if news:
            self.feed(self.draw(st.sampled_from(news)))

    def forget(self) -> None:
        waiting = [each.call for each in self.state.queue]
        if waiting:
            call = self.draw(st.sampled_from(waiting))
            self.open.remove(call)  # type: ignore[arg-type]
            self.feed(m.Forget(call, self.now))

    def call(self) -> None:
        self.calls += 1
        self.open.add(self.calls)
        self.feed(m.Call(self.calls, self.request(), self.now))

    def request(self) -> m.Request:
        id = self.draw(st.sampled_from(self.ids))
        kind = self.draw(st.sampled_from(range(7)))
        if kind == 0:
            return m.StartChild(self.draw(specs(id)), wait=self.draw(st.booleans()))
        if kind in (1, 2):
            keys = [child.key for child in self.state.children.values()] or [1]
            targets = [
                m.ById(id),
                m.ByKey(self.draw(st.sampled_from(keys)), "ref"),
                m.Stray("x", True),
                m.Stray("y", False),
            ]
            target = self.draw(st.sampled_from(targets))
            return m.TerminateChild(target) if kind == 1 else m.GetChildSpec(target)
        return (m.RestartChild(id), m.DeleteChild(id), m.WhichChildren(), m.CountChildren())[kind - 3]

    def quiet(self) -> None:
        """Let everything that goes on come to its end."""
        for _ in range(2000):
            if self.told:
                self.obey()
            elif self.timers:
                self.timer()
            else:
                return
        raise AssertionError("it never comes to rest")


def live_in_window(world: World) -> int:
    """The most restarts of processes that died, within any one period."""
    period = world.flags.period
    return max((sum(0 <= now - then < period for then in world.restarts) for now in world.restarts), default=0)


@long_in_a_soak
@settings(max_examples=examples(2000))
@given(st.data())
def test_whatever_happens(data: Any) -> None:
    """No event is rejected; never more restarts in a window than allowed; temporary children are never restarted;
    after the end nothing starts; every stop ends in an exit or a kill; everybody gets an answer."""
    world = World(data)
    world.feed(m.Boot(world.now))
    for _ in range(data.draw(st.integers(0, 25))):
        world.something()
        for child in world.state.children.values():
            assert child.spec.restart != "temporary" or child.incarnation <= 1
    world.quiet()
    if not world.ended:
        assert live_in_window(world) <= world.flags.intensity
        world.feed(m.Terminate("shutdown", world.now))
        world.quiet()
    assert world.ended
    assert not world.live
    assert not world.timers
    world.something()


@long_in_a_soak
@settings(max_examples=examples(2000))
@given(st.data())
def test_starts_are_in_order_and_stops_in_reverse(data: Any) -> None:
    """A boot, then a shutdown, with starts that may fail."""
    count = data.draw(st.integers(0, 6))
    bad = data.draw(st.integers(0, 8))
    state = new(Flags(), [ChildSpec(n, nothing) for n in range(count)])
    assert isinstance(state, State)
    started: list[Any] = []
    stopped: list[Any] = []
    events: list[m.Event] = [m.Boot(0.0)]
    ends: list[object] = []
    while events or not ends:
        state, effects = step(state, events.pop(0) if events else m.Terminate("shutdown", 1.0))
        for effect in effects:
            if isinstance(effect, m.Start):
                if effect.key == bad:
                    events.append(m.StartFailed(effect.key, effect.serial, "no", 0.0))
                else:
                    started.append(effect.key)
                    events.append(m.Started(effect.key, effect.serial, effect.key, 0.0))
            elif isinstance(effect, m.Stop):
                stopped.append(effect.key)
                events.append(m.Exited(effect.key, effect.serial, "shutdown", 0.0))
            elif isinstance(effect, m.End):
                ends.append(effect.reason)
    assert started == list(range(min(count, bad)))
    assert stopped == started[::-1]
    assert isinstance(ends[0], Shutdown) == (bad < count)


@long_in_a_soak
@settings(max_examples=examples(2000))
@given(st.integers(0, 5), st.integers(1, 20), st.lists(st.floats(0, 10), max_size=30))
def test_never_more_restarts_in_a_window_than_allowed(intensity: int, period: int, pauses: list[float]) -> None:
    state = new(Flags(intensity=intensity, period=period), [ChildSpec("a", nothing)])
    assert isinstance(state, State)
    state, (start, *_) = step(state, m.Boot(0.0))
    state, _ = step(state, m.Started("a", start.serial, "a", 0.0))  # type: ignore[union-attr]
    now = 0.0
    restarts: list[float] = []
    for pause in pauses:
        now += pause
        state, effects = step(state, m.Exited("a", state.children["a"].serial, "crash", now))
        starts = [effect for effect in effects if isinstance(effect, m.Start)]
        seconds = [int(then) for then in restarts if int(then) >= int(now) - period]
        assert bool(starts) == (len(seconds) < intensity)
        if not starts:
            assert isinstance(effects[-1], m.End)
            return
        restarts.append(now)
        state, _ = step(state, m.Started("a", starts[0].serial, "a", now))


def test_a_bad_specification_is_said_before_anything_starts() -> None:
    bad = new(Flags(), [ChildSpec("a", nothing), ChildSpec("a", nothing)])
    assert isinstance(bad, InvalidSpec)
    two = new(Flags(strategy="simple_one_for_one"), [ChildSpec("a", nothing), ChildSpec("b", nothing)])
    assert isinstance(two, InvalidSpec)
