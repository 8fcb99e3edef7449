"""The control socket's methods about the run, its processes and its agents."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, Literal

from ramure.agents.requests import Interrupt, Say
from ramure.machines.actor import Exec
from ramure.machines.base import AGENT
from ramure.runtime.control.errors import BadRequest, NoSuchAgent, NoSuchProcess
from ramure.runtime.control.methods import method
from ramure.runtime.control.wire import PROTOCOL
from ramure.runtime.messages import CallEndpoint, Cancel
from ramure.runtime.status import agent_actor, run_status, run_summary

if TYPE_CHECKING:
    from ramure.actors import Ref
    from ramure.runtime.record import AgentRecord, ProcessRecord
    from ramure.runtime.run import Run

__all__ = ["RunMethods"]


class RunMethods:
    """What can be asked of a run, and done with it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    # -- looking --------------------------------------------------------------------------------------------------

    @method
    def hello(self) -> dict[str, Any]:
        """Who this is, and which protocol it speaks."""
        return {"protocol": PROTOCOL, "execution_id": self._run.execution_id, "pid": os.getpid()}

    @method
    def summary(self) -> dict[str, Any]:
        """The run in a few lines, for ``ramure ls``."""
        return run_summary(self._run)

    @method
    def status(self) -> dict[str, Any]:
        """The run, and all that is in it."""
        return run_status(self._run)

    # -- agents ---------------------------------------------------------------------------------------------------

    @method
    async def send(self, agent: str, text: str, how: Literal["steer", "queue"] = "steer") -> dict[str, Any]:
        """Send an agent a message. Answered with its seq when it is in the agent's log."""
        seq = await self._agent(agent).ask(Say(text, how, "person"), timeout=None)
        return {"seq": seq}

    @method
    async def interrupt(self, agent: str) -> None:
        """End what an agent is doing now."""
        await self._agent(agent).ask(Interrupt(), timeout=None)

    @method
    async def exec(self, agent: str, command: str, user: str = AGENT, timeout: float | None = None) -> dict[str, Any]:
        """Run a shell command on an agent's machine: ``stdout``, ``stderr``, ``exit_code``."""
        result = await self._agent(agent).ask(Exec(command, user, timeout), timeout=None)
        return dataclasses.asdict(result)

    @method
    async def attach(self, agent: str) -> dict[str, Any]:
        """The command that shows an agent's terminal in a terminal of this host."""
        record = self._record(agent)
        actor = agent_actor(record)
        if actor is None or actor.quarters is None:
            raise NoSuchAgent(agent, sorted(self._run.agents))
        machine = actor.quarters.machine
        if machine.here or hasattr(machine, "tmux"):
            return {"command": (await self._run.services.tmux_for(machine)).attach_command(record.address)}
        room = await actor.quarters.room()
        return {"command": machine.terminal(room.tmux.attach_command(record.address))}

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
    async def call(self, endpoint: str, arguments: dict[str, Any] | None = None, process: str | None = None) -> Any:
        """Call an endpoint of a process: of the only one that has it, or of the one named (its path, its name with
        its number, or its name alone)."""
        record = self._with_endpoint(endpoint) if process is None else self._process(process)
        if record.ref is None:
            raise NoSuchProcess(f"the process {record.path} does not run yet")
        return await record.ref.ask(CallEndpoint(endpoint, arguments or {}), timeout=None)

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


def _paths(records: list[ProcessRecord]) -> str:
    paths = [record.path for record in records]
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return (", ".join(paths[:20]) or "none") + more
