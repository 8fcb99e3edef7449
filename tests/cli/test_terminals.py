"""``ssh`` and ``connect`` at a terminal that this host does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.live import Shell, live_run

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

PROGRAM = """
import asyncio
from ramure import LocalImage, agent_process, current_runtime, machine, wait

@agent_process
async def main():
    await machine(LocalImage())
    print("run", current_runtime().execution_id, flush=True)
    await wait()

try:
    asyncio.run(main())
except BaseException as error:
    print(f"ended: {error!r}")
"""


def test_a_terminal_that_is_not_known_is_taken_for_a_common_one(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    keys = b"echo is=$TERM\nexit\n"
    shell = Shell(tmp_path / "home", {"SHELL": "/bin/sh", "TERM": "of-the-future"})
    with live_run(shell, program=program):
        said = shell.at_terminal("ssh", "machine 1", keys=keys).out
        assert "this host does not know TERM=of-the-future; taken for xterm-256color" in said
        assert "is=xterm-256color" in said
        known = Shell(shell.home, {"SHELL": "/bin/sh", "TERM": "screen"}).at_terminal("ssh", "machine 1", keys=keys).out
        assert "does not know" not in known
        assert "is=screen" in known
