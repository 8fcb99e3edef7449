"""ramure's own blocking calls run in its own threads: the user's default executor may be full."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ramure
from ramure import agent, agent_process, machine
from ramure.executor import Threads, in_thread, resolve
from ramure.testing import InProcessHarness

SOURCES = sorted(Path(ramure.__file__).parent.rglob("*.py"))


def _uses(tree: ast.AST) -> list[str]:
    """Calls that would go to the user's default executor."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("to_thread", "getaddrinfo", "getnameinfo"):
            if not (isinstance(node.value, ast.Name) and node.value.id == "socket"):
                found.append(f"line {node.lineno}: {node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            found += [f"line {node.lineno}: import" for name in node.names if name.name == "to_thread"]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run_in_executor"
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant) and first.value is None:
                found.append(f"line {node.lineno}: run_in_executor(None, …)")
    return found


def test_no_module_of_ramure_uses_the_default_executor() -> None:
    found = {str(path): uses for path in SOURCES if (uses := _uses(ast.parse(path.read_text())))}
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "await asyncio.to_thread(f)",
        "loop.run_in_executor(None, f)",
        "from asyncio import to_thread",
        "await loop.getaddrinfo('a', 1)",
    ],
)
def test_the_check_finds(line: str) -> None:
    assert _uses(ast.parse(f"async def main():\n    {line}"))


@pytest.mark.parametrize("workers", [None, 1])
async def test_agents_and_machines_start_while_the_default_executor_is_full(
    workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    release = threading.Event()
    loop = asyncio.get_running_loop()
    if workers is not None:
        loop.set_default_executor(ThreadPoolExecutor(workers))
    waiting = [loop.run_in_executor(None, release.wait, 50) for _ in range(64)]
    try:
        harness = InProcessHarness(["Hello."])

        @agent_process
        async def root() -> str:
            worker = await agent("worker", image=harness.image)
            assert await worker.ask("Hello?") == "Hello."
            there = await machine()
            await there.write_file("a", b"text")
            return (await there.exec("cat a")).stdout

        async with asyncio.timeout(30):
            assert await root() == "text"
        assert not any(each.done() for each in waiting)
    finally:
        release.set()
        await asyncio.gather(*waiting)


async def test_context_and_keywords_travel_into_the_thread() -> None:
    name = contextvars.ContextVar("name", default="")
    name.set("here")

    def work(*, suffix: str) -> str:
        return name.get() + suffix + ("" if threading.current_thread() is threading.main_thread() else " elsewhere")

    assert await in_thread(work, suffix="!") == "here! elsewhere"


async def test_an_exception_in_the_thread_is_the_caller_s() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_a_name_is_resolved_without_the_default_executor() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    release = threading.Event()
    waiting = loop.run_in_executor(None, release.wait, 50)
    try:
        async with asyncio.timeout(20):
            addresses = await resolve("localhost", 80)
        assert {address[4][0] for address in addresses} <= {"127.0.0.1", "::1"}
    finally:
        release.set()
        await waiting


def test_no_more_threads_than_the_limit_and_every_call_is_made() -> None:
    threads = Threads(3, "few")
    used: set[str] = set()
    futures = [
        threads.submit(lambda: (time.sleep(0.002), used.add(threading.current_thread().name))) for _ in range(50)
    ]
    for future in futures:
        future.result(20)
    assert len(used) <= 3 and threads.count <= 3
    assert threads.wait_until_idle(20)


def test_a_cancelled_call_that_has_not_begun_is_not_made() -> None:
    threads = Threads(1, "one")
    gate, made = threading.Event(), []
    first = threads.submit(gate.wait, 20)
    second = threads.submit(made.append, 1)
    assert second.cancel()
    gate.set()
    assert first.result(20)
    assert threads.submit(lambda: made).result(20) == []


def test_threads_that_have_nothing_to_do_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramure.executor.IDLE_LIMIT", 0.01)
    threads = Threads(2, "idle")
    assert threads.submit(lambda: 1).result(20) == 1
    deadline = time.monotonic() + 20
    while threads.count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert threads.count == 0
    assert threads.submit(lambda: 2).result(20) == 2


def test_the_system_s_limit_of_threads_leaves_the_work_to_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(8, "limit")
    gate = threading.Event()
    first = threads.submit(gate.wait, 20)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = threads.submit(lambda: "done")
        none = Threads(8, "none")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            none.submit(lambda: None)
        assert none.busy == 0
    gate.set()
    assert first.result(20) and second.result(20) == "done"


def _run(program: str, within: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=within, check=False)


def test_the_interpreter_exits_though_a_call_never_returns() -> None:
    done = _run(
        "import threading, ramure.executor as e\n"
        "import atexit; atexit.unregister(e._threads.wait_until_idle); atexit.register(e._threads.wait_until_idle, 0.1)\n"
        "e.submit(threading.Event().wait)\n"
        "print('end')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_call_under_way_ends_before_the_interpreter_exits() -> None:
    done = _run(
        "import time, ramure.executor as e\n"
        "e.submit(lambda: (time.sleep(0.5), print('made', flush=True)))\n"
        "print('end', flush=True)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\nmade\n", "")


def test_a_forked_child_has_threads_of_its_own() -> None:
    done = _run(
        "import os, time, threading, ramure.executor as e\n"
        "gate = threading.Event()\n"
        "[e.submit(gate.wait, 20) for _ in range(40)]\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(e.submit(lambda: 7).result(10))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), e.busy())\n"
        "gate.set()\n"
    )
    assert (done.returncode, done.stdout) == (0, "7 40\n"), done.stderr


def test_nothing_is_left_of_what_was_being_made_when_its_caller_left_and_the_loop_closed(tmp_path: Path) -> None:
    done = _run(
        "import asyncio, os, sys, time\n"
        "from ramure.machines.local import made\n"
        f"where = {str(tmp_path / 'made')!r}\n"
        "def make():\n"
        "    time.sleep(0.5); os.mkdir(where); return where\n"
        "async def main():\n"
        "    making = asyncio.create_task(made(make, os.rmdir))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists(tmp_path / "made")
