"""What a machine is: the two classes that every backend, also one of your own, derives from.

An :class:`Image` says what to make; its ``spawn()`` makes a :class:`Machine`. Four methods make a machine
that agents can run on: ``exec``, ``write_file``, ``read_file`` and ``stop``. Everything else here has a
default that is built on these, or says that it is not supported.

Launching an agent uses only these four: tmux is driven through ``exec`` (see :mod:`ramure.machines.remote_home`).
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from ramure.machines.checks import check_path
from ramure.machines.errors import NotSupported
from ramure.types import ExecResult

__all__ = ["AGENT", "Chunk", "ExecStream", "ForkOf", "Image", "Machine", "as_machine"]

OUR_LIMIT = 30.0
"""Seconds that a small command of ours may take on a machine."""

AGENT = "agent"
"""The default of ``user=``: the backend's own agent user (on this host: you)."""


class Image(ABC):
    """What machines are made from. Immutable; ``spawn()`` may be called any number of times, also at once."""

    def describe(self) -> str:
        """One line, for people, that says what this is; it appears in errors and in ``ramure status``."""
        return type(self).__name__

    @abstractmethod
    async def spawn(self) -> Machine:
        """Make a machine. Raises :class:`~ramure.machines.errors.SpawnFailed`, and then nothing of it is left."""


class Machine(ABC):
    """A place where commands run and files are.

    Paths that do not begin with ``/`` are relative to the machine's working directory, in which commands
    start. Methods may be called concurrently. After ``stop()`` every other method raises
    :class:`~ramure.machines.errors.MachineStopped`.
    """

    here: bool = False
    """True where commands run as this program does: its files are the machine's, its loopback address leads to us."""

    long_commands: bool = True
    """False where a command cannot go on for hours (behind an HTTP API, say): then agents' ends are found out by
    looking every second, not by a command that waits for them."""

    link_patience: float = 0.0
    """Seconds for which the way to the machine may be broken before the machine counts as down. Agents there wait for
    their run that much longer."""

    def describe(self) -> str:
        """One line, for people, that says which machine this is."""
        return type(self).__name__

    def install_hint(self) -> str:
        """What a user does when a program that agents need (Node, pi, tmux) is missing here; appears in errors."""
        return (
            "put Node 22.19 or newer, tmux and pi (`npm install -g --ignore-scripts @earendil-works/pi-coding-agent`) "
            "on the machine's PATH: in its image, say"
        )

    def terminal(self, argv: Sequence[str]) -> list[str]:
        """The command of this host that runs ``argv`` on the machine in the present terminal."""
        raise NotSupported(self.describe(), "terminals")

    @abstractmethod
    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        """Run a shell command to its end; a status other than 0 is a result, not an exception.

        The command has no standard input. ``user`` other than ``"agent"`` is honoured or refused with
        :class:`~ramure.machines.errors.UserRefused`, never ignored. After ``timeout`` seconds, and when the
        caller is cancelled, the command is killed with everything that it started; the former raises
        :class:`~ramure.machines.errors.ExecTimeout` with the output so far.
        """

    @abstractmethod
    async def write_file(self, path: str, data: bytes) -> None:
        """Write a file, replacing what it held; missing parent directories are made.

        Raises :class:`~ramure.machines.errors.FileRefused`.
        """

    @abstractmethod
    async def read_file(self, path: str) -> bytes:
        """The whole content of a file. Raises :class:`~ramure.machines.errors.NoSuchFile` or ``FileRefused``."""

    @abstractmethod
    async def stop(self) -> None:
        """End the machine and what it made. Harmless when repeated; does not raise for what is gone already."""

    async def read_within(self, folder: str, path: str, limit: int) -> bytes:
        """Read a file beneath ``folder`` (``"."`` is the working directory) that has at most ``limit`` bytes.

        ``path`` is relative to the folder, or begins with it. Whatever links and ``..`` are in it, and whoever swaps them
        meanwhile: what is outside is refused with :class:`~ramure.machines.errors.OutsideFolder`. Connected agents' file tools
        read and write so. (This default does it by commands, for machines that have a shell.)
        """
        from ramure.machines.files.passing import read_by_command  # it is built on this class

        return await read_by_command(self, folder, path, limit)

    async def write_within(self, folder: str, path: str, data: bytes) -> None:
        """As :meth:`write_file`, beneath ``folder``: see :meth:`read_within`."""
        from ramure.machines.files.passing import write_by_command  # it is built on this class

        await write_by_command(self, folder, path, data)

    async def write_private(self, path: str, data: bytes) -> None:
        """Write a file that only its owner can read (mode 0600), also while it is being written."""
        check_path(path)
        quoted = shlex.quote(path)
        (
            await self.exec(
                f'umask 077 && mkdir -p -- "$(dirname -- {quoted})" && : > {quoted} && chmod 600 {quoted}',
                timeout=OUR_LIMIT,
            )
        ).check(f"make {path}")
        await self.write_file(path, data)
        (await self.exec(f"chmod 600 {quoted}", timeout=OUR_LIMIT)).check(f"chmod 600 {path}")

    def stream(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecStream:
        """Run a command and iterate over its output as it comes: ``async for chunk in machine.stream(...)``.

        Where a backend has no better way (this default), all output comes at the end. Leaving the loop
        early does not end the command; ``await stream.aclose()`` or ``async with`` does.
        """
        return ExecStream(_run_then_yield(self, command, user, timeout))

    async def ping(self) -> None:
        """Raise :class:`~ramure.machines.errors.MachineError` if the machine is not there."""
        await self.exec("true", timeout=OUR_LIMIT)

    async def wait_down(self) -> str:
        """Return, with what was seen, when the machine is noticed to be gone; never, where only asking tells."""
        raise NotSupported(self.describe(), "notice of its own end (ask it with ping())")

    async def fork(self) -> Machine:
        """A second machine in the same state, from now on independent of this one."""
        raise NotSupported(self.describe(), "fork()")

    async def snapshot(self) -> Image:
        """An image of the machine's present state; machines spawned from it start there."""
        raise NotSupported(self.describe(), "snapshot()")

    async def expose_port(self, port: int) -> str:
        """Make TCP ``port`` of the run's host reachable from the machine; returns ``host:port`` as seen there."""
        raise NotSupported(self.describe(), "expose_port()")


@dataclass(frozen=True)
class ForkOf(Image):
    """The present state of a machine, whatever it is when ``spawn()`` is called: that gives a fork of it."""

    machine: Machine

    def describe(self) -> str:
        return f"a fork of {self.machine.describe()}"

    async def spawn(self) -> Machine:
        return await self.machine.fork()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a command's output, as it came: its bytes, and which of the two streams it was written to."""

    source: Literal["stdout", "stderr"]
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; a character that is cut in two by the chunk's end shows as surrogate escapes."""
        return self.data.decode("utf-8", "surrogateescape")


class ExecStream:
    """The output of a running command. ``exit_code`` is None until the iteration is over."""

    def __init__(self, chunks: AsyncIterator[Chunk | int]) -> None:
        self._chunks = chunks
        self.exit_code: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self.exit_code is not None:
            raise StopAsyncIteration
        item = await anext(self._chunks)
        if isinstance(item, Chunk):
            return item
        self.exit_code = item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the command, with everything it started, if it still runs."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _run_then_yield(
    machine: Machine, command: str, user: str, timeout: float | None
) -> AsyncIterator[Chunk | int]:
    result = await machine.exec(command, user=user, timeout=timeout)
    if result.stdout:
        yield Chunk("stdout", result.stdout.encode("utf-8", "surrogateescape"))
    if result.stderr:
        yield Chunk("stderr", result.stderr.encode("utf-8", "surrogateescape"))
    yield result.exit_code


_REQUIRED = ("exec", "write_file", "read_file", "stop")
_OPTIONAL = (
    "describe", "install_hint", "terminal", "read_within", "write_within", "write_private", "stream", "ping", "wait_down", "fork", "snapshot",
    "expose_port", "here", "long_commands", "link_patience",
)  # fmt: skip


def as_machine(thing: Any) -> Machine:
    """``thing`` itself if it is a :class:`Machine`; else, if it has the four methods, a machine that uses them.

    Raises TypeError, naming what is missing.
    """
    if isinstance(thing, Machine):
        return thing
    missing = [name for name in _REQUIRED if not callable(getattr(thing, name, None))]
    if missing:
        raise TypeError(f"{type(thing).__name__} is no machine: it lacks {', '.join(missing)} (see docs/machines.md)")
    return _Adapted(thing)


class _Adapted(Machine):
    """A machine out of an object that has the four methods but does not derive from :class:`Machine`."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing
        for name in _OPTIONAL:  # its own, where it has them
            if hasattr(thing, name):
                setattr(self, name, getattr(thing, name))

    def describe(self) -> str:
        return type(self._thing).__name__

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        result: ExecResult = await self._thing.exec(command, user=user, timeout=timeout)
        return result

    async def write_file(self, path: str, data: bytes) -> None:
        await self._thing.write_file(path, data)

    async def read_file(self, path: str) -> bytes:
        data: bytes = await self._thing.read_file(path)
        return data

    async def stop(self) -> None:
        await self._thing.stop()
