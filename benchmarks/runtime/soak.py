"""``python -m benchmarks.runtime.soak [--agents 1000] [--seconds 1800]``: what may not grow while many agents work for long.

The agents live in a process of their own and speak the wire protocol; actors, gateway, tools and logs are the real ones,
with all that is kept at its default. Each agent first makes as many events as an agent keeps, and then calls a tool, with a pause
between. Every few seconds the program's memory, descriptors and tasks are read, and how late its event loop is. After the
settling time none of them may rise. Exits with 1 if one does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ramure
from benchmarks.machine import describe
from benchmarks.runtime.fleet import Fleet
from benchmarks.runtime.measure import TEXT, give_echo
from benchmarks.runtime.memory import MB, own_home
from ramure.runtime.process.ownership import AGENT_EVENTS

EVERY = 5.0
"""Seconds between two samples."""

TICK = 0.05
"""Seconds that the loop is asked to sleep, to see how late it wakes up."""

RISE = 0.02
"""Memory may be more by this part at the end than when it had settled, by the line through all samples."""

LATER = 1.5
"""The loop may be so many times as late in the second half as in the first, and a tick besides."""


@dataclass(frozen=True)
class Sample:
    """What the program occupies. ``at``: seconds since all agents were ready; ``lag``: the median and the most, seconds."""

    at: float
    memory: float
    descriptors: int
    tasks: int
    lag: float
    worst: float
    processor: float
    """Seconds of processor time so far."""

    def __str__(self) -> str:
        return (
            f"{self.at:6.0f} s  {self.memory:7.1f} MB  {self.descriptors} descriptors  {self.tasks} tasks  "
            f"lag {self.lag * 1e3:.1f} ms, at most {self.worst * 1e3:.0f} ms  {self.processor:.0f} s of processor"
        )


def resident() -> float:
    """MB that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


async def sample(began: float) -> Sample:
    """What is seen in the next seconds."""
    loop, lags = asyncio.get_running_loop(), []
    until = loop.time() + EVERY
    while loop.time() < until:
        asked = loop.time()
        await asyncio.sleep(TICK)
        lags.append(loop.time() - asked - TICK)
    return Sample(
        time.monotonic() - began,
        resident(),
        len(os.listdir("/proc/self/fd")),
        len(asyncio.all_tasks()),
        statistics.median(lags),
        max(lags),
        time.process_time(),
    )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line that fits them best, per second."""
    return (
        statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope if len(points) > 1 else 0.0
    )


def rises(samples: Sequence[Sample]) -> list[str]:
    """What has grown over these samples, in words."""
    wrong = []
    seconds = samples[-1].at - samples[0].at
    for name in ("memory", "descriptors", "tasks"):
        values = [float(getattr(each, name)) for each in samples]
        more = slope([(each.at, value) for each, value in zip(samples, values, strict=True)]) * seconds
        if more > max(RISE * statistics.median(values), 1.0):
            wrong.append(f"{name}: {more:+.1f} in {seconds:.0f} s, of {statistics.median(values):.1f}")
    half = len(samples) // 2
    first, second = (statistics.median(each.lag for each in part) for part in (samples[:half], samples[half:]))
    if second > first * LATER + TICK:
        wrong.append(f"lag: {first * 1e3:.1f} ms in the first half, {second * 1e3:.1f} ms in the second")
    return wrong


def told(samples: Sequence[Sample]) -> str:
    """The slopes, per hour."""
    parts = []
    for name, unit in (("memory", "MB"), ("descriptors", ""), ("tasks", ""), ("lag", "s")):
        hourly = slope([(each.at, float(getattr(each, name))) for each in samples]) * 3600
        parts.append(f"{name} {hourly:+.2f} {unit}".strip())
    return ", ".join(parts) + " an hour"


async def soak(agents: int, seconds: float, settling: float, pause: float) -> list[str]:
    """So many agents for so long; what has grown, in words."""
    async with Fleet({"pause": pause, "fill": AGENT_EVENTS, "text": TEXT}) as fleet:

        @ramure.agent_process
        async def one() -> None:
            await give_echo()
            ramure.emit("ready")
            await ramure.wait()

        @ramure.agent_process(image=fleet.image)
        async def body() -> list[str]:
            before = Sample(0, resident(), len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), 0, 0, 0)
            handles = [ramure.spawn(one) for _ in range(agents)]
            for handle in handles:
                await handle.events.listen_for("ready", timeout=600)
            began, samples = time.monotonic(), list[Sample]()
            while not samples or samples[-1].at < seconds:
                samples.append(await sample(began))
                print(samples[-1], flush=True)
            failures = [*fleet.failures, *(f"{handle!r} ended" for handle in handles if handle.ended)]
            made, last, kept = await fleet.count(), samples[-1], [each for each in samples if each.at >= settling]
            print(
                f"{agents} agents, {made} calls. An agent costs {(samples[0].memory - before.memory) / agents:.2f} MB when it is "
                f"ready, {(last.memory - before.memory) / agents:.2f} MB with all that it keeps, "
                f"{(last.descriptors - before.descriptors) / agents:.1f} descriptors, "
                f"{(last.tasks - before.tasks) / agents:.1f} tasks"
            )
            if len(kept) < 4:
                return [*failures, f"it ended before the settling time of {settling:g} s was over"]
            work = (kept[-1].processor - kept[0].processor) / (kept[-1].at - kept[0].at)
            print(
                f"after {settling:g} s: {told(kept)}; {work:.1%} of a processor, {work / agents * 1e6:.0f} µs/s an agent"
            )
            return failures + rises(kept)

        result: list[str] = await body()
        return result


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime.soak", description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1800.0, help="from when all are ready (default 1800)")
    parser.add_argument("--settling", type=float, default=300.0, help="seconds that do not count (default 300)")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two calls of an agent (default 10)")
    given = parser.parse_args(arguments)
    logging.getLogger("ramure").setLevel(logging.ERROR)  # that nobody has sent them anything is what is wanted
    print(describe())
    with tempfile.TemporaryDirectory(prefix="ramure-soak-") as directory, own_home(Path(directory)):
        wrong = asyncio.run(soak(given.agents, given.seconds, given.settling, given.pause))
    print("\n".join(wrong) or "nothing grows")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
