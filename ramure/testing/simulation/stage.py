"""What a simulated run must not get from outside: time, chance, threads, the disk. Replaced for as long as it lasts.

All replacements of the runtime's parts are in this module. Each is of a part that does nothing a program can see (the
watchdog, the sweep of other runs' leftovers, the control socket, the tmux client) or that has a simple twin in memory.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import ramure.agents.tools.calls
import ramure.machines.actor
import ramure.runtime.run.run
import ramure.runtime.run.servers
from ramure.actors import Actor
from ramure.runtime.run.alarms import Room
from ramure.testing.simulation.loop import SimulationLoop
from ramure.testing.virtual import EPOCH

if TYPE_CHECKING:
    import asyncio

__all__ = ["MemoryLogs", "Wall", "staged"]

Line = Callable[[str, bytes], None]
"""Told of each line of each log: the log's name, the line."""


class Wall:
    """The wall clock of a simulated run; ``jump`` makes it wrong."""

    def __init__(self, loop: SimulationLoop) -> None:
        self._loop = loop
        self.offset: float = 0.0

    def time(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self._loop.time() + self.offset

    def jump(self, seconds: float) -> None:
        """Set it wrong by so much more."""
        self.offset += seconds


class MemoryLogs:
    """A run's logs, in memory. ``fill`` makes their disk full for a while: lines wait, as they do on a real one."""

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop, on_room: Callable[[Room], None]) -> None:
        self._line = line
        self._loop = loop
        self._on_room = on_room
        self._waiting: list[tuple[str, bytes, Callable[[], None] | None]] = []
        self._full_until = 0.0
        self._began = 0.0
        self.lost: int = 0

    def take_reserve(self) -> None:
        """There is room."""

    def give_up(self) -> None:
        """Wait for room no more."""
        self._go_on()

    def append_urgent(self, path: Path, line: bytes) -> None:
        """Append a line that does not wait for room."""
        self._line(path.stem, line)

    def append(self, path: Path, line: bytes, written: Callable[[], None] | None = None) -> bool:
        """Append a line; True if it is written, else ``written`` is called when it is."""
        if self._full_until:
            self._waiting.append((path.stem, line, written))
            return False
        self._line(path.stem, line)
        return True

    async def close(self) -> None:
        """Write what waits."""
        self._go_on()

    def fill(self, seconds: float) -> None:
        """From now on the disk is full, for so many seconds."""
        now = self._loop.time()
        if not self._full_until:
            self._began = now
            self._on_room(Room("the logs", "/logs", True, 0.0, "no space left on device", 1 << 20))
        self._full_until = max(self._full_until, now + seconds)
        self._loop.call_at(now + seconds, self._look)

    def _look(self) -> None:
        if self._full_until and self._loop.time() >= self._full_until:
            self._on_room(Room("the logs", "/logs", False, self._loop.time() - self._began, "", 0))
            self._go_on()

    def _go_on(self) -> None:
        self._full_until = 0.0
        waiting, self._waiting = self._waiting, []
        for name, line, written in waiting:
            self._line(name, line)
            if written is not None:
                written()


class _NoWatchdog:
    def __init__(self, *args: object) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _NoActor(Actor):
    """Takes the place of a part of the run that only people and tmux need."""

    async def init(self, *args: object) -> None:
        """Nothing is to be started."""

    def handle_info(self, message: object) -> None:
        """Nothing is expected."""


def _nothing_to_sweep(name: str, *args: object) -> asyncio.Future[list[Any]]:
    import asyncio

    answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    answer.set_result([])
    return answer


COLLECT_EVERY: Final = 8
"""Runs between two garbage collections: within a run there is none, for when it comes would depend on other runs."""

_runs = itertools.count(1)


@contextlib.contextmanager
def staged(
    loop: SimulationLoop, seed: int, line: Line, image: Any, handled: Callable[..., Any]
) -> Iterator[tuple[Wall, list[MemoryLogs]]]:
    """In this block runs of this thread are simulated ones. ``line`` is told of their logs' lines, ``image`` is the one
    that all their machines are made from, ``handled`` takes the place of the call of a tool's handler."""
    wall, made = Wall(loop), []
    here = threading.get_ident()
    chance = random.Random(f"bytes of {seed}")
    real: dict[str, Callable[..., Any]] = {"time": time.time, "monotonic": time.monotonic, "urandom": os.urandom}

    def or_real(name: str, simulated: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: simulated(*args) if threading.get_ident() == here else real[name](*args)

    def logs(*, on_room: Callable[[Room], None], **options: object) -> MemoryLogs:
        made.append(MemoryLogs(line, loop, on_room))
        return made[-1]

    def nothing_marked(*args: object, **options: object) -> Sequence[Any]:
        return ()

    urandom = or_real("urandom", chance.randbytes)
    start = ramure.machines.actor.MachineActor.init

    async def init(self: Any, given: Any, *args: Any, **options: Any) -> None:
        await start(self, image, *args, **options)

    before = random.getstate()
    random.seed(f"random of {seed}")
    collecting = gc.isenabled()
    gc.disable()
    run = ramure.runtime.run.run
    try:
        with contextlib.ExitStack() as stack:
            for owner, name, stand_in in (
                (time, "time", or_real("time", wall.time)),
                (time, "monotonic", or_real("monotonic", loop.time)),
                (os, "urandom", urandom),
                (random, "_urandom", urandom),
                (run, "new_execution_id", lambda: f"simulated-{real['urandom'](6).hex()}"),  # others run at this time
                (run, "Logs", logs),
                (run, "Watchdog", _NoWatchdog),
                (run, "ControlActor", _NoActor),
                (run, "TmuxActor", _NoActor),
                (run, "in_daemon_thread", _nothing_to_sweep),
                (run, "kill_marked", nothing_marked),
                (ramure.machines.actor.MachineActor, "init", init),
                (ramure.agents.tools.calls.Calls, "_handled", handled),
            ):
                stack.enter_context(mock.patch.object(owner, name, stand_in))
            yield wall, made
    finally:
        random.setstate(before)
        if collecting:
            gc.enable()
            if next(_runs) % COLLECT_EVERY == 0:
                gc.collect()
