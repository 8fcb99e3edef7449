"""A machine that is not there: files in a dictionary, commands as Python functions. For tests without processes.

```python
async def build(call: Call) -> int:
    call.out("built " + " ".join(call.args))
    return 0

machine = await MemoryImage(commands={"make": build}).spawn()
assert (await machine.exec("make all")).stdout == "built all"
```

Commands are words as a shell would split them, without pipes, redirections or variables; ``;`` and ``&&`` work.
Known without being given: ``true``, ``false``, ``echo``, ``cat``, ``exit``, ``pwd``, ``sleep``, ``printenv``.
"""

from __future__ import annotations

import asyncio
import posixpath
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ramure.machines.base import AGENT, Image, Machine
from ramure.machines.checks import check_command, check_path, check_size, named_within
from ramure.machines.errors import ExecTimeout, FileRefused, MachineDown, MachineStopped, NoSuchFile, UserRefused
from ramure.types import ExecResult

__all__ = ["Call", "MemoryImage", "MemoryMachine", "Program"]

WORKDIR = "/work"


@dataclass
class Call:
    """One run of a command: its arguments, and what it may touch."""

    args: list[str]
    machine: MemoryMachine
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)

    def out(self, text: str) -> None:
        """Write to standard output."""
        self.stdout.append(text)

    def err(self, text: str) -> None:
        """Write to standard error."""
        self.stderr.append(text)


Program = Callable[[Call], Awaitable[int]]
"""What a command does; its status is what it returns."""


@dataclass(frozen=True)
class MemoryImage(Image):
    """Machines that live in this program's memory, with these files, commands and environment."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    commands: Mapping[str, Program] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return "a machine in memory"

    async def spawn(self) -> MemoryMachine:
        return MemoryMachine(self)


class MemoryMachine(Machine):
    """A machine of :class:`MemoryImage`. ``executed`` lists the commands that it was given; ``break_down()``
    lets a test see what happens when a machine dies."""

    def __init__(self, image: MemoryImage) -> None:
        self.image = image
        self.files: dict[str, bytes] = {_absolute(path): data for path, data in image.files.items()}
        self.executed: list[str] = []
        self._stopped = False
        self._down: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._running: set[asyncio.Task[int]] = set()

    def describe(self) -> str:
        return "a machine in memory"

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        self._check()
        if user != AGENT:
            raise UserRefused(user, self.describe(), "it has one user only")
        check_command(command)
        self.executed.append(command)
        call = Call([], self)
        task = asyncio.create_task(self._run(command, call))
        self._running.add(task)
        try:
            done, _ = await asyncio.wait([task], timeout=timeout)
        finally:
            task.cancel()
            self._running.discard(task)
        stdout, stderr = "".join(call.stdout), "".join(call.stderr)
        if not done:
            raise ExecTimeout(command, timeout or 0, stdout, stderr)
        if task.cancelled():  # by stop() or break_down()
            self._check()
        return ExecResult(stdout, stderr, task.result())

    async def _run(self, command: str, call: Call) -> int:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=";&"))
        code, step = 0, list[str]()
        for word in [*words, ";"]:
            if word not in (";", "&&"):
                step.append(word)
                continue
            if step:
                if step[0] == "exit":
                    return int(step[1]) if len(step) > 1 else code
                code = await self._step(step, call)
            step = []
            if word == "&&" and code != 0:
                return code
        return code

    async def _step(self, words: list[str], call: Call) -> int:
        program = self.image.commands.get(words[0]) or BUILT_IN.get(words[0])
        if program is None:
            call.err(f"{words[0]}: not found\n")
            return 127
        call.args = words[1:]
        return await program(call)

    async def write_file(self, path: str, data: bytes) -> None:
        self._check()
        self.files[self._file(path)] = bytes(data)

    def _file(self, path: str) -> str:
        check_path(path)
        where = _absolute(path)
        if any(name.startswith(f"{where}/") for name in self.files):
            raise FileRefused(path, "it is a directory, not a regular file")
        parents = where.split("/")[1:-1]
        for depth in range(1, len(parents) + 1):
            if (parent := "/" + "/".join(parents[:depth])) in self.files:
                raise FileRefused(path, f"Not a directory: {parent}")
        return where

    async def write_private(self, path: str, data: bytes) -> None:
        await self.write_file(path, data)

    async def read_file(self, path: str) -> bytes:
        self._check()
        try:
            return self.files[self._file(path)]
        except KeyError:
            raise NoSuchFile(path) from None

    async def read_within(self, folder: str, path: str, limit: int) -> bytes:
        check_path(path)
        data = await self.read_file(named_within(WORKDIR, folder, path))
        check_size(path, len(data), limit)
        return data

    async def write_within(self, folder: str, path: str, data: bytes) -> None:
        check_path(path)
        await self.write_file(named_within(WORKDIR, folder, path), data)

    async def ping(self) -> None:
        self._check()

    async def wait_down(self) -> str:
        return await asyncio.shield(self._down)

    async def fork(self) -> MemoryMachine:
        return await (await self.snapshot()).spawn()

    async def snapshot(self) -> MemoryImage:
        self._check()
        return MemoryImage(dict(self.files), self.image.commands, self.image.env)

    async def expose_port(self, port: int) -> str:
        return f"127.0.0.1:{port}"

    def break_down(self, why: str = "the test said so") -> None:
        """The machine dies: what runs on it fails with MachineDown, and ``wait_down()`` returns."""
        if not self._down.done():
            self._down.set_result(why)
        for task in self._running:
            task.cancel()

    async def stop(self) -> None:
        self._stopped = True
        self.break_down("it was stopped")

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())
        if self._down.done():
            raise MachineDown(self.describe(), self._down.result())


def _absolute(path: str) -> str:
    return posixpath.normpath(posixpath.join(WORKDIR, path))


async def _echo(call: Call) -> int:
    call.out(" ".join(call.args) + "\n")
    return 0


async def _cat(call: Call) -> int:
    for path in call.args:
        data = call.machine.files.get(_absolute(path))
        if data is None:
            call.err(f"cat: {path}: No such file or directory\n")
            return 1
        call.out(data.decode("utf-8", "surrogateescape"))
    return 0


async def _sleep(call: Call) -> int:
    await asyncio.sleep(float(call.args[0]))
    return 0


async def _pwd(call: Call) -> int:
    call.out(WORKDIR + "\n")
    return 0


async def _printenv(call: Call) -> int:
    value = call.machine.image.env.get(call.args[0])
    if value is not None:
        call.out(value + "\n")
    return 0 if value is not None else 1


async def _true(_: Call) -> int:
    return 0


async def _false(_: Call) -> int:
    return 1


BUILT_IN: dict[str, Program] = {
    "cat": _cat,
    "echo": _echo,
    "false": _false,
    "printenv": _printenv,
    "pwd": _pwd,
    "sleep": _sleep,
    "true": _true,
}
