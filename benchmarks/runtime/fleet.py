"""Minimal agents in a process of their own, launched on the real runtime as pi would be.

The machine is the simulated one of ``ramure.testing``; what is started on it is an agent of :mod:`benchmarks.runtime.client`,
which has no model, no conversation and no memory, so that what is measured is the run.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ramure.agents.pi.launch import CONFIG_VARIABLE
from ramure.machines.tmux.driver import Pane
from ramure.testing import InProcessHarness
from ramure.testing.harness import InProcessImage, InProcessMachine, InProcessTmux, _Life, _read_env

__all__ = ["Fleet"]

ROOT = Path(__file__).parent.parent.parent


class Fleet:
    """The client process, and the image whose agents live in it. ``plan``: what each agent does (see the client)."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.harness = InProcessHarness([])
        self.image = _Image(self)
        self.failures: list[str] = []
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-m", "benchmarks.runtime.client")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, limit=1 << 24)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    def say(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def told(self, what: str) -> asyncio.Future[Any]:
        """What the client will say of ``what``."""
        return self._waiting.setdefault(what, asyncio.get_running_loop().create_future())

    async def count(self) -> int:
        """How many calls its agents have made."""
        self._waiting.pop("count", None)
        self.say(do="count")
        return int((await self.told("count"))["count"])

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "failed" in said:
                self.failures.append(f"{said['failed']}: {said['error']}")
            else:
                key = "count" if "count" in said else next(f"{how} {what}" for how, what in said.items())
                future = self.told(key)
                if not future.done():
                    future.set_result(said)


class _Image(InProcessImage):
    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.harness)
        self._fleet = fleet

    async def spawn(self) -> InProcessMachine:
        machine = await super().spawn()
        machine.tmux = _Tmux(machine, self._fleet)
        return machine


class _Tmux(InProcessTmux):
    def __init__(self, machine: InProcessMachine, fleet: Fleet) -> None:
        super().__init__(machine)
        self._fleet = fleet

    async def new_session(
        self, name: str, argv: Sequence[str], *, cwd: str, width: int = 120, height: int = 40
    ) -> Pane:
        files = self._machine.files
        environment = _read_env(next(files[word] for word in argv if word.endswith(".env") and word in files))
        config = json.loads(files[environment[CONFIG_VARIABLE]])
        life = self.lives[name] = _Life(
            name, next(self._numbers), _Remote(self._fleet, config), self._fleet.harness.errors.append
        )  # type: ignore[arg-type]
        return life.pane()


class _Remote:
    """Stands for an agent of the client, as a simulated pi would."""

    screen = ""

    def __init__(self, fleet: Fleet, config: dict[str, Any]) -> None:
        self._fleet = fleet
        self._config = config

    async def run(self) -> int:
        self._fleet.say(do="agent", config=self._config, **self._fleet.plan)
        await self._fleet.told(f"ended {self._config['agent']}")
        return 0
