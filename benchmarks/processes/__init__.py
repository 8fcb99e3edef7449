"""``python -m benchmarks processes --against TREE``: what a process costs, this tree beside another checkout.

Rounds of the two alternate; medians of the run's CPU time count (memory: what Python has allocated), and their ratio. Exits
with 1 when one is over its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import describe

__all__ = ["main"]

HERE = Path(__file__).parent.parent.parent

LIMITS = {
    "1,000 processes, ms": 0.7,
    "emit → reader, µs": 0.8,
    "an idle process, KB": 0.7,
    "handle.call, µs": 1.02,
    "agent ready, µs": 1.02,
    "restart, µs": 1.02,
    "ramure ls, ms": 1.02,
}
"""What each may take, in times of what it takes in the other tree."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks processes", description=__doc__)
    parser.add_argument("--against", type=Path, default=None, metavar="TREE", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each (default 9)")
    options = parser.parse_args(arguments)
    trees = [HERE] if options.against is None else [HERE, options.against.resolve()]
    found: list[list[dict[str, float]]] = [[] for _ in trees]
    for number in range(options.rounds):
        for which in range(len(trees)) if number % 2 else reversed(range(len(trees))):
            found[which].append(once(trees[which]))
    missed = []
    for name, limit in LIMITS.items():
        ours, *other = (statistics.median(each[name] for each in rounds) for rounds in found)
        print(f"{name:24}{ours:9.1f}" + "".join(f"   other {each:9.1f}   {ours / each:.3f}" for each in other))
        missed += [
            f"{name}: {ours / each:.3f} of the other's; {limit:g} are allowed" for each in other if ours > limit * each
        ]
    print(f"on {describe()}, {options.rounds} rounds")
    for text in missed:
        print(f"NOT MET: {text}")
    return 1 if missed else 0


def once(tree: Path) -> dict[str, float]:
    worker = str(Path(__file__).parent / "worker.py")
    done = subprocess.run(
        [sys.executable, worker, str(tree)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
