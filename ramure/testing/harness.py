"""Agents without pi and tmux: simulated ones, that speak the real wire protocol to the real gateway.

An :class:`InProcessHarness` has an image. Agents on machines that are made from it are launched as always, but what
starts is a :class:`~ramure.testing.sim_pi.SimulatedPi` in this process, whose model is the harness's script. Actors,
gateway, log, tools and messages are the real ones; hundreds of agents start in a second, in virtual time too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.pi.launch import CONFIG_VARIABLE
from ramure.errors import UsageError
from ramure.machines.base import AGENT, Image, Machine
from ramure.machines.checks import check_size
from ramure.machines.errors import MachineStopped, NoSuchFile
from ramure.machines.files.framing import answered, asked, framed
from ramure.machines.reaper.process_tree import Daemons, EndedTree
from ramure.machines.tmux.driver import Ending, NoSuchSession, Pane, Reply, SessionExists, Tmux
from ramure.testing.pi_config import MODELS, model_reference
from ramure.testing.scripts import Script, ScriptPlayer
from ramure.testing.sim_memory import Memory
from ramure.testing.sim_model import SimulatedModel
from ramure.testing.sim_pi import SimulatedPi
from ramure.types import ExecResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ramure.testing.scripted_model import ModelRequest

__all__ = ["InProcessHarness", "InProcessImage", "InProcessMachine", "InProcessTmux"]


class InProcessHarness:
    """A script for simulated agents, and the image to run them on.

    ``script`` and ``key`` are those of :class:`~ramure.testing.ScriptedModel`. ``requests`` and ``errors`` are too;
    :meth:`check` raises the first error. ``exec`` answers commands on its machines (default: all succeed silently).
    """

    def __init__(
        self,
        script: Script,
        *,
        key: Callable[[Mapping[str, Any]], str] | None = None,
        exec: Callable[[str], ExecResult] | None = None,
    ) -> None:
        self.requests: list[ModelRequest] = []
        self.errors: list[Exception] = []
        self.image: InProcessImage = InProcessImage(self)
        self.machines: list[InProcessMachine] = []
        self.door: asyncio.Semaphore = asyncio.Semaphore(32)
        self.slower_heartbeat: float = 1.0
        """How many times longer than real ones simulated pis wait between two signs of life: each costs time."""
        self._player = ScriptPlayer(script, key)
        self.answer_command: Callable[[str], ExecResult] = exec or (lambda command: ExecResult("", "", 0))

    def model(self, name: str | None, agent: str = "") -> SimulatedModel:
        """The model that the agent at the address ``agent``, launched with ``--model name``, asks."""
        return SimulatedModel(self._player, name or model_reference(MODELS[0]), self.requests, self.errors.append)

    def pi(self, address: str) -> SimulatedPi:
        """The running pi of the agent at ``address``. Raises :class:`UsageError` if there is none."""
        for machine in self.machines:
            life = machine.tmux.lives.get(address)
            if life is not None and life.ending is None:
                return life.pi
        raise UsageError(f"no simulated pi runs for an agent at {address!r}")

    def kill(self, address: str) -> None:
        """End the agent's pi as SIGKILL does."""
        self.pi(address)
        for machine in self.machines:
            machine.tmux.kill(address)

    def check(self) -> None:
        """Raise the first request that the script had no answer to."""
        if self.errors:
            raise self.errors[0]


class InProcessImage(Image):
    """Makes machines that are nothing but a dict of files."""

    def __init__(self, harness: InProcessHarness) -> None:
        self._harness = harness

    def describe(self) -> str:
        """For people."""
        return "in-process image"

    async def spawn(self) -> InProcessMachine:
        """A new machine."""
        machine = InProcessMachine(self._harness, len(self._harness.machines) + 1)
        self._harness.machines.append(machine)
        return machine


class InProcessMachine(Machine):
    """Files in memory, and simulated agents. ``fail(reason)`` makes it go down."""

    workdir = "/"
    pi_argv: tuple[str, ...] = ("pi",)

    def __init__(self, harness: InProcessHarness, number: int) -> None:
        self.files: dict[str, bytes] = {}
        self.commands: list[str] = []
        self.harness = harness
        self.tmux: InProcessTmux = InProcessTmux(self)
        self._number = number
        self._down: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stopped = False

    def describe(self) -> str:
        """For people."""
        return f"in-process machine {self._number}"

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        """Files are tested and removed; anything else is the harness's ``exec``."""
        self._check()
        ours = asked(_words(command))
        if ours is None:
            return self._answer(command, _words(command))
        token, words = ours
        result = self._answer(shlex.join(words), words)
        stdout, stderr = answered(token, result.stdout, result.stderr, result.exit_code)
        return ExecResult(stdout, stderr, result.exit_code)

    def _answer(self, command: str, words: Sequence[str]) -> ExecResult:
        self.commands.append(command)
        match words:
            case ["test", "-s", path]:
                return ExecResult("", "", 0 if self.files.get(path) else 1)
            case ["rm", "-f", "--", *paths]:
                for path in paths:
                    self.files.pop(path, None)
                return ExecResult("", "", 0)
        return self.harness.answer_command(command)

    async def write_file(self, path: str, data: bytes) -> None:
        """Keep a file."""
        self._check()
        self.files[path] = data

    async def write_private(self, path: str, data: bytes) -> None:
        """Keep a file; all are private."""
        await self.write_file(path, data)

    async def read_file(self, path: str) -> bytes:
        """What was kept."""
        self._check()
        if path not in self.files:
            raise NoSuchFile(path)
        return self.files[path]

    async def read_within(self, folder: str, path: str, limit: int) -> bytes:
        """What was kept: there is nothing outside."""
        data = await self.read_file(path)
        check_size(path, len(data), limit)
        return data

    async def write_within(self, folder: str, path: str, data: bytes) -> None:
        """Keep a file."""
        await self.write_file(path, data)

    async def wait_down(self) -> str:
        """Return when :meth:`fail` was called."""
        return await asyncio.shield(self._down)

    @property
    def stopped(self) -> bool:
        """It was stopped, or is down."""
        return self._stopped

    def fail(self, reason: str = "simulated failure") -> None:
        """Go down, as a host that loses its power."""
        self._stopped = True
        self.tmux.kill_all("server_gone")
        if not self._down.done():
            self._down.set_result(reason)

    async def expose_port(self, port: int) -> str:
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """End it, with its agents."""
        self._stopped = True
        await self.tmux.kill_server()

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())


class _Life:
    """One simulated pi in its session."""

    def __init__(self, name: str, number: int, pi: SimulatedPi, failed: Callable[[Exception], None]) -> None:
        self.name = name
        self._failed = failed
        self.number = number
        self.people = 0
        self.pi = pi
        self.task = asyncio.create_task(pi.run(), name=f"simulated pi {name}")
        self.ending: Ending | None = None
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[int]) -> None:
        status = 137
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                self._failed(error)
            status = 70 if error else task.result()
        self.end(Ending(self.name, "exited", status, self.pi.screen))

    def end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.ended.set_result(ending)

    def pane(self) -> Pane:
        code = None if self.ending is None else self.ending.exit_code or 0
        return Pane(self.name, f"${self.number}", f"%{self.number}", 0, code, 120, 40)


class InProcessTmux(Tmux):
    """A driver whose sessions are simulated pis: what a real one answers, without tmux."""

    def __init__(self, machine: InProcessMachine) -> None:
        super().__init__("in-process")
        self._machine = machine
        self._numbers = itertools.count(1)
        self.lives: dict[str, _Life] = {}

    async def start(self) -> str:
        """Nothing is to be started."""
        return "in-process"

    async def new_session(
        self, name: str, argv: Sequence[str], *, cwd: str, width: int = 120, height: int = 40
    ) -> Pane:
        """Start a simulated pi from the files that the launch has written."""
        if name in self.lives and self.lives[name].ending is None:
            raise SessionExists(name)
        files, words = self._machine.files, list(argv)
        environment = _read_env(next(files[word] for word in words if word.endswith(".env") and word in files))
        config = {**json.loads(files[environment[CONFIG_VARIABLE]])}
        config["heartbeat"] *= self._machine.harness.slower_heartbeat
        session_file = words[words.index("--session") + 1]
        model = words[words.index("--model") + 1] if "--model" in words else None

        def write(line: str) -> None:
            files[session_file] = files.get(session_file, b"") + line.encode()

        memory = Memory(files.get(session_file, b"").decode(), write)
        pi = SimulatedPi(
            config,
            memory,
            self._machine.harness.model(model, config["agent"]),
            session_file,
            self._machine.harness.door,
        )
        life = self.lives[name] = _Life(name, next(self._numbers), pi, self._machine.harness.errors.append)
        return life.pane()

    async def has_session(self, name: str) -> bool:
        """Whether there is one."""
        return name in self.lives

    async def panes(self) -> list[Pane]:
        """All of them."""
        return [life.pane() for life in self.lives.values()]

    async def pane(self, name: str) -> Pane:
        """One of them."""
        return self._life(name).pane()

    async def capture(self, name: str, *, history: int = 0) -> str:
        """What it would show."""
        return self._life(name).pi.screen

    async def clients(self, name: str) -> int:
        """How many people look at it: as many as its life's ``people`` says."""
        return self._life(name).people

    async def resize(self, name: str, width: int, height: int) -> None:
        """Has no effect."""
        self._life(name)

    async def wait_end(self, name: str) -> Ending:
        """Return when the session's pi has ended."""
        return await asyncio.shield(self._life(name).ended)

    async def kill_session(self, name: str, *, grace: float = 2.0) -> None:
        """Give it ``grace`` seconds to end, then end it."""
        life = self._life(name)
        if not life.task.done():
            await asyncio.wait({life.task}, timeout=grace)
            life.task.cancel()
            await asyncio.wait({life.task})
        self.lives.pop(name, None)

    async def end_orphan(
        self, pid: int | None, mark: str, *, grace: float = 2.0, daemons: Daemons = "end"
    ) -> list[EndedTree]:
        """There are none: simulated pis end with their sessions."""
        return []

    async def kill_server(self, *, grace: float = 0.0) -> None:
        """End all."""
        tasks = [life.task for life in self.lives.values()]
        self.kill_all("server_gone")
        if tasks:
            await asyncio.wait(tasks)
        self.lives.clear()

    def kill(self, name: str) -> None:
        """SIGKILL to one, if it is here."""
        if name in self.lives:
            self.lives[name].task.cancel()

    def kill_all(self, how: str) -> None:
        """SIGKILL to all, as the end of the server is."""
        for life in self.lives.values():
            life.end(Ending(life.name, "server_gone" if how == "server_gone" else "closed"))
            life.task.cancel()

    def attach_command(self, name: str) -> list[str]:
        """There is nothing to look at. Raises :class:`UsageError`."""
        raise UsageError(f"agent {name!r} is simulated: it has no screen to connect to")

    def _life(self, name: str) -> _Life:
        if name not in self.lives:
            raise NoSuchSession(name)
        return self.lives[name]

    async def _tmux(self, *args: str) -> Reply:
        raise UsageError(f"there is no tmux behind a simulated agent, to run {' '.join(args)!r}")

    async def _shell(self, script: str, *args: str) -> Reply:
        raise UsageError("there is no shell behind a simulated agent")

    async def _listen(self) -> Reply:
        raise UsageError("there is no tmux behind a simulated agent, to wait for")


_QUOTES: Final = re.compile(r"['\"\\#]")
_FRAMED: Final = shlex.join(framed([], ""))[: -len("''")]


def _words(command: str) -> list[str]:
    """The words of a command line. The frame of our own commands is always the same; to split it anew takes milliseconds."""
    if command.startswith(_FRAMED):
        return [*framed([], "")[:-1], *_words(command[len(_FRAMED) :])]
    return shlex.split(command) if _QUOTES.search(command) else command.split()


def _read_env(data: bytes) -> dict[str, str]:
    """What ``env_file`` wrote."""
    words = shlex.split(data.decode("utf-8", "surrogateescape"))
    return dict(word.split("=", 1) for word in words if "=" in word)
