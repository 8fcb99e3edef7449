"""Commands over SSH, beside bare paramiko that runs the same wrapped commands with TCP_NODELAY (and asyncssh, where it
is installed), in one run, the two taking turns. Needs sshd.

``python -m benchmarks machines``: exits with 1 where ramure takes more than its share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from ramure.machines.ssh import SSHMachine
from tests.machines.sshd import Sshd

ROUNDS = 5
HOSTS = 20
PER_HOST = 20
AT_ONCE = 4
"""Commands at once on a host: what both put on one connection."""
MEGABYTES = 50

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

    def run(self, line: str) -> int:
        """Run a line; how many bytes it wrote."""
        channel = self.transport.open_session()
        channel.exec_command(line)
        size = 0
        while data := channel.recv(1 << 18):
            size += len(data)
        if channel.recv_exit_status() != 0:
            raise RuntimeError(f"it failed: {line[-200:]}")
        channel.close()
        return size


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
async def hosts(count: int, directory: Path) -> AsyncIterator[list[tuple[Sshd, SSHMachine, Bare]]]:
    """So many servers, with a machine and a bare connection on each."""
    made: list[tuple[Sshd, SSHMachine, Bare]] = []
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


async def measure(directory: Path) -> list[tuple[str, str, dict[str, float], float]]:
    """(row, unit, median of each, the share that ramure may take)."""
    rows = []
    loop = asyncio.get_running_loop()
    async with hosts(HOSTS, directory) as made:
        server, machine, bare = made[0]
        with ThreadPoolExecutor(HOSTS * AT_ONCE) as threads:

            def line(command: str, on: SSHMachine = machine) -> str:
                return on.wrapped(command, "0" * 32)

            async def one_by_one() -> None:
                for _ in range(50):
                    await machine.exec("true")

            def bare_one_by_one() -> None:
                for _ in range(50):
                    bare.run(line("true"))

            async def bare_latency() -> None:
                await loop.run_in_executor(threads, bare_one_by_one)

            work: dict[str, Work] = {"ramure": one_by_one, "paramiko": bare_latency}
            peer = await asyncssh_peer(server, line("true"))
            if peer is not None:
                work["asyncssh"] = peer
            taken = await compare(work)
            rows.append(("a command (ms)", "ms", {name: each / 50 * 1000 for name, each in taken.items()}, 1.3))

            async def all_at_once(on: list[tuple[Sshd, SSHMachine, Bare]], count: int) -> None:
                gate = [asyncio.Semaphore(AT_ONCE) for _ in on]

                async def one(number: int) -> None:
                    async with gate[number]:
                        await on[number][1].exec("true")

                await asyncio.gather(*(one(number) for number in range(len(on)) for _ in range(count)))

            async def bare_at_once(on: list[tuple[Sshd, SSHMachine, Bare]], count: int) -> None:
                def some(each: tuple[Sshd, SSHMachine, Bare], share: int) -> None:
                    for _ in range(share):
                        each[2].run(line("true", each[1]))

                jobs = (
                    loop.run_in_executor(threads, some, each, count // AT_ONCE) for each in on for _ in range(AT_ONCE)
                )
                await asyncio.gather(*jobs)

            taken = await compare(
                {"ramure": lambda: all_at_once(made[:1], 200), "paramiko": lambda: bare_at_once(made[:1], 200)}
            )
            rows.append(
                (f"{AT_ONCE} at a time, each (ms)", "ms", {n: each / 200 * 1000 for n, each in taken.items()}, 1.3)
            )

            big = f"head -c {MEGABYTES * 1_000_000} /dev/zero"
            taken = await compare({
                "ramure": lambda: machine.exec(big),
                "paramiko": lambda: asyncio.wrap_future(threads.submit(bare.run, line(big))),
            })  # fmt: skip
            rows.append((f"{MEGABYTES} MB of output (s)", "s", taken, 1.3))

            taken = await compare(
                {"ramure": lambda: all_at_once(made, PER_HOST), "paramiko": lambda: bare_at_once(made, PER_HOST)}
            )
            rows.append((f"{HOSTS} hosts at once, {PER_HOST} commands on each (s)", "s", taken, 1.2))
        results = await asyncio.gather(*(machine.exec(f"echo {number}") for number in range(100)))
        assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]
    return rows


async def asyncssh_peer(server: Sshd, line: str) -> Work | None:
    """asyncssh doing the same one by one, where it is installed."""
    try:
        import asyncssh
    except ImportError:
        return None
    connection = await asyncssh.connect(
        "127.0.0.1", server.port, client_keys=[str(server.directory / "user_key")], config=None,
        known_hosts=str(server.directory / "known_hosts"),
    )  # fmt: skip

    async def run() -> None:
        for _ in range(50):
            await connection.run(line, check=True)

    return run


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks machines", description=__doc__)
    parser.parse_args(arguments)
    print(", ".join(str(part) for part in describe().values()), f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="ramure-bench-", dir="/tmp") as directory:
        rows = asyncio.run(measure(Path(directory)))
    worst = 0
    for name, _, figures, limit in rows:
        share = figures["ramure"] / figures["paramiko"]
        said = "  ".join(f"{who} {figure:.3g}" for who, figure in figures.items())
        print(f"{name:50} {said}   {share:.2f} of bare (at most {limit}){'' if share <= limit else '   TOO SLOW'}")
        worst = max(worst, share > limit)
    print("100 commands at once on one host: no error")
    return int(worst)
