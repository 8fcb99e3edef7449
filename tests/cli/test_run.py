"""``ramure run`` and ``progress()``: any program, with what its agents do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.live import LIMIT, Shell

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

PROGRAM = """
import asyncio, sys
from ramure import agent, agent_process, done, wait
from ramure.testing import Delay, InProcessHarness, Text, ToolCall, Usage

SPENT = Usage(input=1000, output=100)
harness = InProcessHarness([[Delay(1.2), ToolCall("look", {"path": "src"}), SPENT], Text("Seen.")])

@agent_process(image=harness.image)
async def main():
    worker = await agent("worker")

    @worker.on("look")
    async def look(path: str) -> str:
        "Looks."
        await asyncio.sleep(2)
        done("found")
        return "Seen."

    await worker.send("Look.")
    print("sent", sys.argv[1:], flush=True)
    return await wait()

print("result", asyncio.run(main()))
sys.exit(3)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "program.py").write_text(PROGRAM)
    return Shell(tmp_path / "home")


def program(shell: Shell) -> str:
    return str(shell.home.parent / "program.py")


def test_in_a_pipe_the_program_s_output_is_its_own_and_changes_are_lines(shell: Shell) -> None:
    said = shell("run", program(shell), "--json", "-n", "x y")
    assert (said.code, said.out) == (3, "sent ['--json', '-n', 'x y']\nresult found\n")
    told = [line.partition("  ")[2] for line in said.err.splitlines()]
    assert re.fullmatch(r"run \w+-\w+-\w+", told[0])
    assert {"worker busy thinking", "worker busy look: src"} <= set(told)
    assert re.fullmatch(
        r"\w+-\w+-\w+ main done after [\dms]+ \(1 agent, tokens 1\.1k, cost [\d.]+, ramure logs --id \w+-\w+\)",
        told[-1],
    )


def test_as_json(shell: Shell) -> None:
    said = shell("run", "--json", program(shell))
    document = said.json
    assert (document["exit_code"], document["argv"][1:]) == (3, [program(shell)])
    assert [(run["outcome"], run["agents"]) for run in document["runs"]] == [("done", 1)]
    assert "result found" in said.err


def test_at_a_terminal_a_table_stands_below_what_the_program_prints(shell: Shell) -> None:
    said = shell.at_terminal("run", program(shell))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.out)
    assert said.code == 3
    for part in ("sent []", "result found", "look: src", "1.1k", "main done after"):
        assert part in text
    assert said.out.rindex("\x1b[?25h") > said.out.rindex("\x1b[?25l")  # the cursor is there again


def test_ctrl_c_ends_the_program_in_order(shell: Shell) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "ramure.cli", "run", program(shell)],
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert running.stderr is not None
    for line in running.stderr:
        if "busy" in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=LIMIT)
    assert "main cancelled after" in err
    assert running.returncode in (1, 130)


def test_what_cannot_be_run_is_said(shell: Shell, tmp_path: Path) -> None:
    for words, text in (
        (("no.py",), "there is no file 'no.py'"),
        (("no-such-program",), "'no-such-program' is no .py file, and no program that can be run"),
        (("--script", str(tmp_path / "no.json"), program(shell)), "No such file"),
    ):
        said = shell("run", *words)
        assert (said.code, said.out) == (2, "")
        assert text in said.err
    assert shell("run", "false").code == 1


def test_progress_shows_the_same_in_a_program(shell: Shell, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    shown = PROGRAM.replace("asyncio.run(main())", "run()").replace(
        "print(",
        "from ramure import progress\ndef run():\n    with progress():\n        return asyncio.run(main())\n\nprint(",
    )
    at = shown.rindex("from ramure import progress")
    shown = PROGRAM[: PROGRAM.rindex("print(")] + shown[at:]
    own.write_text(shown.replace("sys.exit(3)", "print('rich' in sys.modules)"))
    done = subprocess.run(
        [sys.executable, str(own)], env=shell.environ, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stdout) == (0, "sent []\nresult found\nFalse\n")  # a pipe has no need of rich
    told = [line.partition("  ")[2] for line in done.stderr.splitlines()]
    assert "worker busy look: src" in told
    assert "main done after" in told[-1]
