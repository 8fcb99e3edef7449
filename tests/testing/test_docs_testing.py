"""docs/testing.md: each block of Python is a test file that passes, and the JSON script is a sound one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ramure.testing.scripts import ScriptPlayer, script_from_json

if TYPE_CHECKING:
    from ramure.agents.pi.toolchain import Toolchain

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.real_pi
@pytest.mark.timeout(90)
def test_every_block_of_python_runs(tmp_path: Path, toolchain: Toolchain) -> None:
    for number, block in enumerate(blocks("python")):
        (tmp_path / f"test_block_{number}.py").write_text(block, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pi").write_text(f'#!/bin/sh\nexec {shlex.join(toolchain.pi_argv)} "$@"\n')
    (tmp_path / "bin" / "pi").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "ramure.testing.plugin", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=80,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "10 passed" in result.stdout


def test_the_json_script_is_sound() -> None:
    [script] = blocks("json")
    ScriptPlayer(script_from_json(json.loads(script)))
