"""The detector of blocking calls catches each kind, and nothing that does not block."""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ramure.testing.blocking import detect_blocking_calls

if TYPE_CHECKING:
    from collections.abc import Callable


def sleep() -> None:
    time.sleep(0.001)


def run() -> None:
    subprocess.run(["true"], check=True)


def run_with_pipes() -> None:
    subprocess.run(["true"], check=True, capture_output=True)


def wait_for_process() -> None:
    with subprocess.Popen(["sleep", "0.01"]) as process:
        process.wait()


def waitpid() -> None:
    process = subprocess.Popen(["true"])
    os.waitpid(process.pid, 0)
    process.returncode = 0


def system() -> None:
    os.system("true")


def join() -> None:
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    threading.Timer(0.01, gate.set).start()
    thread.join()


def wait_for_event() -> None:
    threading.Event().wait(0.001)


def get_from_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.Queue[int]().get(timeout=0.001)


def wait_for_future() -> None:
    with pytest.raises(TimeoutError):
        Future[int]().result(timeout=0.001)


def wait_for_executor() -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(threading.Event().wait, 0.01).result()


def receive() -> None:
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        left.recv(1)


def connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def resolve() -> None:
    socket.getaddrinfo("localhost", 80)


def wait_in_select() -> None:
    select.select([], [], [], 0.001)


def lock(path: Path = Path(__file__)) -> None:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)


BLOCKING: list[Callable[[], None]] = [
    sleep, run, run_with_pipes, wait_for_process, waitpid, system, join, wait_for_event, get_from_queue,
    wait_for_future, wait_for_executor, receive, connect, resolve, wait_in_select, lock,
]  # fmt: skip


async def on_loop(function: Callable[[], None]) -> None:
    function()


@pytest.mark.parametrize("blocking", BLOCKING)
def test_a_blocking_call_on_the_loop_is_caught_with_its_place(blocking: Callable[[], None]) -> None:
    with detect_blocking_calls() as calls:
        asyncio.run(on_loop(blocking))
    assert calls
    assert __file__ in calls[0].where
    assert blocking.__name__ in calls[0].stack


@pytest.mark.parametrize("blocking", BLOCKING)
def test_the_same_call_in_a_thread_or_without_a_loop_is_not(blocking: Callable[[], None]) -> None:
    with detect_blocking_calls() as calls:
        asyncio.run(asyncio.to_thread(blocking))
        blocking()
    assert calls == []


async def what_a_good_program_does() -> None:
    await asyncio.sleep(0.001)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=subprocess.PIPE)
    await process.communicate()
    shell = await asyncio.create_subprocess_shell("exit 3")
    assert await shell.wait() == 3

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"x\n")
        assert await reader.readline() == b"x\n"
        writer.close()
        await writer.wait_closed()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    thread.join()
    done: Future[int] = Future()
    done.set_result(1)
    assert done.result() == 1
    time.sleep(0)
    Path(__file__).read_text()
    socket.getaddrinfo("127.0.0.1", 80)


def test_what_a_good_program_does_is_not_caught() -> None:
    with detect_blocking_calls() as calls:
        asyncio.run(what_a_good_program_does())
    assert calls == []


def test_everything_is_as_before_afterwards() -> None:
    def now() -> list[object]:
        functions = [time.sleep, threading.Condition.wait, subprocess.Popen.wait, socket.getaddrinfo]
        return [*functions, dict(vars(socket.socket))]

    before = now()
    with detect_blocking_calls():
        assert time.sleep is not before[0]
    assert now() == before
