"""The extension's pure half, in Node, on the same test vectors as ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ramure.agents.toolchain import Toolchain

VECTORS = Path(__file__).parent / "extension" / "vectors.test.mjs"


@pytest.mark.real_pi
def test_the_extension_passes_the_vectors_of_the_protocol(toolchain: Toolchain) -> None:
    command = [
        str(toolchain.harness.node),
        "--test",
        str(VECTORS),
    ]  # Node runs TypeScript that has only types to take off
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
