"""The real Node and pi that setup installs, from the real registries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import Toolchain, find_toolchain
from ramure.agents.pi.toolchain.versions import PI_TESTED
from tests.conftest import lend_toolchain

pytestmark = pytest.mark.real_pi


def says(toolchain: Toolchain, agent_dir: Path) -> str:
    environ = {**os.environ, "PI_OFFLINE": "1", "PI_CODING_AGENT_DIR": str(agent_dir)}
    done = subprocess.run(
        [*toolchain.pi_argv, "--version"], env=environ, capture_output=True, text=True, timeout=25, check=True
    )
    return done.stdout.strip() or done.stderr.strip()


def test_the_newest_pi_runs_on_its_node(toolchain: Toolchain, tmp_path: Path) -> None:
    assert toolchain.pi_version >= PI_TESTED
    assert says(toolchain, tmp_path) == str(toolchain.pi_version)


def test_the_oldest_pi_runs_on_node_20(toolchain_074: Toolchain, tmp_path: Path) -> None:
    assert (str(toolchain_074.pi_version), toolchain_074.node_version[0]) == ("0.74.2", 20)
    assert says(toolchain_074, tmp_path) == "0.74.2"


def test_a_lent_toolchain_is_found_in_another_home(toolchain: Toolchain, tmp_path: Path) -> None:
    lend_toolchain(toolchain, tmp_path / "home")
    assert find_toolchain(tmp_path / "home").harness == toolchain.harness


def test_an_interrupted_setup_leaves_no_installer_and_nothing_that_is_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "ramure.cli", "setup", "--private"]
    with subprocess.Popen(
        command, env={**os.environ, "RAMURE_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as setup:
        assert setup.stderr is not None
        for line in setup.stderr:
            if line.startswith("installing"):
                break
        setup.send_signal(signal.SIGTERM)
        setup.communicate(timeout=20)
    assert setup.returncode == 128 + signal.SIGTERM
    assert {p.name for p in (home / "toolchain").iterdir()} <= {"lock"}
    assert str(tmp_path) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
