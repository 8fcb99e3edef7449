"""What ``ramure.actors._kernel.pykka_adapter`` relies on in pykka, private pieces included."""

import threading
from typing import Any

import pykka
import pytest
from pykka import messages
from pykka._envelope import Envelope


class Probe(pykka.ThreadingActor):
    value = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        self.seen.append(message)
        return message

    def add(self, n: int, *, more: int = 0) -> int:
        return n + more


class Recorder:
    def __init__(self) -> None:
        self.envelopes: list[Envelope[Any]] = []

    def put(self, envelope: Envelope[Any], /) -> None:
        self.envelopes.append(envelope)


def test_the_inbox_comes_from_create_actor_inbox_and_reaches_actor_ref() -> None:
    probe: Any = Probe.__new__(Probe)
    inbox = Recorder()
    probe._create_actor_inbox = lambda: inbox
    probe.__init__()
    assert probe.actor_inbox is inbox
    assert probe._actor_ref is probe.actor_ref
    probe.actor_ref.tell("told")
    future = probe.actor_ref.ask("asked", block=False)
    probe.stop()
    told, asked, stop = inbox.envelopes
    assert (told.message, told.reply_to) == ("told", None)
    assert (asked.message, asked.reply_to) == ("asked", future)
    assert isinstance(stop.message, messages._ActorStop)
    assert probe.actor_ref.is_alive()
    probe.actor_stopped.set()
    assert not probe.actor_ref.is_alive()


def test_construction_alone_registers_nothing() -> None:
    Probe()
    assert pykka.ActorRegistry.get_all() == []


def test_handle_receive_is_the_one_way_in() -> None:
    probe = Probe()
    assert probe._handle_receive("x") == "x"
    assert probe._handle_receive(messages.ProxyCall(("add",), (1,), {"more": 2})) == 3
    assert probe._handle_receive(messages.ProxyGetAttr(("value",))) == 3
    probe._handle_receive(messages.ProxySetAttr(("value",), 4))
    assert probe.value == 4
    with pytest.raises(AttributeError):
        probe._handle_receive(messages.ProxyGetAttr(("nonsense",)))


def test_futures_can_be_settled_from_outside() -> None:
    future = Probe._create_future()
    error = ValueError("x")
    future.set_exception((ValueError, error, None))
    with pytest.raises(ValueError, match="x"):
        future.get(timeout=20)
    future = Probe._create_future()
    future.set(1)
    assert future.get(timeout=20) == 1


def test_traversable_marks() -> None:
    @pykka.traversable
    class Part: ...

    assert hasattr(Part(), "_pykka_traversable")


def test_a_worker_runs_jobs_in_one_daemon_thread_and_on_stop_is_its_last() -> None:
    where: list[threading.Thread] = []
    ended = threading.Event()

    class Worker(pykka.ThreadingActor):
        use_daemon_thread = True

        def on_start(self) -> None:
            where.append(threading.current_thread())

        def on_receive(self, message: Any) -> None:
            where.append(threading.current_thread())

        def on_stop(self) -> None:
            ended.set()

    ref = Worker.start()
    pykka.ActorRegistry.unregister(ref)
    assert pykka.ActorRegistry.get_all() == []
    ref.tell("job")
    ref.stop(block=False)  # stopping an unregistered actor is fine
    assert ended.wait(20)
    first, second = where
    assert first is second
    assert first.daemon
    first.join(20)
    assert not first.is_alive()
