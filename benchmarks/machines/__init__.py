"""How soon a command that took too long is gone, on each kind of machine; what a fork and a sandbox cost; and
commands over SSH, beside bare paramiko that runs the same wrapped commands with TCP_NODELAY (and asyncssh, where it
is installed), in one run, the two taking turns. Needs sshd.

``python -m benchmarks machines``: exits with 1 where ramure takes more than its share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko

from benchmarks.machine import describe
from benchmarks.machines import copies, kills
from ramure.machines.ssh.image import SSHMachine
from tests.machines.engine import leave_engine
from tests.machines.sshd import Sshd

ROUNDS = 3
HOSTS = 20
PER_HOST = 20
AT_ONCE = 4
"""Commands at once on a host: what both put on one connection."""
MEGABYTES = 50

MARK = "0" * 32

Work = Callable[[], Awaitable[object]]


class Bare:
    """paramiko as a careful user would write it: one connection, TCP_NODELAY, output read to the end."""

    def __init__(self, server: Sshd) -> None:
        opened = socket.create_connection(("127.0.0.1", server.port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = paramiko.SSHClient()
        self.client.load_host_keys(str(server.directory / "known_hosts"))
        self.client.connect(
            "127.0.0.1", server.port, key_filename=str(server.directory / "user_key"), sock=opened,
            look_for_keys=False, allow_agent=False,
            transport_factory=lambda sock, **options: paramiko.Transport(sock, default_window_size=1 << 24, **options),
        )  # fmt: skip
        transport = self.client.get_transport()
        assert transport is not None
        self.transport = transport

    def run(self, line: str) -> str:
        """Run a line; what it wrote."""
        channel = self.transport.open_session()
        channel.exec_command(line)
        pieces = []
        while data := channel.recv(1 << 18):
            pieces.append(data)
        if channel.recv_exit_status() != 0:
            raise RuntimeError(f"it failed: {line[-200:]}")
        channel.close()
        return b"".join(pieces).decode("utf-8", "surrogateescape")


Host = tuple[Sshd, SSHMachine, Bare]


async def compare(work: dict[str, Work]) -> dict[str, float]:
    """The median of the seconds that each took, the two taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 1):
        for name, do in work.items():
            began = time.perf_counter()
            await do()
            if number:  # the first is for warming up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in taken.items()}


@contextlib.asynccontextmanager
async def hosts(count: int, directory: Path) -> AsyncIterator[list[Host]]:
    """So many servers, with a machine and a bare connection on each."""
    made: list[Host] = []
    try:
        for number in range(count):
            where = directory / str(number)
            where.mkdir()
            server = await asyncio.to_thread(Sshd, where)
            made.append((server, await server.image().spawn(), await asyncio.to_thread(Bare, server)))
        yield made
    finally:
        for server, machine, bare in made:
            await machine.stop()
            bare.client.close()
            server.stop()


Row = tuple[str, dict[str, float], float]
"""Its name, the median of each, and the share of paramiko's that ramure may take."""


async def measure(directory: Path) -> list[Row]:
    async with hosts(HOSTS, directory) as made:
        with ThreadPoolExecutor(HOSTS * AT_ONCE) as threads:
            rows = [
                await one_by_one(made[0], threads),
                await at_once(f"{AT_ONCE} at a time on one host, 200 (s)", made[:1], 200, 1.3, threads),
                await much_output(made[0], threads),
                await at_once(f"{HOSTS} hosts at once, {PER_HOST} on each (s)", made, PER_HOST, 1.2, threads),
            ]
        machine = made[0][1]
        results = await asyncio.gather(*(machine.exec(f"echo {number}") for number in range(100)))
        assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]
    return rows


async def one_by_one(host: Host, threads: ThreadPoolExecutor) -> Row:
    server, machine, bare = host
    line = machine.wrapped("true", MARK)

    async def ours() -> None:
        for _ in range(50):
            await machine.exec("true")

    def theirs() -> None:
        for _ in range(50):
            bare.run(line)

    work: dict[str, Work] = {"ramure": ours, "paramiko": lambda: in_thread(threads, theirs)}
    async with asyncssh_peer(server, line) as peer:
        if peer is not None:
            work["asyncssh"] = peer
        taken = await compare(work)
    return "a command, one after the other (ms)", {name: each / 50 * 1000 for name, each in taken.items()}, 1.3


async def much_output(host: Host, threads: ThreadPoolExecutor) -> Row:
    _, machine, bare = host
    command = f"head -c {MEGABYTES * 1_000_000} /dev/zero"
    line = machine.wrapped(command, MARK)
    work: dict[str, Work] = {
        "ramure": lambda: machine.exec(command),
        "paramiko": lambda: in_thread(threads, lambda: bare.run(line)),
    }
    return f"{MEGABYTES} MB of output (s)", await compare(work), 1.3


async def at_once(name: str, on: list[Host], count: int, limit: float, threads: ThreadPoolExecutor) -> Row:
    """So many commands on each host, some at a time."""

    async def ours() -> None:
        async def one(machine: SSHMachine, gate: asyncio.Semaphore) -> None:
            async with gate:
                await machine.exec("true")

        gates = [asyncio.Semaphore(AT_ONCE) for _ in on]
        await asyncio.gather(
            *(one(machine, gate) for (_, machine, _), gate in zip(on, gates, strict=True) for _ in range(count))
        )

    def some(machine: SSHMachine, bare: Bare) -> None:
        for _ in range(count // AT_ONCE):
            bare.run(machine.wrapped("true", MARK))

    async def theirs() -> None:
        jobs = (functools.partial(some, machine, bare) for _, machine, bare in on for _ in range(AT_ONCE))
        await asyncio.gather(*(in_thread(threads, job) for job in jobs))

    return name, await compare({"ramure": ours, "paramiko": theirs}), limit


def in_thread(threads: ThreadPoolExecutor, work: Callable[[], object]) -> Awaitable[object]:
    return asyncio.get_running_loop().run_in_executor(threads, work)


@contextlib.asynccontextmanager
async def asyncssh_peer(server: Sshd, line: str) -> AsyncIterator[Work | None]:
    """asyncssh doing the same one by one, where it is installed."""
    try:
        import asyncssh
    except ImportError:
        yield None
        return
    async with asyncssh.connect(
        "127.0.0.1", server.port, client_keys=[str(server.directory / "user_key")], config=None,
        known_hosts=str(server.directory / "known_hosts"),
    ) as connection:  # fmt: skip

        async def run() -> None:
            for _ in range(50):
                await connection.run(line, check=True)

        yield run


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks machines", description=__doc__)
    parser.parse_args(arguments)
    worst = 0
    print(", ".join(str(part) for part in describe().values()), f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="ramure-bench-", dir="/tmp") as directory:
        rows = asyncio.run(measure(Path(directory)))
    for name, figures, limit in rows:
        share = figures["ramure"] / figures["paramiko"]
        said = "  ".join(f"{who} {figure:.3g}" for who, figure in figures.items())
        print(f"{name:50} {said}   {share:.2f} of bare (at most {limit}){'' if share <= limit else '   TOO SLOW'}")
        worst = max(worst, share > limit)
    print("100 commands at once on one host: no error")
    for name, middle, most, at_most in asyncio.run(kills.measure()):
        late = "" if most <= at_most else "   TOO LATE"
        print(f"timed out on {name:12} all gone after {middle:.3f} s, at most {most:.3f} s (limit {at_most}){late}")
        worst = max(worst, most > at_most)
    for name, milliseconds in asyncio.run(copies.measure()):
        print(f"{name:50} {milliseconds:.0f} ms")
    leave_engine()
    return int(worst)
