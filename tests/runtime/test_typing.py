"""Type checkers: eager verbs may stand alone or be awaited, and a missing `await` before any other verb is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent
USE = Path(__file__).parent / "typed_verbs.py"
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", "--no-error-summary"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("checker", CHECKERS)
def test_verbs_pass_as_they_may_be_written_and_a_missing_await_does_not(checker: str) -> None:
    wrong = {n for n, line in enumerate(USE.read_text().splitlines(), 1) if "# wrong: " in line}
    command = [sys.executable, *CHECKERS[checker], str(USE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=230)
    found = {int(n) for n in re.findall(r"typed_verbs\.py:(\d+):.*?error", done.stdout)}
    assert found == wrong, done.stdout + done.stderr
