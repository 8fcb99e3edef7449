"""Random histories under virtual time, with random interleavings: what must hold in every one of them."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ramure.actors import NO_REPLY, Actor, ActorSystem, Ask, Down, Exit, Mailbox, Monitor, Ref, receive, trap_exit
from ramure.actors.observe import inspection
from ramure.errors import ActorDied, AskTimeout, MailboxFull, NameTaken, RequestRefused, UsageError
from ramure.testing import VirtualLoop
from tests.scale import examples, long_in_a_soak

EXAMPLES = settings(max_examples=examples(500), stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 2**32 - 1)
DELAYS = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])


class Machine(RuleBasedStateMachine):
    """A history of one actor system, in virtual time."""

    @initialize(seed=SEEDS)
    def enter(self, seed: int) -> None:
        self.begin(seed)
        self.prepare()

    def begin(self, seed: int) -> None:
        self.runner = asyncio.Runner(loop_factory=functools.partial(VirtualLoop, seed))
        self.system = ActorSystem(seed=seed)
        self.run(self.system.__aenter__())

    def prepare(self) -> None:
        """What the machine begins with."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    def inside(self, action: Callable[..., Any], *args: Any) -> Any:
        """Call ``action`` on the loop."""

        async def act() -> Any:
            return action(*args)

        return self.run(act())

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        self.run(self.leave())
        self.runner.close()

    async def leave(self) -> None:
        await self.system.close()
        assert not self.system.leaks()
        assert not self.system.ready
        assert not self.system.pending_signals

    @rule(seconds=DELAYS)
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))


class Writer(Actor):
    """Keeps what it gets; a message says how long its handler waits."""

    async def init(self, book: list[tuple[int, int]]) -> None:
        self.book = book

    async def handle_info(self, message: tuple[int, int, float]) -> None:
        sender, number, delay = message
        self.book.append((sender, number))
        if delay:
            await asyncio.sleep(delay)


class Order(Machine):
    """From one sender to one receiver: in order, nothing lost while it lives, nothing lost before a stop."""

    def prepare(self) -> None:
        self.number = 0
        self.books: list[list[tuple[int, int]]] = []
        self.sent: list[list[tuple[int, int]]] = []
        self.refs: list[Ref[Writer]] = []
        self.senders = [self.run(self.spawn_sender()) for _ in range(3)]
        for _ in range(2):
            self.starts()

    async def spawn_sender(self) -> Ref[Any]:
        async def sender() -> None:
            while True:
                for ref, message, pause in await receive():
                    if pause:
                        await asyncio.sleep(0)
                    ref.tell(message)

        return self.system.spawn(sender)

    @rule()
    def starts(self) -> None:
        self.books.append([])
        self.sent.append([])
        self.refs.append(self.run(self.system.start(Writer, self.books[-1])))

    @rule(
        sender=st.integers(0, 2),
        plan=st.lists(st.tuples(st.integers(0, 5), DELAYS, st.booleans()), min_size=1, max_size=6),
    )
    def sends(self, sender: int, plan: list[tuple[int, float, bool]]) -> None:
        batch = []
        for target, delay, pause in plan:
            target %= len(self.refs)
            self.number += 1
            batch.append((self.refs[target], (sender, self.number, delay), pause))
            self.sent[target].append((sender, self.number))
        self.inside(self.senders[sender].tell, batch)

    @rule(whom=st.integers(0, 5), settled=st.booleans())
    def is_stopped(self, whom: int, settled: bool) -> None:
        whom %= len(self.refs)
        if self.refs[whom].is_alive():
            if settled:  # the senders are idle again: all is sent
                self.run(asyncio.sleep(0.1))
            self.run(self.refs[whom].stop())
            if settled:
                assert sorted(self.books[whom]) == sorted(self.sent[whom])

    @rule(whom=st.integers(0, 5))
    def is_killed(self, whom: int) -> None:
        self.inside(self.refs[whom % len(self.refs)].exit, "kill")

    def check(self, whom: int) -> None:
        for sender in range(3):
            got = [number for who, number in self.books[whom] if who == sender]
            sent = [number for who, number in self.sent[whom] if who == sender]
            assert got == sent[: len(got)]

    @invariant()
    def order_is_kept(self) -> None:
        for target in range(len(getattr(self, "refs", ()))):
            self.check(target)

    async def leave(self) -> None:
        alive = [n for n, ref in enumerate(self.refs) if ref.is_alive()]
        await asyncio.sleep(2000)
        for target in alive:
            assert sorted(self.books[target]) == sorted(self.sent[target])
        await super().leave()


class Bounded(Machine):
    """A mailbox with a limit never holds more, and who waits for room gets it."""

    @initialize(seed=SEEDS, limit=st.integers(1, 4), overflow=st.sampled_from(["fail", "drop_new", "drop_old"]))
    def enter(self, seed: int, limit: int, overflow: Any) -> None:  # type: ignore[override]
        self.begin(seed)
        self.limit = limit
        self.book: list[tuple[int, int]] = []
        self.sends: list[asyncio.Task[None]] = []
        self.asks: list[asyncio.Task[Any]] = []
        self.accepted = 0

        async def start() -> Ref[Writer]:
            return await self.system.options(mailbox=Mailbox(limit, overflow)).start(Writer, self.book)

        self.ref = self.run(start())

    @rule(count=st.integers(1, 6), delay=DELAYS)
    def tells(self, count: int, delay: float) -> None:
        for _ in range(count):
            self.inside(self.tell, delay)

    def tell(self, delay: float) -> None:
        try:
            self.ref.tell((0, 0, delay))
        except MailboxFull:  # looked at in the same step, before the actor gets its turn
            assert self.system.info(self.ref).queue_length == self.limit
            assert self.ref._cell.mailbox.overflow == "fail"  # type: ignore[union-attr]

    @rule(count=st.integers(1, 4), delay=DELAYS)
    def send_and_wait(self, count: int, delay: float) -> None:
        async def start() -> None:
            self.sends += [asyncio.create_task(self.ref.send((1, 0, delay))) for _ in range(count)]

        self.run(start())

    @rule()
    def asks_it(self) -> None:
        async def start() -> None:
            self.asks.append(asyncio.create_task(self.ref.ask("x", timeout=4.0)))

        self.run(start())

    @rule(which=st.integers(0, 20))
    @precondition(lambda self: getattr(self, "sends", ()))
    def a_sender_is_cancelled(self, which: int) -> None:
        self.inside(self.sends[which % len(self.sends)].cancel)

    @rule(delay=DELAYS)
    def timer(self, delay: float) -> None:
        self.inside(self.system.send_after, delay, self.ref, (2, 0, 0.0))

    @rule()
    @precondition(lambda self: self.ref.is_alive() and len(self.book) > 10)
    def is_killed(self) -> None:
        self.inside(self.ref.exit, "kill")

    def waiting(self) -> int:
        return self.inside(self.system.info, self.ref).queue_length if self.ref.is_alive() else 0

    @invariant()
    def never_more_than_the_limit(self) -> None:
        if hasattr(self, "ref"):
            assert self.waiting() <= self.limit

    async def leave(self) -> None:
        await asyncio.sleep(2000)
        assert all(task.done() for task in self.sends)
        results = await asyncio.gather(*self.asks, return_exceptions=True)
        assert all(isinstance(e, (ActorDied, AskTimeout, MailboxFull, RequestRefused)) for e in results)
        await asyncio.gather(*self.sends, return_exceptions=True)
        await super().leave()


class Answerer(Actor):
    async def init(self) -> None:
        self.waiting: list[Ask] = []

    async def handle_call(self, request: Any, caller: Ask) -> Any:
        match request:
            case ("reply", delay):
                await asyncio.sleep(delay)
                return "reply"
            case "later":
                self.waiting.append(caller)
                return NO_REPLY
            case "answer all":
                for ask in self.waiting:
                    ask.reply("late")
                self.waiting.clear()
            case "refuse":
                caller.fail(RequestRefused("no"))
            case "crash":
                raise ValueError
            case "stop":
                self.stop("told to")
            case ("relay", other, inner, timeout):
                return await other.ask(inner, timeout=timeout)
        return "done"


REQUESTS = st.sampled_from([("reply", 0.0), ("reply", 1.0), ("reply", 9.0), "later", "answer all", "refuse"]) | (
    st.sampled_from(["crash", "stop"])
)
TIMEOUTS = st.sampled_from([None, 0.0, 0.5, 5.0])


class Asks(Machine):
    """Every ask ends: a reply, an error, a timeout, or the death of who was asked."""

    def prepare(self) -> None:
        self.refs = [self.run(self.system.start(Answerer)) for _ in range(4)]
        self.asks: list[tuple[asyncio.Task[Any], float | None, float]] = []

    @rule(whom=st.integers(0, 3), request=REQUESTS, timeout=TIMEOUTS)
    def asks_one(self, whom: int, request: Any, timeout: float | None) -> None:
        async def start() -> None:
            task = asyncio.create_task(self.refs[whom].ask(request, timeout=timeout))
            self.asks.append((task, timeout, self.system.clock.monotonic()))

        self.run(start())

    @rule(first=st.integers(0, 3), second=st.integers(0, 3), request=REQUESTS, inner=TIMEOUTS, timeout=TIMEOUTS)
    def asks_through(self, first: int, second: int, request: Any, inner: float | None, timeout: float | None) -> None:
        self.asks_one(first, ("relay", self.refs[second], request, inner), timeout)

    @rule(whom=st.integers(0, 3), reason=st.sampled_from(["kill", "crash", "normal"]))
    def is_signalled(self, whom: int, reason: str) -> None:
        self.inside(self.refs[whom].exit, reason)

    @rule(whom=st.integers(0, 3))
    def starts_again(self, whom: int) -> None:
        if not self.refs[whom].is_alive():
            self.refs[whom] = self.run(self.system.start(Answerer))

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: getattr(self, "asks", ()))
    def an_asker_is_cancelled(self, which: int) -> None:
        self.inside(self.asks[which % len(self.asks)][0].cancel)

    @invariant()
    def none_outlives_its_timeout(self) -> None:
        for task, timeout, since in getattr(self, "asks", ()):
            if timeout is not None and not task.done():
                assert self.system.clock.monotonic() <= since + timeout

    async def leave(self) -> None:
        await self.system.close()
        if self.asks:
            await asyncio.wait([task for task, _, _ in self.asks], timeout=100)
        for task, _, _ in self.asks:
            assert task.done()
            if not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, (ActorDied, AskTimeout, RequestRefused, UsageError)), error
        assert not any(bucket for bucket in self.system.deadlines._buckets.values())
        await super().leave()


class Relations(Machine):
    """Links and monitors are between the living, seen from both ends, and nothing dead is held."""

    def prepare(self) -> None:
        self.refs: list[Ref[Any]] = []
        self.ghosts: list[weakref.ref[Any]] = []
        self.monitors: list[tuple[Ref[Any], Monitor]] = []
        for n in range(4):
            self.starts(trap=n % 2 == 0)

    async def body(self, trap: bool) -> None:
        trap_exit(trap)
        while True:
            message = await receive()
            if not isinstance(message, (Exit, Down)):
                message()

    @rule(trap=st.booleans())
    def starts(self, trap: bool) -> None:
        async def start() -> Ref[Any]:
            return self.system.spawn(self.body, trap)

        if len(self.refs) < 8:
            self.refs.append(self.run(start()))
            self.run(asyncio.sleep(0))

    def do(self, by: int, action: Any) -> None:
        self.inside(self.refs[by % len(self.refs)].tell, action)
        self.run(asyncio.sleep(0))

    @rule(one=st.integers(0, 7), other=st.integers(0, 7))
    def links(self, one: int, other: int) -> None:
        target = self.refs[other % len(self.refs)]
        if target.is_alive():
            self.do(one, target.link)

    @rule(one=st.integers(0, 7), other=st.integers(0, 7))
    def unlinks(self, one: int, other: int) -> None:
        self.do(one, self.refs[other % len(self.refs)].unlink)

    @rule(one=st.integers(0, 7), other=st.integers(0, 7), alias=st.booleans())
    def monitors_it(self, one: int, other: int, alias: bool) -> None:
        owner, target = self.refs[one % len(self.refs)], self.refs[other % len(self.refs)]
        self.do(one, lambda: self.monitors.append((owner, target.monitor(alias=alias))))

    @rule(which=st.integers(0, 20), flush=st.booleans())
    @precondition(lambda self: getattr(self, "monitors", ()))
    def demonitors(self, which: int, flush: bool) -> None:
        owner, made = self.monitors.pop(which % len(self.monitors))
        if owner.is_alive():
            self.inside(lambda: made.cancel(flush=flush))

    @rule(whom=st.integers(0, 7), reason=st.sampled_from(["kill", "crash", "normal", "shutdown"]))
    def is_signalled(self, whom: int, reason: str) -> None:
        self.inside(self.refs[whom % len(self.refs)].exit, reason)

    @rule()
    @precondition(lambda self: any(not ref.is_alive() for ref in getattr(self, "refs", ())))
    def the_dead_are_forgotten(self) -> None:
        dead = [ref for ref in self.refs if not ref.is_alive()]
        if len(dead) == len(self.refs):
            dead.pop()
        self.ghosts += [weakref.ref(ref._cell) for ref in dead]
        self.refs = [ref for ref in self.refs if ref not in dead]
        self.monitors = [(owner, made) for owner, made in self.monitors if owner in self.refs]

    @invariant()
    def both_ends_agree(self) -> None:
        infos = {ref: self.inside(self.system.info, ref) for ref in getattr(self, "refs", ()) if ref.is_alive()}
        for ref, info in infos.items():
            for other in info.links:
                assert ref in infos[other].links
            for other in info.monitors:
                assert ref in infos[other].monitored_by
            for other in info.monitored_by:
                assert ref in infos[other].monitors

    async def leave(self) -> None:
        await asyncio.sleep(10)
        for ref in self.refs:
            ref.exit("kill")
        await super().leave()
        self.refs.clear()
        self.monitors.clear()

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "ghosts") and any(ghost() is not None for ghost in self.ghosts):
            gc.collect()
            assert [ghost() for ghost in self.ghosts if ghost() is not None] == []


class Names(Machine):
    """A name is its holder's until the holder's DOWN arrives, and free from then on."""

    def prepare(self) -> None:
        self.holders: dict[str, Ref[Any]] = {}
        self.refs: list[Ref[Any]] = []
        self.faults: list[str] = []
        self.watcher = self.run(self.spawn(self.watch))

    async def spawn(self, body: Any) -> Ref[Any]:
        return self.system.spawn(body)

    async def watch(self) -> None:
        def arrived(message: Any) -> bool:  # in the very moment of delivery
            if isinstance(message, Down):
                name = message.sender if isinstance(message.sender, str) else message.sender.name
                holder = self.system.whereis(name) if name is not None else None
                if holder is not None and not holder.is_alive():  # by then another may have the name
                    self.faults.append(name)
            return True

        while True:
            message = await receive(arrived)
            if not isinstance(message, Down):
                message()

    @rule(name=st.sampled_from("abc"), by_name=st.booleans())
    def registers(self, name: str, by_name: bool) -> None:
        try:
            ref = self.run(self.named(name))
        except NameTaken:
            assert self.holders[name].is_alive()
            return
        assert name not in self.holders
        self.holders[name] = ref
        self.refs.append(ref)
        self.inside(self.watcher.tell, lambda: self.system.monitor(name) if by_name else ref.monitor())
        self.run(asyncio.sleep(0))

    async def named(self, name: str) -> Ref[Any]:
        return self.system.options(name=name).spawn(receive, "never")

    @rule(name=st.sampled_from("abc"))
    def unregisters(self, name: str) -> None:
        if name in self.holders:
            self.inside(self.system.unregister, name)
            del self.holders[name]
        else:
            with pytest.raises(UsageError):
                self.system.unregister(name)

    @rule(which=st.integers(0, 5), reason=st.sampled_from(["kill", "crash", "normal"]))
    @precondition(lambda self: getattr(self, "refs", ()))
    def is_signalled(self, which: int, reason: str) -> None:
        ref = self.refs[which % len(self.refs)]
        self.inside(ref.exit, reason)
        if not ref.is_alive():
            self.holders = {name: holder for name, holder in self.holders.items() if holder is not ref}

    @invariant()
    def names_are_their_holders(self) -> None:
        if hasattr(self, "holders"):
            assert {name: self.system.whereis(name) for name in "abc"} == {n: self.holders.get(n) for n in "abc"}
            assert self.faults == []


class TwoSystems(Machine):
    """What happens in one system is not seen in another."""

    def prepare(self) -> None:
        self.other = ActorSystem("other", seed=1)
        self.run(self.other.__aenter__())
        self.alive: dict[int, list[Ref[Any]]] = {0: [], 1: []}
        self.names: dict[int, dict[str, Ref[Any]]] = {0: {}, 1: {}}

    def pick(self, which: bool) -> ActorSystem:
        return self.other if which else self.system

    @rule(which=st.booleans(), name=st.sampled_from("ab"))
    def starts(self, which: bool, name: str) -> None:
        async def start() -> Ref[Any]:
            return self.pick(which).options(name=None if name in self.names[which] else name).spawn(receive, "never")

        ref = self.run(start())
        self.alive[which].append(ref)
        self.names[which].setdefault(name, ref)

    @rule(which=st.booleans(), index=st.integers(0, 9))
    def is_killed(self, which: bool, index: int) -> None:
        if self.alive[which]:
            ref = self.alive[which].pop(index % len(self.alive[which]))
            self.inside(ref.exit, "kill")
            self.names[which] = {n: r for n, r in self.names[which].items() if r is not ref}

    @rule(index=st.integers(0, 9))
    def cannot_be_linked(self, index: int) -> None:
        if self.alive[0] and self.alive[1]:
            one, two = self.alive[0][0], self.alive[1][index % len(self.alive[1])]
            for relate in (two.link, two.monitor):
                with pytest.raises(UsageError):
                    self.inside(one._cell._as_current, relate)

    @invariant()
    def each_knows_its_own(self) -> None:
        for which, alive in getattr(self, "alive", {}).items():
            assert self.pick(bool(which)).actors() == alive
            for name in "ab":
                assert self.pick(bool(which)).whereis(name) is self.names[which].get(name)

    async def leave(self) -> None:
        await super().leave()
        assert self.other.actors() == self.alive[1]
        await self.other.close()
        assert not inspection.leaks(self.other)


@long_in_a_soak
@pytest.mark.parametrize(
    "machine", [Order, Bounded, Asks, Relations, Names, TwoSystems], ids=lambda machine: machine.__name__
)
def test_what_holds_in_every_history(machine: type[Machine], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "ramure.actors")  # crashes are part of the histories
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=EXAMPLES)
