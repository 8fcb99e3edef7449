"""The command line on a host of stub programs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Command:
    """`ramure`, with a home and a PATH of its own, and no variable of the user's."""

    home: Path
    bin: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": str(self.bin),
            "HOME": str(self.home),
            "RAMURE_HOME": str(self.home / "ramure"),
            "LANG": "C.UTF-8",
            **self.environ,
        }
        command = [sys.executable, "-m", "ramure.cli", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=25, check=False)


@pytest.fixture
def ramure(tmp_path: Path) -> Command:
    home, bin = tmp_path / "home", tmp_path / "usr" / "bin"
    home.mkdir()
    bin.mkdir(parents=True)
    return Command(home, bin)
