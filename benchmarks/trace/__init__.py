"""``python -m benchmarks trace``: what tracing one of many busy actors costs the others.

1,000 actors pass messages round in a run; another process traces one of them over the control socket, as ``ramure trace``
does, or does not, in turn. Throughput with the trace must be at least 0.9 of that without, as the median of the pairs, and
no other actor may be hooked. Exits with 1 when a requirement is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.runtime.memory import own_home
from ramure import agent_process, current_runtime
from ramure.actors import Actor, Ref
from ramure.actors.observe.tracing import Probe
from ramure.runtime.run.run import Run

__all__ = ["Traced", "main", "measured"]

LEAST = 0.9
"""Of the throughput without, what is left with the trace."""

CLIENT = """
import sys
from ramure.runtime.control.blocking import find_run
seen = 0
client = find_run(sys.argv[1])
items = client.stream("trace", actor="#" + sys.argv[2])
for together in items:
    seen += len(together)
    print(seen, items.dropped, flush=True)
"""


@dataclass
class Traced:
    """What came out."""

    ratios: list[float]
    without: float
    """Messages a second, the median."""
    events: int
    """Events that the client got, of all its traces."""
    dropped: int
    others: int
    """Events that were noted for any other actor than the one that was traced."""

    @property
    def ratio(self) -> float:
        """With the trace, of without."""
        return statistics.median(self.ratios)


class Passer(Actor):
    """Passes on what it gets."""

    handled = 0
    next: Ref[Any]

    async def init(self, counts: list[int]) -> None:
        self.counts = counts

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Ref):
            self.next = message
        else:
            self.counts[0] += 1
            self.next.tell(message)


def measured(actors: int, pairs: int, seconds: float) -> Traced:
    """Measure it."""

    @agent_process
    async def main() -> Traced:
        return await _measure(current_runtime(), actors, pairs, seconds)

    return asyncio.run(main())


async def _measure(run: Run, actors: int, pairs: int, seconds: float) -> Traced:
    counts = [0]
    ring = [await run.system.options(label=f"passer {n}").start(Passer, counts) for n in range(actors)]
    for one, other in zip(ring, [*ring[1:], ring[0]], strict=True):
        one.tell(other)
    for each in ring:
        each.tell("pass it on")  # as many messages under way as there are actors
    traced = ring[actors // 2]
    noted: Counter[int] = Counter()
    emit = Probe._emit

    def counting(probe: Probe, *args: Any) -> None:
        noted[probe._cell.number] += 1
        emit(probe, *args)

    Probe._emit = counting  # type: ignore[method-assign]
    found = Traced([], 0.0, 0, 0, 0)
    bare = []
    try:
        for pair in range(pairs):
            rates = {}
            for on in (True, False) if pair % 2 else (False, True):
                if on:
                    async with _client(run, traced) as seen:
                        rates[on] = await _rate(counts, seconds)
                        hooked = [cell.number for cell in run.system.cells.values() if cell.probe is not None]
                        assert hooked == [traced.id], hooked
                    found.events += seen[0]
                    found.dropped += seen[1]
                else:
                    rates[on] = await _rate(counts, seconds)
            found.ratios.append(rates[True] / rates[False])
            bare.append(rates[False])
    finally:
        Probe._emit = emit  # type: ignore[method-assign]
        for each in ring:
            each.exit("kill")
    found.without = statistics.median(bare)
    found.others = sum(count for number, count in noted.items() if number != traced.id)
    return found


async def _rate(counts: list[int], seconds: float) -> float:
    before, began = counts[0], time.perf_counter()
    await asyncio.sleep(seconds)
    return (counts[0] - before) / (time.perf_counter() - began)


@asynccontextmanager
async def _client(run: Run, traced: Ref[Any]) -> AsyncIterator[list[int]]:
    """Another process that traces; the trace is on inside, and off again behind."""
    seen = [0, 0]
    argv = [sys.executable, "-c", CLIENT, run.execution_id, str(traced.id)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output = process.stdout
    assert output is not None

    async def read() -> None:
        async for line in output:
            seen[:] = map(int, line.split())

    await output.readline()
    reading = asyncio.create_task(read())
    try:
        yield seen
    finally:
        process.kill()
        await process.wait()
        await reading
        async with asyncio.timeout(30):
            while traced._cell.probe is not None:  # noqa: ASYNC110  # the run tells nobody when it has noticed
                await asyncio.sleep(0.01)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks trace", description=__doc__)
    parser.add_argument("--actors", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each half of a pair (default 0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    logging.getLogger("ramure").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory, own_home(Path(directory)):
        found = measured(options.actors, options.pairs, options.seconds)
    print(
        f"{options.actors} busy actors, {found.without:,.0f} messages a second; with one of them traced {found.ratio:.3f} "
        f"of that (median of {options.pairs} pairs, {min(found.ratios):.2f} to {max(found.ratios):.2f}); "
        f"{found.events:,} events traced, {found.dropped} dropped, {found.others} hooks of others"
    )
    print(f"on {describe()}")
    missed = []
    if found.ratio < LEAST:
        missed.append(f"with a trace, throughput is {found.ratio:.3f} of that without; {LEAST} is required")
    if found.others:
        missed.append(f"{found.others} events were noted for actors that were not traced")
    for text in missed:
        print(f"NOT MET: {text}")
    if options.json:
        whole = {"machine": describe(), **asdict(found), "ratio": found.ratio, "not_met": missed}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return 1 if missed else 0
