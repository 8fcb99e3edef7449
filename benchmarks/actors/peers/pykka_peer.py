"""pykka: an actor is a thread. 100,000 of them do not fit."""

from __future__ import annotations

import threading
from typing import Any

import pykka

from benchmarks.actors.measure import RING, now, per, resident

TELLS, ASKS, HOPS, SPAWNS, KILLS, ACTORS = 20_000, 5_000, 10_000, 300, 300, 300


class Plain(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.started = threading.Event()

    def on_start(self) -> None:
        self.started.set()

    def on_receive(self, message: Any) -> Any:
        self.seen += 1
        return message


class Node(pykka.ThreadingActor):
    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self.done = done
        self.following: Any = None

    def on_receive(self, message: Any) -> None:
        if isinstance(message, pykka.ActorRef):
            self.following = message
        elif message:
            self.following.tell(message - 1)
        else:
            self.done.set()


def started(count: int) -> list[pykka.ActorRef[Plain]]:
    """Each known to have run its on_start, which ``start`` alone does not say."""
    refs = []
    for _ in range(count):
        ref = Plain.start()
        actor = ref._actor_weakref()
        assert actor is not None
        actor.started.wait()
        refs.append(ref)
    return refs


def tell() -> float:
    (ref,) = started(1)
    start = now()
    for n in range(TELLS):
        ref.tell(n)
    ref.ask("all handled")
    return per(TELLS, now() - start)


def ask() -> float:
    (ref,) = started(1)
    start = now()
    for n in range(ASKS):
        ref.ask(n)
    return per(ASKS, now() - start)


def ring() -> float:
    done = threading.Event()
    refs = [Node.start(done) for _ in range(RING)]
    for ref, following in zip(refs, refs[1:] + refs[:1], strict=True):
        ref.tell(following)
    start = now()
    refs[0].tell(HOPS)
    done.wait()
    return per(HOPS, now() - start)


def spawn() -> float:
    start = now()
    started(SPAWNS)
    return per(SPAWNS, now() - start)


def kill() -> float:
    refs = started(KILLS)
    start = now()
    for ref in refs:
        ref.stop()  # the nearest that there is: it waits until the actor has stopped
    return per(KILLS, now() - start)


def memory() -> float:
    warm = started(10)
    before = resident()
    refs = started(ACTORS)
    for ref in refs:
        ref.ask(1)
    after = resident()
    assert len(warm) == 10
    return (after - before) / ACTORS


def measure() -> dict[str, float]:
    figures = {"memory": memory()}
    pykka.ActorRegistry.stop_all()
    for row in (tell, ask, ring, spawn, kill):
        figures[row.__name__] = row()
        pykka.ActorRegistry.stop_all()
    return figures
