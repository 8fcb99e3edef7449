"""Actors whose code runs in a thread: a ThreadedActor, and a user's own pykka.ThreadingActor."""

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pykka
import pytest

from ramure.actors import (
    NO_REPLY,
    Actor,
    ActorSystem,
    Ask,
    Down,
    Exit,
    Ignore,
    Mailbox,
    Ref,
    StartIgnored,
    StartTimeout,
    Stop,
    ThreadedActor,
    Timeout,
    self_ref,
)
from ramure.errors import ActorDied, AskTimeout, RequestRefused, StartFailed, UsageError, WouldDeadlock
from ramure.exits import Crashed, format_exit

WAIT = 5.0


class Box(ThreadedActor):
    """Owns something that blocks."""

    def init(self, log: list[object] | None = None, *, trap: bool = False) -> None:
        self.log = [] if log is None else log
        self.trap_exit = trap
        self.gate = threading.Event()
        self.entered = threading.Event()

    def double(self, n: int) -> int:
        return 2 * n

    def thread_name(self) -> str:
        return threading.current_thread().name

    def block(self) -> str:
        self.entered.set()
        assert self.gate.wait(WAIT)
        return "let go"

    def crash(self) -> None:
        raise ValueError("boom")

    def leave(self) -> None:
        sys.exit(3)

    async def wrong(self) -> None: ...

    def ask_self(self) -> Any:
        return self.ref.ask_sync("anything")

    def ask_other(self, other: Ref[Any], request: object) -> Any:
        return other.ask_sync(request)

    def ask_for_ever(self, other: Ref[Any]) -> Any:
        return other.ask_sync(("back", self.ref), timeout=None)

    def handle_call(self, request: Any, caller: Ask) -> Any:
        if request == "later":
            threading.Thread(target=lambda: caller.reply("later, then")).start()
            return NO_REPLY
        if request == "no":
            caller.fail(RequestRefused("not today"))
            return None
        if request == "me":
            return self_ref()
        if request == "last words":
            self.stop("done")
            return "bye"
        if isinstance(request, tuple) and request[0] == "monitor":
            self.monitor(request[1])
        if isinstance(request, tuple) and request[0] == "link":
            self.link(request[1])
        if isinstance(request, tuple) and request[0] == "timeout":
            self.set_timeout(request[1])
        if isinstance(request, tuple) and request[0] == "after":
            timer = self.send_after(WAIT, "never")
            return timer.cancel(), self.send_after(0, "soon").time_left()
        return request

    def handle_cast(self, message: Any) -> None:
        self.log.append(("cast", message))

    def handle_info(self, message: Any) -> None:
        self.log.append(message)

    def handle_continue(self, value: Any) -> None:
        self.log.append(("continue", value))

    def terminate(self, reason: object) -> None:
        self.log.append(("terminate", reason))

    def on_kill(self) -> None:
        self.log.append("on_kill")
        self.gate.set()


class Teller(Actor):
    """Keeps what it is told, and says when that is something awaited."""

    async def init(self) -> None:
        self.trap_exit = True
        self.got: asyncio.Queue[Any] = asyncio.Queue()

    def handle_info(self, message: Any) -> None:
        self.got.put_nowait(message)

    async def watch(self, ref: Ref[Any]) -> None:
        self.monitor(ref)

    async def tie(self, ref: Ref[Any]) -> None:
        self.link(ref)


async def next_message(ref: Ref[Teller]) -> Any:
    return await asyncio.wait_for(ref._cell.actor.got.get(), WAIT)


async def entered(ref: Ref[Box]) -> None:
    assert await asyncio.to_thread(ref._cell.object.entered.wait, WAIT)


async def test_callbacks_run_in_one_thread_of_its_own() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        name = await box.proxy().thread_name()
        assert name == await box.call(Box.thread_name) == box.label
        assert name != threading.current_thread().name


async def test_tell_cast_ask_and_later_replies() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        box = await system.start(Box, log)
        box.tell("hello")
        box.cast("there")
        assert await box.ask("x") == "x"
        assert log == ["hello", ("cast", "there")]
        assert await box.ask("later") == "later, then"
        with pytest.raises(RequestRefused, match="not today"):
            await box.ask("no")
        assert await box.ask("me") == box
        assert await box.call(Box.double, 4) == 8


async def test_proxies_name_the_public_methods() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        with pytest.raises(AttributeError, match="double"):
            box.proxy().nonsense()
        with pytest.raises(AttributeError):
            box.proxy().terminate("x")


async def test_an_async_method_is_refused_with_the_correction() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        with pytest.raises(ActorDied, match="plain `def`"):
            await box.proxy().wrong()


@pytest.mark.parametrize("kwargs", [{"nonsense": 1}])
async def test_a_failing_init_is_startfailed(kwargs: dict[str, Any]) -> None:
    async with ActorSystem() as system:
        with pytest.raises(StartFailed, match="nonsense") as failure:
            await system.start(Box, **kwargs)
        assert isinstance(failure.value.__cause__, TypeError)
        assert system.actors() == []


async def test_ignore_and_stop_in_init() -> None:
    class Shy(ThreadedActor):
        def init(self, error: Exception) -> None:
            raise error

    async with ActorSystem() as system:
        with pytest.raises(StartIgnored):
            await system.start(Shy, Ignore())
        with pytest.raises(StartFailed) as failure:
            await system.start(Shy, Stop("no disk"))
        assert failure.value.reason == "no disk"


async def test_a_start_that_takes_too_long_is_killed_and_let_go() -> None:
    closed = threading.Event()

    class Slow(ThreadedActor):
        def init(self) -> None:
            assert closed.wait(WAIT)

        def on_kill(self) -> None:
            closed.set()

    async with ActorSystem() as system:
        with pytest.raises(StartTimeout):
            await system.options(timeout=0.02).start(Slow)
        await asyncio.wait_for(system.threads.all_ended(), WAIT)
        assert system.threads.abandoned() == []


async def test_stop_waits_for_what_is_queued_and_calls_terminate() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        box = await system.start(Box, log)
        box.tell(1)
        await box.stop()
        assert log == [1, ("terminate", "normal")]
        assert await box.wait() == "normal"
        assert await (await system.start(Box, log)).ask("last words") == "bye"


async def test_an_exception_ends_the_actor_however_the_message_came() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        teller = await system.start(Teller)
        box = await system.start(Box, log)
        await teller.proxy().watch(box)
        with pytest.raises(ActorDied, match="boom") as died:
            await box.proxy().crash()
        down = await next_message(teller)
        assert isinstance(down, Down)
        assert isinstance(down.reason, Crashed)
        assert isinstance(down.reason.exception, ValueError)
        assert died.value.reason == down.reason == log[-1][1]  # type: ignore[index]
        assert "handling" in format_exit(down.reason)

        box = await system.start(Box)
        box.call_soon(Box.crash)
        assert isinstance(await asyncio.wait_for(box.wait(), WAIT), Crashed)


async def test_sys_exit_in_the_thread_ends_the_actor_only() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        with pytest.raises(ActorDied, match="SystemExit"):
            await box.proxy().leave()
        await system.start(Box)


async def test_kill_gives_its_down_at_once_calls_on_kill_and_shows_the_thread() -> None:
    class Stuck(Box):
        def on_kill(self) -> None:
            self.log.append("on_kill")
            self.entered.set()

    log: list[object] = []
    async with ActorSystem() as system:
        teller = await system.start(Teller)
        stuck = await system.start(Stuck, log)
        await teller.proxy().watch(stuck)
        gate, in_block = stuck._cell.object.gate, stuck._cell.object.entered
        asking = asyncio.ensure_future(stuck.proxy(timeout=None).block())
        await entered(stuck)
        in_block.clear()
        stuck.exit("kill")
        assert (await next_message(teller)).reason == "killed"
        with pytest.raises(ActorDied, match="killed"):
            await asking
        assert await asyncio.to_thread(in_block.wait, WAIT)
        assert log == ["on_kill"]
        (left,) = system.threads.abandoned()
        assert left.label == stuck.label
        assert "block()" in left.doing
        gate.set()
        await asyncio.wait_for(system.threads.end_of(stuck), WAIT)
        assert system.threads.abandoned() == []
        assert ("terminate", "killed") not in log


async def test_kill_of_an_idle_one_also_calls_on_kill() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        box = await system.start(Box, log)
        box.exit("kill")
        await system.threads.wait(WAIT)
        assert log == ["on_kill"]


async def test_what_init_made_after_a_kill_is_closed_too() -> None:
    go, starting = threading.Event(), threading.Event()
    opened: list[str] = []

    class Opener(ThreadedActor):
        def init(self) -> None:
            starting.set()
            assert go.wait(WAIT)
            opened.append("open")

        def on_kill(self) -> None:
            if opened:
                opened.append("closed")
            go.set()

    async with ActorSystem() as system:
        start = asyncio.ensure_future(system.start(Opener))
        assert await asyncio.to_thread(starting.wait, WAIT)
        system.actors()[0].exit("kill")
        with pytest.raises(StartFailed):
            await start
        await asyncio.wait_for(system.threads.all_ended(), WAIT)
    assert opened == ["open", "closed"]


async def test_no_handler_runs_after_a_kill_in_the_same_turn() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        box = await system.start(Box, log)
        box.tell("never")
        box.exit("kill")
        await asyncio.wait_for(system.threads.all_ended(), WAIT)
        assert log == ["on_kill"]


async def test_relations_made_from_the_thread() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        one, two, three = await system.start(Box), await system.start(Box), await system.start(Box, log, trap=True)
        assert await three.ask(("monitor", one))
        assert await three.ask(("link", two))
        one.exit("gone")
        two.exit("also")
        await three.ask("sync")
        assert [type(m) for m in log] == [Down, Exit]
        assert [m.reason for m in log] == ["gone", "also"]  # type: ignore[attr-defined]


async def test_timers_and_timeouts_from_the_thread() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        box = await system.start(Box, log)
        left, _ = await box.ask(("after", None))
        assert 0 < left <= WAIT
        await box.ask(("timeout", 0.01))
        teller = await system.start(Teller)
        await teller.proxy().watch(box)
        for _ in range(200):
            if Timeout() in log:
                break
            await asyncio.sleep(0.01)  # real time: the timeout is a clock's
        assert "soon" in log
        assert "never" not in log
        assert Timeout() in log


async def test_a_thread_that_asks_itself_would_deadlock() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        with pytest.raises(ActorDied, match="asked itself") as died:
            await box.proxy().ask_self()
        assert isinstance(died.value.reason.exception, WouldDeadlock)  # type: ignore[attr-defined]


async def test_threads_that_ask_in_a_circle_without_limit_would_deadlock() -> None:
    class Back(Box):
        def handle_call(self, request: Any, caller: Ask) -> Any:
            return request[1].ask_sync("x", timeout=None)

    async with ActorSystem() as system:
        one, two = await system.start(Box), await system.start(Back)
        with pytest.raises(ActorDied, match="never end"):
            await one.proxy().ask_for_ever(two)


async def test_a_thread_asks_event_loop_actors() -> None:
    class Echo(Actor):
        def handle_call(self, request: Any, caller: Ask) -> Any:
            return request

    async with ActorSystem() as system:
        echo, box = await system.start(Echo), await system.start(Box)
        assert await box.proxy().ask_other(echo, 7) == 7


async def test_ask_timeout_names_what_the_thread_is_doing() -> None:
    async with ActorSystem() as system:
        box = await system.start(Box)
        first = asyncio.ensure_future(box.proxy().block())
        await entered(box)
        with pytest.raises(AskTimeout, match="handling ask block"):
            await box.ask("x", timeout=0.01)
        box._cell.object.gate.set()
        assert await first == "let go"


async def test_limits_hold() -> None:
    async with ActorSystem() as system:
        box = await system.options(mailbox=Mailbox(1, "drop_new")).start(Box)
        asking = asyncio.ensure_future(box.proxy().block())
        await entered(box)
        for n in range(5):
            box.tell(n)
        assert box._cell.dropped == 4
        box._cell.object.gate.set()
        await asking


async def test_a_system_that_ends_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    async with ActorSystem() as system:
        refs = [await system.start(Box) for _ in range(3)]
        stuck = asyncio.ensure_future(refs[0].proxy().block())
        await entered(refs[0])
    with pytest.raises(ActorDied):
        await stuck
    await asyncio.wait_for(system.threads.all_ended(), WAIT)
    for thread in set(threading.enumerate()) - before:
        if thread.name in {ref.label for ref in refs}:
            await asyncio.to_thread(thread.join, WAIT)
            assert not thread.is_alive()


# -- a user's own pykka classes ---------------------------------------------------------------------------


class Plain(pykka.ThreadingActor):
    """As somebody who knows pykka, and not ramure, wrote it."""

    greeting = "hello"

    def __init__(self, log: list[object] | None = None, fail: str = "") -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.fail = fail
        self.parts = Parts()
        self.gate = threading.Event()
        self.entered = threading.Event()
        if fail == "init":
            raise ValueError("in init")

    def on_start(self) -> None:
        if self.fail == "start":
            raise ValueError("in on_start")
        self.log.append(("start", threading.current_thread().name))

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("boom")
        if message == "block":
            self.entered.set()
            assert self.gate.wait(WAIT)
        self.log.append(message)
        return ("got", message)

    def double(self, n: int) -> int:
        return 2 * n

    def defer(self) -> None:
        self.actor_ref.tell("from myself")

    def end(self) -> None:
        self.stop()

    def on_stop(self) -> None:
        self.log.append("stopped")

    def on_failure(self, kind: Any, value: Any, traceback: Any) -> None:
        self.log.append(("failed", kind, str(value), traceback is not None))


@pykka.traversable
class Parts:
    def count(self) -> int:
        return 3


async def test_pykka_hooks_run_in_order_in_its_thread() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        plain = await system.start(Plain, log)
        plain.tell("x")
        assert await plain.ask("y") == ("got", "y")
        await plain.stop()
        assert log == [("start", plain.label), "x", "y", "stopped"]
        assert not plain.is_alive()


@pytest.mark.parametrize("where", ["init", "start"])
async def test_pykka_start_errors_are_startfailed(where: str) -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        with pytest.raises(StartFailed, match=f"in (on_)?{where}"):
            await system.start(Plain, log, where)
    assert log == []


async def test_pykka_class_without_super_init() -> None:
    class Forgetful(pykka.ThreadingActor):
        def __init__(self) -> None: ...

    async with ActorSystem() as system:
        with pytest.raises(StartFailed, match="super"):
            await system.start(Forgetful)


async def test_pykka_proxies() -> None:
    async with ActorSystem() as system:
        plain = await system.start(Plain)
        proxy = plain.proxy()
        assert await proxy.double(4) == 8
        assert await proxy.greeting == "hello"
        assert await proxy.fail == ""
        assert await proxy.parts.count() == 3
        assert await plain.call(Plain.double, 3) == 6
        with pytest.raises(AttributeError):
            await proxy.nonsense()
        with pytest.raises(AttributeError, match="traversable"):
            await proxy.greeting.upper()
        with pytest.raises(UsageError, match="ProxySetAttr"):
            proxy.greeting = "no"
        await plain.ask(pykka.messages.ProxySetAttr(("greeting",), "hi"))
        assert await proxy.greeting == "hi"


@pytest.mark.parametrize("how", ["tell", "ask"])
async def test_pykka_exceptions_end_it_either_way(how: str) -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        plain = await system.start(Plain, log)
        if how == "tell":
            plain.tell("crash")
        else:
            with pytest.raises(ActorDied, match="boom"):
                await plain.ask("crash")
        assert isinstance(await asyncio.wait_for(plain.wait(), WAIT), Crashed)
        assert log[-1] == ("failed", ValueError, "boom", True)


async def test_pykka_kill_answers_the_ask_in_flight() -> None:
    async with ActorSystem() as system:
        plain = await system.start(Plain)
        made = plain._cell.object
        asking = asyncio.ensure_future(plain.ask("block", timeout=None))
        await entered(plain)
        plain.exit("kill")
        with pytest.raises(ActorDied, match="killed"):
            await asking
        assert made.actor_stopped.is_set()
        assert [t.label for t in system.threads.abandoned()] == [plain.label]
        made.gate.set()
        await asyncio.wait_for(system.threads.all_ended(), WAIT)


async def test_pykka_code_goes_on_using_its_own_actor_ref() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        plain = await system.start(Plain, log)
        await plain.proxy().defer()
        await plain.ask("sync")
        assert log[1:] == ["from myself", "sync"]
        native: Any = plain._cell.object.actor_ref

        def use() -> None:
            native.tell("native")
            assert native.ask("asked") == ("got", "asked")
            assert native.proxy().double(2).get(timeout=WAIT) == 4
            with pytest.raises(ActorDied, match="boom"):
                native.ask("crash")
            assert not native.is_alive()

        await asyncio.to_thread(use)
        other = await system.start(Plain)
        native_other: Any = other._cell.object.actor_ref
        assert await asyncio.to_thread(native_other.stop)
        assert await other.wait() == "normal"
        last = await system.start(Plain)
        await last.proxy().end()
        assert await asyncio.wait_for(last.wait(), WAIT) == "normal"


async def test_pykka_actors_are_stopped_in_order_when_the_system_ends() -> None:
    log: list[object] = []
    async with ActorSystem() as system:
        plain = await system.start(Plain, log)
        plain.tell("first")
    assert log[1:] == ["first", "stopped"]
    assert await plain.wait() == "shutdown"


async def test_nothing_is_in_pykkas_registry() -> None:
    async with ActorSystem() as system:
        await system.start(Plain)
        await system.start(Box)
        await system.start(Teller)
        assert pykka.ActorRegistry.get_all() == []


async def test_other_classes_are_refused() -> None:
    async with ActorSystem() as system:
        with pytest.raises(UsageError, match="ThreadedActor"):
            await system.start(dict)


def test_the_kernel_does_not_import_pykka_until_it_needs_it() -> None:
    code = "import sys, ramure.actors; assert 'pykka' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT * 2)
