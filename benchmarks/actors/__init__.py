"""``python -m benchmarks actors``: ramure's kernel beside its peers, from one run.

Each peer is measured in a process of its own, several rounds, the peers taking turns, so that what else the
machine does hits all of them; the figures are medians. Peers that are not installed are left out, and said
to be: ``--install`` puts them into a virtual environment under ``.ramure-dev``. Exits with 1 when a
requirement (``rows.REQUIRED``) is not met.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.actors import report
from benchmarks.actors.peers import PEERS
from benchmarks.actors.rows import ROWS
from benchmarks.machine import describe

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".ramure-dev" / "bench"
TIMEOUT = 300.0

Figures = dict[str, dict[str, float]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks actors", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--chart", type=Path, metavar="FILE.png", help="draw them there (needs matplotlib)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each peer is measured (default 3)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="PEER")
    parser.add_argument("--install", action="store_true", help="install the Python peers first")
    options = parser.parse_args(arguments)
    python = environment(options.install)
    versions = {name: found for name in options.peers if (found := PEERS[name].version(python))}
    for name in options.peers:
        if name not in versions:
            print(f"{name} is not installed: left out", file=sys.stderr)
    figures = measure(versions, python, options.rounds, lambda text: print(text, file=sys.stderr, flush=True))
    machine = describe()
    missed = report.missed(figures)
    print(report.table(figures, versions, machine, options.rounds))
    for text in missed:
        print(f"NOT MET: {text}")
    if options.json:
        rows = {row.key: {"title": row.title, "unit": row.unit, "what": row.what} for row in ROWS}
        whole = {"machine": machine, "rounds": options.rounds, "versions": versions, "rows": rows, "figures": figures}
        options.json.write_text(json.dumps(whole | {"not_met": missed}, indent=2) + "\n")
    if options.chart:
        draw(python, options.json, figures, options.chart)
    return 1 if missed else 0


def environment(install: bool) -> str:
    """The Python that measures: the one with the peers, if there is one."""
    python = ENVIRONMENT / "bin" / "python"
    if install:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([*pip, "-r", str(Path(__file__).parent / "requirements.txt"), "-e", str(ROOT)], check=True)
    return str(python) if python.exists() else sys.executable


def measure(names: dict[str, str], python: str, rounds: int, say: Callable[[str], None]) -> Figures:
    """Medians, by peer and row."""
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for number in range(rounds):
        for name in names:
            say(f"round {number + 1} of {rounds}: {name}")
            for row, figure in run(name, python).items():
                seen[name].setdefault(row, []).append(figure)
    return {name: {row: statistics.median(all_) for row, all_ in rows.items()} for name, rows in seen.items()}


def run(name: str, python: str) -> dict[str, float]:
    command = PEERS[name].command(python)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed ({' '.join(command)}):\n{done.stdout}\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def draw(python: str, written: Path | None, figures: Figures, chart: Path) -> None:
    """In a process of its own: the measuring Python may have matplotlib where this one has not."""
    program = [python, "-m", "benchmarks.actors.chart", str(chart)]
    done = subprocess.run(program, cwd=ROOT, input=json.dumps(figures), text=True, check=False)
    if done.returncode:
        print("no chart: matplotlib is not installed (--install brings it)", file=sys.stderr)
