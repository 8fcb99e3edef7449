"""The same rules for every kind of actor: an event-loop one, a threaded one, and a user's plain pykka class,
under a link, a monitor and a supervisor, however it ends: normally, by a crash, by a kill, by a stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pykka
import pytest

from ramure.actors import Actor, ActorSystem, Ask, Down, Exit, Ref, ThreadedActor
from ramure.exits import Crashed
from ramure.supervisors import ChildSpec, DynamicSupervisor, Notice, Supervisor, SupervisorEvent

WAIT = 5.0
Log = list[tuple[str, object]]


class OnLoop(Actor):
    async def init(self, log: Log) -> None:
        self.log = log

    def handle_info(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("boom")
        self.stop()

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return ("here", request)

    def terminate(self, reason: object) -> None:
        self.log.append(("end", reason))


class InThread(ThreadedActor):
    def init(self, log: Log) -> None:
        self.log = log

    def handle_info(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("boom")
        self.stop()

    def handle_call(self, request: Any, caller: Ask) -> Any:
        return ("here", request)

    def terminate(self, reason: object) -> None:
        self.log.append(("end", reason))

    def on_kill(self) -> None:
        self.log.append(("on_kill", None))


class Pykka(pykka.ThreadingActor):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("boom")
        if message == "normal":
            self.stop()
        return ("here", message)

    def on_stop(self) -> None:
        self.log.append(("end", "stopped"))

    def on_failure(self, kind: Any, value: Any, traceback: Any) -> None:
        self.log.append(("end", value))


KINDS = [OnLoop, InThread, Pykka]


async def end_normally(ref: Ref[Any]) -> None:
    ref.tell("normal")


async def end_by_a_crash(ref: Ref[Any]) -> None:
    ref.tell("crash")


async def end_by_a_kill(ref: Ref[Any]) -> None:
    ref.exit("kill")


async def end_by_a_stop(ref: Ref[Any]) -> None:
    await ref.stop("shutdown")


def boomed(reason: object) -> bool:
    return isinstance(reason, Crashed) and str(reason.exception) == "boom"


ENDS: list[tuple[Callable[[Ref[Any]], Any], Callable[[object], bool]]] = [
    (end_normally, lambda reason: reason == "normal"),
    (end_by_a_crash, boomed),
    (end_by_a_kill, lambda reason: reason == "killed"),
    (end_by_a_stop, lambda reason: reason == "shutdown"),
]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_end = pytest.mark.parametrize(("end", "expected"), ENDS, ids=lambda value: getattr(value, "__name__", ""))


class Observer(Actor):
    """Linked to an actor, or monitoring it; keeps what it hears."""

    async def init(self, trap: bool = True) -> None:
        self.trap_exit = trap
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    async def tie(self, ref: Ref[Any]) -> None:
        self.link(ref)

    async def watch(self, ref: Ref[Any]) -> None:
        self.monitor(ref)

    async def fail(self) -> None:
        raise ValueError("boom")

    def handle_info(self, message: Any) -> None:
        self.heard.put_nowait(message)


async def hears(observer: Ref[Observer]) -> Any:
    return await asyncio.wait_for(observer._cell.actor.heard.get(), WAIT)


async def ended(ref: Ref[Any]) -> object:
    return await asyncio.wait_for(ref.wait(), WAIT)


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem() as system:
        yield system
    await asyncio.wait_for(system.threads.all_ended(), WAIT)
    assert not system.leaks()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "ramure")


@every_kind
@every_end
async def test_monitor(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    observer, ref = await system.start(Observer), await system.start(kind, [])
    await observer.proxy().watch(ref)
    await end(ref)
    down = await hears(observer)
    assert isinstance(down, Down)
    assert down.sender == ref
    assert expected(down.reason)
    assert not ref.is_alive()
    assert expected(await ended(ref))


@every_kind
@every_end
async def test_link_to_one_that_traps_exits(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    observer, ref = await system.start(Observer), await system.start(kind, [])
    await observer.proxy().tie(ref)
    await end(ref)
    message = await hears(observer)
    assert isinstance(message, Exit)
    assert message.sender == ref
    assert expected(message.reason)


@every_kind
@every_end
async def test_link_to_one_that_does_not(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    observer, ref = await system.start(Observer, False), await system.start(kind, [])
    await observer.proxy().tie(ref)
    await end(ref)
    reason = await ended(ref)
    if reason == "normal":
        await observer.proxy().watch(ref)
        assert observer.is_alive()
    else:
        assert expected(await ended(observer))


@every_kind
@pytest.mark.parametrize("how", ["normal", "crash", "kill", "stop"])
async def test_the_other_end_of_the_link_ends(system: ActorSystem, kind: Any, how: str) -> None:
    log: Log = []
    observer, ref = await system.start(Observer), await system.start(kind, log)
    await observer.proxy().tie(ref)
    match how:
        case "normal":
            await observer.stop()
        case "crash":
            observer.call_soon(Observer.fail)
        case "kill":
            observer.exit("kill")
        case "stop":
            await observer.stop("shutdown")
    reason = await ended(observer)
    if how == "normal":
        assert await ref.ask(1) == ("here", 1)
    else:
        assert await ended(ref) == reason
        assert ("end", reason) not in log  # ended at once


@every_kind
@every_end
async def test_its_own_hooks(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    log: Log = []
    ref = await system.start(kind, log)
    await end(ref)
    reason = await ended(ref)
    await asyncio.wait_for(system.threads.all_ended(), WAIT)
    if reason == "killed":
        assert log == ([("on_kill", None)] if kind is InThread else [])
    elif kind is Pykka:
        assert log == [("end", reason.exception if isinstance(reason, Crashed) else "stopped")]
    else:
        assert log == [("end", reason)]


class Events:
    """What a supervisor says, one after the other."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[SupervisorEvent] = asyncio.Queue()

    def __call__(self, event: Any) -> None:
        self.queue.put_nowait(event.event if isinstance(event, Notice) else event)

    async def next(self) -> SupervisorEvent:
        return await asyncio.wait_for(self.queue.get(), WAIT)


async def check_supervised(events: Events, end: Any, expected: Any) -> None:
    started = await events.next()
    assert started.kind == "child_started"
    await end(started.ref)
    event = await events.next()
    assert expected(event.reason)
    if event.reason in ("normal", "shutdown"):
        assert event.kind == "child_ended"
        return
    while event.kind == "restarting":
        event = await events.next()
    assert event.kind == "restarted"
    assert event.ref != started.ref
    assert await event.ref.ask(1) == ("here", 1)


@every_kind
@every_end
async def test_a_transient_child_of_a_supervisor(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    events = Events()
    spec = ChildSpec("child", kind, ([],), restart="transient")
    await system.start(Supervisor, [spec], on_event=events)
    await check_supervised(events, end, expected)


@every_kind
@every_end
async def test_a_transient_child_of_a_dynamic_one(system: ActorSystem, kind: Any, end: Any, expected: Any) -> None:
    events = Events()
    pool = await system.start(DynamicSupervisor, ChildSpec("child", kind, restart="transient"), on_event=events)
    await pool.proxy().start_child([])
    await check_supervised(events, end, expected)


@every_kind
async def test_children_end_with_their_supervisor(system: ActorSystem, kind: Any) -> None:
    logs: list[Log] = [[], []]
    tree = await system.start(Supervisor, [ChildSpec(n, kind, (log,)) for n, log in enumerate(logs)])
    children = [ref for ref in system.actors() if ref != tree]
    await tree.stop("shutdown")
    assert [await ended(ref) for ref in children] == ["shutdown", "shutdown"]
    await asyncio.wait_for(system.threads.all_ended(), WAIT)
    expected: dict[Any, Log] = {OnLoop: [], InThread: [("on_kill", None)], Pykka: [("end", "stopped")]}
    assert logs == [expected[kind]] * 2


@every_kind
async def test_a_start_that_fails_is_the_supervisors_failure(system: ActorSystem, kind: Any) -> None:
    from ramure.errors import StartFailed

    with pytest.raises(StartFailed):
        await system.start(Supervisor, [ChildSpec("child", kind, ("too", "many", "arguments"))])
    assert system.actors() == []
