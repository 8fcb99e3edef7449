"""Where an agent's pi lives: on this host, or in the remote home of another machine.

On this host pi uses the run's own directories, and its session file stands in the run's logs. Elsewhere everything is
put in a private directory of the machine, through ``exec`` and ``write_file`` alone; the session file is kept there,
and copied to the run's logs when pi has answered and at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ramure.agents.errors import LaunchFailed
from ramure.agents.pi.extension import ENTRY, sources
from ramure.agents.pi.launch import extension_path, own_environment
from ramure.agents.pi.proxies import ASK_PROXIES, SETTINGS, exemptions, read_proxies
from ramure.agents.pi.toolchain import ToolError
from ramure.agents.pi.toolchain.elsewhere import FIND, choose, find_arguments
from ramure.agents.pi.toolchain.find import Harness
from ramure.executor import in_thread
from ramure.machines.asking import ask
from ramure.machines.errors import MachineError, NoSuchFile
from ramure.machines.local import LocalMachine
from ramure.machines.reaper import process_tree

if TYPE_CHECKING:
    from ramure.agents.services import Services
    from ramure.machines.base import Machine
    from ramure.machines.remote_home import RemoteHome, Room
    from ramure.machines.tmux.driver import Tmux

__all__ = ["LaunchTarget", "find_launch_target"]

LOOK_LIMIT: Final = 60.0
REACH_LIMIT: Final = 10.0

REACH: Final = (
    "const [host, port] = process.argv.slice(1), socket = require('net').connect(+port, host);"
    "const no = (why) => { console.log(why); process.exit(1); };"
    f"setTimeout(() => no('no answer within {REACH_LIMIT:g} s'), {REACH_LIMIT * 1000:g});"
    "socket.on('connect', () => process.exit(0)).on('error', (error) => no(error.message));"
)
"""Connects to a host and port, and says why not."""


@dataclass(frozen=True)
class LaunchTarget(ABC):
    """What a launch needs to know of the machine, all paths being the machine's."""

    machine: Machine
    tmux: Tmux
    url: str
    """Where the extension reaches the run from there."""
    directory: str
    session_file: str
    extension: str
    pi_argv: tuple[str, ...]
    cwd: str
    proxies: Mapping[str, str]
    """The proxies that pi finds there, and what is exempt (:mod:`ramure.agents.pi.proxies`)."""
    parent: tuple[str, ...]
    """The program that is pi's parent and ends its process tree; empty where there can be none."""

    @abstractmethod
    def environment(self, more: dict[str, str]) -> tuple[dict[str, str], str | None]:
        """What pi's environment file says, and the file that it reads first."""

    def _hosts(self) -> list[str]:
        """Who must be reached without a proxy."""
        host = urlsplit(self.url).hostname or ""
        return [host, f"[{host}]"] if ":" in host else [host]

    @abstractmethod
    async def has_workdir(self) -> bool:
        """Whether the directory that pi is to work in is still there. Raises MachineError."""

    @abstractmethod
    async def write_session(self, session: bytes) -> None:
        """Put the session there; what was there stays until the disk has all of it. Raises MachineError and OSError."""

    @abstractmethod
    async def memory(self) -> bytes | None:
        """The session as the run's logs have it, when it is not on the machine (any more)."""

    @abstractmethod
    async def save(self, *, all_of_it: bool = False) -> None:
        """Copy the session to the run's logs: what is new, or all. Raises MachineError."""


@dataclass(frozen=True)
class Here(LaunchTarget):
    """On this host."""

    def environment(self, more: dict[str, str]) -> tuple[dict[str, str], str | None]:
        own = own_environment(self.machine)
        return {**own, **exemptions({**self.proxies, **own}, self._hosts()), **more}, None

    async def has_workdir(self) -> bool:
        return await in_thread(os.path.isdir, self.cwd)

    async def write_session(self, session: bytes) -> None:
        if not isinstance(self.machine, LocalMachine):  # a simulated one: its files are in memory
            await self.machine.write_private(self.session_file, session)
            return
        await self.machine.write_private(f"{self.session_file}.new", session)
        await in_thread(os.replace, f"{self.session_file}.new", self.session_file)

    async def memory(self) -> bytes | None:
        return None

    async def save(self, *, all_of_it: bool = False) -> None:
        """It is there already."""


@dataclass(frozen=True)
class Elsewhere(LaunchTarget):
    """In the remote home of another machine."""

    room: Room
    kept: Path
    """The session's copy in the run's logs."""

    def environment(self, more: dict[str, str]) -> tuple[dict[str, str], str | None]:
        given = dict(getattr(self.machine, "env", {})) if self.parent else {}  # a shell on the way may have lost some
        return {**given, **exemptions(self.proxies, self._hosts()), **more}, self.room.environment

    async def has_workdir(self) -> bool:
        return (await ask(self.machine, ["test", "-d", self.cwd], limit=LOOK_LIMIT)).exit_code != 1

    async def write_session(self, session: bytes) -> None:
        new = f"{self.session_file}.new"
        await self.machine.write_private(new, session)
        moved = await ask(self.machine, ["mv", "-f", "--", new, self.session_file], limit=LOOK_LIMIT)
        if not moved.ok:
            raise MachineError(f"{self.machine.describe()}: {moved.stderr.strip()}")

    async def memory(self) -> bytes | None:
        try:
            return await in_thread(self.kept.read_bytes)
        except FileNotFoundError:
            return None

    async def save(self, *, all_of_it: bool = False) -> None:
        if all_of_it:
            with contextlib.suppress(NoSuchFile):  # never begun, or gone with the host: the copy is what there is
                whole = await self.machine.read_file(self.session_file)
                await in_thread(_replace, self.kept, whole)
            return
        have = await in_thread(_size, self.kept)
        new = await ask(self.machine, ["tail", "-c", f"+{have + 1}", "--", self.session_file], limit=LOOK_LIMIT)
        if new.ok and new.stdout:
            await in_thread(_append, self.kept, new.stdout.encode("utf-8", "surrogateescape"))


async def find_launch_target(agent: str, address: str, remote_home: RemoteHome, services: Services) -> LaunchTarget:
    """Make everything ready for a launch.

    Raises :class:`LaunchFailed` where something is missing or the run cannot be reached from there, and MachineError.
    """
    machine = remote_home.machine
    own_pi: tuple[str, ...] | None = getattr(machine, "pi_argv", None)  # simulated machines bring theirs
    if machine.here or own_pi is not None:
        # Before tmux is asked for: it says which tool is missing or too old, and what to do.
        pi_argv = own_pi or (await in_thread(services.toolchain)).pi_argv
        return Here(
            machine=machine,
            tmux=await services.tmux_for(machine),
            url=await services.url_for(machine),
            directory=str(services.scratch),
            session_file=str(services.session_file(address)),
            extension=str(extension_path()),
            pi_argv=pi_argv,
            cwd=machine.workdir if isinstance(machine, LocalMachine) else "/",
            proxies={} if own_pi else await in_thread(_proxies_here),
            parent=process_tree.HERE if own_pi is None else (),
        )
    room = await remote_home.room()
    kept = services.session_file(address)
    try:
        harness = await room.once("pi", lambda: _find_pi(machine, services))
    except ToolError as error:
        raise LaunchFailed(agent, error.problem, error.remedy) from error
    extension = await room.once("extension", lambda: _put_extension(machine, room))
    parent = await room.once("parent", lambda: _put_parent(machine, room))
    url = await _address(agent, machine, services)
    await _check_reachable(agent, machine, url, harness)
    return Elsewhere(
        machine=machine,
        tmux=room.tmux,
        url=url,
        directory=room.directory,
        session_file=f"{room.directory}/sessions/{kept.name}",
        extension=extension,
        pi_argv=harness.argv,
        cwd=room.workdir,
        proxies=await room.once("proxies", lambda: _proxies(machine)),
        parent=parent,
        room=room,
        kept=kept,
    )


async def _find_pi(machine: Machine, services: Services) -> Harness:
    try:
        here: Harness | None = (await in_thread(services.toolchain)).harness
    except ToolError:
        here = None  # that matters to agents on this host only
    said = (await ask(machine, ["/bin/sh", "-c", FIND, "sh", *find_arguments(here)], limit=LOOK_LIMIT)).stdout
    return choose(said, machine.describe(), machine.install_hint())


async def _proxies(machine: Machine) -> dict[str, str]:
    """Those of a machine elsewhere."""
    return read_proxies((await ask(machine, ["/bin/sh", "-c", ASK_PROXIES], limit=LOOK_LIMIT)).stdout)


def _proxies_here() -> dict[str, str]:
    """Those of this host that are not in the environment: the one in pi's settings."""
    directory = os.environ.get("PI_CODING_AGENT_DIR") or os.path.expanduser("~/.pi/agent")
    try:
        said = Path(directory, "settings.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {SETTINGS: "set"} if '"httpProxy"' in said else {}


async def _put_extension(machine: Machine, room: Room) -> str:
    directory = f"{room.directory}/extension"
    files = sources()
    await asyncio.gather(*(machine.write_file(f"{directory}/{name}", files[name].encode()) for name in files))
    return posixpath.join(directory, ENTRY)


async def _put_parent(machine: Machine, room: Room) -> tuple[str, ...]:
    """The parent of process trees there; () where there is nothing that it runs on."""
    if not room.interpreter:
        return ()
    files = process_tree.programs(room.interpreter)
    await asyncio.gather(*(machine.write_file(f"{room.directory}/{name}", files[name]) for name in files))
    return process_tree.parent(room.interpreter, f"{room.directory}/{next(iter(files))}")


async def _address(agent: str, machine: Machine, services: Services) -> str:
    try:
        return await services.url_for(machine)
    except MachineError as error:
        raise LaunchFailed(agent, f"no way from {machine.describe()} to this program: {error}", _REMEDY) from error


async def _check_reachable(agent: str, machine: Machine, url: str, harness: Harness) -> None:
    """Say before the launch what would otherwise be a pi that never connects."""
    if harness.node is None:
        return  # a pi without Node: its own connection will tell
    address = urlsplit(url)
    port = address.port or (443 if address.scheme in ("wss", "https") else 80)
    probe = [str(harness.node), "-e", REACH, str(address.hostname), str(port)]
    result = await ask(machine, probe, limit=LOOK_LIMIT)
    if not result.ok:
        why = result.stdout.strip() or result.stderr.strip() or f"status {result.exit_code}"
        raise LaunchFailed(agent, f"{machine.describe()} cannot reach this program at {url} ({why})", _REMEDY)


_REMEDY: Final = (
    "say where it can be reached with agent_process(host=, port=, base_url=), or give the machine an expose_port(port) "
    "(docs/machines.md)"
)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab", opener=_private) as file:
        file.write(data)


def _replace(path: Path, data: bytes) -> None:
    """All of it, or what was there: a copy of an agent's memory is not to be lost half-way."""
    new = path.with_name(f"{path.name}.new")
    try:
        with open(new, "wb", opener=_private) as file:
            file.write(data)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)  # on a full disk others need that room
        raise


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
