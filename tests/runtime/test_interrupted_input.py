"""Ctrl-C and SIGTERM end a program that waits in a blocking call: ``input()`` on the loop's thread, or in a thread."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

LIMIT: Final = 30.0
BASE: Final = """
    import asyncio, concurrent.futures, getpass, subprocess, sys, threading, time
    from ramure import LocalImage, agent_process, machine, spawn, start_task, wait

    async def work():
        WORK

    @agent_process
    async def main():
        try:
            await machine(LocalImage())
            BODY
        finally:
            print("cleaned up", flush=True)

    try:
    END
    finally:
        print("after the run", flush=True)
"""

WAYS: Final = {
    "input() in the root": "print('waiting', flush=True); input('name? ')",
    "input() in a function": "await work()",
    "input() in a child": "print('waiting', flush=True); await agent_process(work)()",
    "input() in a task": "start_task(work()); await asyncio.sleep(3600)",
    "sys.stdin.readline()": "print('waiting', flush=True); sys.stdin.readline()",
    "a loop that lacks its await": "from ramure import receive; print('waiting', flush=True)\n"
    "            while True:\n"
    "                receive()",
    "a blocking sleep": "print('waiting', flush=True); time.sleep(3600)",
    "a command that is waited for": "print('waiting', flush=True); subprocess.run(['sleep', '3600'])",
    "to_thread(input)": "print('waiting', flush=True); await asyncio.to_thread(input, 'name? ')",
    "to_thread(sys.stdin.readline)": "print('waiting', flush=True); await asyncio.to_thread(sys.stdin.readline)",
    "an executor": "print('waiting', flush=True)\n"
    "            await asyncio.get_running_loop().run_in_executor(concurrent.futures.ThreadPoolExecutor(), input)",
    "several threads": "print('waiting', flush=True)\n"
    "            await asyncio.gather(*(asyncio.to_thread(input) for _ in range(3)))",
    "a thread of its own": "threading.Thread(target=input).start(); print('waiting', flush=True)\n"
    "            await asyncio.sleep(3600)",
    "a thread of ramure's": "from ramure.executor import in_thread\n"
    "            print('waiting', flush=True); await in_thread(input)",
    "readline": "import readline; print('waiting', flush=True); input('name? ')",
    "readline in a thread": "import readline; print('waiting', flush=True); await asyncio.to_thread(input, 'name? ')",
}


RUN: Final = "    asyncio.run(main())"


class Program:
    """A program at a terminal."""

    def __init__(self, home: Path, body: str, *, pipe: bool = False, end: str = RUN) -> None:
        source = (
            BASE.replace("BODY", body)
            .replace("END", end)
            .replace("WORK", "print('waiting', flush=True); input('name? ')")
        )
        path = home / "program.py"
        path.write_text(textwrap.dedent(source))
        self.master, slave = pty.openpty()
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            env={**os.environ, "RAMURE_HOME": str(home / "home"), "TERM": "xterm"},
            stdin=subprocess.PIPE if pipe else slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=self._own_terminal(slave),
        )
        os.close(slave)
        self.said = ""

    @staticmethod
    def _own_terminal(slave: int) -> object:
        def begin() -> None:
            import fcntl
            import termios

            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        return begin

    def read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            with contextlib.suppress(OSError):  # EIO: the other end is closed
                if data := os.read(self.master, 65536):
                    self.said += data.decode(errors="replace")
                    return True
        return False

    def says(self, text: str) -> None:
        limit = time.monotonic() + LIMIT
        while text not in self.said:
            assert time.monotonic() < limit, self.said
            assert self.process.poll() is None or self.read(0.1), self.said
            self.read(0.1)

    def ends(self) -> int:
        limit = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < limit, self.said
            self.read(0.05)
        while self.read(0.2):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        os.close(self.master)


@contextlib.contextmanager
def program(home: Path, body: str, *, pipe: bool = False, end: str = RUN) -> Iterator[Program]:
    running = Program(home, body, pipe=pipe, end=end)
    try:
        running.says("waiting")
        time.sleep(0.3)  # it says so before it waits
        yield running
    finally:
        running.close()


def ended_in_order(running: Program, *statuses: int) -> None:
    assert running.ends() in statuses, running.said
    assert running.said.count("cleaned up") == 1, running.said
    assert running.said.count("after the run") == 1, running.said
    assert "again; leaving at once" not in running.said
    left = [path for path in (running.home / "home").rglob("*") if path.suffix in (".sock", ".lease")]
    assert left == []


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_at_the_terminal_ends_it_in_order(tmp_path: Path, way: str) -> None:
    with program(tmp_path, WAYS[way]) as running:
        os.write(running.master, b"\x03")
        ended_in_order(running, 130, -signal.SIGINT)
        if "thread of its own" not in way:  # whose failure Python prints
            assert "Traceback" not in running.said, running.said


@pytest.mark.parametrize("way", ["input() in the root", "to_thread(input)"])
def test_sigterm_ends_it_in_order(tmp_path: Path, way: str) -> None:
    with program(tmp_path, WAYS[way]) as running:
        running.process.send_signal(signal.SIGTERM)
        ended_in_order(running, 128 + signal.SIGTERM)


@pytest.mark.parametrize("way", ["input() in the root", "to_thread(input)", "an executor"])
def test_ctrl_c_ends_it_where_input_is_a_pipe(tmp_path: Path, way: str) -> None:
    with program(tmp_path, WAYS[way], pipe=True) as running:
        running.process.send_signal(signal.SIGINT)
        ended_in_order(running, 130, -signal.SIGINT)


def test_standard_input_is_as_before_for_who_goes_on_after_the_run(tmp_path: Path) -> None:
    goes_on = (
        "    asyncio.run(main())\n    except KeyboardInterrupt:\n        print('got', input('again? '), flush=True)"
    )
    with program(tmp_path, WAYS["to_thread(input)"], end=goes_on) as running:
        os.write(running.master, b"\x03")
        running.says("again? ")
        os.write(running.master, b"an answer\n")
        running.says("got an answer")
        ended_in_order(running, 0)
