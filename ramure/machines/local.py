"""Machines on this host: a working directory, and commands run as you."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ramure.errors import with_remedy
from ramure.executor import in_thread, submit
from ramure.forks import finalizer
from ramure.home import private_dir
from ramure.machines.base import AGENT, Image
from ramure.machines.checks import check_command, check_path, what_it_is
from ramure.machines.commands import CommandMachine, spool
from ramure.machines.copies.snapshot import DirectorySnapshot, freeze
from ramure.machines.copies.workspace import Workspace, temporary, yours
from ramure.machines.errors import (
    CopyFailed,
    FileRefused,
    NoSuchFile,
    SpawnFailed,
    UserRefused,
)
from ramure.machines.files import beneath
from ramure.machines.git.command import without_repository
from ramure.machines.git.worktrees import WorktreeSpace, freeze_worktree, worktree_of
from ramure.machines.reaper.directories import record_of
from ramure.machines.reaper.reaper import KeptCommand, Reaper, Sink, finished
from ramure.marks import marked_environment

__all__ = ["LocalImage", "LocalMachine", "LocalSnapshot", "made"]

T = TypeVar("T")

ARGUMENT_LIMIT = 100_000
"""Bytes of a command from which on the shell reads it from a file: Linux limits one argument to 128 KiB."""

READ_SCRIPT = 'script=$(cat); exec </dev/null; eval "$script"'


@dataclass(frozen=True)
class LocalImage(Image):
    """This host. ``workdir`` is the working directory, made when missing and never removed; without it each
    machine has a temporary one of its own, which goes when the machine stops.

    ``env`` is added to this program's environment, without what git sets for its hooks (``GIT_DIR`` and the like). With
    ``worktree=True``, ``workdir`` is a git repository, and each machine works in a git worktree of its own, on a branch of
    its own (``ramure/<id>``). When it stops, all that was done there is saved to refs of the repository.
    """

    workdir: str | os.PathLike[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    worktree: bool = False

    def describe(self) -> str:
        where = f" in {os.fspath(self.workdir)}" if self.workdir is not None else ""
        return f"this host{where}" + (" (a git worktree each)" if self.worktree else "")

    async def spawn(self) -> LocalMachine:
        identity = uuid.uuid4().hex[:8]
        try:
            workspace = await made(lambda: self._workspace(identity), Workspace.remove)
        except (OSError, CopyFailed) as error:
            raise SpawnFailed(
                self.describe(), f"no working directory: {with_remedy(error) if isinstance(error, OSError) else error}"
            ) from error
        return await LocalMachine.start(identity, workspace, self.env)

    def _workspace(self, identity: str) -> Workspace:
        if self.workdir is None:
            return temporary(identity)
        return worktree_of(self.workdir, identity) if self.worktree else yours(self.workdir)


class LocalSnapshot(Image):
    """A copy of a machine's working directory, from which machines start. :meth:`remove` ends it; so does the
    end of this program."""

    def __init__(self, parent: LocalMachine, frozen: DirectorySnapshot) -> None:
        self._parent = parent
        self._frozen = frozen
        self._finalizer = finalizer(self, frozen.drop)

    def describe(self) -> str:
        return f"a snapshot of {self._parent.describe()} ({self._frozen.note})"

    async def spawn(self) -> LocalMachine:
        if not self._finalizer.alive:
            raise SpawnFailed(self.describe(), "it has been removed")
        return await self._parent.sibling(self._frozen.spawn)

    async def remove(self) -> None:
        """No machine can be spawned from it any more; those that were go on. The copy goes with the last of them."""
        await in_thread(self._finalizer)


class LocalMachine(CommandMachine):
    """A machine of :class:`LocalImage`. What its commands leave running ends with it, and with this program."""

    here = True

    def __init__(self, identity: str, workspace: Workspace, env: Mapping[str, str], reaper: Reaper) -> None:
        self.id = identity
        self.workdir: str = workspace.path
        self._workdir_is = beneath.identity(workspace.path)
        self.workspace = workspace
        self.env: dict[str, str] = dict(env)
        self.reaper = reaper
        self._stopping: asyncio.Task[None] | None = None
        self._shell = shutil.which("bash") or "/bin/sh"
        for argv in workspace.undo():
            reaper.undo(argv)
        if (own := workspace.made()) and (known := record_of(own)) is not None:
            reaper.own(own, *known)
        elif workspace.owned:
            reaper.hold(workspace.path)

    @classmethod
    async def start(cls, identity: str, workspace: Workspace, env: Mapping[str, str]) -> LocalMachine:
        """Start the machine's reaper; ``workspace`` is the machine's from now on."""
        environment = {**without_repository(os.environ), **env, **marked_environment(), "RAMURE_MACHINE": identity}
        try:
            reaper = await Reaper.start(f"this host in {workspace.path}", env=environment)
        except BaseException as error:
            await in_thread(workspace.remove)
            if isinstance(error, OSError):
                raise SpawnFailed("this host", f"its reaper process did not start: {with_remedy(error)}") from error
            raise
        return cls(identity, workspace, env, reaper)

    def describe(self) -> str:
        return f"this host in {self.workdir}" + (f" ({self.workspace.note})" if self.workspace.note else "")

    async def _run(self, command: str, user: str, sink: Sink) -> KeptCommand:
        self._check()
        encoded = check_command(command)
        run_as = self._user(user)
        if len(command) < ARGUMENT_LIMIT // 4:  # a character has at most four bytes
            return await self.reaper.run([self._shell, "-c", command], cwd=self.workdir, sink=sink, user=run_as)
        with await in_thread(spool, encoded) as script:
            argv = [self._shell, "-c", READ_SCRIPT]
            return await self.reaper.run(argv, cwd=self.workdir, sink=sink, user=run_as, stdin=script.fileno())

    def _user(self, user: str) -> str | None:
        """The user to change to, None for staying who we are."""
        if user == AGENT or user == pwd.getpwuid(os.getuid()).pw_name:
            return None
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise UserRefused(user, self.describe(), "there is no such user") from None
        if os.getuid() != 0:
            raise UserRefused(user, self.describe(), "only root can become another user")
        return user

    async def write_file(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """As :meth:`Machine.write_file`; ``mode`` is set before the first byte is written."""
        self._check()
        check_path(path)
        await in_thread(_write, os.path.join(self.workdir, path), path, data, mode)

    async def write_private(self, path: str, data: bytes) -> None:
        """As :meth:`Machine.write_private`, without a shell: an agent's start waits for three of these."""
        check_path(path)
        try:
            await in_thread(private_dir, Path(self.workdir, path).parent)
        except OSError as error:
            raise FileRefused(path, error.strerror or str(error)) from error
        await self.write_file(path, data, mode=0o600)

    async def read_file(self, path: str) -> bytes:
        self._check()
        check_path(path)
        return await in_thread(_read, os.path.join(self.workdir, path), path)

    async def read_within(self, folder: str, path: str, limit: int) -> bytes:
        """As :meth:`Machine.read_within`, by descriptor."""
        self._check()
        return await in_thread(beneath.read, self.workdir, self._workdir_is, folder, path, limit)

    async def write_within(self, folder: str, path: str, data: bytes) -> None:
        """As :meth:`Machine.write_within`, by descriptor."""
        self._check()
        await in_thread(beneath.write, self.workdir, self._workdir_is, folder, path, data)

    async def wait_down(self) -> str:
        return await asyncio.shield(self.reaper.down)

    async def expose_port(self, port: int) -> str:
        """The address as it is: this host's own."""
        return f"127.0.0.1:{port}"

    async def fork(self) -> LocalMachine:
        """A machine in a copy of the working directory. Processes are not copied."""
        self._check()
        return await self.sibling(self.workspace.fork)

    async def snapshot(self) -> LocalSnapshot:
        """An image that holds a copy of the working directory. Processes are not copied."""
        self._check()
        return LocalSnapshot(self, await made(lambda: self._frozen(f"{self.id}-snapshot"), DirectorySnapshot.drop))

    def _frozen(self, identity: str) -> DirectorySnapshot:
        if isinstance(self.workspace, WorktreeSpace):
            return freeze_worktree(self.workspace, identity)
        return freeze(self.workspace, identity)

    async def sibling(self, copy: Callable[[str], Workspace]) -> LocalMachine:
        """A machine like this one, in the directory that ``copy`` makes (it blocks, and is given the machine's id)."""
        identity = uuid.uuid4().hex[:8]
        return await self._sibling(identity, await made(lambda: copy(identity), Workspace.remove))

    async def _sibling(self, identity: str, workspace: Workspace) -> LocalMachine:
        return await LocalMachine.start(identity, workspace, self.env)

    async def stop(self) -> None:
        """As :meth:`Machine.stop`. Raises :class:`~ramure.machines.errors.WorkNotSaved` when what was done in a git worktree
        could not all be saved; then a further call tries again."""
        self._stopped = True
        stopping = self._stopping
        if stopping is None or (stopping.done() and (stopping.cancelled() or stopping.exception() is not None)):
            stopping = self._stopping = asyncio.create_task(self._stop(), name=f"stop {self.describe()}")
        await finished(stopping)

    async def _stop(self) -> None:
        await self.reaper.stop()
        await in_thread(self.workspace.remove)


async def made(make: Callable[[], T], remove: Callable[[T], object]) -> T:
    """What ``make`` gives, in a thread. The thread cannot be stopped: when the caller leaves meanwhile, what it makes
    is removed again."""
    making = submit(make)
    try:
        return await asyncio.wrap_future(making)
    except BaseException:
        making.add_done_callback(
            lambda ended: None if ended.cancelled() or ended.exception() else remove(ended.result())
        )
        raise


def _write(full: str, path: str, data: bytes, mode: int | None) -> None:
    try:
        os.makedirs(os.path.dirname(full), exist_ok=True)
        descriptor = _open(full, path, os.O_WRONLY | os.O_CREAT, 0o666 if mode is None else mode)
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.truncate()
            file.write(data)
    except FileRefused:
        raise
    except OSError as error:
        raise FileRefused(path, error.strerror or str(error)) from error


def _read(full: str, path: str) -> bytes:
    try:
        with open(_open(full, path, os.O_RDONLY), "rb") as file:
            data: bytes | None = file.read()
    except FileRefused:
        raise
    except FileNotFoundError as error:
        raise NoSuchFile(path) from error
    except OSError as error:
        raise FileRefused(path, error.strerror or str(error)) from error
    if data is None:  # one of the kernel's, such as /proc/kmsg
        raise FileRefused(path, "it has nothing to read yet, and a read would wait for more")
    return data


def _open(full: str, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of a regular file; anything else is refused. Agents choose paths, and opening a FIFO waits for its
    other end, in a thread that nothing ends, this program's exit neither: so this does not wait."""
    try:
        descriptor = os.open(full, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket, a FIFO that nobody reads, a directory
            raise FileRefused(path, what_it_is(os.stat(full).st_mode)) from error
        raise
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    raise FileRefused(path, what_it_is(kind))
