"""The plugin's fixtures in a user's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import asyncio
import json
import os
import urllib.request
from pathlib import Path

import pytest

from ramure import agent, agent_process
from ramure.testing import ScriptError

async def later():
    await asyncio.sleep(3600)
    return "later"

def test_virtual(virtual):
    assert virtual(later(), seed=4) == "later"

def test_the_harness_and_the_home(harness, virtual, ramure_home):
    made = harness(lambda conversation: "Hello.")

    @agent_process(image=made.image)
    async def main():
        worker = await agent("worker")
        return await worker.ask("Say hello.")

    assert os.environ["RAMURE_HOME"] == str(ramure_home)
    assert virtual(main()) == "Hello."
    assert list((ramure_home / "logs").iterdir())

def test_one_that_fails(harness, virtual, ramure_home):
    @agent_process(image=harness(["Hello."]).image)
    async def main():
        worker = await agent("worker")
        await worker.ask("Say hello.")
        raise ValueError("not again")

    virtual(main())

def test_the_scripted_model(scripted_model):
    model = scripted_model(["Hello."])
    config = Path(os.environ["PI_CODING_AGENT_DIR"])
    assert (config / "models.json").exists()
    body = json.dumps({"messages": [{"role": "user", "content": "Hi."}]}).encode()
    assert urllib.request.urlopen(f"{model.base_url}/chat/completions", body).status == 200
    assert len(model.requests) == 1

def test_a_script_that_is_used_up(harness, virtual):
    @agent_process(image=harness([]).image)
    async def main():
        worker = await agent("worker", on_model_error=lambda error: "ignore")
        try:
            await worker.ask("Say hello.")
        except Exception:
            pass

    virtual(main())
"""


@pytest.mark.timeout(300)
def test_fixtures_of_a_users_tests_and_the_story_of_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={tmp_path / 'base'}",
            "test_mine.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
    )
    said = done.stdout + done.stderr
    assert "1 failed, 4 passed, 1 error" in said
    assert "ERROR at teardown of test_a_script_that_is_used_up" in said
    assert "the script is used up" in said
    story = said.partition("whose logs are in ")[2].splitlines()
    assert any("Say hello." in line for line in story[:14])
    assert any("ValueError: not again" in line for line in story[:14])
    homes = list((tmp_path / "base").glob("ramure_home[0-9]*"))
    assert len(homes) == 1
    assert list(homes[0].glob("logs/*/_runtime.jsonl"))
