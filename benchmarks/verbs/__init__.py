"""``python -m benchmarks verbs --against TREE``: `send`, `ask` and a tool's round trip, this tree beside another checkout.

Both run at the same time and take turns, some dozens of calls each, so that what else the machine does meets both alike. The
run's CPU time counts: its median, and the median of the ratios of pieces that follow each other. Exits with 1 when one is
over the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import describe

__all__ = ["main"]

HERE = Path(__file__).parent.parent.parent
MOST = 1.03
"""What each verb may take, in times of what it takes in the other tree."""

WARM = 3
"""Pieces of each that do not count."""

VERBS = ("send", "ask", "tool round trip")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks verbs", description=__doc__)
    parser.add_argument("--against", type=Path, default=None, metavar="TREE", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=100, help="pieces of each (default 100)")
    options = parser.parse_args(arguments)
    trees = [HERE] if options.against is None else [HERE, options.against.resolve()]
    found: dict[str, list[list[float]]] = {verb: [[] for _ in trees] for verb in VERBS}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(worker(tree)) for tree in trees]
        for number in range(-WARM, options.rounds):
            for verb, times in found.items():
                for which in range(len(trees)) if number % 2 else reversed(range(len(trees))):
                    taken = piece(workers[which], verb)
                    if number >= 0:
                        times[which].append(taken)
    missed = []
    for verb, times in found.items():
        said = f"{verb:20}{statistics.median(times[0]):8.1f} µs"
        for other in times[1:]:
            ratio = statistics.median(one / two for one, two in zip(times[0], other, strict=True))
            said += f"   other {statistics.median(other):8.1f} µs   {ratio:.3f}"
            if ratio > MOST:
                missed.append(f"{verb}: {ratio:.3f} of the other's; {MOST:g} are allowed")
        print(said)
    print(f"on {describe()}, {options.rounds} pieces of each")
    for text in missed:
        print(f"NOT MET: {text}")
    return 1 if missed else 0


@contextlib.contextmanager
def worker(tree: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).parent / "worker.py"), str(tree)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        if process.wait(30):
            raise SystemExit(f"the worker of {tree} failed")


def piece(process: subprocess.Popen[str], verb: str) -> float:
    """Microseconds of CPU time for each call."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{verb}\n")
    process.stdin.flush()
    if not (line := process.stdout.readline()):
        raise SystemExit("a worker has ended")
    return float(line)
