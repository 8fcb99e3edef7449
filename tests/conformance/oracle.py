"""Random scenarios on real Erlang/OTP and on ramure: do they end alike?

    python -m tests.conformance.oracle                          # 5,000 of kind link, 20,000 of kind sup, new seeds
    python -m tests.conformance.oracle sup --count 500 --seed 7
    python -m tests.conformance.oracle --record                 # what is compared where there is no Erlang

Every scenario goes through ``python -m tests.conformance KIND``; those of kind ``sup`` through the pure core too. The
exit code is 1 when one ends in another way than on OTP. Needs erl and erlc.
"""

from __future__ import annotations

import argparse
import gzip
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance import sup_pure

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ORACLE = HERE.parent / "otp_oracle"
FULL = {"link": 5_000, "sup": 20_000}
"""How many scenarios show that ramure decides as OTP does."""
TESTED = {"link": 1_000, "sup": 2_000}
"""How many of them ``make test`` compares; as many are recorded."""
PIECE = 1_000


@dataclass(frozen=True)
class Batch:
    """Scenarios, and the results that Erlang gave."""

    scenarios: list[Any]
    expected: list[Any]

    def differences(self, results: list[Any]) -> list[str]:
        """The names of the scenarios (kind and seed) that ended in another way."""
        assert len(results) == len(self.expected) == len(self.scenarios)
        return [theirs["name"] for ours, theirs in zip(results, self.expected, strict=True) if ours != theirs]


def scenarios(kind: str, seed: int, count: int) -> list[Any]:
    """The scenarios of so many seeds, from this one on."""
    command = [sys.executable, str(ORACLE / "gen.py"), kind, "--seed", str(seed), "--count", str(count)]
    return lines(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def on_erlang(given: list[Any]) -> list[Any]:
    return _through(["sh", str(ORACLE / "run.sh")], given)


def on_ramure(kind: str, given: list[Any]) -> list[Any]:
    """On the actors, by the command that takes any scenarios from a file."""
    return _through([sys.executable, "-m", "tests.conformance", kind], given)


def on_the_pure_core(given: list[Any]) -> list[Any]:
    """Scenarios of kind ``sup``, without actors."""
    return [json.loads(json.dumps(sup_pure.run(scenario))) for scenario in given]


def recorded(kind: str) -> Path:
    return HERE / "recorded" / f"{kind}.jsonl.gz"


def tested(kind: str) -> Batch:
    """What ``make test`` compares: new seeds where Erlang is at hand, else those whose results are recorded."""
    count = TESTED[kind]
    if shutil.which("erlc"):
        given = scenarios(kind, secrets.randbelow(10**9), count)
        return Batch(given, on_erlang(given))
    return Batch(scenarios(kind, 0, count), lines(gzip.decompress(recorded(kind).read_bytes()).decode()))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def _through(command: list[str], given: list[Any]) -> list[Any]:
    """Run a command that reads scenarios from a file and writes results into another."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in.jsonl"), Path(directory, "out.jsonl")
        source.write_text(_text(given))
        subprocess.run([*command, str(source), str(target)], check=True, timeout=600, cwd=ROOT)
        return lines(target.read_text())


def _text(rows: list[Any]) -> str:
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def compare(kind: str, seed: int, count: int) -> Iterator[tuple[int, list[str]]]:
    """Piece by piece: how many scenarios there were, and which ended in another way (``(pure core)`` behind some)."""
    for first in range(seed, seed + count, PIECE):
        given = scenarios(kind, first, min(PIECE, seed + count - first))
        batch = Batch(given, on_erlang(given))
        different = batch.differences(on_ramure(kind, given))
        if kind == "sup":
            different += [f"{name} (pure core)" for name in batch.differences(on_the_pure_core(given))]
        yield len(given), different


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.oracle", description="Random scenarios: do they end as on real Erlang/OTP?"
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="link, sup (default: both)")
    parser.add_argument("--count", type=int, help="how many of each kind (default: 5,000 of link, 20,000 of sup)")
    parser.add_argument("--seed", type=int, help="the first (default: any)")
    parser.add_argument("--record", action="store_true", help="write down what Erlang makes of the first seeds")
    given = parser.parse_args(arguments)
    if unknown := set(given.kinds) - set(FULL):
        parser.error(f"there is no kind {min(unknown)!r}; there are link and sup")
    wrong = 0
    for kind in given.kinds or FULL:
        if given.record:
            results = on_erlang(scenarios(kind, 0, TESTED[kind]))
            recorded(kind).write_bytes(gzip.compress(_text(results).encode(), mtime=0))
            continue
        seed = secrets.randbelow(10**9) if given.seed is None else given.seed
        done, names = 0, []
        for number, different in compare(kind, seed, given.count or FULL[kind]):
            done, names = done + number, names + different
            print(f"{kind}: {done} scenarios from seed {seed} on, {len(names)} differences", flush=True)
        for name in names:
            print(f"differs: {name}")
        wrong += len(names)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
