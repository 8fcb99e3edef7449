"""Every program of the documentation runs, and the words that say how are understood."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import Toolchain
from ramure.agents.pi.toolchain.models import PROVIDER_VARIABLES
from ramure.testing import ScriptedModel
from ramure.testing.leaks import LeakCheck
from tests.agents.toolchain import stubs
from tests.docs.programs import Program, blocks, programs
from tests.docs.scripts import SCRIPTS
from tests.machines.engine import docker_engine
from tests.machines.morph_fake import MorphFake
from tests.subprocesses import ended

pytestmark = pytest.mark.real


def parameters() -> list[object]:
    found = []
    for program in programs():
        marks = [pytest.mark.timeout(float(program.needs.get("seconds", 20)) + 20)]
        if "pi" in program.needs:
            marks.append(pytest.mark.real_pi)
        if "docker" in program.needs:
            marks.append(pytest.mark.real)
        found.append(pytest.param(program, id=str(program), marks=marks))
    return found


@pytest.fixture
def environ(program: Program, leak_check: LeakCheck, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What a program is started with; pi is there for those that need it."""
    if program.needs.get("pi"):
        request.getfixturevalue("ramure_home")
    environ = {k: v for k, v in os.environ.items() if k not in PROVIDER_VARIABLES}
    if "pi" in program.needs:
        environ["PATH"] = f"{pi_command(request, tmp_path).parent}{os.pathsep}{environ['PATH']}"
    return environ


@pytest.mark.parametrize("program", parameters())
async def test_it_runs(program: Program, environ: dict[str, str], tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if program.needs.get("pi"):
            model = await stack.enter_async_context(ScriptedModel(SCRIPTS[program.needs["pi"]]))
            environ |= model.write_config(tmp_path / "agent")
        if "morph" in program.needs:
            environ |= stack.enter_context(MorphFake.running()).environment()
        if "docker" in program.needs:
            environ["DOCKER_HOST"] = docker_engine().command[-1]
        status, said = await run(program, environ, tmp_path)
    if "raises" in program.needs:
        assert status == 1
        assert program.needs["raises"] in said.strip().splitlines()[-1]
    else:
        assert status == 0, said
    assert program.needs.get("prints", "") in said


def pi_command(request: pytest.FixtureRequest, directory: Path) -> Path:
    """A command `pi` that runs the real one."""
    toolchain: Toolchain = request.getfixturevalue("toolchain")
    return stubs.script(directory / "bin" / "pi", f'exec {shlex.join(toolchain.pi_argv)} "$@"')


async def run(program: Program, environ: dict[str, str], directory: Path) -> tuple[int, str]:
    """Run it as a user would, with a Python of its own; its exit status and all that it printed."""
    file = directory / "program.py"
    parts = (program.needs.get("first", ""), program.code, program.needs.get("then", ""))
    file.write_text("\n".join(filter(None, parts)), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *runner(file),
        *shlex.split(program.needs.get("args", "")),
        cwd=directory,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), float(program.needs.get("seconds", 20)))
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await ended(process)
        pytest.fail(f"{program} did not end within {program.needs.get('seconds', 20)} s")
    return process.returncode or 0, said.decode()


def runner(file: Path) -> list[str]:
    """The arguments with which Python runs this file: by pytest, with an event loop around it, or as it is."""
    code = file.read_text(encoding="utf-8")
    if re.search(r"^(async )?def test_", code, re.MULTILINE):
        return [
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "asyncio_mode=auto",
            f"--basetemp={file.parent}/pytest",
            str(file),
        ]
    compiled = compile(code, str(file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return ["-c", WITH_LOOP, str(file)] if compiled.co_flags & inspect.CO_COROUTINE else [str(file)]


WITH_LOOP = """
import ast, asyncio, pathlib, sys, types
text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
code = compile(text, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
asyncio.run(types.FunctionType(code, globals())())
"""

TEXT = """
```python
a = 1
```

<!-- test: continues; prints=2; then=print(a) -->
```python
a += 1
```

1. In a list:

   <!-- test: raises=ZeroDivisionError -->
   ```python
   1 / 0
   ```
```sh
not this
```
"""


def test_the_needs_stand_above_a_block() -> None:
    first, second, third = blocks(TEXT, "page.md")
    assert (first.name, first.code, first.needs) == ("page.md:2", "a = 1\n", {})
    assert (second.code, second.needs) == ("a = 1\na += 1\n", {"continues": "", "prints": "2", "then": "print(a)"})
    assert (third.code, third.needs) == ("1 / 0\n", {"raises": "ZeroDivisionError"})


async def test_a_block_may_await_and_may_be_a_test(tmp_path: Path) -> None:
    waits = Program("waits", "print(await asyncio.sleep(0, 'slept'))\n", {"first": "import asyncio"})
    assert await run(waits, dict(os.environ), tmp_path) == (0, "slept\n")
    tests = Program("tests", "def test_it():\n    assert 1 == 2\n")
    status, said = await run(tests, dict(os.environ), tmp_path)
    assert (status, "1 failed" in said) == (1, True)


def test_an_unknown_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="page.md:2: `test:` knows .* not 'skip'"):
        list(blocks("<!-- test: skip -->\n```python\n```\n", "page.md"))


async def test_what_a_block_prints_and_raises_is_seen(tmp_path: Path) -> None:
    _, second, third = blocks(TEXT, "page.md")
    assert await run(second, dict(os.environ), tmp_path) == (0, "2\n")
    status, said = await run(third, dict(os.environ), tmp_path)
    assert (status, "ZeroDivisionError" in said) == (1, True)


def test_every_script_is_used() -> None:
    assert {program.needs["pi"] for program in programs() if program.needs.get("pi")} == set(SCRIPTS)
