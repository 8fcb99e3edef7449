"""One life of an agent's pi: launched, watched, ended. The agent's child; a restart makes a new one."""

from __future__ import annotations

import asyncio
import contextlib
import math
import posixpath
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.actors import Actor, Ref
from ramure.agents.cleanup import Cleanups
from ramure.agents.errors import LaunchFailed, PiExited
from ramure.agents.pi.launch import Launch, Timings
from ramure.agents.pi.launch_target import LaunchTarget, find_launch_target
from ramure.agents.pi.screen import dialog_in
from ramure.agents.wire import Bye, Frame, Hello, Shutdown
from ramure.errors import with_remedy
from ramure.exits import Crashed, is_clean
from ramure.machines.asking import ask
from ramure.machines.errors import LinkLost, MachineDown, MachineError, MachineStopped, WorkdirGone
from ramure.machines.tmux.driver import Ending, NoSuchSession, SessionExists, TmuxServerGone
from ramure.masking import masked, remember_secrets
from ramure.types import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramure.agents.message_marks import MessageMarks
    from ramure.agents.services import Connection, Services
    from ramure.machines.base import Machine
    from ramure.machines.reaper.process_tree import Daemons, EndedTree
    from ramure.machines.remote_home import RemoteHome

__all__ = [
    "CommandsEnded",
    "Connected",
    "Disconnected",
    "ForgedRemoved",
    "FrameIn",
    "SaveMemory",
    "Session",
    "SessionPlan",
]

SCREEN_LIMIT: Final = 2.0
"""Seconds that tmux has to show a screen: an end is told without one rather than never."""

MACHINE_LIMIT: Final = 60.0
"""Seconds that a machine has to answer, and its actor to notice that it is gone."""

ASK_AGAIN: Final = 1.0
"""Seconds until a machine that seems to be down, or whose disk is full, is asked again."""

NO_ROOM: Final = re.compile("No space left on device|Disk quota exceeded")
"""What a command or a system call says where a file cannot be written for now."""

NEEDED: Final = 1 << 16
"""Bytes that the files of a launch need at least."""

TRY_ROOM: Final = (
    'mkdir -p -- "$1" && head -c "$2" /dev/urandom >"$1/.probe"; status=$?; rm -f -- "$1/.probe"; exit $status'
)

TREE_LIMIT: Final = 1.0
"""Seconds for which the report of pi's end waits for the end of its process tree: mostly that is over already."""

TREE_GONE: Final = 5.0
"""Seconds that a process tree has to end, until it is ended from outside."""

LOOK_FOR_DIALOG: Final = 3.0
"""Seconds between two looks at the screen of a pi that has not connected yet. A dialog seen twice is waiting."""

SAVE_EVERY: Final = 5.0
"""Seconds between two copies of the conversation while pi works: so much of it may be lost with its machine."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What a session is launched from; the same for every restart."""

    agent: Ref[Any]
    name: str
    address: str
    remote_home: RemoteHome
    services: Services
    cleanups: Cleanups
    marks: MessageMarks
    model: str | None = None
    launch_timeout: float = 60.0
    """Seconds from the start of pi to its connection."""
    stale_after: float = 15.0
    """Seconds without a sign of life after which pi counts as hung, whether its connection stands or is lost."""
    timings: Timings = field(default_factory=Timings)
    daemons: Daemons = "end"


@dataclass(frozen=True, slots=True)
class SaveMemory:
    """pi has written to its session: a good moment for copying it to the run's logs. ``settled``: and writes no more for
    now."""

    settled: bool


# -- to the agent -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The extension of this session's pi has connected."""

    session: Ref[Any]
    connection: Connection
    hello: Hello


@dataclass(frozen=True, slots=True)
class FrameIn:
    """A frame came from the extension."""

    connection: Connection
    frame: Frame


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended; the extension may connect again."""

    connection: Connection
    reason: str


@dataclass(frozen=True, slots=True)
class CommandsEnded:
    """These command lines were ended with a pi; its end had been told before that was known."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgedRemoved:
    """The session file held messages that the run did not send, before this start of pi."""

    seqs: tuple[int, ...]


class Session(Actor):
    """Starts pi in tmux and ends when pi does: with ``Crashed(PiExited)`` if nobody asked it to.

    Until it has connected, every end is a ``Crashed(LaunchFailed)``.
    """

    async def init(self, plan: SessionPlan) -> None:
        self.trap_exit = True
        self.plan = plan
        self.place: LaunchTarget | None = None
        self.launch: Launch | None = None
        self.connection: Connection | None = None
        self.last: Connection | None = None
        self.pid: int | None = None
        self.was_connected: bool = False
        self.bye: str = ""
        self._grace = 2.0
        self._saving: asyncio.Task[Any] | None = None
        self._saved_at = -math.inf
        self._commands: asyncio.Future[tuple[str, ...]] | None = None
        self._sink = _Sink(self.ref, plan.agent)
        self.start_task(self._live(), name=f"session of {plan.address}")

    # -- its life -------------------------------------------------------------------------------------

    async def _live(self) -> None:
        plan, services = self.plan, self.plan.services
        await plan.cleanups.wait()
        try:
            self.place = place = await find_launch_target(plan.name, plan.address, plan.remote_home, services)
            token, timings = secrets.token_urlsafe(32), plan.timings.within(plan.stale_after)
            self.launch = launch = Launch(
                services.run_id, plan.address, token, place, plan.model, timings, plan.daemons
            )
            if not await place.has_workdir():
                raise WorkdirGone(place.machine.describe(), place.cwd)
            services.expect(token, self._sink, plan.stale_after)
            if forged := await self._write(launch):
                plan.agent.tell(ForgedRemoved(forged))
            plan.remote_home.tree_begins(launch.id, place.tmux)
            await self._start(place, launch)
        except LaunchFailed as error:
            self._end(error)
            return
        except WorkdirGone as error:
            self._end(error)
            return
        except (MachineError, CommandFailed, OSError) as error:
            if isinstance(error, (MachineDown, MachineStopped)):
                await self._machine_is_well()
            self._end(LaunchFailed(plan.name, with_remedy(error) if isinstance(error, OSError) else str(error)))
            return
        self.send_after(plan.launch_timeout, _LaunchTimeout())
        self.send_after(LOOK_FOR_DIALOG, _LookForDialog())
        try:
            ending = await self._ending(place)
        except MachineError as error:
            asked = isinstance(error, (MachineDown, MachineStopped))
            await self._died(PiExited(f"the way to its machine was lost: {error}"), alone=asked)
            return
        await self._died(await self._exited(place, ending), alone=ending.how == "exited")

    async def _write(self, launch: Launch) -> tuple[int, ...]:
        """Write the files of the launch (as :meth:`Launch.write`); on a full disk, when there is room: an agent that starts
        again has work to go on with, and the run's limit ends the wait."""
        while True:
            try:
                return await launch.write(self.plan.marks)
            except (MachineError, OSError) as error:
                directory = posixpath.dirname(getattr(error, "filename", None) or launch.place.session_file)
                reason = str(error) if NO_ROOM.search(str(error)) else await _no_room(launch.place.machine, directory)
                if not reason:
                    raise
                report = {"full": True, "path": directory, "reason": reason, "needed": NEEDED}
                self.plan.services.disk(self.plan.address, report, launch.place.machine)
                await asyncio.sleep(ASK_AGAIN)

    async def _start(self, place: LaunchTarget, launch: Launch) -> None:
        """Start pi in a tmux session of its own."""
        try:
            await place.tmux.new_session(self.plan.address, launch.command(), cwd=place.cwd)
        except SessionExists:  # of a life before this one: its actor was killed, and could not see to pi's end
            with contextlib.suppress(NoSuchSession):
                await place.tmux.kill_session(self.plan.address, grace=0.0)
            await place.tmux.new_session(self.plan.address, launch.command(), cwd=place.cwd)

    async def _ending(self, place: LaunchTarget) -> Ending:
        """Wait for pi's end. Raises MachineError if it cannot be seen any more, and the machine is not down."""
        while True:
            try:
                return await place.tmux.wait_end(self.plan.address)
            except (MachineDown, MachineStopped) as error:
                if not await self._machine_is_well() or not place.machine.link_patience:
                    raise error from None

    async def _exited(self, place: LaunchTarget, ending: Ending) -> PiExited | LaunchFailed:
        how = _how(ending)
        if self.bye:
            how += f" ({self.bye})"
        if self.was_connected:
            if self._commands is None:  # two may see the same end
                self._commands = asyncio.ensure_future(self._ended_commands(place, TREE_LIMIT))
            return PiExited(how, self._masked(ending.screen), await asyncio.shield(self._commands))
        return LaunchFailed(self.plan.name, how, screen=self._masked(ending.screen))

    async def _died(self, error: Exception, *, alone: bool = False) -> None:
        """pi is gone. Where its machine is too, that is the reason: the agent, which is linked to it, ends us with it."""
        remote_home = self.plan.remote_home
        if remote_home.closed:
            await asyncio.sleep(MACHINE_LIMIT)
        elif not remote_home.machine.here and not alone:
            await self._machine_is_well()
        self._end(error)

    async def _ended_commands(self, place: LaunchTarget, within: float) -> tuple[str, ...]:
        """The command lines that were ended with pi, masked; whoever asks after the first that is answered gets none."""
        if self.launch is None or not place.parent:
            return ()
        if self.launch.daemons == "keep":  # some of the tree goes on
            within = 0.0
        try:
            async with asyncio.timeout(within + SCREEN_LIMIT):
                ended = await place.tmux.ended_tree(self.launch.id, self.launch.report_path, within=within)
        except (MachineError, OSError):  # a TimeoutError is one; what was ended is not known, and ended it is
            return ()
        return self._told(place, ended)

    def _told(self, place: LaunchTarget, ended: Sequence[EndedTree]) -> tuple[str, ...]:
        """What the next pi is told of each."""
        return tuple(
            self._masked(each.command.strip() + (f" (in {each.directory})" if each.directory != place.cwd else ""))
            for each in ended
        )

    async def _machine_is_well(self) -> bool:
        """Whether the machine answers (after all). One that seems to be down is asked again: if it is, its actor tells so,
        and that ends the agent, and this session with it; to say now that pi had ended would only have it restarted there.
        False if in all its time neither came."""
        machine = self.plan.remote_home.machine
        try:
            async with asyncio.timeout(machine.link_patience + MACHINE_LIMIT):
                while True:
                    try:
                        await machine.ping()
                        return True
                    except LinkLost:
                        continue
                    except (MachineError, OSError):
                        await asyncio.sleep(ASK_AGAIN)
        except TimeoutError:
            return False

    def _end(self, error: Exception) -> None:
        self.stop(Crashed(error))

    # -- what it hears ----------------------------------------------------------------------------------

    async def handle_info(self, message: object) -> None:
        match message:
            case Connected(connection=connection, hello=hello):
                self.connection = self.last = connection
                self.pid = hello.pid
                self.was_connected = True
            case Disconnected(connection=connection):
                if connection is self.connection:
                    self.connection = None
                    left = 0.0 if connection.stale else self.plan.stale_after - connection.silent_for()
                    self.send_after(max(left, 0.0), _StillGone(connection))
                self.start_task(self._look(), name=f"look at {self.plan.address}")
            case _StillGone(lost, last_chance) if self.connection is None and self.last is lost:
                if self.plan.remote_home.machine.link_patience and not last_chance:
                    self.start_task(self._await_link(lost), name=f"link of {self.plan.address}")
                    return
                why = f"pi has given no sign of life for {self.plan.stale_after:g} s"
                self._grace = 0.0  # who hears nothing cannot be asked to end
                self._end(PiExited(why, await self._screen()))
            case SaveMemory(settled) if self.place is not None:
                now = asyncio.get_running_loop().time()
                busy = self._saving is not None and not self._saving.done()
                if not busy and (settled or now - self._saved_at >= SAVE_EVERY):
                    self._saved_at = now
                    self._saving = self.start_task(self._save(self.place), name=f"memory of {self.plan.address}")
            case Bye(reason=reason):
                self.bye = reason
            case _LookForDialog(seen) if not self.was_connected:
                screen = await self._screen()
                found = dialog_in(screen)
                if found is not None and found == seen:
                    why = f"pi waits for a person's answer: {found}"
                    self._end(LaunchFailed(self.plan.name, why, "answer it once, with `pi` in that directory", screen))
                else:
                    self.send_after(LOOK_FOR_DIALOG, _LookForDialog(found))
            case _LaunchTimeout() if not self.was_connected:
                screen = await self._screen()
                why = f"pi did not connect within {self.plan.launch_timeout:g} s"
                self._end(LaunchFailed(self.plan.name, why, "`ramure doctor` checks pi and its model", screen))

    async def _await_link(self, lost: Connection) -> None:
        """pi may be well, and the link to its machine broken: when that is there, pi gets its time once more."""
        if await self._machine_is_well():  # else its end is ours
            self.send_after(self.plan.stale_after, _StillGone(lost, last_chance=True))

    async def _look(self) -> None:
        """The connection dropped: if pi is gone, say so now rather than when tmux does."""
        if self.place is None:
            return
        tmux = self.place.tmux
        try:
            pane = await tmux.pane(self.plan.address)
            if pane.dead:
                screen = await tmux.capture(self.plan.address)
                ending = Ending(self.plan.address, "exited", pane.exit_code, screen)
                await self._died(await self._exited(self.place, ending), alone=True)
        except NoSuchSession:
            await self._died(await self._exited(self.place, Ending(self.plan.address, "closed")))
        except TmuxServerGone:
            await self._died(await self._exited(self.place, Ending(self.plan.address, "server_gone")))
        except MachineError:
            return  # nothing can be seen from here: the watch of the session tells what that means

    async def _screen(self) -> str:
        if self.place is None:
            return ""
        try:
            async with asyncio.timeout(SCREEN_LIMIT):
                return self._masked(await self.place.tmux.capture(self.plan.address))
        except (MachineError, TimeoutError):
            return ""

    def _masked(self, screen: str) -> str:
        """Errors and logs show the screen, to more people than may see what is secret on it."""
        launch = self.launch
        if launch is None:
            return masked(screen)
        remember_secrets(getattr(launch.place.machine, "env", {}))
        return masked(screen, [launch.token])

    async def _save(self, place: LaunchTarget) -> None:
        try:
            await place.save()
        except (MachineError, OSError) as error:
            self._problem(f"its session could not be copied to the logs yet: {error}")

    # -- its end ------------------------------------------------------------------------------------------

    async def terminate(self, reason: object) -> None:
        """Nothing of this launch is left: pi is told to end, then made to; its session file is kept."""
        if self.connection is not None:
            self.connection.send(Shutdown("the run ended this session"))
        if self.launch is None:
            return
        if is_clean(reason):
            try:
                await self._clear_away(self.launch, clean=True)
            finally:
                self.plan.services.forget(self.launch.token)
        else:  # that it died is told now; a pi that hung may wake up yet, and is let in no more
            self.plan.services.forget(self.launch.token)
            self.plan.cleanups.begin(self._clear_away(self.launch, clean=False), f"cleanup of {self.plan.address}")

    async def _clear_away(self, launch: Launch, *, clean: bool) -> None:
        place = launch.place
        try:
            ended: list[EndedTree] = []
            try:
                grace = self._grace if self.was_connected else 0.0  # it has nothing yet that it would have to save
                await place.tmux.kill_session(self.plan.address, grace=grace)
                if not place.machine.here and launch.daemons == "end":  # where a parent cannot do all that it does here
                    ended = await place.tmux.end_orphan(None, launch.id, grace=0.0)
            except (NoSuchSession, TmuxServerGone):  # it may outlive its terminal, and would write into its
                # successor's session file
                ended = await place.tmux.end_orphan(self.pid, launch.id, grace=self._grace, daemons=launch.daemons)
            commands = (*await self._ended_commands(place, TREE_GONE), *self._told(place, ended))
            if launch.daemons == "end":
                self.plan.remote_home.tree_ended(launch.id)
            if commands and not clean:
                self.plan.agent.tell(CommandsEnded(commands))
            await place.save(all_of_it=True)
            await launch.remove()
        except (MachineError, OSError) as error:
            self._problem(f"its end could not be seen to: {error}")

    def _problem(self, text: str) -> None:
        self.plan.services.log("problem", {"agent": self.plan.address, "text": text})


@dataclass(frozen=True, slots=True)
class _LookForDialog:
    """pi has not connected yet: it may wait for an answer. ``seen`` is the question that was there the last time."""

    seen: str | None = None


@dataclass(frozen=True, slots=True)
class _LaunchTimeout:
    """Time is up for pi to connect."""


@dataclass(frozen=True, slots=True)
class _StillGone:
    """Time is up for a lost connection to come back."""

    lost: Connection
    last_chance: bool = False


class _Sink:
    """What the gateway calls: passes on to the actors. Frames go straight to the agent."""

    def __init__(self, session: Ref[Any], agent: Ref[Any]) -> None:
        self._session = session
        self._agent = agent

    def connected(self, connection: Any, hello: Hello) -> None:
        message = Connected(self._session, connection, hello)
        self._session.tell(message)
        self._agent.tell(message)

    def frame(self, connection: Any, frame: Frame) -> None:
        if isinstance(frame, Bye):
            self._session.tell(frame)
        else:
            self._agent.tell_now(FrameIn(connection, frame))

    def disconnected(self, connection: Any, reason: str) -> None:
        message = Disconnected(connection, reason)
        self._session.tell(message)
        self._agent.tell(message)


async def _no_room(machine: Machine, directory: str) -> str:
    """What a command there says where the disk is full; "" where it is not. SFTP does not tell it from other failures."""
    if machine.here:
        return ""
    try:
        tried = await ask(machine, ["/bin/sh", "-c", TRY_ROOM, "sh", directory, str(NEEDED)])
    except MachineError:
        return ""
    found = NO_ROOM.search(tried.stderr)
    return found[0] if found else ""


def _how(ending: Ending) -> str:
    if ending.how == "exited":
        code = ending.exit_code or 0
        if code > 128:
            return f"pi was killed by signal {code - 128}"
        return f"pi exited by itself, with status {code}"
    return "pi's tmux session was closed" if ending.how == "closed" else "pi's tmux server died"
