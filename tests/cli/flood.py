"""50 clients at once, 5 of them sending random bytes and 5 never reading: is the run disturbed, does its memory grow?

``python -m tests.cli.flood [SECONDS]``, 60 if not said. The run is a program of its own; what is measured is a call of
an endpoint by a program beside the clients, without them and with them, and the run's resident memory.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ramure.runtime.control.client import attach
from ramure.runtime.control.values import pack
from tests.cli.live import Shell, live_run

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
    """The seconds that a call takes, twenty times a second."""
    took = []
    async with attach(run) as attached:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.perf_counter()
            assert await attached.call("greet", name="Ann") == "Hello, Ann."
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)
    return took


async def flood(run: str, path: Path, pid: int, seconds: float) -> tuple[list[float], list[float], list[float]]:
    """Call times without and with the clients, and the memory meanwhile."""
    alone = await calls(run, min(5.0, seconds))
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
    crowded = await calls(run, seconds)
    await watching
    await asyncio.gather(*clients)
    return alone, crowded, memory


def main(seconds: float) -> bool:
    """Print what was measured; True if it is as it should be."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "h"
        os.environ["RAMURE_HOME"] = str(home)
        shell = Shell(home)
        with live_run(shell, "worker", "other.one") as run:
            status = shell("status", "--json").json
            path = home / "runtimes" / f"{run}.sock"
            alone, crowded, memory = asyncio.run(flood(run, path, status["pid"], seconds))
            answers = shell("status", "--json").json["execution_id"] == run
    half = memory[len(memory) // 2]
    print(
        f"a call: median {statistics.median(alone) * 1000:.1f} ms alone, {statistics.median(crowded) * 1000:.1f} ms in the crowd, max {max(crowded) * 1000:.0f} ms"
    )
    print(
        f"memory: {memory[0]:.1f} MiB at first, {half:.1f} at half time, {memory[-1]:.1f} at last, {max(memory):.1f} at most"
    )
    flat = memory[-1] - half < 5.0
    print(f"the run answers after it: {answers}; memory flat: {flat}")
    return answers and flat


if __name__ == "__main__":
    raise SystemExit(0 if main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0) else 1)
