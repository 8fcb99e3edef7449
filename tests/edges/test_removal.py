"""Nothing that we did not make is touched by a removal, whatever stands in the tree or in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.edges.removal_runs import MUTANTS
from tests.scale import examples, long_in_a_soak


def can_unshare() -> bool:
    """Whether this is root with mount namespaces: only there can the mounts be tried."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


SEPARATE = [["unshare", "-m", "--propagation", "private"]] if can_unshare() else []


def tried(namespace: list[str], count: int, mutant: str = "") -> str:
    command = [*namespace, sys.executable, "-m", "tests.edges.removal_runs", "0", str(count), mutant]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("namespace", SEPARATE)
@long_in_a_soak
def test_nothing_that_was_not_made_by_us_is_touched(namespace: list[str]) -> None:
    said = tried(namespace, examples(200))
    assert "WRONG" not in said, said


@pytest.mark.parametrize("namespace", SEPARATE)
@pytest.mark.parametrize("mutant", MUTANTS)
@long_in_a_soak
def test_a_removal_that_is_wrong_is_noticed(namespace: list[str], mutant: str) -> None:
    assert "WRONG" in tried(namespace, 200, mutant)
