"""What importing costs: whole processes, interleaved, medians. ``python -m benchmarks imports [-n 21]``."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from benchmarks.machine import describe

PROGRAMS = {
    "python alone": "pass",
    "import asyncio, websockets": "import asyncio, websockets",
    "import ramure": "import ramure",
    "a program's import line": "from ramure import agent, agent_process, done, wait",
    "ramure ls, to its request": "import ramure.cli.main, ramure.cli.commands.ls",
}
LIMIT = 1.3
"""``import ramure`` may cost this many times what ``import asyncio, websockets`` does."""


def main(arguments: list[str]) -> int:
    """Print the medians; status 1 if ``import ramure`` costs too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks imports", description=__doc__)
    parser.add_argument("-n", type=int, default=21, help="runs of each")
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(parser.parse_args(arguments).n):
        for name, code in PROGRAMS.items():
            times[name].append(seconds(code))
    median = {name: statistics.median(taken) * 1000 for name, taken in times.items()}
    print(describe())
    for name, milliseconds in median.items():
        print(f"{name:<28} {milliseconds:6.1f} ms")
    ratio = median["import ramure"] / median["import asyncio, websockets"]
    print(f"import ramure costs {ratio:.2f} of importing asyncio and websockets (at most {LIMIT})")
    return int(ratio > LIMIT)


def seconds(code: str) -> float:
    """How long a Python process takes that runs ``code``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began
