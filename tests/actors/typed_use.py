"""What a user's types look like: checked by mypy and pyright (``test_typing.py``), never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from ramure.actors import Actor, ActorSystem, Monitor, Ref, Request, Timer


@dataclass(frozen=True)
class Get(Request[int]):
    key: str


@dataclass(frozen=True)
class Names(Request[list[str]]):
    pass


class Counter(Actor):
    async def init(self, start: int = 0) -> None:
        self.n = start

    async def add(self, k: int) -> int:
        self.n += k
        return self.n


async def use(system: ActorSystem) -> None:
    counter = await system.start(Counter, start=3)
    assert_type(counter, Ref[Counter])
    assert_type(await counter.proxy().add(2), int)
    assert_type(await counter.proxy(timeout=None).add(k=2), int)
    assert_type(await counter.call(Counter.add, 2), int)
    assert_type(await counter.ask(Get("x")), int)
    assert_type(await counter.ask(Names(), timeout=1.0), list[str])
    assert_type(await system.options(name="n").start(Counter), Ref[Counter])
    ref, made = await system.start_monitor(Counter)
    assert_type(ref, Ref[Counter])
    assert_type(made, Monitor)
    assert_type(system.send_after(1, counter, "x"), Timer)
    counter.call_soon(Counter.add, 2)

    await counter.proxy().add("2")  # wrong: str
    await counter.proxy().subtract(2)  # wrong: no such method
    counter.call_soon(Counter.add, "2")  # wrong: str
    (await counter.ask(Get("x"))).upper()  # wrong: int
