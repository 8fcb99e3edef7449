"""Types flow through ``proxy()``, ``ask(Request[R])``, ``call`` and ``start``: for mypy and for pyright."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent
USE = Path(__file__).parent / "typed_use.py"
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", "--no-error-summary"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}


def wrong_lines() -> set[int]:
    return {n for n, line in enumerate(USE.read_text().splitlines(), 1) if "# wrong: " in line}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("checker", CHECKERS)
def test_right_uses_pass_and_wrong_ones_do_not(checker: str) -> None:
    command = [sys.executable, *CHECKERS[checker], str(USE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=170)
    found = {int(n) for n in re.findall(r"typed_use\.py:(\d+):.*?error", done.stdout)}
    assert found == wrong_lines(), done.stdout + done.stderr
