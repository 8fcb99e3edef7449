"""One round of the supervisors' benchmark."""

from __future__ import annotations

import statistics
import time
from typing import Any

from ramure.actors import Actor, ActorSystem, Ref
from ramure.supervisors import ChildSpec, DynamicSupervisor, Supervisor
from ramure.supervisors.core import step
from ramure.supervisors.messages import Effect, Event
from ramure.supervisors.state import State
from tests.conformance import oracle, sup_pure

BLOCKS = 25
"""The asks and the kills take turns, in so many blocks: a processor may change its speed in the middle of a round."""
ASKS = 200
KILLS = 20
MANY = 10_000
STORM = 1000
SCENARIOS = 300


class Echo(Actor):
    """Answers."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request


async def measure() -> dict[str, float]:
    """The figures, by name, in microseconds unless the name says otherwise."""
    async with ActorSystem("bench", grace=60.0) as system:
        asks, kills = await asks_and_kills(system)
        share = statistics.median(kill / ask for ask, kill in zip(asks, kills, strict=True))
        figures = {
            "ask, us": statistics.median(asks),
            "kill to answering, us": statistics.median(kills),
            "kill to answering, asks": share,
        }
        for count in (100, 1000, MANY):
            figures[f"child started and stopped of {count}, us"] = await start_and_stop(system, count)
        storm, ask_in_storm = await crash_storm(system)
        figures[f"{STORM} crashes among {MANY} to restarted, ms"] = storm
        figures["slowest ask to a bystander meanwhile, ms"] = ask_in_storm
        return figures


async def one_ask(ref: Ref[Echo]) -> float:
    """Median of single asks."""
    times = []
    for _ in range(ASKS):
        began = time.perf_counter()
        await ref.ask("x")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def asks_and_kills(system: ActorSystem) -> tuple[list[float], list[float]]:
    """The median of each block of both."""
    echo = await system.start(Echo)
    tree = await system.start(Supervisor, [ChildSpec("echo", Echo)], intensity=10 * BLOCKS * KILLS)
    asks, kills = [], []
    for _ in range(BLOCKS):
        asks.append(await one_ask(echo))
        kills.append(await kill_to_answering(tree))
    return asks, kills


async def kill_to_answering(tree: Ref[Supervisor]) -> float:
    """From the kill to an answer of the child's successor, found by its supervisor; median."""
    calls = tree.proxy()
    times = []
    for _ in range(KILLS):
        ref = (await calls.which_children())[0].ref
        assert ref is not None
        began = time.perf_counter()
        ref.exit("kill")
        again = (await calls.which_children())[0].ref
        assert again is not None
        await again.ask("x")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def start_and_stop(system: ActorSystem, count: int) -> float:
    """Start so many children one by one, and stop them with their supervisor; for each child."""
    pool = await system.start(DynamicSupervisor, ChildSpec("echo", Echo, restart="temporary"))
    calls = pool.proxy()
    began = time.perf_counter()
    for _ in range(count):
        await calls.start_child()
    await pool.stop()
    return (time.perf_counter() - began) / count * 1e6


async def crash_storm(system: ActorSystem) -> tuple[float, float]:
    """Many children, of which a tenth are killed at once: until all are back, and the slowest ask to another."""
    pool = await system.start(DynamicSupervisor, ChildSpec("echo", Echo), intensity=MANY)
    calls = pool.proxy(timeout=None)
    refs = [await calls.start_child() for _ in range(MANY)]
    bystander = refs[-1]
    assert bystander is not None
    slowest = 0.0
    began = time.perf_counter()
    for ref in refs[:STORM]:
        assert ref is not None
        ref.exit("kill")
    asked = time.perf_counter()
    await bystander.ask("x")
    slowest = max(slowest, time.perf_counter() - asked)
    while (await calls.count_children()).active < MANY:
        asked = time.perf_counter()
        await bystander.ask("x")
        slowest = max(slowest, time.perf_counter() - asked)
    took = time.perf_counter() - began
    await pool.stop()
    return took * 1e3, slowest * 1e3


def pure_core() -> float:
    """Events a second that the pure core decides, those of the oracle's random scenarios."""
    steps: list[tuple[State, Event]] = []

    def noting(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
        steps.append((state, event))
        return step(state, event)

    sup_pure.step = noting
    try:
        for scenario in oracle.scenarios("sup", 0, SCENARIOS):
            sup_pure.run(scenario)
    finally:
        sup_pure.step = step
    began = time.perf_counter()
    for state, event in steps:
        step(state, event)
    return len(steps) / (time.perf_counter() - began)
