from __future__ import annotations

import json

from tests.agents.toolchain import stubs
from tests.cli.conftest import Command


def test_ones_own_pi_is_taken_and_said(ramure: Command) -> None:
    stubs.tmux(ramure.bin)
    node, cli = stubs.node(ramure.bin, "22.19.0"), stubs.pi(ramure.bin, "0.87.1")
    done = ramure("setup", "--json")
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert (said["source"], said["pi"], said["node"], said["missing"]) == ("own", str(cli), str(node), [])


def test_a_missing_tmux_is_said_with_its_remedy_and_status_1(ramure: Command) -> None:
    stubs.node(ramure.bin, "22.19.0")
    stubs.pi(ramure.bin, "0.87.1")
    done = ramure("setup")
    assert done.returncode == 1
    assert done.stdout.startswith("agents run pi 0.87.1 on Node 22.19.0")
    assert "tmux was not found on PATH; to mend it:" in done.stderr


def test_a_dry_run_installs_nothing(ramure: Command) -> None:
    done = ramure("setup", "--dry-run")
    assert done.returncode == 0
    assert "install a private Node 24" in done.stdout
    assert not (ramure.home / "ramure").exists()
    assert json.loads(ramure("setup", "--dry-run", "--json").stdout)["installs"] is True


def test_a_wish_that_cannot_come_true_is_a_line_and_status_1(ramure: Command) -> None:
    done = ramure("setup", "--pi", "0.70.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ramure: pi 0.70.0 is too old: 0.74 or newer is needed\n"
