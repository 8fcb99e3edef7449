"""This tree beside another checkout: rounds of the two alternate, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import describe

__all__ = ["beside"]

HERE = Path(__file__).parent.parent


def beside(worker: Path, limits: Mapping[str, float], other: Path | None, rounds: int) -> int:
    """Print the medians of what ``worker TREE`` says in a line of JSON. 1 where a ratio is over its limit, else 0."""
    trees = [HERE] if other is None else [HERE, other.resolve()]
    found: list[list[dict[str, float]]] = [[] for _ in trees]
    for number in range(rounds):
        for which in range(len(trees)) if number % 2 else reversed(range(len(trees))):
            found[which].append(_once(worker, trees[which]))
    missed = []
    for name in found[0][0]:
        ours, *theirs = (statistics.median(each[name] for each in rows) for rows in found)
        print(f"{name:24}{ours:9.1f}" + "".join(f"   other {each:9.1f}   {ours / each:.3f}" for each in theirs))
        missed += [
            f"{name}: {ours / each:.3f} of the other's; {limits[name]:g} are allowed"
            for each in theirs
            if ours > limits[name] * each
        ]
    print(f"on {describe()}, {rounds} rounds")
    for text in missed:
        print(f"NOT MET: {text}")
    return 1 if missed else 0


def _once(worker: Path, tree: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(worker), str(tree)],
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
