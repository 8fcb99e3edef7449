"""thespian, with its in-process ``simpleSystemBase``: the fastest of its bases, and the one without concurrency."""

from __future__ import annotations

from typing import Any

from thespian.actors import Actor, ActorAddress, ActorExitRequest, ActorSystem, ChildActorExited

from benchmarks.actors.measure import ALIVE, RING, now, per, resident

TELLS, ASKS, HOPS, SPAWNS, KILLS, ACTORS = 10_000, 5_000, 10_000, 3_000, 1_000, 20_000
WAIT = 60


class Plain(Actor):  # type: ignore[misc]
    seen = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802  # thespian's name
        self.seen += 1
        if message == "ask":
            self.send(sender, message)


class Node(Actor):  # type: ignore[misc]
    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, ActorAddress):
            self.following = message
        elif isinstance(message, tuple):
            left, asker = message
            asker = asker or sender
            if left:
                self.send(self.following, (left - 1, asker))
            else:
                self.send(asker, "done")


class Parent(Actor):  # type: ignore[misc]
    """Kills its children one after the other, each when the end of the one before was reported."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, int):
            self.children = [self.createActor(Plain) for _ in range(message)]
            self.send(sender, "made")
        elif message == "kill":
            self.asker = sender
            self.next()
        elif isinstance(message, ChildActorExited):
            self.next()

    def next(self) -> None:
        if self.children:
            self.send(self.children.pop(), ActorExitRequest())
        else:
            self.send(self.asker, "all dead")


def tell(system: Any) -> float:
    ref = system.createActor(Plain)
    start = now()
    for n in range(TELLS):
        system.tell(ref, n)
    system.ask(ref, "ask", WAIT)
    return per(TELLS, now() - start)


def ask(system: Any) -> float:
    ref = system.createActor(Plain)
    start = now()
    for _ in range(ASKS):
        system.ask(ref, "ask", WAIT)
    return per(ASKS, now() - start)


def ring(system: Any) -> float:
    refs = [system.createActor(Node) for _ in range(RING)]
    for ref, following in zip(refs, refs[1:] + refs[:1], strict=True):
        system.tell(ref, following)
    start = now()
    assert system.ask(refs[0], (HOPS, None), WAIT) == "done"
    return per(HOPS, now() - start)


def spawn(system: Any) -> float:
    start = now()
    for _ in range(SPAWNS):
        system.createActor(Plain)
    return per(SPAWNS, now() - start)


def kill(system: Any) -> float:
    parent = system.createActor(Parent)
    assert system.ask(parent, KILLS, WAIT) == "made"
    start = now()
    assert system.ask(parent, "kill", WAIT) == "all dead"
    return per(KILLS, now() - start)


def memory(system: Any) -> float:
    refs = [system.createActor(Plain) for _ in range(100)]
    before = resident()
    for _ in range(ACTORS):
        refs.append(system.createActor(Plain))
        system.tell(refs[-1], 1)
    after = resident()
    return (after - before) / ACTORS


def alive(system: Any) -> float:
    start = now()
    refs = []
    for _ in range(ALIVE):
        refs.append(system.createActor(Plain))
        system.tell(refs[-1], 1)
    return now() - start


def measure() -> dict[str, float]:
    figures = {}
    for row in (memory, tell, ask, ring, spawn, kill, alive):
        system = ActorSystem("simpleSystemBase")
        figures[row.__name__] = row(system)
        system.shutdown()
    return figures
