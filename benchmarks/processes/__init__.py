"""``python -m benchmarks processes --against TREE``: what a process costs, this tree beside another checkout.

Rounds of the two alternate; medians of the run's CPU time count (memory: what Python has allocated), and their ratio. Exits
with 1 when one is over its limit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.beside import beside

__all__ = ["main"]

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
    return beside(Path(__file__).parent / "worker.py", LIMITS, options.against, options.rounds)
