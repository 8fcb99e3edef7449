"""A program that is attacked: ``python -m tests.hostile.victim``. Its memory and its other agent's turns are what counts.

Agent ``turned`` is in the attacker's hands: each launch's configuration, with its token, is printed. Agent ``other`` is a
simulated one that is asked all the time. One line on stdin is a command, one JSON object a line on stdout an answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from ramure import Agent, agent, agent_process, current_runtime, spawn, wait
from ramure.agents.pi.launch import CONFIG_VARIABLE
from ramure.machines.tmux.driver import Pane
from ramure.testing import InProcessHarness, Text
from ramure.testing.harness import InProcessImage, InProcessMachine, InProcessTmux, _Life, _read_env

__all__ = ["Handing", "Victim"]

ROOT = Path(__file__).parents[2]
MB = 1 << 20
MEMORY = 200
"""MB that the program may take beside what it took at its start."""

RESULT = "x" * 1_000_000
"""What the tool of the turned agent returns."""


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def memory() -> tuple[float, float]:
    """MB now, and the most since the last :func:`forget_peak`."""
    status = Path("/proc/self/status").read_text()
    now, peak = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, peak


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class _Handed:
    """Stands for a pi whose place the attacker has."""

    screen = ""

    async def run(self) -> int:
        await asyncio.get_running_loop().create_future()
        return 0


class _Tmux(InProcessTmux):
    def __init__(self, machine: InProcessMachine, hand: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(machine)
        self._hand = hand

    async def new_session(
        self, name: str, argv: Sequence[str], *, cwd: str, width: int = 120, height: int = 40
    ) -> Pane:
        files = self._machine.files
        environment = _read_env(next(files[word] for word in argv if word.endswith(".env") and word in files))
        self._hand(json.loads(files[environment[CONFIG_VARIABLE]]))
        pi: Any = _Handed()
        life = self.lives[name] = _Life(name, next(self._numbers), pi, lambda error: None)
        return life.pane()

    async def kill_session(self, name: str, *, grace: float = 2.0) -> None:
        await super().kill_session(name, grace=0.0)


class Handing(InProcessImage):
    """Of its agents no pi is started: each launch's configuration goes to ``hand``."""

    def __init__(self, harness: InProcessHarness, hand: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(harness)
        self._hand = hand

    async def spawn(self) -> InProcessMachine:
        machine = await super().spawn()
        machine.tmux = _Tmux(machine, self._hand)
        return machine


class Program:
    """What the program does."""

    def __init__(self, harness: InProcessHarness) -> None:
        self.harness = harness
        self.turns: list[float] = []
        self.start = 0.0

    async def ask(self, other: Agent) -> None:
        while True:
            began = time.perf_counter()
            await other.ask("How are you?")
            self.turns.append(time.perf_counter() - began)
            self.harness.requests.clear()  # each holds its conversation
            await asyncio.sleep(0.02)

    async def obey(self, other: Agent) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().strip():
            if line == "end":
                return
            if line == "begin":
                self.turns.clear()
                forget_peak()
                self.start = memory()[0]
            now, peak = memory()
            median, worst = (statistics.median(self.turns), max(self.turns)) if self.turns else (0.0, 0.0)
            tell(
                start=self.start, now=now, peak=peak, turns=len(self.turns), median=median, worst=worst, restarts=other.restarts
            )  # fmt: skip


async def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("ramure.agents").setLevel(logging.ERROR)  # that the turned agent is restarted is meant
    harness = InProcessHarness(lambda conversation: Text("Well."))
    program = Program(harness)

    @agent_process(image=Handing(harness, lambda config: tell(launch=config)))
    async def turned() -> None:
        in_its_hands = await agent("turned", max_restarts=1000)

        @in_its_hands.on("work")
        async def work(text: str = "") -> str:
            """Works."""
            return RESULT + str(time.monotonic())

        await wait()

    @agent_process(image=harness.image)
    async def body() -> None:
        other = await agent("other", image=harness.image)
        handle = spawn(turned)
        tell(port=current_runtime().gateway.port)
        asking = asyncio.create_task(program.ask(other))
        await program.obey(other)
        asking.cancel()
        handle.cancel()

    await body()
    tell(done=True)


class Victim:
    """The program's process, as the attacker sees it. ``limit``: soft and hard, of descriptors."""

    def __init__(self, home: Path, limit: int | None = None) -> None:
        self.home, self.limit = home, limit
        self.launches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.port = 0

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "tests.hostile.victim"]
        if self.limit is not None:
            command = ["sh", "-c", f'ulimit -n {self.limit}; exec "$@"', "sh", *command]
        pipe = subprocess.PIPE
        environ = {**os.environ, "RAMURE_HOME": str(self.home)}
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 24
        )
        self._reading = asyncio.create_task(self._read())
        self._errors = asyncio.create_task(self._read_errors())
        self.port = (await self._next())["port"]
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(self._reading, self._errors)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if "launch" in said:
                self.launches.put_nowait(said["launch"])
            else:
                self.said.put_nowait(said)
        self.said.put_nowait({})

    async def _read_errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def _next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.said.get(), 60)

    async def launch(self) -> dict[str, Any]:
        """The newest launch of the agent in the attacker's hands."""
        config = await asyncio.wait_for(self.launches.get(), 60)
        while not self.launches.empty():
            config = self.launches.get_nowait()
        return config

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    async def begin(self) -> None:
        """From now on it counts."""
        self._say("begin")
        await self._next()

    async def figures(self) -> dict[str, Any]:
        self._say("look")
        return await self._next()

    async def end(self, within: float = 30) -> str:
        """Have the run end in order; what the program wrote to stderr."""
        self._say("end")
        assert await asyncio.wait_for(self.said.get(), within) == {"done": True}, await self._errors
        assert await asyncio.wait_for(self.process.wait(), within) == 0
        return await self._errors


if __name__ == "__main__":
    asyncio.run(main())
