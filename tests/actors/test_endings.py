"""The ways to end, and what hostile code cannot do about them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ramure import actors
from ramure.actors import Actor, ActorSystem, Down, Exit, Ref, Stop, receive, self_ref, trap_exit
from ramure.actors.observe import inspection
from ramure.errors import ActorDied
from ramure.exits import Crashed, format_exit
from ramure.testing import virtual_time


class Noted(Actor):
    """Notes how it ends; handlers do what the message says."""

    async def init(self, notes: list[Any], trap: bool = False) -> None:
        self.trap_exit = trap
        self.notes = notes

    async def handle_info(self, message: Any) -> None:
        match message:
            case "wait":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.notes.append("finally")
            case "stubborn":
                while True:
                    try:
                        await asyncio.Event().wait()
                    except BaseException:
                        self.notes.append("caught")
            case "kill yourself":
                try:
                    self.ref.exit("kill")
                except BaseException as error:
                    self.notes.append(type(error))
                await asyncio.sleep(0)
                self.notes.append("not reached")
            case ("kill", Ref() as other):
                other.exit("kill")
                self.notes.append("runs on")
                self.send_after(1, "too late")
                self.start_task(asyncio.sleep(1000))
                other.monitor()
                await asyncio.sleep(0)
                self.notes.append("not reached")
            case BaseException():
                raise message
            case _:
                self.notes.append(message)

    async def handle_call(self, request: Any, caller: Any) -> Any:
        return request

    def terminate(self, reason: object) -> None:
        self.notes.append(("terminate", reason))


async def test_a_signal_closes_the_handler_and_terminate_is_not_called() -> None:
    async with ActorSystem() as system:
        notes: list[Any] = []
        ref = await system.start(Noted, notes)
        ref.tell("wait")
        await asyncio.sleep(0)
        ref.exit("why")
        assert notes == ["finally"]
        assert await ref.wait() == "why"


async def test_stop_lets_the_handler_finish_and_calls_terminate() -> None:
    async with ActorSystem() as system:
        notes: list[Any] = []
        ref = await system.start(Noted, notes)
        ref.tell("a")
        await ref.stop("why")
        assert notes == ["a", ("terminate", "why")]


@pytest.mark.parametrize("error", [ValueError("v"), StopIteration(3), asyncio.CancelledError(), GeneratorExit()])
async def test_any_exception_in_a_handler_is_a_crash(error: BaseException) -> None:
    class Plain(Noted):
        def handle_info(self, message: Any) -> None:  # type: ignore[override]
            raise message

    async with ActorSystem() as system:
        for actor in (Noted, Plain):
            notes: list[Any] = []
            ref = await system.start(actor, notes)
            ref.tell(error)
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            if not isinstance(error, StopIteration):  # Python itself makes it a RuntimeError in a coroutine
                assert reason.exception is error
            assert notes == [("terminate", reason)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_raised_in_a_handler_ends_the_actor_and_nothing_else(error: type[BaseException]) -> None:
    reasons: list[Any] = []

    async def main() -> None:
        async with ActorSystem() as system:
            system.on_end(lambda ref, reason: reasons.append(reason))
            ref = await system.start(Noted, [])
            ref.tell(error())
            await ref.wait()

    asyncio.run(main())
    assert isinstance(reasons[0].exception, error)


async def test_a_plain_terminate_that_raises_stop_iteration_is_a_crash_too() -> None:
    class Bad(Actor):
        def terminate(self, reason: object) -> None:
            raise StopIteration

    async with ActorSystem() as system:
        ref = await system.start(Bad)
        with pytest.raises(ActorDied, match="stopping"):
            await ref.stop()


async def test_ending_oneself_unwinds_even_what_catches_everything() -> None:
    async with ActorSystem() as system:
        notes: list[Any] = []
        ref = await system.start(Noted, notes)
        ref.tell("kill yourself")
        assert await ref.wait() == "killed"
        await asyncio.sleep(0)
        assert notes == [asyncio.CancelledError]


async def test_code_of_the_dead_runs_to_its_next_wait_and_leaves_nothing() -> None:
    async with ActorSystem() as system:
        notes: list[Any] = []
        one, two = await system.start(Noted, notes), await system.start(Noted, notes)
        one._cell._as_current(two.link)
        bystander = system.spawn(receive)
        one.tell(("kill", two))
        assert await one.wait() == "killed"
        await asyncio.sleep(0)
        assert notes == ["runs on"]
        assert system.actors() == [bystander]
        assert not one._cell.timers
        assert not two._cell.monitors
    assert not system.leaks()


async def test_linking_by_the_dead_passes_their_end_on() -> None:
    async def links_late(other: Ref[Any], third: Ref[Any]) -> None:
        other.link()
        other.exit("kill")
        third.link()

    async with ActorSystem() as system:
        other, third = system.spawn(receive), system.spawn(receive)
        system.spawn(links_late, other, third)
        assert await third.wait() == "killed"
        assert not third._cell.links


async def test_an_async_generator_that_a_killed_actor_reads_is_closed_with_it() -> None:
    notes: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            notes.append("closed")

    async def read() -> None:
        nonlocal notes
        async for number in numbers():
            notes += [str(number)]

    async with ActorSystem() as system:
        reader = system.spawn(read)
        await asyncio.sleep(0)
        assert notes == ["1"]
        reader.exit("kill")
        assert notes == ["1", "closed"]


async def test_a_handler_that_swallows_its_closing_is_dead_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem() as system:
        notes: list[Any] = []
        ref = await system.start(Noted, notes)

        async def bound() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)

        body = system.spawn(bound)
        await asyncio.sleep(0)
        with caplog.at_level(logging.ERROR, "ramure.actors"):
            body.exit("kill")
        assert await body.wait() == "killed"
        assert "while it was being closed: RuntimeError" in caplog.text
        ref.exit("kill")


@virtual_time()
async def test_signals_while_terminate_waits() -> None:
    class Lingers(Noted):
        async def terminate(self, reason: object) -> None:  # type: ignore[override]
            self.notes.append("terminating")
            await self.system.clock.sleep(10)
            self.notes.append("done")

    async with ActorSystem() as system:
        for trap, reason, expected in (
            (False, "now", "now"),
            (True, "now", "slowly"),
            (True, "kill", "killed"),
        ):
            notes: list[Any] = []
            ref = await system.start(Lingers, notes, trap)
            stopping = asyncio.create_task(ref.stop("slowly"))
            await asyncio.sleep(1)
            assert system.info(ref).state == "stopping"
            ref.exit(reason)
            assert await ref.wait() == expected
            assert notes == ["terminating", *(["done"] if expected == "slowly" else [])]
            await asyncio.wait([stopping])
            assert (stopping.exception() is None) == (expected == "slowly")


async def test_terminate_may_still_answer_the_ask_that_crashed_it() -> None:
    class Apologises(Actor):
        def handle_call(self, request: Any, caller: Any) -> Any:
            self.caller = caller
            raise ValueError

        def terminate(self, reason: object) -> None:
            self.caller.reply("sorry")

    async with ActorSystem() as system:
        assert await (await system.start(Apologises)).ask("x") == "sorry"


async def test_broken_reprs_do_not_stop_an_end_half_way() -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("repr")

        __str__ = __repr__

    async with ActorSystem() as system:
        ref, partner = await system.start(Noted, []), system.spawn(receive)
        ref._cell._as_current(partner.link)
        ref.tell("wait")
        await asyncio.sleep(0)
        asking = asyncio.create_task(ref.ask(Broken(), timeout=None))
        await asyncio.sleep(0)
        ref.exit(Broken())
        with pytest.raises(ActorDied):
            await asking
        assert not partner.is_alive()
        crashed = await system.start(Noted, [])
        crashed.tell(Broken())
        assert "Broken" in format_exit(await crashed.wait())


async def test_a_listener_that_fails_does_not_stop_an_end(caplog: pytest.LogCaptureFixture) -> None:
    def broken(ref: Any, value: Any) -> None:
        raise ValueError("listener")

    async with ActorSystem() as system:
        system.on_end(broken)
        system.on_dead_letter(broken)
        ref, partner = await system.start(Noted, []), system.spawn(receive)
        ref._cell._as_current(partner.link)
        ref.exit("bad")
        assert not partner.is_alive()
        ref.tell("dead letter")
        assert system.dead_letters == 1


async def test_reasons_that_compare_in_their_own_way() -> None:
    class Strange:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        __hash__ = None  # type: ignore[assignment]

    async with ActorSystem() as system:
        ref = system.spawn(receive)
        reason = Strange()
        ref.exit(reason)
        assert await ref.wait() is reason


async def test_a_chain_of_a_hundred_thousand_links_falls() -> None:
    async def waits(previous: Ref[Any] | None) -> None:
        if previous is not None:
            previous.link()
        await receive()

    async with ActorSystem() as system:
        refs: list[Ref[Any]] = []
        for _ in range(100_000):
            refs.append(system.spawn(waits, refs[-1] if refs else None))
        while system.ready:
            await asyncio.sleep(0)
        refs[0].exit("down")
        assert (system.actors(), refs[-1].is_alive(), await refs[-1].wait()) == ([], False, "down")


# -- functions ------------------------------------------------------------------------------------------------


async def test_stopping_a_function() -> None:
    async def traps() -> None:
        trap_exit()
        message = await receive(Exit)
        raise Stop(("told", message.sender, message.reason))

    async with ActorSystem() as system:
        plain = system.spawn(receive, "never")
        await plain.stop()
        assert await plain.wait() == "normal"
        ref = system.spawn(traps)
        await asyncio.sleep(0)
        with pytest.raises(ActorDied) as caught:
            await ref.stop("why")
        assert caught.value.reason == ("told", None, "why")


# -- tasks of an actor ------------------------------------------------------------------------------------------


@virtual_time()
async def test_a_task_ends_with_its_actor_and_the_actor_with_its_task() -> None:
    cancelled = []

    async def task(fails: bool) -> None:
        try:
            await asyncio.sleep(1)
            if fails:
                raise ValueError("task")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    class Owner(Actor):
        async def init(self, fails: bool) -> None:
            self.start_task(task(fails))

    async with ActorSystem() as system:
        ref = await system.start(Owner, False)
        await asyncio.sleep(2)
        ref.exit("kill")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cancelled == [True]
        reason = await (await system.start(Owner, True)).wait()
        assert isinstance(reason, Crashed)
        assert str(reason.exception) == "task"


# -- asyncio inside handlers --------------------------------------------------------------------------------------


@virtual_time()
async def test_asyncio_works_in_handlers() -> None:
    class Uses(Actor):
        async def handle_call(self, request: Any, caller: Any) -> Any:
            match request:
                case "timeout":
                    try:
                        async with asyncio.timeout(1):
                            await asyncio.Event().wait()
                    except TimeoutError:
                        return "timed out"
                case "wait_for":
                    try:
                        await asyncio.wait_for(asyncio.Event().wait(), 1)
                    except TimeoutError:
                        return "timed out"
                case "group":
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(asyncio.sleep(n, n)) for n in range(3)]
                    return [task.result() for task in tasks]
                case "failing group":
                    try:
                        async with asyncio.TaskGroup() as group:
                            group.create_task(fails())
                            await asyncio.Event().wait()
                    except ExceptionGroup as errors:
                        return len(errors.exceptions)
                case "gather":
                    return await asyncio.gather(asyncio.sleep(1, "a"), asyncio.sleep(0, "b"))
                case "thread":
                    return await asyncio.to_thread(lambda: "thread")
                case "cancel without waiting":
                    current = asyncio.current_task()
                    assert current is not None
                    current.cancel()
                case "sleep":
                    await asyncio.sleep(0.1)
                    return asyncio.current_task().cancelling()  # type: ignore[union-attr]
            return None

    async def fails() -> None:
        raise ValueError

    async with ActorSystem() as system:
        ref = await system.start(Uses)
        for _ in range(2):
            assert await ref.ask("timeout") == "timed out"
            assert await ref.ask("wait_for") == "timed out"
            assert await ref.ask("group") == [0, 1, 2]
            assert await ref.ask("failing group") == 1
            assert await ref.ask("gather") == ["a", "b"]
            assert await ref.ask("thread") == "thread"
            await ref.ask("cancel without waiting")
            assert await ref.ask("sleep") == 0


async def test_what_is_no_asyncio_awaitable_is_refused() -> None:
    class Odd:
        def __await__(self) -> Any:
            yield "odd"

    async def awaits() -> None:
        await Odd()

    async with ActorSystem() as system:
        assert "asyncio awaitables only" in format_exit(await system.spawn(awaits).wait())


async def test_a_future_of_another_loop_is_refused() -> None:
    other = asyncio.new_event_loop()
    future = other.create_future()

    async def awaits() -> None:
        await future

    async with ActorSystem() as system:
        assert "another event loop" in format_exit(await system.spawn(awaits).wait())
    other.close()


# -- the system's end -----------------------------------------------------------------------------------------------


@virtual_time()
async def test_leaving_a_system_ends_all_in_reverse_order_and_kills_the_stubborn() -> None:
    notes: list[Any] = []

    class Ends(Actor):
        async def init(self, name: str, seconds: float) -> None:
            self.trap_exit = True
            self.name, self.seconds = name, seconds

        async def terminate(self, reason: object) -> None:
            await self.system.clock.sleep(self.seconds)
            notes.append((self.name, reason))

    async with ActorSystem(grace=5) as system:
        await system.start(Ends, "first", 1)
        hangs = await system.start(Ends, "hangs", 1000)
        await system.start(Ends, "last", 1)
        start = system.clock.monotonic()
    assert notes == [("last", "shutdown")]
    assert await hangs.wait() == "killed"
    assert system.clock.monotonic() - start == 5
    assert not system.leaks()


@virtual_time()
async def test_a_child_has_its_time_to_end_after_its_parent() -> None:
    notes: list[Any] = []

    class Child(Actor):
        async def init(self) -> None:
            self.trap_exit = True

        async def terminate(self, reason: object) -> None:
            await self.system.clock.sleep(2)
            notes.append(reason)

    class Parent(Actor):
        async def init(self) -> None:
            await self.system.start_link(Child)

    async with ActorSystem() as system:
        await system.start(Parent)
    assert notes == ["shutdown"]


@virtual_time()
async def test_an_interval_to_a_name_ends_with_the_system() -> None:
    async with ActorSystem() as system:
        timer = system.send_interval(1, "nobody", "tick")
        await asyncio.sleep(3.5)
        assert timer.time_left() == 0.5
    await asyncio.sleep(3)
    assert timer.time_left() is None


# -- timers -----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_timers_and_timeouts() -> None:
    class Timed(Noted):
        def handle_continue(self, value: Any) -> None:
            self.notes.append(("continue", value))

        async def handle_cast(self, message: Any) -> None:
            match message:
                case ("timeout", seconds):
                    self.set_timeout(seconds)
                case ("continue", value):
                    self.continue_with(value)
                case ("every", seconds):
                    self.tick = self.send_interval(seconds, "tick")
                case "cancel":
                    self.notes.append(self.tick.cancel())

    async with ActorSystem() as system:
        notes: list[Any] = []
        ref = await system.start(Timed, notes)
        ref.cast(("timeout", 1))
        await asyncio.sleep(2)
        assert notes == [actors.Timeout()]
        ref.cast(("timeout", 1))
        await asyncio.sleep(0.5)
        ref.tell("in time")
        await asyncio.sleep(2)
        ref.cast(("timeout", 1))
        ref.cast(("timeout", None))
        await asyncio.sleep(2)
        assert notes[1:] == ["in time"]
        ref.cast(("timeout", 1))
        await asyncio.sleep(0.5)
        assert await inspection.get_state(ref)  # does not clear it
        await asyncio.sleep(1)
        assert notes[2:] == [actors.Timeout()]
        ref.cast(("continue", 1))
        ref.tell("after")
        ref.cast(("every", 1))
        await asyncio.sleep(2.5)
        ref.cast("cancel")
        await asyncio.sleep(5)
        assert notes[3:] == [("continue", 1), "after", "tick", "tick", 0.5]
        system.send_after(1, ref, "late")
        ref.exit("kill")
        await asyncio.sleep(2)
        assert (notes[8:], system.dead_letters) == ([], 0)


async def test_dead_letters_are_counted_and_shown() -> None:
    async with ActorSystem() as system:
        letters: list[Any] = []
        system.on_dead_letter(lambda ref, message: letters.append((ref, message)))
        ref = system.spawn(receive)
        ref.exit("kill")
        ref.tell("lost")
        await ref.send("lost too")
        assert letters == [(ref, "lost"), (ref, "lost too")]
        assert system.dead_letters == 2


async def test_a_monitor_by_a_task_of_an_actor_belongs_to_the_actor() -> None:
    async def body(target: Ref[Any]) -> None:
        async def in_task() -> None:
            target.monitor()

        await asyncio.gather(in_task())
        raise Stop((self_ref(), (await receive(Down)).reason))

    async with ActorSystem() as system:
        target = system.spawn(receive)
        ref = system.spawn(body, target)
        for _ in range(5):
            await asyncio.sleep(0)
        target.exit("bye")
        assert await ref.wait() == (ref, "bye")


_color: contextvars.ContextVar[str] = contextvars.ContextVar("color", default="none")


class Painter(Actor):
    async def paint(self, color: str) -> None:
        _color.set(color)

    async def color(self) -> str:
        return await asyncio.create_task(self.seen())

    async def seen(self) -> str:
        assert self_ref() is self.ref
        return _color.get()


async def test_variables_that_an_actor_sets_are_its_own_and_stay() -> None:
    async with ActorSystem() as system:
        _color.set("red")
        one, two = await system.start(Painter), await system.start(Painter)
        _color.set("blue")
        assert [await one.proxy().color(), await two.proxy().color()] == ["red", "red"]
        await one.proxy().paint("green")
        for _ in range(3):
            assert [await one.proxy().color(), await two.proxy().color()] == ["green", "red"]
        assert _color.get() == "blue"
