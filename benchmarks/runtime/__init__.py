"""``python -m benchmarks runtime``: what processes, streams, calls and tools cost.

Every figure stands beside one of the same run: of a bare asyncio task and queue, or, for the round trip of a tool, of
a bare websockets server that echoes JSON to the same client. Then a stream of 1,000,000 events and a crowd of agents,
whose memory must stay flat. Exits with 1 when a requirement is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.runtime.measure import Figure, figures
from benchmarks.runtime.memory import Crowd, Growth, crowd, long_stream, own_home

__all__ = ["main", "medians", "unmet"]

TRIP = "tool round trip, µs"

MOST_TRIPS = 1.5
"""A tool's round trip may take so many of the bare echo's."""

FLAT = 1.1
"""Memory may be so many times what it was before."""

LONG = 60.0
"""Seconds from which on the memory of the crowd is judged: in fewer, what is kept by design is still being filled."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks runtime", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured; medians count (default 3)")
    parser.add_argument("--agents", type=int, default=1000, help="how many call tools at once (default 1000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long (default 10; 60 is the whole test)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two calls of an agent (default 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    logging.getLogger("ramure").setLevel(logging.CRITICAL)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, own_home(Path(directory)):
        found = medians([asyncio.run(figures()) for _ in range(options.rounds)])
        report(found)
        stream = asyncio.run(long_stream())
        print(
            f"a stream of 1,000,000 events that keeps 1,000: {stream.early:.0f} MB early, {stream.late:.0f} MB at its end"
        )
        many = asyncio.run(crowd(options.agents, options.seconds, options.pause)) if options.agents else None
    if many is not None:
        print(
            f"{many.agents} agents, ready in {many.started:.1f} s, made {many.rate:.0f} calls a second for "
            f"{many.seconds:.0f} s with {len(many.failures)} errors: {many.memory.early:.0f} MB early, "
            f"{many.memory.late:.0f} MB at the end"
        )
    print(f"on {describe()}, {options.rounds} rounds, {time.perf_counter() - began:.0f} s")
    missed = unmet(found, stream, many)
    for text in missed:
        print(f"NOT MET: {text}")
    if options.json:
        whole = {
            "machine": describe(),
            "figures": {name: {"ramure": ours, "reference": bare} for name, (ours, bare) in found.items()},
            "stream_mb": [stream.early, stream.late],
            "crowd": None if many is None else crowd_json(many),
            "not_met": missed,
        }
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return 1 if missed else 0


def medians(rounds: list[dict[str, Figure]]) -> dict[str, Figure]:
    """The median of each figure, and of its reference."""
    return {
        name: (statistics.median(each[name][0] for each in rounds), statistics.median(each[name][1] for each in rounds))
        for name in rounds[0]
    }


def report(found: dict[str, Figure]) -> None:
    print(f"{'':44}{'ramure':>12}{'bare':>12}{'times':>8}")
    for name, (ours, bare) in found.items():
        print(f"{name:44}{ours:12.1f}{bare:12.1f}{ours / bare:8.1f}")


def crowd_json(many: Crowd) -> dict[str, object]:
    return {
        "agents": many.agents,
        "seconds": many.seconds,
        "ready_s": many.started,
        "calls_per_s": many.rate,
        "errors": many.failures,
        "memory_mb": [many.memory.early, many.memory.late],
    }


def unmet(found: dict[str, Figure], stream: Growth, many: Crowd | None) -> list[str]:
    """The requirements that these figures miss."""
    missed = []
    ours, bare = found[TRIP]
    if ours > MOST_TRIPS * bare:
        missed.append(f"a tool's round trip takes {ours / bare:.2f} of a bare echo's; {MOST_TRIPS:g} are allowed")
    if stream.ratio > FLAT:
        missed.append(f"a stream of 1,000,000 events grew from {stream.early:.0f} to {stream.late:.0f} MB")
    if many is not None:
        missed += [f"agents: {text}" for text in many.failures[:5]]
        if many.seconds * 1.5 >= LONG * 0.95 and many.memory.ratio > FLAT:
            missed.append(f"many agents: from {many.memory.early:.0f} to {many.memory.late:.0f} MB")
    return missed
