"""``python -m benchmarks cli``: how long ``ramure ls`` and ``ramure status`` take, as a user waits for them.

Beside ``python -c "import click, msgpack"``, which no command line can be quicker than; with 200 live runs; and with
1,000 agents in one run. The runs are in one process (their programs would be 200 Pythons), and simulated agents.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

RATIO = 2.0
SECONDS = 1.0


async def _took(argv: Sequence[str], times: int) -> float:
    """The median of several runs, in seconds; the event loop, which has to answer, goes on meanwhile."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return statistics.median([await asyncio.to_thread(once) for _ in range(times)])


async def _interleaved(one: Sequence[str], other: Sequence[str], pairs: int) -> float:
    """The median ratio of pairs, one right after the other."""
    return statistics.median([await _took(one, 1) / await _took(other, 1) for _ in range(pairs)])


RAMURE = ("-m", "ramure.cli")
BARE = ("-c", "import click, msgpack")


async def _measure(runs: int, agents: int, pairs: int) -> bool:
    from ramure import agent, agent_process, current_runtime
    from ramure.runtime.run.run import Run
    from ramure.testing import InProcessHarness, Text

    harness = InProcessHarness(lambda _: Text("Yes."))
    good = True

    def show(what: str, value: float, unit: str, limit: float) -> None:
        nonlocal good
        good = good and value <= limit
        print(f"{what:<45} {value:6.2f} {unit}  (limit {limit:g}{'' if value <= limit else ', MISSED'})")

    @agent_process(image=harness.image)
    async def many(count: int, limit: float) -> None:
        await asyncio.gather(*(agent(f"a{number}") for number in range(count)))
        run = current_runtime().execution_id
        if count == 1:
            for command in (["ls"], ["status"]):
                ratio = await _interleaved([*RAMURE, *command], BARE, pairs)
                show(f"{command[0]} / python -c 'import click, msgpack'", ratio, "×", limit)
        else:
            for command in (["ls"], ["status", "--id", run]):
                show(f"{command[0]} with {count} agents in a run", await _took([*RAMURE, *command], 5), "s", limit)

    await many(1, RATIO)
    await many(agents, SECONDS)
    async with AsyncExitStack() as stack:
        for _ in range(runs):
            last = await stack.enter_async_context(Run())
        for command in (["ls"], ["status", "--id", last.execution_id]):
            show(f"{command[0]} with {runs} live runs", await _took([*RAMURE, *command], 5), "s", SECONDS)
    return good


def main(arguments: list[str]) -> int:
    """Print the figures; 1 if one is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cli", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ramure-bench-") as directory:
        os.environ["RAMURE_HOME"] = str(Path(directory) / "h")
        return 0 if asyncio.run(_measure(options.runs, options.agents, options.pairs)) else 1
