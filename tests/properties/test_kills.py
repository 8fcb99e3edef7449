"""Leaf processes that are killed at any moment: each has one outcome, its stream one ending, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ramure
from ramure.actors.observe.tracing import TraceEvent
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.process.stream import ENDINGS
from ramure.runtime.run.run import Run
from ramure.testing import run_virtual
from tests.scale import examples, long_in_a_soak

STEPS = ("emit", "emit in a thread", "turn", "sleep", "expose", "done", "fail", "cleanup")

Life = list[str]
Kill = tuple[int, int, str]
"""Which process, after how many turns of the loop (0: within its start), and the reason."""

lives = st.lists(st.lists(st.sampled_from(STEPS), max_size=6), min_size=1, max_size=5)
kills = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 12), st.sampled_from(("kill", "kill", "shutdown", "boom"))), max_size=8
)


async def live(steps: Life, emitted: list[int]) -> None:
    def emit() -> None:
        ramure.emit("e", len(emitted))
        emitted.append(len(emitted))

    for step in steps:
        match step:
            case "emit":
                emit()
            case "emit in a thread":
                await asyncio.to_thread(emit)
            case "turn":
                await asyncio.sleep(0)
            case "sleep":
                await asyncio.sleep(0.5)
            case "expose":
                ramure.expose(emit)
            case "done":
                ramure.done(1)
            case "fail":
                ramure.fail("as planned")
            case "cleanup":
                try:
                    await asyncio.sleep(0)
                finally:
                    emit()


async def play(lives: list[Life], kills: list[Kill]) -> None:
    emitted: list[list[int]] = [[] for _ in lives]
    records: list[ProcessRecord] = []
    run: Run | None = None

    @ramure.agent_process
    async def leaf(number: int) -> None:
        await live(lives[number], emitted[number])

    @ramure.agent_process
    async def main() -> None:
        nonlocal run
        run = ramure.current_runtime()
        at_start = {f"leaf#{which + 2}": reason for which, turns, reason in kills if turns == 0}

        def kill(event: TraceEvent) -> None:
            reason = at_start.get(event.actor._cell.given_label or "")
            if reason is not None:
                event.actor.exit(reason)

        run.system.trace(kinds=("started",), callback=kill)
        handles = [ramure.spawn(leaf, number) for number in range(len(lives))]
        records.extend(handle._record for handle in handles)
        for turn in range(1, 13):
            for which, turns, reason in kills:
                ref = records[which].ref if which < len(records) else None
                if turns == turn and ref is not None:
                    ref.exit(reason)
            await asyncio.sleep(0)
        await asyncio.gather(*handles, return_exceptions=True)

    await main()
    assert run is not None
    log = [json.loads(line) for line in run.paths.run_log.read_text().splitlines()]
    shutil.rmtree(run.paths.logs)
    logged = Counter(entry["process"] for entry in log if entry["type"] == "event" and entry["event"] in ENDINGS)
    for record, own in zip(records, emitted, strict=True):
        check(record, own)
        assert logged[record.path] == 1
    assert not run.system.leaks()
    assert run.agents == {}


def check(record: ProcessRecord, emitted: list[int]) -> None:
    events: tuple[Any, ...] = record.stream.snapshot()
    assert record.outcome is not None
    assert record.stream.closed
    assert [event.type for event in events if event.type in ENDINGS] == [record.outcome.kind]
    assert events[-1].type == record.outcome.kind
    assert [event.data for event in events[:-1]] == emitted
    assert [event.number for event in events] == list(range(len(events)))
    assert record.ref is None or not record.ref.is_alive()
    assert not any(not task.done() for task in record.work)


@long_in_a_soak
@settings(
    max_examples=examples(1000),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
)
@given(lives, kills, st.none() | st.integers(0, 1000))
def test_a_process_that_is_killed_at_any_moment_has_one_ending(
    lives: list[Life], kills: list[Kill], seed: int | None
) -> None:
    run_virtual(play(lives, kills), seed=seed, limit=900.0)
