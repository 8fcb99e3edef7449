"""A machine in a container: commands through the engine's ``exec``, files through commands."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from ramure.executor import in_thread
from ramure.machines.base import AGENT
from ramure.machines.checks import check_command
from ramure.machines.commands import end, spool
from ramure.machines.docker.commit import Commit, DockerSnapshot
from ramure.machines.docker.engine import Engine, State, complaint
from ramure.machines.docker.exec import RUN, ContainerCommand
from ramure.machines.docker.undo import Undoing
from ramure.machines.errors import (
    MachineDown,
    MachineError,
    MachineStopped,
    NotSupported,
    UserRefused,
)
from ramure.machines.files.framing import framed, new_token, unframed
from ramure.machines.files.remote import FilesByCommand
from ramure.machines.reaper.reaper import KeptCommand, Sink, finished
from ramure.machines.relay import Relay
from ramure.machines.scripts import KILL
from ramure.machines.tmux.driver import env_file

if TYPE_CHECKING:
    from ramure.machines.docker.image import DockerImage
    from ramure.machines.reaper.leases import Lease

__all__ = ["DockerMachine"]

ARGUMENT_LIMIT = 25_000
"""Characters of a command from which on it goes over as standard input (one argument may have 128 KiB)."""

KILL_LIMIT = 5.0
DEAD_AFTER = 10.0
"""Seconds without an answer of the engine after which the machine counts as down."""

PREPARE = r"""
workdir=${1:-$PWD}
[ "$workdir" = / ] && workdir=/work
mkdir -p -- "$workdir" 2>/dev/null; cd -- "$workdir" || exit 44
workdir=$(pwd)
umask 077
private=
for directory in /dev/shm "${TMPDIR:-/tmp}" /tmp; do
    [ -w "$directory" ] && private=$(mktemp -d "$directory/ramure-$2-XXXXXX") && break
done
[ -n "$private" ] && echo "$2" >"$private/machine" || exit 45
user=$(id -un 2>/dev/null || id -u)
{ printf 'export USER=%s LOGNAME=%s\n' "$user" "$user"; cat; } > "$private/env" || exit 45
case "$(uname -sm)" in
    "Linux x86_64") number=157 ;;
    "Linux aarch64") number=167 ;;
    *) number= ;;
esac
if [ -n "$number" ] && perl -e "exit(syscall($number, 36, 1, 0, 0, 0) != 0)" 2>/dev/null; then reaper="perl $number"
elif python3 -c "import ctypes" 2>/dev/null; then reaper=python3
else reaper=; fi
printf '%s\n' "$workdir" "$private" "$(command -v bash || echo /bin/sh)" "$(id -u)" "$user" "$reaper"
"""
"""Makes the working directory $1 and one that is private to machine $2, in memory if it can be: what is there is in no commit. Writes the
environment, which it reads, and says what there is. With perl or Python a command can be made a child subreaper
(prctl(2)), as the reaper does on this host: then nothing that it started escapes its timeout."""

MAKE_WORKDIR = '[ -d "$1" ] || { mkdir -p -- "$1" && chown -- "$2" "$1"; }'

PERL_REAPER = "syscall({}, 36, 1, 0, 0, 0); exec {{$ARGV[0]}} @ARGV"
PYTHON_REAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What there is for one user in the container."""

    option: tuple[str, ...]
    workdir: str
    private: str
    shell: str
    uid: str
    name: str
    reaper: tuple[str, ...]


class DockerMachine(FilesByCommand):
    """A machine of :class:`DockerImage`. ``container`` is its id for the engine."""

    def __init__(
        self, identity: str, container: str, image: DockerImage, engine: Engine, ending: Undoing, lease: Lease
    ) -> None:
        self.id = identity
        self.container = container
        self.image = image
        self.commits: list[Commit] = []
        self.workdir: str = image.workdir or ""
        self._engine = engine
        self._ending = ending
        self._lease = lease
        self._users: dict[str, asyncio.Task[Prepared]] = {}
        self._relays: dict[tuple[str, int], Relay] = {}
        self._down: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watching: asyncio.Task[None] | None = None

    def describe(self) -> str:
        return f"the container {self.image.name or self.container[:12]} of {self.image.image}"

    # -- the start --------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """See what there is in the container; from then on its end is noticed."""
        own = await self._prepared(AGENT)
        self.workdir = own.workdir
        self._watching = asyncio.create_task(self._watch(), name=f"watch over {self.describe()}")

    def _prepared(self, user: str) -> asyncio.Future[Prepared]:
        """What there is for this user; made when first asked for."""
        known = self._users.get(user)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self._users[user] = asyncio.create_task(self._prepare(user))
        return asyncio.shield(known)

    async def _prepare(self, user: str) -> Prepared:
        name = self.image.user if user == AGENT else user
        option = () if name is None else ("--user", name)
        environment = env_file({**self.image.env, "RAMURE_MACHINE": self.id})
        with await in_thread(spool, environment) as file:
            token = new_token()
            prepare = framed(["/bin/sh", "-c", PREPARE, "sh", self.workdir, self.id], token, stdin=True)
            command = [self.container, *prepare]
            result = await self._engine("exec", "-i", *option, *command, stdin=file.fileno())
            if result.exit_code == 44 and name is not None:
                await self._make_workdir(name)
                file.seek(0)
                result = await self._engine("exec", "-i", *option, *command, stdin=file.fileno())
        if not result.ok:
            said = complaint(result.stderr or result.stdout)  # the engine says on stdout what it could not run
            if user != AGENT and (await self._engine.state(self.container)).running:
                raise UserRefused(user, self.describe(), said)
            raise MachineError(f"{self.describe()}: no working directory: {said}" if result.exit_code == 44 else said)
        _, stdout, _ = unframed(
            token, *(text.encode("utf-8", "surrogateescape") for text in (result.stdout, result.stderr))
        )
        workdir, private, shell, uid, name, reaper = stdout.decode("utf-8", "surrogateescape").split("\n")[:6]
        tool, _, number = reaper.partition(" ")
        reapers = {"perl": ("perl", "-e", PERL_REAPER.format(number)), "python3": ("python3", "-c", PYTHON_REAPER)}
        return Prepared(option, workdir, private, shell, uid, name, reapers.get(tool, ()))

    async def _make_workdir(self, user: str) -> None:
        """As root, for a user who may not."""
        script = ["/bin/sh", "-c", MAKE_WORKDIR, "sh", self.workdir or "/work", user]
        await self._engine("exec", "--user", "0", self.container, *script)

    # -- commands ---------------------------------------------------------------------------------------------

    async def _run(self, command: str, user: str, sink: Sink) -> ContainerCommand:
        encoded = check_command(command)
        if len(command) < ARGUMENT_LIMIT and encoded == command.encode(errors="replace"):  # engines take UTF-8 only
            return await self._start(user, sink, "none", [command])
        with await in_thread(spool, encoded) as script:
            return await self._start(user, sink, "command", [], script)

    async def _start(
        self, user: str, sink: Sink, input: str, command: list[str], stdin: IO[bytes] | None = None
    ) -> ContainerCommand:
        self._check()
        own = await self._prepared(AGENT)
        who = own if user in (AGENT, own.name) else await self._prepared(user)
        return await self._start_as(who, sink, input, command, stdin)

    async def _start_as(
        self, who: Prepared, sink: Sink, input: str, command: list[str], stdin: IO[bytes] | None = None
    ) -> ContainerCommand:
        running = ContainerCommand(new_token(), sink, self._kill, self._without_mark)
        options = [*(["-i"] if stdin is not None else []), *who.option]
        shell = ["/bin/sh", "-c", RUN, "sh", who.private, running.mark, self.workdir, who.shell, input]
        starting = asyncio.ensure_future(
            self._engine.reaper.run(
                [*self._engine.argv, "exec", *options, self.container, *who.reaper, *shell, *command],
                cwd="/",
                sink=running.feed,
                stdin=None if stdin is None else stdin.fileno(),
            )
        )
        try:
            running.client = await asyncio.shield(starting)
        except asyncio.CancelledError:  # what has been asked of the engine can be ended only once it runs
            await finished(self._abandon(running, starting))
            raise
        return running

    async def _abandon(self, running: ContainerCommand, starting: asyncio.Future[KeptCommand]) -> None:
        running.client = await starting
        await end(running)

    async def _kill(self, mark: str, leader: int | None) -> None:
        """Kill a command and all that it started, as root: it may have changed its user."""
        root = replace(await self._prepared(AGENT), option=("--user", "0"), reaper=(), shell="/bin/sh")
        arguments = [KILL, "sh", "" if leader is None else str(leader), mark, "/nonexistent"]
        running = await self._start_as(root, lambda *_: None, "none", arguments)
        try:
            async with asyncio.timeout(KILL_LIMIT):
                await running.wait()
        except (TimeoutError, MachineError):  # the engine does not answer; its client is ended all the same
            await running.client.kill()

    async def _without_mark(self, code: int, messages: str, started: bool) -> int:
        """The engine's client ended, but the command's shell did not say how the command did."""
        self._check()
        state = await self._state()
        if not state.running:
            raise MachineDown(self.describe(), state.text)
        if not started:
            raise MachineError(f"{self.describe()} could not start the command: {complaint(messages)}")
        return code  # the command killed the shell that was to tell

    # -- files ------------------------------------------------------------------------------------------------

    async def _run_script(self, argv: list[str], sink: Sink, stdin: IO[bytes] | None) -> ContainerCommand:
        return await self._start(AGENT, sink, "data", argv, stdin)

    def _full(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.workdir}/{path}"

    # -- copies -----------------------------------------------------------------------------------------------

    async def fork(self) -> DockerMachine:
        """A container from a commit of this one's file system. Volumes are shared, processes are not copied."""
        commit = await self._commit()
        try:
            return await self._copies(commit).spawn_from(commit)
        finally:
            await finished(commit.release())

    async def snapshot(self) -> DockerSnapshot:
        """A commit of the container's file system. Volumes are not in it, nor are processes."""
        commit = await self._commit()
        return DockerSnapshot(self, self._copies(commit), commit)

    async def _commit(self) -> Commit:
        self._check()
        return await Commit.make(self._engine, self.container, self.describe())

    def _copies(self, commit: Commit) -> DockerImage:
        return replace(
            self.image, image=commit.reference, workdir=self.workdir, name=None, pull="never", remove_on_stop=True
        )

    # -- the network ------------------------------------------------------------------------------------------

    async def expose_port(self, port: int) -> str:
        """On the host's network, this host's own address; on a bridge, a relay at the bridge's gateway."""
        self._check()
        network = (await self._state()).details
        if network["HostConfig"]["NetworkMode"] == "host":
            return f"127.0.0.1:{port}"
        for attached in network["NetworkSettings"]["Networks"].values():
            if gateway := attached.get("Gateway"):
                return await self._relayed(gateway, port)
        what = f"expose_port() on the network {self.image.network!r}, which leads nowhere; pass base_url="
        raise NotSupported(self.describe(), what)

    async def _relayed(self, gateway: str, port: int) -> str:
        if (gateway, port) not in self._relays:
            try:
                self._relays[gateway, port] = await Relay.start(gateway, port)
            except OSError as error:
                what = (
                    f"expose_port(): its gateway {gateway} is none of this host's addresses ({error}); pass base_url="
                )
                raise NotSupported(self.describe(), what) from error
        where = f"[{gateway}]" if ipaddress.ip_address(gateway).version == 6 else gateway
        return f"{where}:{self._relays[gateway, port].port}"

    # -- the end ----------------------------------------------------------------------------------------------

    async def wait_down(self) -> str:
        return await asyncio.shield(self._down)

    async def _watch(self) -> None:
        """Wait for the container's end, which the engine tells at once; ask again where the engine itself went away."""
        try:
            while True:
                await self._engine("wait", self.container, timeout=None)
                state = await self._state()
                if not state.running:
                    self._down.set_result(state.text)
                    return
                await asyncio.sleep(0.5)
        except MachineStopped:
            return
        except MachineError as error:
            self._down.set_result(str(error))

    async def _state(self) -> State:
        """How the container is. Raises :class:`MachineDown` when the engine has not said for ``DEAD_AFTER`` seconds."""
        try:
            async with asyncio.timeout(DEAD_AFTER):
                while True:
                    try:
                        return await self._engine.state(self.container)
                    except (MachineDown, MachineStopped):
                        raise
                    except MachineError as error:
                        failure = str(error)
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise MachineDown(self.describe(), failure) from None

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await finished(self._stop())

    async def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for relay in self._relays.values():
            await relay.stop()
        await self._engine.undo(self._ending, self._lease)
        for commit in self.commits:
            await commit.release()
        if not self._down.done():
            self._down.set_result("it was stopped")
