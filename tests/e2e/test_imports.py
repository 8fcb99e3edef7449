"""What ``import ramure`` loads, and that every public name is where the package says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ramure

HEAVY = ("paramiko", "pydantic", "libtmux", "rich", "hypothesis", "morphcloud")


def loaded_after(code: str) -> set[str]:
    """The names of all modules that are loaded after ``code``."""
    code += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=20)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "code",
    [
        "import ramure",
        "from ramure import *",
        "import ramure.cli.commands.ls, ramure.cli.commands.connect",
        "import ramure.cli.commands.run",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded_after(code) & set(HEAVY)


def test_import_ramure_alone_loads_next_to_nothing() -> None:
    assert not loaded_after("import ramure") & {"asyncio", "websockets", "msgpack", "pykka", "click", "ramure.api"}


def test_a_program_whose_types_are_plain_does_not_load_pydantic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))
    code = """
import asyncio
from ramure import agent_process, done, expose, spawn, wait

@agent_process
async def child() -> str:
    @expose
    async def finish(summary: str) -> None:
        done(summary)

    return await wait(str)

@agent_process
async def main() -> str:
    handle = spawn(child)
    await handle.call("finish", summary="x")
    return await handle

asyncio.run(main())
"""
    assert "pydantic" not in loaded_after(code)


def test_the_listing_commands_load_no_event_loop() -> None:
    assert not loaded_after("import ramure.cli.main, ramure.cli.commands.ls") & {"asyncio", "websockets", "pykka"}


@pytest.mark.parametrize(
    "code",
    ["from ramure import agent_process", "from ramure.cli import main; main(['ls'])"],
    ids=["a program", "the command"],
)
def test_on_windows_it_says_where_it_runs(code: str) -> None:
    code = f"import click, sys; sys.platform = 'win32'; {code}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "not on Windows itself: install it in WSL" in done.stderr


def test_every_public_name_is_there() -> None:
    assert set(ramure.__all__) <= set(dir(ramure))
    for name in ramure.__all__:
        assert getattr(ramure, name).__module__.startswith("ramure.")
    with pytest.raises(AttributeError, match="module 'ramure' has no attribute 'agnet'"):
        ramure.agnet  # type: ignore[attr-defined]
