"""Machines over SSH: a host that you can log in to, with a POSIX shell; tmux for agents."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import itertools
import os
import shlex
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from ramure.machines import ssh_files
from ramure.machines.base import AGENT, Chunk, ExecStream, Image, Machine
from ramure.machines.commands import texts
from ramure.machines.errors import (
    ExecTimeout,
    LinkLost,
    MachineDown,
    MachineError,
    MachineStopped,
    SpawnFailed,
    UserRefused,
)
from ramure.machines.keeper import finished
from ramure.machines.scripts import JANITOR, KILL, KILL_MARKED
from ramure.machines.ssh_connection import Cancel, Connection, Full, HostKeyRefused, LoginRefused, Target, resolve
from ramure.machines.ssh_pool import Pool
from ramure.machines.ssh_tunnel import Tunnel
from ramure.machines.tmux import env_file
from ramure.types import ExecResult

__all__ = ["SSHImage", "SSHMachine"]

T = TypeVar("T")

THREADS = 128
RESERVED = 2
"""Threads for what must not wait until a command ends: signs of life, and the machine's stop."""
KILL_LIMIT = 5.0
RETRY = 0.5
CHUNKS = 16
"""How much of a stream may wait for its reader, before the rest waits on the host."""
COMMAND_LIMIT = 60_000
"""Characters of a command from which on it goes over as a file."""

PREPARE = r"""
umask 077
private=$(mktemp -d "${TMPDIR:-/tmp}/ramure-XXXXXXXX") || exit 1
workdir=${1:-${TMPDIR:-/tmp}/ramure-work-$2}
mkdir -p -- "$workdir" && cd -- "$workdir" || { rmdir -- "$private"; exit 1; }
workdir=$(pwd)
case "$(uname -sm)" in
    "Linux x86_64") number=157 ;;
    "Linux aarch64") number=167 ;;
    *) number= ;;
esac
[ -n "$number" ] && perl -e "exit(syscall($number, 36, 1, 0, 0, 0) != 0)" 2>/dev/null || number=
printf '%s\n' "$workdir" "$private" "$(command -v bash || echo /bin/sh)" "$(id -u)" "$(id -un)" "$number"
"""
"""Makes the working directory $1 (if that is empty, one for the machine $2) and a private one, and says what there is. With perl a command can be made a
child subreaper (prctl(2)), as the keeper does on this host."""

LOST = "lost"
PREPARATIONS = 3
"""How often a command may find that the host has lost what it needs there."""

RUN = r"""
[ -f "$1/env" ] || { echo lost; exit 125; }
. "$1/env"; RAMURE_EXEC=$2; export RAMURE_EXEC
cd -- "$3" || exit 126
echo $$
file=$1/$2 shell=$4 command=$5
shift 5
if [ -f "$file" ]; then "$@" "$shell" -c 'script=$(cat); exec </dev/null; eval "$script"' <"$file"
else "$@" "$shell" -c "$command" </dev/null; fi
exit $?
"""
"""Runs a command: what is private to the machine is in $1, the command's mark is $2, its directory $3, its shell $4.
What follows the command ($5) is put before it: how to become another user, who can read nothing of $1. A host that was
started anew may have lost $1: then it says so, and runs nothing."""


SINCE = r"""
since() {
    { cat /proc/sys/kernel/random/boot_id; sed 's/.*) //' "/proc/$1/stat" | cut -d " " -f 20; } 2>/dev/null ||
        ps -o lstart= -p "$1"
}
works() {
    { read -r janitor && read -r began; } 2>/dev/null <"$1/janitor" && kill -0 "$janitor" 2>/dev/null &&
        [ "$(echo $(since "$janitor"))" = "$began" ]
}
"""
"""Whether the janitor of the private directory $1 works. A boot and the time in it say that a process is still who it
was: its number may be another's after a reboot that has kept the directory."""

HIRE = (
    SINCE
    + r"""
setsid=$(command -v setsid)
$setsid /bin/sh -c "$0" sh "$@" </dev/null >/dev/null 2>&1 &
{ echo $!; echo $(since $!); } >"$2/janitor"
"""
)
"""Starts the janitor $0 of the machine $1, whose private directory is $2. (macOS has no setsid: it does without.)"""

LIVE = (
    SINCE
    + r"""
rm -f -- "$1/quiet"
[ -d "$1" ] && ! works "$1" && echo gone
:
"""
)
"""A sign of life for the janitor of the directory $1; says when there is a directory, and no janitor."""

DISMISS = (
    SINCE
    + r"""
works "$2" && { kill -KILL "-$janitor" || kill -KILL "$janitor"; } 2>/dev/null
"""
)

HOME_OF = r"""getent passwd -- "$1" 2>/dev/null | cut -d: -f6 | grep . || echo /"""


class _Unprepared(Exception):
    """The host has lost its private directory: it was started anew, or somebody cleaned up. Nothing was run."""


class _Unkilled(Exception):
    """What is to be given up runs on: there was no room on its connection for ``line``, which ends it."""

    def __init__(self, line: str) -> None:
        self.line = line
        super().__init__(line)


@dataclass(frozen=True)
class SSHImage(Image):
    """A host to log in to, as OpenSSH would: ``~/.ssh/config`` (or ``config``), the ssh-agent and keys are honoured.

    ``jump`` is ``user@host:port``, several with commas between (as ProxyJump). ``workdir`` is made when missing
    and never removed; without it each machine has a temporary directory. ``env`` reaches commands through a file
    of mode 0600. Host keys are verified against ``known_hosts`` (default: OpenSSH's files); an unknown one is an
    error. A link that is silent for ``dead_after`` seconds counts as broken, and a host that cannot be reached
    for ``give_up_after`` seconds as down. What runs there and was made there is ended and removed, by the host itself,
    when this program has given no sign of life for ``abandon_after`` seconds (None: never).
    """

    host: str
    user: str | None = None
    port: int | None = None
    key: str | None = None
    config: str | None = None
    jump: str | None = None
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    known_hosts: str | None = None
    dead_after: float = 15.0
    give_up_after: float = 60.0
    abandon_after: float | None = 600.0

    def describe(self) -> str:
        return f"ssh {self.user + '@' if self.user else ''}{self.host}" + (
            f" in {self.workdir}" if self.workdir else ""
        )

    def address(self) -> str:
        """``user@host``, as ``ssh`` takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def options(self) -> list[str]:
        """The options that make ``ssh`` go the same way."""
        said = {"-p": self.port, "-i": self.key, "-F": self.config, "-J": self.jump}
        options = [word for option, value in said.items() if value is not None for word in (option, str(value))]
        return [*options, "-o", f"UserKnownHostsFile={self.known_hosts}"] if self.known_hosts else options

    async def spawn(self) -> SSHMachine:
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"ssh {self.host}")
        pool: Pool | None = None
        machine: SSHMachine | None = None
        try:
            pool = Pool(await _in(threads, self._target), patience=self.give_up_after)
            await pool.start()
            machine = SSHMachine(self, pool, threads)
            await machine.prepare()
        except BaseException as error:
            await finished(_undone(machine, pool, threads))
            if isinstance(error, (MachineError, OSError)) and not isinstance(error, (HostKeyRefused, LoginRefused)):
                raise SpawnFailed(self.describe(), str(error)) from error
            raise
        return machine

    def _target(self) -> Target:
        return resolve(
            self.host, user=self.user, port=self.port, key=self.key, config=self.config, jump=self.jump,
            known_hosts=self.known_hosts, dead_after=self.dead_after,
        )  # fmt: skip


class SSHMachine(Machine):
    """A machine of :class:`SSHImage`."""

    def __init__(self, image: SSHImage, pool: Pool, threads: ThreadPoolExecutor) -> None:
        self.image = image
        self.workdir = image.workdir or ""  # the host says where, if it is not said
        self.id = uuid.uuid4().hex[:12]
        self._marks = map("{}{:08x}".format, itertools.repeat(uuid.uuid4().hex[8:]), itertools.count())
        """A mark for each command: new random bytes for each would cost a tenth of it, in waiting for the interpreter's
        lock that they release."""
        self._running: dict[asyncio.Future[int | None], Cancel] = {}
        self._pool = pool
        self._threads = threads
        self._reserved = ThreadPoolExecutor(RESERVED, thread_name_prefix=f"ssh {image.host}")
        self._stopped = False
        self._stopping: asyncio.Task[None] | None = None
        self._private = ""
        self._shell = "/bin/sh"
        self._me = ("", "")
        self._users: dict[str, list[str]] = {}
        self._reaper: list[str] = []
        self._tunnels: dict[int, Tunnel] = {}
        self._tunnelling = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._living: asyncio.Task[None] | None = None
        self.link_patience = image.give_up_after
        self.env = dict(image.env)

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
        result = await self._plain(["/bin/sh", "-c", PREPARE, "sh", self.workdir, self.id])
        if result.exit_code != 0:
            raise MachineError(f"no working directory: {result.stderr.strip()}")
        self.workdir, self._private, self._shell, uid, name, prctl = result.stdout.split("\n")[:6]
        self._me = (uid, name)
        if prctl:
            self._reaper = ["perl", "-e", f"syscall({prctl}, 36, 1, 0, 0, 0); exec {{$ARGV[0]}} @ARGV"]
        environment = env_file({**self.image.env, "RAMURE_MACHINE": self.id, "RAMURE_PRIVATE": self._private})
        await self._on_connection(ssh_files.write, f"{self._private}/env", environment, 0o600)
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

    async def _hire_janitor(self, limit: float, every: int) -> None:
        """Have the host itself clean up if this program is killed, or there is no way to it any more."""
        remove = [] if self.image.workdir else [self.workdir]
        words = [JANITOR, self.id, self._private, str(int(limit)), str(every), *remove]
        hired = await self._plain(["/bin/sh", "-c", HIRE, *words], self._reserved)
        if not hired.ok:
            raise MachineError(f"what cleans up there could not be started: {hired.stderr.strip().splitlines()[-1]}")

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
        output: Callable[[str, bytes], None],
        collected: Mapping[str, list[bytes]],
        cancel: Cancel,
    ) -> int:
        self._check()
        unprepared = 0
        while unprepared < PREPARATIONS:
            private = self._private
            try:
                code = await self._execute_once(command, user, timeout, output, cancel)
            except Full:  # nothing was run: on another connection
                continue
            except _Unprepared:
                unprepared += 1
                await self._prepare_again(private)
                continue
            if code is None:
                self._check()  # it was ended by our stop(), perhaps
                stdout, stderr = await texts({"stdout": [], "stderr": [], **collected})
                raise ExecTimeout(command, timeout or 0, stdout, stderr)
            return code
        raise MachineError(f"{self.describe()} loses {self._private} again and again: no command can be run there")

    async def _execute_once(
        self,
        command: str,
        user: str,
        timeout: float | None,
        output: Callable[[str, bytes], None],
        cancel: Cancel,
    ) -> int | None:
        mark = next(self._marks)
        prefix = await self._as_user(user)
        if len(command) > COMMAND_LIMIT:
            text = command.encode("utf-8", "surrogateescape")
            await self._on_connection(ssh_files.write, f"{self._private}/{mark}", text, 0o600)
            shown = ""
        else:
            shown = command
        line = self.wrapped(shown, mark, prefix)
        connection = await self._pool.take()
        if self._stopped:  # meanwhile
            connection.in_use -= 1
            self._check()
        work = functools.partial(self._blocking_exec, connection, line, mark, output, timeout, cancel)
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
            await finished(self._kill(unkilled.line))
            return None
        except asyncio.CancelledError:
            cancel.ask()
            await asyncio.wait([running])
            failure = None if running.cancelled() else running.exception()  # nobody is left to be told
            if isinstance(failure, _Unkilled):
                with contextlib.suppress(MachineError):
                    await finished(self._kill(failure.line))
            raise

    async def _kill(self, line: str) -> None:
        """End a command from another connection than its own."""

        def run(connection: Connection) -> None:
            connection.run(line, lambda *_: None, deadline=time.monotonic() + KILL_LIMIT)

        await self._on_connection(run)

    async def _prepare_again(self, private: str) -> None:
        """After the host has lost ``private``. A working directory that it lost too is made again, empty."""
        async with self._preparing:
            if self._private == private:  # else another command has been here already
                await self.prepare()

    def wrapped(self, command: str, mark: str, prefix: Sequence[str] = ()) -> str:
        """What the host's shell is given for a command: it is begun in the right place, and can be found again."""
        where = [self._private, mark, self.workdir, self._shell]
        return "exec " + shlex.join([*self._reaper, "/bin/sh", "-c", RUN, "sh", *where, command, *prefix])

    def _blocking_exec(
        self,
        connection: Connection,
        line: str,
        mark: str,
        output: Callable[[str, bytes], None],
        timeout: float | None,
        cancel: Cancel,
    ) -> int | None:
        leader: list[str] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        code = connection.run(line, output, started=leader.append, deadline=deadline, cancel=cancel)
        if leader == [LOST]:
            raise _Unprepared
        if code is None:
            kill = shlex.join(["/bin/sh", "-c", KILL, "sh", leader[0] if leader else "", mark, self._private])
            try:
                connection.run(kill, lambda *_: None, deadline=time.monotonic() + KILL_LIMIT)
            except Full:
                raise _Unkilled(kill) from None
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

    async def _plain(self, argv: list[str], threads: ThreadPoolExecutor | None = None) -> ExecResult:
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

        def run(connection: Connection) -> int | None:
            line = shlex.join(argv) + " </dev/null"
            deadline = time.monotonic() + self.image.dead_after
            return connection.run(line, lambda source, data: output[source].append(data), deadline=deadline)

        code = await self._on_connection(run, threads=threads)
        if code is None:
            raise MachineDown(self.describe(), f"it did not answer within {self.image.dead_after:g} s")
        stdout, stderr = await texts(output)
        return ExecResult(stdout, stderr, code)

    async def write_file(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        self._check()
        await self._on_connection(ssh_files.write, os.path.join(self.workdir, path), data, mode)

    async def read_file(self, path: str) -> bytes:
        self._check()
        return await self._on_connection(ssh_files.read, os.path.join(self.workdir, path))

    async def expose_port(self, port: int) -> str:
        """Open a reverse tunnel: a port on the host's loopback address that leads to ``port`` here."""
        self._check()
        async with self._tunnelling:
            if port not in self._tunnels:
                tunnel = Tunnel(port)
                await self._open_tunnel(tunnel)
                self._tunnels[port] = tunnel
        return f"127.0.0.1:{self._tunnels[port].remote_port}"

    async def _open_tunnel(self, tunnel: Tunnel) -> None:
        """On a connection of its own, which is not leased."""
        transport = await self._pool.connect(reserved=True)
        connection = self._pool.of(transport)
        if connection is None:
            raise LinkLost(str(self._pool.target), "the opening of a reverse tunnel", "closed")
        try:
            await self._call(tunnel.open, connection)
        except BaseException:
            transport.exit("shutdown")
            raise
        tunnel.transport = transport

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
            await self._mend_tunnels()
        return "it was stopped"

    async def _mend_tunnels(self) -> None:
        for tunnel in list(self._tunnels.values()):
            if tunnel.transport is not None and self._pool.of(tunnel.transport) is not None:
                continue
            opening = asyncio.ensure_future(self._open_tunnel(tunnel))
            losing = asyncio.ensure_future(self._pool.lost.wait())
            try:
                await asyncio.wait((opening, losing), return_when=asyncio.FIRST_COMPLETED)
                if not opening.done():  # more has broken: whether the host is there at all comes first
                    return
                await opening
            except MachineError:  # it has broken again, or the port is not free yet: look again
                await asyncio.sleep(RETRY)
                self._pool.lost.set()
            finally:
                opening.cancel()
                losing.cancel()
                await asyncio.gather(opening, losing, return_exceptions=True)

    async def stop(self) -> None:
        """End what runs there, remove what was made there, and log out. Once begun it is done to its end, also when the
        caller is cancelled; whoever calls it again waits for that end too."""
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
        remove = [each for each in (self._private, "" if self.image.workdir else self.workdir) if each]
        if not self._pool.alive():
            await self._pool.close()  # commands that wait for a connection wait no longer
        try:
            if self._pool.alive():
                dismiss = ["/bin/sh", "-c", DISMISS + KILL_MARKED, "sh", self.id, self._private]
                await self._plain(dismiss, self._reserved)
                await self._plain(["rm", "-rf", "--", *remove], self._reserved)
        except MachineError:
            pass  # it went just now: nothing there can be ended or removed
        if running:
            await asyncio.wait(running, timeout=KILL_LIMIT)
        await self._pool.close()
        self._threads.shutdown(wait=False)
        self._reserved.shutdown(wait=False)

    def _check(self) -> None:
        if self._stopped:
            raise MachineStopped(self.describe())

    async def _on_connection(
        self, function: Callable[..., T], *args: object, threads: ThreadPoolExecutor | None = None
    ) -> T:
        """Call a blocking function, in a thread, with a connection as its first argument."""
        while True:
            async with self._pool.lease() as connection:
                try:
                    return await _in(threads or self._threads, function, connection, *args)
                except Full:  # nothing was done: on another one
                    self._pool.refused(connection)

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await _in(self._threads, function, *args)


async def _undone(machine: SSHMachine | None, pool: Pool | None, threads: ThreadPoolExecutor) -> None:
    """After a spawn that failed: nothing of it is left."""
    if machine is not None:
        await machine.stop()
    elif pool is not None:
        await pool.close()
    threads.shutdown(wait=False)


async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, functools.partial(function, *args))
