"""What users get with the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [file] = directory.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def test_the_wheel_holds_all_that_runs(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "ramure"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=20
    ).stdout.split()
    names = set(wheel.namelist())
    assert {"ramure/py.typed", "ramure/agents/pi/extension/index.ts"} <= names
    assert {name for name in tracked if (ROOT / name).exists()} <= names


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    foreign = [n for n in wheel.namelist() if not n.startswith(("ramure/", "ramure-")) or "node_modules" in n]
    assert foreign == []


def test_the_wheel_says_what_it_needs_and_brings(wheel: zipfile.ZipFile) -> None:
    [metadata] = [n for n in wheel.namelist() if n.endswith("METADATA")]
    [scripts] = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    said = wheel.read(metadata).decode()
    assert "Requires-Python: >=3.11" in said
    needs = {line.split(": ")[1].split(">")[0] for line in said.splitlines() if line.startswith("Requires-Dist")}
    assert {"click", "libtmux", "msgpack", "paramiko", "pykka", "websockets"} <= needs
    assert "ramure = ramure.cli:main" in wheel.read(scripts).decode()
