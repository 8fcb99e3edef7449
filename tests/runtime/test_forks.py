"""A child that user code forks in a run holds nothing of it, and touches nothing of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.machines.processes import alive

pytestmark = pytest.mark.real

WITHIN = 30.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a program, of which nothing is left after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        head = (
            "import asyncio, multiprocessing, os, signal, sys, time, warnings\nfrom pathlib import Path\n"
            "from ramure import *\nfork = multiprocessing.get_context('fork')\n"
        )
        program.write_text(head + textwrap.dedent(body))
        environment = {**os.environ, "RAMURE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=WITHIN)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=WITHIN * 1.5)
    assert "Traceback" not in err, err
    return process.returncode, out


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_after_sigkill_all_of_the_run_ends_though_a_forked_child_lives(
    start: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(
        """
        @agent_process
        async def main():
            here = await machine()
            run = current_runtime()
            asyncio.create_task(here.exec("echo $$ > pid; exec sleep 300"))
            directory = (await here.exec("pwd")).stdout.strip()
            while not os.path.exists(directory + "/pid") or not Path(directory, "pid").read_text().strip():
                await asyncio.sleep(0.01)
            child = fork.Process(target=time.sleep, args=(300,))
            child.start()
            print(child.pid, Path(directory, "pid").read_text().strip(), run.gateway.port, run.paths.socket.resolve(), directory, flush=True)
            await wait()

        asyncio.run(main())
        """
    )
    assert process.stdout is not None
    child, command, port, control, directory = process.stdout.readline().split()
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(WITHIN)
        assert until(lambda: not alive(int(command))), "the command lives on"
        assert until(lambda: not os.path.exists(directory)), "the reaper has not removed the machine's directory"
        assert alive(int(child)), "the forked child is the user's"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), timeout=WITHIN)
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such file"):
            client.connect(control)
    finally:
        os.kill(int(child), signal.SIGKILL)


CHILDREN = {
    "os._exit": "os._exit(7)",
    "sys.exit": "sys.exit(7)",
    "an endpoint of the event loop": "await asyncio.sleep(0); print('went on'); os._exit(9)",
    "a verb": "await here.exec('touch from-the-child'); print('went on'); os._exit(9)",
    "raise": "sys.stderr = open(os.devnull, 'w'); raise ValueError('in the child')",
    "return": "return 'the child'",
}
STATUS = {"os._exit": 7, "sys.exit": 7, "raise": 1}


@pytest.mark.parametrize("how", CHILDREN)
@pytest.mark.parametrize("where", ["body", "child", "endpoint"])
def test_a_forked_child_ends_with_its_status_and_touches_nothing_of_its_parent_s_run(
    how: str, where: str, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start(
        f"""
        async def forks(here):
            pid = os.fork()
            if not pid:
                {CHILDREN[how]}
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @agent_process
        async def forking(here):
            return await forks(here)

        @agent_process
        async def serves(here):
            @expose
            async def fork_it():
                return await forks(here)
            emit("ready")
            await wait()

        @agent_process
        async def main():
            here = await machine()
            await here.write_file("kept", b"text")
            snapshot = await here.snapshot()
            if {where!r} == "body":
                status = await forks(here)
            elif {where!r} == "child":
                status = await forking(here)
            else:
                handle = spawn(serves, here)
                async for event in handle.events:
                    break
                status = await handle.call("fork_it")
            if status == "the child":
                return
            other = await machine(snapshot)
            print(status, (await here.exec("ls; cat kept")).stdout.split(), (await other.read_file("kept")).decode())

        asyncio.run(main())
        """
    )
    assert finished(process) == (0, f"{STATUS.get(how, 0)} ['kept', 'text'] text\n")


def test_terminate_of_multiprocessing_ends_a_forked_child(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(
        """
        @agent_process
        async def main():
            here = await machine()
            child = fork.Process(target=time.sleep, args=(300,))
            child.start()
            child.terminate()
            child.join(20)
            print(child.exitcode, (await here.exec("echo works")).stdout.strip())
            child.kill()

        asyncio.run(main())
        """
    )
    assert finished(process) == (0, "-15 works\n")


def test_a_forked_child_can_have_a_run_of_its_own(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(
        """
        @agent_process
        async def inner():
            here = await machine()
            print((await here.exec("echo inner")).stdout.strip(), flush=True)
            raise SystemExit(5)

        def in_child():
            asyncio.run(inner())

        @agent_process
        async def main():
            here = await machine()
            child = fork.Process(target=in_child)
            child.start()
            await asyncio.get_running_loop().run_in_executor(None, child.join)
            print(child.exitcode, (await here.exec("echo outer")).stdout.strip(), flush=True)

        asyncio.run(main())
        """
    )
    assert finished(process) == (0, "inner\n5 outer\n")


def test_a_pool_of_forked_workers_computes_in_a_run(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(
        """
        from concurrent.futures import ProcessPoolExecutor

        @agent_process
        async def main():
            here = await machine()
            loop = asyncio.get_running_loop()
            with ProcessPoolExecutor(2, mp_context=fork) as pool:
                found = await asyncio.gather(*(loop.run_in_executor(pool, abs, -n) for n in range(5)))
            print(found, (await here.exec("echo works")).stdout.strip())

        asyncio.run(main())
        """
    )
    assert finished(process) == (0, "[0, 1, 2, 3, 4] works\n")
