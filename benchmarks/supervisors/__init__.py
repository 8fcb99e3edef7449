"""``python -m benchmarks supervisors``: what restarts and many children cost.

Times are in asks of the same run where they are to be compared between machines. Where Elixir is installed, its
figures for the same acts stand beside. Exits with 1 when a requirement is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.supervisors.measure import measure, pure_core

ELIXIR = Path(__file__).parent / "peer.exs"

CORE = "pure core, events a second"
MOST_ASKS = 20.0
"""A killed child is restarted and answers within so many asks of the same run."""

LEAST_EVENTS = 20_000
"""The pure core decides so many events a second."""

FLAT = 2.0
"""A child of 10,000 may cost so many times what one of 100 does."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks supervisors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured; medians count (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    logging.getLogger("ramure").setLevel(logging.CRITICAL)  # the crashes are meant
    began = time.perf_counter()
    ours = medians([one_round() for _ in range(options.rounds)])
    theirs = medians([elixir() for _ in range(options.rounds)]) if shutil.which("elixir") else {}
    print(f"{'':44}{'ramure':>12}{'Elixir':>12}")
    for name, figure in ours.items():
        print(f"{name:44}{figure:12.1f}{theirs.get(name, float('nan')):12.1f}")
    print(f"on {describe()}, {options.rounds} rounds, {time.perf_counter() - began:.0f} s")
    missed = unmet(ours)
    for text in missed:
        print(f"NOT MET: {text}")
    if options.json:
        whole = {"machine": describe(), "ramure": ours, "elixir": theirs, "not_met": missed}
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 1 if missed else 0


def one_round() -> dict[str, float]:
    """All figures of ours, once."""
    return {**asyncio.run(measure()), CORE: pure_core()}


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def elixir() -> dict[str, float]:
    """One round on Elixir."""
    done = subprocess.run(["elixir", str(ELIXIR)], capture_output=True, text=True, timeout=120, check=True)
    return {name: float(figure) for name, figure in (line.rsplit("=", 1) for line in done.stdout.splitlines())}


def unmet(figures: dict[str, float]) -> list[str]:
    """The requirements that these figures miss."""
    missed = []
    if figures["kill to answering, asks"] > MOST_ASKS:
        missed.append(f"a killed child takes {figures['kill to answering, asks']:.1f} asks; {MOST_ASKS:g} are allowed")
    if figures[CORE] < LEAST_EVENTS:
        missed.append(f"the pure core decides {figures[CORE]:.0f} events a second; {LEAST_EVENTS} are required")
    growth = figures["child started and stopped of 10000, us"] / figures["child started and stopped of 100, us"]
    if growth > FLAT:
        missed.append(f"a child of 10,000 costs {growth:.1f} times one of 100; {FLAT:g} are allowed")
    return missed
