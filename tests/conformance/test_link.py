"""1,000 random scenarios of processes, links, monitors, signals, names and aliases: ramure beside Erlang.

With Erlang at hand the seeds are new in each run; without, the results of seeds 0 to 999 that Erlang gave
when ``python tests/conformance/test_link.py`` recorded them are compared.
"""

from __future__ import annotations

import gzip
import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ORACLE = HERE.parent / "otp_oracle"
RECORDED = HERE / "recorded" / "link.jsonl.gz"
COUNT = 1000


def scenarios(seed: int, target: Path, count: int = COUNT) -> None:
    command = [sys.executable, str(ORACLE / "gen.py"), "link", "--seed", str(seed), "--count", str(count)]
    target.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def erlang(source: Path, target: Path) -> None:
    subprocess.run(["sh", str(ORACLE / "run.sh"), str(source), str(target)], check=True, timeout=120)


def ramure(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "tests.conformance", "link", str(source), str(target)]
    subprocess.run(command, check=True, timeout=120, cwd=ROOT)


def results(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.timeout(300)
def test_a_thousand_scenarios_end_as_in_erlang(tmp_path: Path) -> None:
    asked, ours = tmp_path / "in.jsonl", tmp_path / "ramure.jsonl"
    if shutil.which("erlc"):
        seed = secrets.randbelow(10**9)
        scenarios(seed, asked)
        erlang(asked, tmp_path / "erlang.jsonl")
        expected = results((tmp_path / "erlang.jsonl").read_text())
    else:
        seed = 0
        scenarios(seed, asked)
        expected = results(gzip.decompress(RECORDED.read_bytes()).decode())
    ramure(asked, ours)
    got = results(ours.read_text())
    assert len(got) == len(expected) == COUNT
    different = [seed + n for n, (mine, theirs) in enumerate(zip(got, expected, strict=True)) if mine != theirs]
    assert not different, f"seeds that end in another way than in Erlang: {different}"


def test_the_recorded_results_are_those_of_the_first_seeds() -> None:
    names = [json.loads(line)["name"] for line in gzip.decompress(RECORDED.read_bytes()).decode().splitlines()]
    assert names == [f"link-{seed}" for seed in range(COUNT)]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in.jsonl"), Path(directory, "out.jsonl")
        scenarios(0, source)
        erlang(source, target)
        RECORDED.write_bytes(gzip.compress(target.read_bytes(), mtime=0))
