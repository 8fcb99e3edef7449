"""``examples/worker_pool.py`` runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "worker_pool.py"


def test_the_worker_pool_survives_and_its_sum_is_right() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=25, check=True)
    assert done.stderr == ""
    assert done.stdout.count("<Worker 'worker'") == 8, "four before, four after"
    assert "sum: 2646700 (right: 2646700)" in done.stdout
