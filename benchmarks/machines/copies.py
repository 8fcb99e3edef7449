"""What starts and copies on this host cost: a sandbox, a fork, a machine from a snapshot."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ramure.machines.base import Machine
from ramure.machines.local import LocalImage
from ramure.machines.sandbox.image import SandboxImage

__all__ = ["measure"]

FILES = 5_000
TRIALS = 5


async def measure() -> list[tuple[str, float]]:
    """What was measured, and its median in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="ramure-bench-") as directory:
        fill(Path(directory))
        machine = await LocalImage(directory).spawn()
        snapshot = await machine.snapshot()
        spawned = await snapshot.spawn()
        found = [
            ("a machine on this host, started", await taken(LocalImage().spawn)),
            ("a sandbox, started", await taken(SandboxImage().spawn)),
            (f"a fork of a directory of {FILES} files", await taken(machine.fork)),
            (f"from a snapshot of it ({spawned.workspace.note})", await taken(snapshot.spawn)),
            (f"a fork of that ({spawned.workspace.note})", await taken(spawned.fork)),
        ]
        await spawned.stop()
        await snapshot.remove()
        await machine.stop()
    return found


def fill(directory: Path) -> None:
    for number in range(FILES):
        below = directory / str(number % 100)
        below.mkdir(exist_ok=True)
        (below / str(number)).write_bytes(b"x" * 4000)


async def taken(make: Callable[[], Awaitable[Machine]]) -> float:
    each = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        made = await make()
        each.append((time.perf_counter() - began) * 1000)
        await made.stop()
    return statistics.median(each)
