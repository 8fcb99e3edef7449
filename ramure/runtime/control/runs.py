"""The control socket's methods about the run, its processes and its agents."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.agents.requests import Interrupt, Pause, Say, Unpause
from ramure.errors import ActorDied, AskTimeout
from ramure.machines.base import AGENT
from ramure.machines.local import LocalMachine
from ramure.runtime.control.answers import Hello, Output, Sent, Terminal, as_plain
from ramure.runtime.control.errors import BadRequest, NoAnswer, NoSuchAgent, NoSuchProcess
from ramure.runtime.control.flow import PIECE
from ramure.runtime.control.methods import Window, method, stream
from ramure.runtime.control.values import opened
from ramure.runtime.control.wire import PROTOCOL
from ramure.runtime.process.messages import CallEndpoint, Cancel
from ramure.runtime.views.status import agent_actor, machine_of, run_status, run_summary
from ramure.runtime.views.status_data import RunStatus, RunSummary
from ramure.types import ExecResult

if TYPE_CHECKING:
    from ramure.actors import Ref
    from ramure.agents.agent import AgentActor
    from ramure.machines.base import Machine
    from ramure.machines.remote_home import RemoteHome
    from ramure.runtime.process.record import AgentRecord, ProcessRecord
    from ramure.runtime.run.run import Run

__all__ = ["RunMethods"]


KNOWN_TERM: Final = (
    'infocmp "$TERM" >/dev/null 2>&1 || case "$TERM" in xterm|xterm-256color|screen|screen-256color|linux|vt100) ;; '
    "*) TERM=xterm-256color; export TERM ;; esac"
)
"""On a machine whose terminfo does not know the terminal that somebody sits at: tmux would refuse it."""


class RunMethods:
    """What can be asked of a run, and done with it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._windows: dict[int, Window] = {}
        self._numbers = itertools.count(1)

    # -- looking --------------------------------------------------------------------------------------------------

    @method
    def hello(self) -> Hello:
        """Who this is, and which protocol it speaks."""
        return {"protocol": PROTOCOL, "execution_id": self._run.execution_id, "pid": os.getpid()}

    @method
    def summary(self) -> RunSummary:
        """The run in a few lines, for ``ramure ls``."""
        return run_summary(self._run)

    @method
    def status(self) -> RunStatus:
        """The run, and all that is in it."""
        return run_status(self._run)

    # -- agents ---------------------------------------------------------------------------------------------------

    @method
    async def send(self, agent: str, text: str, how: Literal["steer", "queue"] = "steer") -> Sent:
        """Send an agent a message. Answered with its seq when it is in the agent's log."""
        seq = await self._agent(agent).ask(Say(text, how, "person"), timeout=None)
        return {"seq": seq}

    @method
    async def interrupt(self, agent: str) -> None:
        """End what an agent is doing now."""
        await self._agent(agent).ask(Interrupt(), timeout=None)

    @method
    async def exec(self, agent: str, command: str, user: str = AGENT, limit: float | None = None) -> ExecResult:
        """Run a shell command on an agent's machine, or on the machine named: ``stdout``, ``stderr``, ``exit_code``.

        Not through the machine's actor: a client that leaves or cancels ends the command too.
        """
        result = await self._machine(agent).exec(command, user=user, timeout=limit)
        return as_plain(result)

    @stream
    async def exec_stream(
        self, agent: str, command: str, user: str = AGENT, limit: float | None = None
    ) -> AsyncIterator[Output]:
        """As ``exec``, with the output as it comes: first ``number``; then ``source`` (``stdout`` or ``stderr``) with
        ``data``, its bytes; at last ``exit_code``. The client tells what it has taken by ``exec_taken``; one that does
        not read holds the command up."""
        number, window = next(self._numbers), Window()
        self._windows[number] = window
        try:
            yield {"number": number}
            async with self._machine(agent).stream(command, user=user, timeout=limit) as output:
                async for chunk in output:
                    for at in range(0, len(chunk.data), PIECE):
                        piece = chunk.data[at : at + PIECE]
                        await window.send(len(piece))
                        yield {"source": chunk.source, "data": piece}
            assert output.exit_code is not None  # the iteration is over
            yield {"exit_code": output.exit_code}
        finally:
            del self._windows[number]

    @method
    def exec_taken(self, number: int, items: int) -> None:
        """The client has taken so many more items of output of the ``exec_stream`` of this number."""
        window = self._windows.get(number)
        if window is not None:  # else it ended meanwhile
            window.taken(items)

    @method
    async def screen(self, agent: str, read_only: bool = False) -> Terminal:
        """What to run in a terminal on this host to see an agent's: ``argv``, ``env``, ``cwd``."""
        record, remote_home = self._remote_home(agent)
        machine, more = remote_home.machine, ["-r"] if read_only else []
        if machine.here or hasattr(machine, "tmux"):
            tmux = await self._run.services.tmux_for(machine)
            return _terminal([*tmux.attach_command(record.address), *more])
        room = await remote_home.room()
        attach = [*room.tmux.attach_command(record.address), *more]
        return _terminal(machine.terminal(["/bin/sh", "-c", f'{KNOWN_TERM}; exec "$@"', "sh", *attach]))

    @method
    async def shell(self, agent: str) -> Terminal:
        """What to run in a terminal on this host for a shell on an agent's machine, or on the machine named."""
        machine = self._machine(agent)
        if isinstance(machine, LocalMachine) and machine.here:
            return _terminal([os.environ.get("SHELL") or "/bin/sh", "-i"], machine.env, machine.workdir)
        inside = f'{KNOWN_TERM}; cd -- {shlex.quote(getattr(machine, "workdir", "."))}; exec "${{SHELL:-/bin/sh}}" -i'
        return _terminal(machine.terminal(["/bin/sh", "-c", inside]))

    def _machine(self, name: str) -> Machine:
        """An agent's machine, or the one of this name."""
        record = next((m for m in self._run.statistics.machines.values() if m.name in (name, f"machine {name}")), None)
        if record is None or name in self._run.agents:
            return self._remote_home(name)[1].machine
        machine: Machine | None = machine_of(record)
        if machine is None:
            raise BadRequest("agent", f"{record.name!r} is being provisioned; try again soon")
        return machine

    def _remote_home(self, address: str) -> tuple[AgentRecord, RemoteHome]:
        record = self._record(address)
        actor = agent_actor(record)
        if actor is None or actor.remote_home is None:
            raise BadRequest("agent", f"{address!r} is being provisioned: it has no machine yet; try again soon")
        return record, actor.remote_home

    @method
    async def pause(self, agent: str | None = None) -> list[str]:
        """Hold up what an agent's model is doing, and all that comes, until ``unpause``; without one, all agents,
        and those to come. Answered with those that are paused by it."""
        if agent is None:
            self._run.statistics.paused = True
        return await self._each(agent, Pause(), lambda actor: not actor.paused)

    @method
    async def unpause(self, agent: str | None = None) -> list[str]:
        """Undo ``pause``: an agent that was at work goes on, and what has waited is delivered."""
        if agent is None:
            self._run.statistics.paused = False
        return await self._each(agent, Unpause(), lambda actor: actor.paused)

    async def _each(self, agent: str | None, request: object, where: Callable[[AgentActor], bool]) -> list[str]:
        records = [self._record(agent)] if agent is not None else list(self._run.agents.values())
        changed = []
        for record in records:
            actor = agent_actor(record)
            if record.ref is not None and actor is not None and where(actor):
                try:
                    await record.ref.ask(request, timeout=None)
                except ActorDied:
                    continue  # it ended meanwhile
                changed.append(record.address)
        return changed

    def _record(self, address: str) -> AgentRecord:
        record = self._run.agents.get(address)
        if record is None:
            raise NoSuchAgent(address, sorted(self._run.agents))
        return record

    def _agent(self, address: str) -> Ref[Any]:
        ref = self._record(address).ref
        if ref is None:
            raise NoSuchAgent(address, sorted(self._run.agents))
        return ref

    # -- processes ------------------------------------------------------------------------------------------------

    @method
    async def call(
        self,
        endpoint: str,
        arguments: dict[str, Any] | None = None,
        process: str | None = None,
        limit: float | None = None,
        texts: dict[str, str] | None = None,
    ) -> Any:
        """Call an endpoint of a process: of the only one that has it, or of the one named (its path, its name with
        its number, or its name alone). ``texts`` are arguments as a person has written them. What it does goes on when there is no answer within ``limit`` seconds."""
        record = self._with_endpoint(endpoint) if process is None else self._process(process)
        if record.ref is None:
            raise NoSuchProcess(f"the process {record.path} does not run yet")
        try:
            return await record.ref.ask(CallEndpoint(endpoint, opened(arguments or {}), texts or {}), timeout=limit)
        except AskTimeout:
            went_on = f"endpoint {endpoint!r} of {record.path} has not answered within {limit:g} s; it goes on there"
            raise NoAnswer(went_on) from None

    def _live(self) -> list[ProcessRecord]:
        return [record for record in self._run.processes.values() if record.outcome is None]

    def _process(self, called: str) -> ProcessRecord:
        fitting = [record for record in self._live() if called in (record.path, record.label, record.name)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise NoSuchProcess(f"several processes are called {called!r}: {_paths(fitting)}; say which")
        raise NoSuchProcess(f"no live process is called {called!r}; there are: {_paths(self._live())}")

    def _with_endpoint(self, name: str) -> ProcessRecord:
        fitting = [record for record in self._live() if name in record.endpoints]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise BadRequest("process", f"several processes have an endpoint {name!r}: {_paths(fitting)}; say which")
        have = sorted({known for record in self._live() for known in record.endpoints})
        raise BadRequest("endpoint", f"no process has an endpoint {name!r}; there are: {', '.join(have) or 'none'}")

    # -- the run --------------------------------------------------------------------------------------------------

    @method
    def stop(self) -> None:
        """End the run: its root processes are cancelled, and end with all that they own."""
        for record in self._live():
            if record.parent is None and record.ref is not None:
                record.ref.tell(Cancel("shutdown"))


def _terminal(argv: list[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> Terminal:
    return {"argv": argv, "env": dict(env or {}), "cwd": cwd}


def _paths(records: list[ProcessRecord]) -> str:
    paths = [record.path for record in records]
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return (", ".join(paths[:20]) or "none") + more
