"""Looking into actors: what is read at once, and what waits for the actor's turn, as OTP's sys."""

import asyncio
import threading
from typing import Any

import pytest

from ramure.actors import Actor, ActorSystem, Ask, Down, Exit, Mailbox, Ref, ThreadedActor, receive
from ramure.actors.observe.inspection import get_state, replace_state, resume, statistics, suspend
from ramure.actors.observe.tracing import KINDS, TraceEvent
from ramure.errors import ActorDied, AskTimeout, UsageError, WouldDeadlock
from ramure.exits import Crashed


class Counter(Actor):
    async def init(self, start: int = 0) -> None:
        self.n = start
        self.gate = asyncio.Event()

    async def add(self, k: int) -> int:
        self.n += k
        return self.n

    async def block(self) -> None:
        await self.gate.wait()

    async def crash(self) -> None:
        raise ValueError("boom")

    async def look_at(self, ref: Ref[Any]) -> Any:
        return await get_state(ref, timeout=0.05)

    async def tie(self, link: Ref[Any], monitor: Ref[Any]) -> None:
        self.link(link)
        self.monitor(monitor)
        self.trap_exit = True

    async def pass_on(self, ref: Ref[Any], message: object) -> None:
        ref.tell(message)

    def handle_info(self, message: Any) -> None:
        if isinstance(message, int):
            self.n += message

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return self.n


class Threaded(ThreadedActor):
    def init(self, start: int = 0) -> None:
        self.n = start

    def handle_info(self, message: Any) -> None:
        self.n += message

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return self.n


async def in_block(system: ActorSystem, start: int = 0) -> tuple[Ref[Counter], "asyncio.Future[None]"]:
    counter = await system.start(Counter, start)
    blocked = asyncio.ensure_future(counter.proxy(timeout=None).block())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert system.info(counter).state == "busy"
    return counter, blocked


# -- at once ------------------------------------------------------------------------------------------------


async def test_info_is_read_at_once_while_the_actor_is_busy() -> None:
    async with ActorSystem() as system:
        counter, blocked = await in_block(system)
        counter.tell(1)
        counter.tell(2)
        info = system.info(counter)
        assert (info.id, info.kind, info.label, info.name) == (counter.id, "Counter", counter.label, None)
        assert (info.phase, info.queue_length, info.reason, info.thread) == ("running", 2, None, None)
        assert "block()" in repr(info.current)
        assert info.statistics is None
        assert abs(info.started_at - system.clock.wall()) < 60
        counter._cell.actor.gate.set()
        await blocked
        await counter.ask("sync")
        assert system.info(counter).state == "idle"
        assert system.info(counter).queue_length == 0


async def test_info_shows_relations() -> None:
    async with ActorSystem() as system:
        one, two, three = [await system.start(Counter) for _ in range(3)]
        await one.proxy().tie(two, three)
        system.register("first", one)
        info = system.info(one)
        assert (info.links, info.monitors, info.monitored_by) == ((two,), (three,), ())
        assert (info.trap_exit, info.name, info.parent) == (True, "first", None)
        assert system.info(two).links == (one,)
        assert system.info(three).monitored_by == (one,)


async def test_info_of_the_dead_says_why() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        counter.exit("gone")
        assert (system.info(counter).state, system.info(counter).reason) == ("dead", "gone")


async def test_info_counts_drops_and_shows_threads() -> None:
    async with ActorSystem() as system:
        bounded = await system.options(mailbox=Mailbox(1, "drop_new")).start(Counter)
        bounded.tell(1)
        bounded.tell(2)
        assert system.info(bounded).dropped == 1
        threaded = await system.start(Threaded)
        ident = system.info(threaded).thread
        assert ident is not None
        assert ident != threading.get_ident()
        assert (await asyncio.to_thread(system.info, threaded)).id == threaded.id


async def test_leaks_are_what_is_left() -> None:
    system = ActorSystem()
    async with system:
        counter = await system.start(Counter)
        task = counter._cell.own_task(asyncio.sleep(3600), "nap")
        leaks = system.leaks()
        assert leaks
        assert (leaks.actors, leaks.threads, leaks.tasks) == ((counter,), (), ("nap",))
    assert task.cancelled()
    assert not system.leaks()


# -- in the actor's turn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Counter, Threaded])
async def test_get_state_waits_behind_queued_messages(kind: Any) -> None:
    async with ActorSystem() as system:
        ref = await system.start(kind, 1)
        ref.tell(2)
        ref.tell(3)
        assert (await get_state(ref))["n"] == 6
        assert "_cell" not in await get_state(ref)


async def test_get_state_is_a_copy() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter, 1)
        (await get_state(counter))["n"] = 7
        assert await counter.ask("n") == 1


@pytest.mark.parametrize("kind", [Counter, Threaded])
async def test_replace_state(kind: Any) -> None:
    async with ActorSystem() as system:
        ref = await system.start(kind, 1)
        new = await replace_state(ref, lambda state: {**state, "n": state["n"] + 10})
        assert new["n"] == 11
        assert await ref.ask("n") == 11


async def test_replace_state_that_raises_leaves_the_actor_as_it_was() -> None:
    def broken(state: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    async with ActorSystem() as system:
        counter = await system.start(Counter, 1)
        with pytest.raises(ZeroDivisionError):
            await replace_state(counter, broken)
        assert await counter.ask("n") == 1


@pytest.mark.parametrize("kind", [Counter, Threaded])
async def test_a_suspended_actor_handles_nothing_until_it_is_resumed(kind: Any) -> None:
    async with ActorSystem() as system:
        ref = await system.start(kind)
        await suspend(ref)
        await suspend(ref)
        ref.tell(5)
        with pytest.raises(AskTimeout, match="suspended"):
            await ref.ask("n", timeout=0.01)
        assert system.info(ref).state == "suspended"
        assert (await get_state(ref))["n"] == 0
        await resume(ref)
        assert await ref.ask("n") == 5
        await resume(ref)


async def test_exit_signals_end_a_suspended_actor() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        await suspend(counter)
        counter.exit("gone")
        assert await counter.wait() == "gone"


async def test_a_suspended_actor_ends_with_its_system() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        counter._cell.trap_exit = True
        await suspend(counter)
    assert await counter.wait() == "shutdown"


async def test_requests_to_the_dead_and_the_busy() -> None:
    async with ActorSystem() as system:
        counter, blocked = await in_block(system)
        with pytest.raises(AskTimeout, match="get_state.*handling ask block"):
            await get_state(counter, timeout=0.01)
        waiting = asyncio.ensure_future(get_state(counter))
        await asyncio.sleep(0)
        counter.exit("kill")
        with pytest.raises(ActorDied, match="killed"):
            await waiting
        with pytest.raises(ActorDied, match="killed"):
            await blocked
        with pytest.raises(ActorDied, match="noproc"):
            await get_state(counter)


async def test_an_actor_that_inspects_itself_would_deadlock() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        with pytest.raises(ActorDied) as died:
            await counter.proxy().look_at(counter)
        assert isinstance(died.value.reason, Crashed)
        assert isinstance(died.value.reason.exception, WouldDeadlock)


async def test_functions_show_their_variables_and_refuse_the_rest() -> None:
    async def body() -> None:
        n = 3
        await receive()
        assert n

    async with ActorSystem() as system:
        ref = system.spawn(body)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await get_state(ref) == {"n": 3}
        for request in (suspend(ref), replace_state(ref, lambda state: state)):
            with pytest.raises(UsageError, match="function"):
                await request


async def test_statistics() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        assert await statistics(counter) is None
        await statistics(counter, "on")
        for n in range(3):
            counter.tell(n)
        await counter.proxy().add(1)
        counted = await statistics(counter)
        assert counted is not None
        assert (counted.messages_in, counted.handled, counted.replied, counted.signals) == (4, 4, 1, 0)
        assert 0 < counted.longest <= counted.busy
        assert system.info(counter).statistics == counted
        await statistics(counter, "off")
        assert await statistics(counter) is None
        assert counter._cell.plain
        with pytest.raises(UsageError):
            await statistics(counter, "maybe")  # type: ignore[arg-type]


# -- traces ---------------------------------------------------------------------------------------------------


def short(events: list[TraceEvent]) -> list[tuple[str, object]]:
    return [(e.kind, e.value) for e in events]


async def test_a_trace_of_one_actor_shows_what_came_and_from_whom() -> None:
    async with ActorSystem() as system:
        one, two = await system.start(Counter), await system.start(Counter)
        with system.trace(two) as trace:
            await one.proxy().pass_on(two, 5)
            assert await two.ask("n") == 5
            two.exit("gone")
        events = trace.events()
        told, asked = events[0], events[1]
        assert [e.kind for e in events if e.value is told.value] == ["sent", "received", "handled"]
        assert [e.kind for e in events if e.value is asked.value] == ["sent", "received", "handled", "replied"]
        assert [e.kind for e in events[-3:]] == ["replied", "signal", "ended"]
        assert {e.actor for e in events} == {two}
        assert (told.value, told.peer) == (5, one)
        assert (asked.value.request, asked.peer) == ("n", None)  # type: ignore[attr-defined]
        assert short(events[-2:]) == [("signal", "gone"), ("ended", "gone")]
        assert "gone" in str(events[-1])
        assert [e.at for e in events] == sorted(e.at for e in events)
        assert str(one) in str(events[0])


async def test_a_trace_of_all_sees_actors_start_and_end() -> None:
    async with ActorSystem() as system:
        old = await system.start(Counter)
        with system.trace(kinds=["started", "ended"]) as trace:
            new = await system.start(Counter)
            threaded = await system.start(Threaded)
            function = system.spawn(asyncio.sleep, 0)
            await function.wait()
            await threaded.stop()
            old.exit("gone")
        assert [(e.kind, e.actor, e.value) for e in trace.events()] == [
            ("started", new, None),
            ("started", threaded, None),
            ("started", function, None),
            ("ended", function, "normal"),
            ("ended", threaded, "normal"),
            ("ended", old, "gone"),
        ]
        assert new._cell.plain
        assert system.tracers == []


async def test_a_trace_with_a_predicate() -> None:
    async with ActorSystem() as system:
        with system.trace(lambda ref: ref.name == "hits") as trace:
            other = await system.start(Counter)
            hits = await system.options(name="hits").start(Counter)
            other.tell(1)
            hits.tell(2)
            await hits.ask("sync")
        assert {e.actor for e in trace.events()} == {hits}


async def test_downs_and_exits_come_from_the_one_that_ended() -> None:
    async with ActorSystem() as system:
        one, two, three = [await system.start(Counter) for _ in range(3)]
        await one.proxy().tie(two, three)
        with system.trace(one, kinds=["sent"]) as trace:
            two.exit("a")
            three.exit("b")
        assert [(type(e.value), e.peer) for e in trace.events()] == [(Exit, two), (Down, three)]


async def test_messages_from_threads_show_their_sender() -> None:
    class Sender(ThreadedActor):
        def send(self, ref: Ref[Any]) -> None:
            ref.tell(1)

    async with ActorSystem() as system:
        sender, counter = await system.start(Sender), await system.start(Counter)
        with system.trace(counter, kinds=["sent"]) as trace:
            await sender.proxy().send(counter)
            await counter.ask("sync")
        assert trace.events()[0].peer == sender


async def test_a_trace_is_an_async_iterator_and_ends_when_stopped() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        trace = system.trace(counter, kinds=["handled"])
        seen: list[object] = []

        async def read() -> None:
            async for event in trace:
                seen.append(event.value)
                if event.value == 2:
                    trace.stop()

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        counter.tell(1)
        counter.tell(2)
        await asyncio.wait_for(reading, 30)
        assert seen == [1, 2]


async def test_the_buffer_keeps_the_newest_and_counts_the_rest() -> None:
    async with ActorSystem() as system:
        counter = await system.start(Counter)
        with system.trace(counter, kinds=["sent"], limit=3) as trace:
            for n in range(10):
                counter.tell(n)
        assert [e.value for e in trace.events()] == [7, 8, 9]
        assert trace.dropped == 7


async def test_a_callback_that_raises_ends_the_trace_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: TraceEvent) -> None:
        raise ValueError("in the callback")

    async with ActorSystem() as system:
        counter = await system.start(Counter)
        got: list[TraceEvent] = []
        system.trace(counter, callback=broken)
        system.trace(counter, callback=got.append)
        counter.tell(1)
        assert await counter.ask("n") == 1
        assert got[0].value == 1
        assert "in the callback" in caplog.text


async def test_a_trace_of_a_function() -> None:
    async def body() -> None:
        await receive(int)

    async with ActorSystem() as system:
        with system.trace() as trace:
            ref = system.spawn(body)
            ref.tell("first")
            ref.tell(2)
            await ref.wait()
        assert short(trace.events()) == [
            ("started", None),
            ("sent", "first"),
            ("sent", 2),
            ("received", 2),
            ("ended", "normal"),
        ]


async def test_wrong_arguments_are_refused() -> None:
    async with ActorSystem() as system:
        with pytest.raises(UsageError, match=KINDS[0]):
            system.trace(kinds=["nonsense"])  # type: ignore[list-item]
        with pytest.raises(UsageError, match="limit"):
            system.trace(limit=0)
