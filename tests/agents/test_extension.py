"""The extension in Node: its pure half on the same test vectors as ours, its session with a stand-in for pi."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import Toolchain

TESTS = Path(__file__).parent / "extension"


@pytest.mark.real_pi
@pytest.mark.parametrize("name", ["vectors", "session"])
def test_in_node(name: str, toolchain: Toolchain) -> None:
    command = [
        str(toolchain.harness.node),
        "--experimental-transform-types",
        "--disable-warning=ExperimentalWarning",
        "--test",
        str(TESTS / f"{name}.test.mjs"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
