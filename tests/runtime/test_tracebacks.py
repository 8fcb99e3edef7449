"""Tracebacks show the program's own frames; ``RAMURE_FULL_TRACEBACK=1`` shows all."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import ramure
from ramure import (
    EndpointError,
    UsageError,
    agent,
    agent_process,
    connect,
    done,
    expose,
    spawn,
    wait,
)
from ramure.actors import Actor, ActorSystem
from ramure.errors import RamureError
from ramure.testing import InProcessHarness, Text, ToolCall
from ramure.tracebacks import FULL, fold, format_traceback

LIBRARY = str(Path(ramure.__file__).parent)
ASYNCIO = str(Path(asyncio.__file__).parent)


@pytest.fixture(params=[False, True], ids=["folded", "full"])
def full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        monkeypatch.setenv(FULL, "1")
    else:
        monkeypatch.delenv(FULL, raising=False)
    return bool(request.param)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))


def frames(error: BaseException) -> list[str]:
    """The functions in its traceback that are in this file, and ``ramure`` or ``asyncio`` for others."""
    found = []
    for step in traceback.extract_tb(error.__traceback__):
        if step.filename.startswith(LIBRARY):
            found.append("ramure")
        elif step.filename.startswith(ASYNCIO):
            found.append("asyncio")
        else:
            found.append(step.name)
    return found


async def raised_by(process: Callable[[], Awaitable[object]]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at it
        await process()
    return caught.value


async def test_what_leaves_the_root_has_the_programs_frames_last_and_one_of_ours_before(full: bool) -> None:
    def deep() -> None:
        raise ValueError("deep")

    @agent_process
    async def main() -> None:
        await asyncio.sleep(0)
        deep()

    error = await raised_by(main)
    assert frames(error)[-2:] == ["main", "deep"]
    if full:
        assert frames(error).count("ramure") > 1
    else:
        assert frames(error) == ["raised_by", "ramure", "main", "deep"]


@pytest.mark.parametrize("how", ["awaited", "handle"])
async def test_a_child_that_fails_shows_its_parents_line_and_its_own(full: bool, how: str) -> None:
    @agent_process
    async def grandchild() -> None:
        raise ValueError("deep")

    @agent_process
    async def inner() -> None:
        await grandchild()

    @agent_process
    async def outer() -> None:
        if how == "awaited":
            await inner()
        else:
            await spawn(inner)

    error = await raised_by(outer)
    assert isinstance(error, ValueError)
    own = [name for name in frames(error) if name not in ("ramure", "asyncio")]
    assert own == ["raised_by", "outer", "inner", "grandchild"]
    assert ("ramure" in frames(error)[2:]) == full


async def test_a_usage_error_ends_at_the_line_that_made_it(full: bool) -> None:
    @agent_process
    async def main() -> None:
        connect("a", "b")  # type: ignore[arg-type]

    error = await raised_by(main)
    assert isinstance(error, UsageError)
    assert (frames(error)[-1] == "main") is not full


async def test_an_endpoint_that_raises_shows_its_own_line(full: bool) -> None:
    causes = []

    @agent_process
    async def server() -> None:
        @expose
        def fails() -> None:
            raise LookupError("not here")

        await wait()

    @agent_process
    async def main() -> None:
        handle = spawn(server)
        with pytest.raises(EndpointError) as caught:
            await handle.call("fails")
        causes.append(caught.value.__cause__)
        await handle.cancel()

    await main()
    [cause] = causes
    assert isinstance(cause, LookupError)
    assert frames(cause)[-1] == "fails"
    assert ("ramure" in frames(cause)) == full


async def test_a_tool_handler_that_raises_is_logged_with_its_own_lines(
    full: bool, caplog: pytest.LogCaptureFixture
) -> None:
    harness = InProcessHarness(lambda c: Text("Sorry.") if c.tool_results else ToolCall("divide"))

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("divide")
        async def divide() -> str:
            """Divide."""
            try:
                return str(1 // 0)
            except ZeroDivisionError as error:
                raise RuntimeError("cannot divide") from error
            finally:
                done()

        await worker.send("go")
        await wait()

    with caplog.at_level(logging.WARNING):
        await main()
    [record] = [each for each in caplog.records if "handler of its tool" in each.getMessage()]
    text = logging.Formatter().format(record)
    assert "return str(1 // 0)" in text
    assert "direct cause" in text
    assert (LIBRARY in text) == full


async def test_an_actor_that_crashes_is_reported_with_its_own_lines(
    full: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Actor):
        def handle_info(self, message: object) -> None:
            raise ValueError("broken")

    async with ActorSystem() as system:
        ref = await system.start(Broken)
        ref.tell("go")
        await ref.wait()
    text = "\n".join(each.getMessage() for each in caplog.records)
    assert 'raise ValueError("broken")' in text
    assert (LIBRARY in text) == full


def test_causes_contexts_notes_and_groups_are_kept(full: bool) -> None:
    def work() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904 - a context is wanted

    async def both() -> None:
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            try:
                await loop.run_in_executor(pool, work)
            except ValueError as error:
                error.add_note("a note")
                raise ExceptionGroup("several", [error]) from OSError("cause")

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(both())
    text = format_traceback(caught.value)
    before = caught.value.__traceback__
    assert fold(caught.value) is caught.value
    assert (before is caught.value.__traceback__) is full
    [second] = caught.value.exceptions
    assert [name for name in frames(second) if name not in ("asyncio", "run")] == ["both", "work"]
    assert isinstance(second.__context__, KeyError)
    assert frames(second.__context__) == ["work"]
    for part in ("several", "second", "first", "a note", "OSError: cause"):
        assert part in text
    assert (ASYNCIO in text) == full


def test_a_defect_of_the_library_keeps_its_frames_and_an_error_of_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FULL, raising=False)

    def inside(error: Exception) -> Exception:
        code = compile("def f(error):\n    raise error\n", str(Path(LIBRARY) / "made_up.py"), "exec")
        space: dict[str, Callable[[Exception], None]] = {}
        exec(code, space)
        try:
            space["f"](error)
        except Exception as raised:
            return fold(raised)
        raise AssertionError

    assert frames(inside(TypeError("a defect"))) == ["inside", "ramure"]
    assert frames(inside(RamureError("what you did"))) == ["inside"]


def test_format_traceback_changes_nothing_and_bears_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FULL, raising=False)
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert "one" in format_traceback(one)
    assert format_traceback("normal") == ""


PROGRAM = """
    import asyncio
    from ramure import agent_process

    @agent_process
    async def nested():
        await asyncio.sleep(0)
        raise ValueError("deep")

    @agent_process
    async def main():
        try:
            await nested()
        except ValueError as error:
            error.add_note("noted")
            raise KeyError("outer") from error

    asyncio.run(main())
"""


@pytest.mark.parametrize("variable", ["", "0", "1"])
def test_what_reaches_the_top_of_a_program(tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL, variable)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    cause, _, last = said.stderr.partition("The above exception was the direct cause")
    assert said.returncode == 1
    assert "ValueError: deep\nnoted" in cause
    assert last.rstrip().endswith("KeyError: 'outer'")
    ours = [line for line in said.stderr.splitlines() if f'File "{LIBRARY}' in line]
    if variable == "1":
        assert len(ours) > 5
    else:
        assert len(ours) == 1
        assert LIBRARY not in cause
        assert ASYNCIO not in cause
        assert [line.split(", in ")[1] for line in last.splitlines() if "File" in line][-1] == "main"
