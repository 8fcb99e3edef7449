"""A disk of 3 MB fills up at a random moment, beside real pi: the alarm, the limit, and that nothing is lost."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from ramure.agents.pi.toolchain import Toolchain
from tests.conftest import ROOT
from tests.edges.test_removal import SEPARATE
from tests.scale import examples


def tried(namespace: list[str], *options: str) -> str:
    """What the trials said."""
    command = [*namespace, sys.executable, "-m", "tests.edges.full_disks", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, errors="replace")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("namespace", SEPARATE)
@pytest.mark.parametrize(
    ("pi", "seed", "case"), [("toolchain", 5, "sessions, kept"), ("toolchain_074", 6, "sessions, freed")]
)
@pytest.mark.real_pi
@pytest.mark.timeout(150)
def test_a_disk_of_conversations_that_is_full(
    namespace: list[str], pi: str, seed: int, case: str, toolchain: Toolchain, toolchain_074: Toolchain
) -> None:
    assert case in tried(namespace, "--seed", str(seed), "--pi", pi, "--patience", "10")


@pytest.mark.parametrize("namespace", SEPARATE)
@pytest.mark.parametrize("pi", ["toolchain", "toolchain_074"])
@pytest.mark.edges
@pytest.mark.real_pi
@pytest.mark.timeout(0)
def test_a_disk_that_is_full_at_a_random_moment(
    namespace: list[str], pi: str, toolchain: Toolchain, toolchain_074: Toolchain
) -> None:
    seed = str(secrets.randbelow(1_000_000))
    tried(namespace, "--seed", seed, "-n", str(examples(25)), "--pi", pi)
