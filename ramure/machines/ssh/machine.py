"""A machine on an SSH host: commands, files, tunnels, and its end."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import logging
import os
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ramure.machines.asking import told_to_stay
from ramure.machines.base import AGENT, Chunk, ExecStream, Machine
from ramure.machines.checks import check_command, check_path
from ramure.machines.commands import texts
from ramure.machines.errors import (
    ExecTimeout,
    FileRefused,
    LinkLost,
    MachineDown,
    MachineError,
    MachineStopped,
    NoSuchFile,
    UserRefused,
)
from ramure.machines.files.framing import Marks, Output, login_line, new_token, packed
from ramure.machines.files.remote import FILE_LIMIT, READ
from ramure.machines.reaper.reaper import finished
from ramure.machines.scripts import KILL
from ramure.machines.ssh import files as ssh_files
from ramure.machines.ssh.connection import Cancel, Connection, Full, not_started
from ramure.machines.ssh.pool import Pool
from ramure.machines.ssh.scripts import HIRE, HOME_OF, JANITOR, LIVE, PREPARE, STOP, Made, Prepared, run_script
from ramure.machines.ssh.tunnels import Tunnels
from ramure.machines.tmux.driver import env_file
from ramure.masking import get_logger
from ramure.types import ExecResult

if TYPE_CHECKING:
    from ramure.machines.ssh.image import SSHImage

__all__ = ["SSHMachine", "in_thread_of"]

T = TypeVar("T")

logger: logging.Logger = get_logger(__name__)

RESERVED = 2
"""Threads for what must not wait until a command ends: signs of life, and the machine's stop."""
KILL_LIMIT = 5.0
CHUNKS = 16
"""How much of a stream may wait for its reader, before the rest waits on the host."""
COMMAND_LIMIT = 60_000
"""Characters of a command from which on it goes over as a file."""

PREPARATIONS = 3
"""How often a command may find that the host has lost what it needs there."""

STOP_LIMIT = 50.0
"""Seconds for removing what was made on the host; a process's machine has 60 for its stop."""


class _Unprepared(Exception):
    """The host has lost its private directory: it was started anew, or somebody cleaned up. Nothing was run; ``why`` says
    what came instead."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class _Unkilled(Exception):
    """What is to be given up runs on: there was no room on its connection for ``argv``, which ends it."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        super().__init__(argv)


class SSHMachine(Machine):
    """A machine of :class:`SSHImage`."""

    def __init__(self, image: SSHImage, pool: Pool, threads: ThreadPoolExecutor) -> None:
        self.image = image
        self.workdir: str = image.workdir or ""  # the host says where, if it is not said
        self.id: str = uuid.uuid4().hex[:12]
        self._running: dict[asyncio.Future[int | None], Cancel] = {}
        self._pool = pool
        self._threads = threads
        self._reserved = ThreadPoolExecutor(RESERVED, thread_name_prefix=f"ssh {image.host}")
        self._stopped = False
        self._stopping: asyncio.Task[None] | None = None
        self._private = ""
        self._private_made: Made | None = None
        self._workdir_made: Made | None = None
        """Only where no working directory was asked for: one of the user's is never removed."""
        self._me = ("", "")
        self._users: dict[str, list[str]] = {}
        self._reaper: list[str] = []
        self._tunnels = Tunnels(pool, self._call)
        self._preparing = asyncio.Lock()
        self._living: asyncio.Task[None] | None = None
        self.link_patience: float = image.give_up_after
        self.env: dict[str, str] = dict(image.env)

    def describe(self) -> str:
        return f"{self._pool.target}" + (f" in {self.workdir}" if self.workdir else "")

    def install_hint(self) -> str:
        return (
            f"`ramure setup --on {self._address()}` installs Node and pi there; or put tmux, Node 22.19 or newer and pi on "
            "the PATH that commands get from sshd"
        )

    def _address(self) -> str:
        return self.image.address() + (f":{self.image.port}" if self.image.port else "")

    def terminal(self, argv: Sequence[str]) -> list[str]:
        return ["ssh", "-t", *self.image.options(), self.image.address(), shlex.join(argv)]

    async def prepare(self) -> None:
        """Make the directories there, and see what the host has. Once begun it is done to its end, so that
        :meth:`stop` knows what was made."""
        await finished(self._prepare())

    async def _prepare(self) -> None:
        result = await self._plain(["/bin/sh", "-c", PREPARE, "sh", self.id, self.workdir, self._private])
        if result.exit_code != 0:
            raise MachineError(f"no working directory: {result.stderr.strip()}")
        prepared = Prepared.parse(result.stdout)
        self._take_in(prepared)
        environment = env_file({**self.image.env, "RAMURE_MACHINE": self.id, "RAMURE_PRIVATE": self._private})
        await self._put(f"{self._private}/run", run_script(self.workdir, prepared.shell), 0o600)
        await self._put(f"{self._private}/env", environment, 0o600)
        if self.image.abandon_after is not None:
            every = max(1, int(self.image.abandon_after / 10))
            await self._hire_janitor(self.image.abandon_after, every)
            if self._living is None:
                nobody = contextvars.Context()  # it is of the machine, not of who spawned it
                self._living = asyncio.get_running_loop().create_task(
                    self._live(self.image.abandon_after, every),
                    name=f"signs of life to {self._pool.target}",
                    context=nobody,
                )

    def _take_in(self, prepared: Prepared) -> None:
        if not self.image.workdir and prepared.new:
            self._workdir_made = prepared.workdir
        self._private_made = prepared.private
        self.workdir, self._private, self._me = prepared.workdir.path, prepared.private.path, prepared.user
        if prepared.prctl:
            self._reaper = ["perl", "-e", f"syscall({prepared.prctl}, 36, 1, 0, 0, 0); exec {{$ARGV[0]}} @ARGV"]

    async def _hire_janitor(self, limit: float, every: int) -> None:
        """Have the host itself clean up if this program is killed, or there is no way to it any more."""
        words = [JANITOR, self.id, self._private, str(int(limit)), str(every), *self._removal()]
        hired = await self._plain(["/bin/sh", "-c", HIRE, "sh", *words], self._reserved)
        if not hired.ok:
            why = hired.stderr.strip().rpartition("\n")[2]
            raise MachineError(f"what cleans up there could not be started: {why}")

    def _removal(self) -> list[str]:
        """The directories to remove, each with what it is; the private one last, for it tells whose the rest is."""
        made = [each for each in (self._workdir_made, self._private_made) if each is not None]
        return [word for each in made for word in (each.path, each.identity)]

    async def _live(self, limit: float, every: int) -> None:
        """Give signs of life, and see that there is a janitor: a reboot ends it, and may keep all else."""
        while True:
            await asyncio.sleep(every)
            with contextlib.suppress(MachineError):
                said = await self._plain(["/bin/sh", "-c", LIVE, "sh", self._private], self._reserved)
                if said.stdout:
                    await finished(self._hire_janitor(limit, every))

    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        code = await self._execute(
            command, user, timeout, lambda source, data: output[source].append(data), output, Cancel()
        )
        stdout, stderr = await texts(output)
        return ExecResult(stdout, stderr, code)

    def stream(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecStream:
        return ExecStream(self._chunks(command, user, timeout))

    async def _chunks(self, command: str, user: str, timeout: float | None) -> AsyncIterator[Chunk | int]:
        loop = asyncio.get_running_loop()
        said: collections.deque[Chunk] = collections.deque()
        news = asyncio.Event()
        cancel = Cancel(room=lambda: len(said) < CHUNKS)

        def output(source: str, data: bytes) -> None:  # does not wait for the reader: the time has to be kept
            said.append(Chunk("stdout" if source == "stdout" else "stderr", data))
            loop.call_soon_threadsafe(news.set)

        running = loop.create_task(self._execute(command, user, timeout, output, {}, cancel))
        running.add_done_callback(lambda _: news.set())
        try:
            while said or not running.done():
                if said:
                    chunk = said.popleft()
                    cancel.wake()
                    yield chunk
                else:
                    news.clear()
                    if not said:  # it is a thread that says more
                        await news.wait()
            yield await running
        finally:
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # who has left does not want to know

    async def _execute(
        self,
        command: str,
        user: str,
        timeout: float | None,
        output: Output,
        collected: Mapping[str, list[bytes]],
        cancel: Cancel,
    ) -> int:
        self._check()
        check_command(command)
        unprepared = 0
        why = ""
        while unprepared < PREPARATIONS:
            private = self._private
            try:
                code = await self._execute_once(command, user, timeout, output, cancel)
            except Full:  # nothing was run: on another connection
                continue
            except _Unprepared as error:
                unprepared += 1
                why = error.why
                await self._prepare_again(private)
                continue
            if code is None:
                self._check()  # it was ended by our stop(), perhaps
                stdout, stderr = await texts({"stdout": [], "stderr": [], **collected})
                raise ExecTimeout(command, timeout or 0, stdout, stderr)
            return code
        raise MachineError(f"no command can be run on {self.describe()}, whatever is prepared there: {why}")

    async def _execute_once(
        self,
        command: str,
        user: str,
        timeout: float | None,
        output: Output,
        cancel: Cancel,
    ) -> int | None:
        token = new_token()
        marks = Marks(token, output)
        prefix = await self._as_user(user)
        if filed := len(command) > COMMAND_LIMIT:
            await self._put(f"{self._private}/{token}", check_command(command), 0o600)
        line = self.wrapped(None if filed else command, token, prefix)
        connection = await self._pool.take()
        if self._stopped:  # meanwhile
            connection.in_use -= 1
            self._check()
        work = functools.partial(self._blocking_exec, connection, line, marks, token, timeout, cancel)
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._running[running] = cancel

        def ended(_: object) -> None:
            if not running.cancelled() and isinstance(running.exception(), Full):
                self._pool.refused(connection)
            connection.in_use -= 1
            del self._running[running]

        running.add_done_callback(ended)
        try:
            return await asyncio.shield(running)
        except _Unkilled as unkilled:
            await finished(self._kill(unkilled.argv))
            return None
        except asyncio.CancelledError:
            cancel.ask()
            await asyncio.wait([running])
            failure = None if running.cancelled() else running.exception()  # nobody is left to be told
            if isinstance(failure, _Unkilled):
                with contextlib.suppress(MachineError):
                    await finished(self._kill(failure.argv))
            raise

    async def _kill(self, argv: list[str]) -> None:
        """End a command from another connection than its own."""
        await self._on_connection(functools.partial(Connection.call, argv=argv, limit=KILL_LIMIT))

    async def _prepare_again(self, private: str) -> None:
        """After the host has lost ``private``. A working directory that it lost too is made again, empty."""
        async with self._preparing:
            if self._private == private:  # else another command has been here already
                await self.prepare()

    def wrapped(self, command: str | None, token: str, prefix: Sequence[str] = ()) -> str:
        """What the host's login shell is given for a command (None: it stands in a file): it is begun in the right place,
        and can be found again."""
        words = [command or "", *prefix]
        how = "file" if command is None else "plain"
        if command is not None and any(packed(word) != word for word in words):
            how, words = ("packed", [packed(word) for word in words])
        return login_line([*self._reaper, "sh", f"{self._private}/run", token, how, *words])

    def _blocking_exec(
        self, connection: Connection, line: str, marks: Marks, token: str, timeout: float | None, cancel: Cancel
    ) -> int | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        code = connection.run(line, marks, deadline=deadline, cancel=cancel)
        if marks.lost:
            raise _Unprepared(f"it loses {self._private} again and again")
        if code is None:
            leader = "" if marks.leader is None else str(marks.leader)
            kill = ["/bin/sh", "-c", KILL, "sh", leader, token, self._private]
            try:
                connection.call(kill, limit=KILL_LIMIT)
            except Full:
                raise _Unkilled(kill) from None
        elif not marks.started:
            raise _Unprepared(not_started(connection.target, code, marks))
        return code

    async def _as_user(self, user: str) -> list[str]:
        """The prefix that runs a command as this user."""
        uid, name = self._me
        if user in (AGENT, name):
            return []
        if user not in self._users:
            become = ["runuser", "-u", user, "--"] if uid == "0" else ["sudo", "-n", "-E", "-u", user, "--"]
            result = await self._plain([*become, "sh", "-c", HOME_OF, "sh", user])
            if result.exit_code != 0:
                raise UserRefused(user, self.describe(), result.stderr.strip() or f"{become[0]} failed")
            home = result.stdout.strip()
            self._users[user] = [*become, "env", f"HOME={home}", f"USER={user}", f"LOGNAME={user}"]
        return self._users[user]

    async def _plain(
        self, argv: list[str], threads: ThreadPoolExecutor | None = None, limit: float | None = None
    ) -> ExecResult:
        """Run a command of ours, outside the machine's working directory and environment."""
        limit = limit or self.image.dead_after
        code, stdout, stderr = await self._on_connection(
            functools.partial(Connection.call, argv=argv, limit=limit), threads=threads
        )
        if code is None:
            raise MachineDown(self.describe(), f"it did not answer within {limit:g} s")
        out, err = await texts({"stdout": [stdout], "stderr": [stderr]})
        return ExecResult(out, err, code)

    async def write_file(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        self._check()
        check_path(path)
        await self._put(path, data, mode)

    async def write_private(self, path: str, data: bytes) -> None:
        await self.write_file(path, data, mode=0o600)

    async def _put(self, path: str, data: bytes, mode: int | None) -> None:
        where = self._where(path)
        await self._transfer(ssh_files.write, path, where, data, mode)

    async def read_file(self, path: str) -> bytes:
        self._check()
        check_path(path)
        data = await self._transfer(ssh_files.read, path, self._where(path))
        return await self._read_by_command(path) if data is None else data

    async def _read_by_command(self, path: str) -> bytes:
        """For what may be one of the kernel's files: a command can be ended while it waits for news."""
        where = os.path.join(self.workdir, path)
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        command = shlex.join(["/bin/sh", "-c", READ, "sh", packed(where)])
        try:
            code = await self._execute(
                command, AGENT, FILE_LIMIT, lambda source, data: output[source].append(data), {}, Cancel()
            )
        except ExecTimeout:
            raise FileRefused(
                path, f"reading it takes longer than {FILE_LIMIT:g} s: it waits for news, perhaps"
            ) from None
        if code == 44:
            raise NoSuchFile(path)
        if code != 0:
            _, told = await texts(output)
            raise FileRefused(path, told.strip().rpartition("\n")[2] or f"status {code}")
        return b"".join(output["stdout"])

    def _where(self, path: str) -> bytes:
        return os.path.join(self.workdir, path).encode("utf-8", "surrogateescape")

    async def _transfer(self, function: Callable[..., T], *args: object) -> T:
        """Read or write a file on a connection whose transfers make progress."""
        while True:
            try:
                return await self._on_connection(function, *args, transfer=True)
            except ssh_files.Stalled:
                continue

    async def expose_port(self, port: int) -> str:
        """Open a reverse tunnel: a port on the host's loopback address that leads to ``port`` here."""
        self._check()
        return f"127.0.0.1:{await self._tunnels.remote_port(port)}"

    async def ping(self) -> None:
        self._check()
        await self._plain(["true"])

    async def wait_down(self) -> str:
        """Return when the host could not be reached for ``give_up_after`` seconds. Broken links are mended meanwhile,
        and tunnels opened again on the port that they had."""
        pool = self._pool
        while not self._stopped:
            await pool.lost.wait()
            pool.lost.clear()
            try:
                if not pool.alive():
                    await self.ping()
            except LinkLost:
                pool.lost.set()
                continue
            except MachineStopped:
                break
            except MachineError as error:
                return error.why if isinstance(error, MachineDown) else str(error)
            await self._tunnels.mend()
        return "it was stopped"

    async def stop(self) -> None:
        """End what runs there, remove what was made there, and log out. Once begun it is done to its end, also when the
        caller is cancelled; a second call waits for that end too."""
        if self._stopping is None:
            self._stopped = True
            self._stopping = asyncio.create_task(self._stop(), name=f"stop of ssh to {self._pool.target}")
        await finished(self._stopping)

    async def _stop(self) -> None:
        if self._living is not None:
            self._living.cancel()
            await asyncio.wait([self._living])
        running = dict(self._running)
        for cancel in running.values():
            cancel.ask()
        if not self._pool.alive():
            await self._pool.close()  # commands that wait for a connection wait no longer
        if self._pool.alive() and self._private:
            await self._clean_up()
        if running:
            await asyncio.wait(running, timeout=KILL_LIMIT)
        await self._pool.close()
        self._threads.shutdown(wait=False)
        self._reserved.shutdown(wait=False)

    async def _clean_up(self) -> None:
        """End and remove what was made there. What is not ours any more stays, and is told."""
        try:
            done = await self._plain(
                ["/bin/sh", "-c", STOP, "sh", self.id, self._private, *self._removal()], self._reserved, STOP_LIMIT
            )
        except MachineError as error:  # the link broke just now: the host's own janitor does it
            logger.warning("%s: whether what was made there is removed is not known: %s", self.describe(), error)
            return
        told_to_stay(self.describe(), done.stdout)

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())

    async def _on_connection(
        self,
        function: Callable[..., T],
        *args: object,
        threads: ThreadPoolExecutor | None = None,
        transfer: bool = False,
    ) -> T:
        """Call a blocking function, in a thread, with a connection as its first argument."""
        while True:
            async with self._pool.lease(transfer=transfer) as connection:
                try:
                    return await in_thread_of(threads or self._threads, function, connection, *args)
                except Full:  # nothing was done: on another one
                    self._pool.refused(connection)

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await in_thread_of(self._threads, function, *args)


async def in_thread_of(threads: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
    """Call a blocking function in one of these threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, functools.partial(function, *args))
