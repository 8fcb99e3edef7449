"""50 clients at once, 5 of them sending random bytes and 5 never reading: is the run disturbed, does its memory grow?

``python -m tests.cli.flood [SECONDS]``, 60 if not said; ``make soak`` runs it. The run is a program of its own. Beside the
clients another program calls an endpoint of it and sends an agent messages: every call must be answered, every message be
taken once and in order, nothing may go wrong in the run's log, and its memory must not grow. What a call takes, without the
clients and with them, is printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ramure.runtime.control.client import attach
from ramure.runtime.control.values import pack
from tests.cli.live import Shell, live_run

PROGRAM = Path(__file__).with_name("flood_program.py")
BUSY, RUBBISH, DEAF = 40, 5, 5


async def busy(path: Path, until: float) -> int:
    """Asks for the status, again and again."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    asked = 0
    while time.monotonic() < until:
        writer.write(pack([asked, "status", {}]))
        if not await reader.read(1 << 16):
            break
        asked += 1
    writer.close()
    return asked


async def rubbish(path: Path, until: float) -> int:
    """Sends random bytes, and connects again when it is sent away."""
    count, chance = 0, random.Random(1)
    while time.monotonic() < until:
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            while time.monotonic() < until:
                writer.write(chance.randbytes(200))
                await writer.drain()
                async with asyncio.timeout(0.2):  # what looks like the begin of a frame is not answered
                    if not await reader.read(4096):
                        break
                count += 1
        except OSError:
            pass  # sent away in the middle, or nothing was said: a TimeoutError is an OSError
        writer.close()
    return count


async def deaf(path: Path, until: float) -> int:
    """Asks, and reads no answer."""
    dropped = 0
    while time.monotonic() < until:
        _reader, writer = await asyncio.open_unix_connection(str(path))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            while time.monotonic() < until:
                writer.write(pack([1, "status", {}]) * 100)
                await asyncio.wait_for(writer.drain(), max(0.1, until - time.monotonic()))
                await asyncio.sleep(0.01)
        except OSError:
            dropped += 1
        writer.transport.abort()
    return dropped


def resident(pid: int) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def calls(run: str, seconds: float) -> list[float]:
    """The seconds that a call takes, twenty times a second. One that fails ends all."""
    took = []
    async with attach(run) as attached:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            assert await attached.call("greet", name="Ann") == "Hello, Ann."
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)
    return took


async def lateness(run: str) -> list[float]:
    """The seconds by which the program's own timers were late since the last time."""
    async with attach(run) as attached:
        late: list[float] = await attached.call("lateness")
        return late


async def messages(run: str, seconds: float) -> list[str]:
    """What an agent is sent meanwhile."""
    sent: list[str] = []
    async with attach(run) as attached:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sent.append(f"message {len(sent)}")
            await attached.send("worker", sent[-1], how="queue")
            await asyncio.sleep(0.2)
    return sent


def wrong(log_dir: Path, sent: list[str]) -> list[str]:
    """What the run's logs have against it."""
    run_log = [json.loads(line) for line in (log_dir / "_runtime.jsonl").read_text().splitlines()]
    bad = [f"the run's log has: {entry}" for entry in run_log if entry["type"] in ("problem", "crash_report", "alarm")]
    agent = [json.loads(line) for line in (log_dir / "worker.jsonl").read_text().splitlines()]
    logged = [entry["data"]["text"] for entry in agent if entry["type"] == "message"]
    if logged != sent:
        bad.append(f"{len(sent)} messages were sent, and the agent's log has {len(logged)}, or in another order")
    taken = [seq for entry in agent if entry["type"] == "delivered" for seq in entry["data"]["seqs"]]
    if taken != sorted(set(taken)) or len(taken) != len(sent):
        bad.append(f"{len(sent)} messages were sent, and the conversation took {len(taken)}, or in another order")
    return bad


async def all_taken(log_dir: Path, sent: list[str]) -> None:
    """Wait a while until the last message is in the conversation."""
    for _ in range(600):
        if len(sent) == (log_dir / "worker.jsonl").read_text().count('"type": "delivered"'):
            return
        await asyncio.sleep(0.1)


@dataclass
class Seen:
    """What came of it."""

    alone: list[float]
    crowded: list[float]
    late_alone: list[float]
    late_crowded: list[float]
    memory: list[float]
    asked: int
    sent: list[str]


async def flood(run: str, path: Path, pid: int, seconds: float) -> Seen:
    """Call times without and with the clients, the memory meanwhile, and how much the clients asked."""
    await lateness(run)
    alone = await calls(run, min(5.0, seconds))
    late_alone = await lateness(run)
    until = time.monotonic() + seconds
    clients = [
        asyncio.create_task(kind(path, until))
        for kind, count in ((busy, BUSY), (rubbish, RUBBISH), (deaf, DEAF))
        for _ in range(count)
    ]
    memory: list[float] = []

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append(resident(pid))
            await asyncio.sleep(seconds / 20)

    watching = asyncio.create_task(watch())
    crowded, sent = await asyncio.gather(calls(run, seconds), messages(run, seconds))
    await watching
    served = await asyncio.gather(*clients)
    return Seen(alone, crowded, late_alone, await lateness(run), memory, sum(served[:BUSY]), sent)


def main(seconds: float) -> bool:
    """Print what was measured; True if it is as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "h"
        os.environ["RAMURE_HOME"] = str(home)
        shell = Shell(home)
        with live_run(shell, program=PROGRAM) as run:
            status = shell("status", "--json").json
            path = home / "runtimes" / f"{run}.sock"
            log_dir = Path(status["log_dir"])
            seen = asyncio.run(flood(run, path, status["pid"], seconds))
            asyncio.run(all_taken(log_dir, seen.sent))
            answers = shell("status", "--json").json["execution_id"] == run
            bad = wrong(log_dir, seen.sent)
    alone, crowded, memory = seen.alone, seen.crowded, seen.memory
    half = memory[len(memory) // 2]
    print(
        f"a call: median {statistics.median(alone) * 1000:.1f} ms alone, {statistics.median(crowded) * 1000:.1f} ms in the crowd, max {max(crowded) * 1000:.0f} ms"
    )
    print(
        f"memory: {memory[0]:.1f} MiB at first, {half:.1f} at half time, {memory[-1]:.1f} at last, {max(memory):.1f} at most"
    )
    for where, late in (("alone", seen.late_alone), ("in the crowd", seen.late_crowded)):
        of_100 = statistics.quantiles(late, n=100)
        print(
            f"the program's own timers {where}: late by {of_100[49] * 1000:.2f} ms (median), {of_100[98] * 1000:.1f} (99 of 100)"
        )
    flat = memory[-1] - half < 5.0
    print(f"{len(crowded)} calls and {len(seen.sent)} messages beside {seen.asked} requests of {BUSY} busy clients")
    print(f"the run answers after it: {answers}; memory flat: {flat}")
    for text in bad:
        print(f"WRONG: {text}")
    return answers and flat and not bad


if __name__ == "__main__":
    raise SystemExit(0 if main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0) else 1)
