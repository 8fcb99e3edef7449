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

ASKS = 5000
KILLS = 300
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
        ask = await one_ask(await system.start(Echo))
        killed = await kill_to_answering(system)
        figures = {"ask, us": ask, "kill to answering, us": killed, "kill to answering, asks": killed / ask}
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


async def kill_to_answering(system: ActorSystem) -> float:
    """From the kill to an answer of the child's successor, found by its supervisor; median."""
    tree = await system.start(Supervisor, [ChildSpec("echo", Echo)], intensity=10 * KILLS)
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
