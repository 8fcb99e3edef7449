"""One life of an agent's pi: launched, watched, ended. The agent's child; a restart makes a new one."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ramure.actors import Actor, Ref
from ramure.agents.errors import LaunchFailed, PiExited
from ramure.agents.launch import Launch, Timings, extension_path, pi_environment
from ramure.agents.screen import masked, secrets_in
from ramure.agents.wire import Bye, Frame, Hello, Shutdown
from ramure.exits import Crashed
from ramure.machines.errors import MachineError
from ramure.machines.local import LocalMachine
from ramure.machines.tmux import Ending, NoSuchSession, Tmux, TmuxServerGone
from ramure.types import ExecutionFailed

if TYPE_CHECKING:
    from ramure.agents.services import Connection, Services
    from ramure.machines.base import Machine

__all__ = ["Connected", "Disconnected", "FrameIn", "Session", "SessionPlan"]


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What a session is launched from; the same for every restart."""

    agent: Ref[Any]
    name: str
    address: str
    machine: Machine
    services: Services
    model: str | None = None
    launch_timeout: float = 60.0
    """Seconds from the start of pi to its connection."""
    stale_after: float = 15.0
    """Seconds without a sign of life after which pi counts as hung, whether its connection stands or is lost."""
    timings: Timings = field(default_factory=Timings)


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


class Session(Actor):
    """Starts pi in tmux and ends when pi does: with ``Crashed(PiExited)`` if nobody asked it to.

    Until it has connected, every end is a ``Crashed(LaunchFailed)``.
    """

    async def init(self, plan: SessionPlan) -> None:
        self.trap_exit = True
        self.plan = plan
        self.tmux: Tmux | None = None
        self.launch: Launch | None = None
        self.connection: Connection | None = None
        self.last: Connection | None = None
        self.was_connected = False
        self.bye = ""
        self._grace = 2.0
        self._sink = _Sink(self.ref, plan.agent)
        self.start_task(self._live(), name=f"session of {plan.address}")

    # -- its life -------------------------------------------------------------------------------------

    async def _live(self) -> None:
        plan = self.plan
        try:
            self.launch = await self._prepare()
            self.tmux = await plan.services.tmux_for(plan.machine)
            plan.services.expect(self.launch.token, self._sink, plan.stale_after)
            await self.launch.write(plan.machine)
            await self.tmux.new_session(plan.address, self.launch.command(), cwd=self.launch.cwd)
        except (MachineError, ExecutionFailed, OSError) as error:
            self._end(LaunchFailed(plan.name, str(error)))
            return
        self.send_after(plan.launch_timeout, _LaunchTimeout())
        try:
            ending = await self.tmux.wait_end(plan.address)
        except MachineError as error:
            self._end(PiExited(f"the way to its machine was lost: {error}"))
            return
        self._end(self._exited(ending))

    async def _prepare(self) -> Launch:
        plan = self.plan
        services, machine = plan.services, plan.machine
        own_pi: tuple[str, ...] | None = getattr(machine, "pi_argv", None)  # simulated machines bring theirs
        pi_argv = own_pi or (await asyncio.to_thread(services.toolchain)).pi_argv
        return Launch(
            run_id=services.run_id,
            address=plan.address,
            token=secrets.token_urlsafe(32),
            url=await services.url_for(machine),
            directory=str(services.scratch),
            session_file=str(services.session_file(plan.address)),
            pi_argv=pi_argv,
            extension=str(extension_path()),
            cwd=machine.workdir if isinstance(machine, LocalMachine) else "/",
            model=plan.model,
            environment=pi_environment(machine),
            timings=plan.timings.within(plan.stale_after),
        )

    def _exited(self, ending: Ending) -> PiExited | LaunchFailed:
        how = _how(ending)
        if self.bye:
            how += f" ({self.bye})"
        if self.was_connected:
            return PiExited(how, self._masked(ending.screen))
        return LaunchFailed(self.plan.name, how, screen=self._masked(ending.screen))

    def _end(self, error: Exception) -> None:
        self.stop(Crashed(error))

    # -- what it hears ----------------------------------------------------------------------------------

    async def handle_info(self, message: object) -> None:
        match message:
            case Connected(connection=connection):
                self.connection = self.last = connection
                self.was_connected = True
            case Disconnected(connection=connection):
                if connection is self.connection:
                    self.connection = None
                    left = 0.0 if connection.stale else self.plan.stale_after - connection.silent_for()
                    self.send_after(max(left, 0.0), _StillGone(connection))
                await self._look()
            case _StillGone(lost) if self.connection is None and self.last is lost:
                why = f"pi has given no sign of life for {self.plan.stale_after:g} s"
                self._grace = 0.0  # who hears nothing cannot be asked to end
                self._end(PiExited(why, await self._screen()))
            case Bye(reason=reason):
                self.bye = reason
            case _LaunchTimeout() if not self.was_connected:
                screen = await self._screen()
                why = f"pi did not connect within {self.plan.launch_timeout:g} s"
                self._end(LaunchFailed(self.plan.name, why, "`ramure doctor` checks pi and its model", screen))

    async def _look(self) -> None:
        """The connection dropped: if pi is gone, say so now rather than when tmux does."""
        if self.tmux is None:
            return
        try:
            pane = await self.tmux.pane(self.plan.address)
            if pane.dead:
                screen = await self.tmux.capture(self.plan.address)
                self._end(self._exited(Ending(self.plan.address, "exited", pane.exit_code, screen)))
        except NoSuchSession:
            self._end(self._exited(Ending(self.plan.address, "closed")))
        except TmuxServerGone:
            self._end(self._exited(Ending(self.plan.address, "server_gone")))

    async def _screen(self) -> str:
        if self.tmux is None:
            return ""
        try:
            return self._masked(await self.tmux.capture(self.plan.address))
        except MachineError:
            return ""

    def _masked(self, screen: str) -> str:
        """Errors and logs show the screen, to more people than may see what is secret on it."""
        launch = self.launch
        return masked(screen, [launch.token, *secrets_in(launch.environment)] if launch is not None else ())

    # -- its end ------------------------------------------------------------------------------------------

    async def terminate(self, reason: object) -> None:
        """Nothing of this launch is left: pi is told to end, then made to."""
        launch, tmux, plan = self.launch, self.tmux, self.plan
        if self.connection is not None:
            self.connection.send(Shutdown("the run ended this session"))
        if launch is not None:
            try:
                if tmux is not None:
                    await tmux.kill_session(plan.address, grace=self._grace)
            except (NoSuchSession, TmuxServerGone):
                pass  # it is gone already
            finally:
                plan.services.forget(launch.token)
                await self._remove_files(launch)

    async def _remove_files(self, launch: Launch) -> None:
        try:
            await launch.remove(self.plan.machine)
        except MachineError as error:
            self.plan.services.log("problem", {"agent": self.plan.address, "text": f"launch files are left: {error}"})


@dataclass(frozen=True, slots=True)
class _LaunchTimeout:
    """Time is up for pi to connect."""


@dataclass(frozen=True, slots=True)
class _StillGone:
    """Time is up for a lost connection to come back."""

    lost: Connection


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


def _how(ending: Ending) -> str:
    if ending.how == "exited":
        code = ending.exit_code or 0
        if code > 128:
            return f"pi was killed by signal {code - 128}"
        return f"pi exited by itself, with status {code}"
    return "pi's tmux session was closed" if ending.how == "closed" else "pi's tmux server died"
