"""What a process owns: its machines, its agents, its child processes, and the names of its agents."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ramure.actors import ActorSystem, Call, Ref
from ramure.agents.agent import AgentActor
from ramure.agents.names import check_name
from ramure.agents.requests import AgentOptions, Pause
from ramure.errors import ActorDied, StopTimeout, UsageError
from ramure.exits import KILLED, NOPROC
from ramure.machines.actor import GetRemoteHome, MachineActor, stop_machine
from ramure.machines.local import LocalImage
from ramure.runtime.process.mistakes import warn_of_model
from ramure.runtime.process.record import AgentRecord, MachineRecord, ProcessRecord
from ramure.runtime.process.stream import Event, EventStream
from ramure.runtime.stalls.carriers import OURS
from ramure.supervisors import ChildSpec, DynamicSupervisor, SupervisorStopping

if TYPE_CHECKING:
    from ramure.machines.base import Image
    from ramure.machines.remote_home import RemoteHome
    from ramure.runtime.process.messages import StartAgent

__all__ = ["AgentNameTaken", "Owned", "Ownership"]


AGENT_EVENTS: Final = 1000
AGENT_TEXT: Final = 16 << 20
"""Events of an agent that its stream keeps; its log has them all. An agent may live for weeks."""


Owned: TypeAlias = Literal["children", "agents", "machines"]

KINDS: Final[tuple[Owned, ...]] = ("children", "agents", "machines")
"""What a process can own, in the order in which it ends."""

LOOKED_AT: Final = frozenset({"state", "paused", "resumed", "tool_result", "run_end"})
"""Events of an agent after which its process may be stalled, or is not any more."""


class AgentNameTaken(UsageError):
    """Another live agent of the same process has the name."""

    def __init__(self, process: str, name: str) -> None:
        super().__init__(f"the process {process} has a live agent {name!r} already; choose another name")


class Ownership:
    """What a process owns, in up to three supervisors: each is started when the first thing for it is."""

    __slots__ = ("_burials", "_closed", "_supervisors", "process", "record", "system")

    def __init__(self, process: Ref[Any], record: ProcessRecord) -> None:
        self.process: Ref[Any] = process
        self.system: ActorSystem = record.run.system
        self.record: ProcessRecord = record
        self._supervisors: dict[Owned, Ref[DynamicSupervisor]] = {}
        self._closed: tuple[Owned, ...] = ()
        """Those that are started no more."""
        self._burials: set[asyncio.Task[None]] | None = None

    def supervisor(self, kind: Owned) -> Ref[DynamicSupervisor]:
        """The supervisor of what is of that kind, which may have ended. Raises ActorDied where there is none any more."""
        found = self._supervisors.get(kind)
        if found is None:
            process = self.process
            if kind in self._closed or not process.is_alive():
                raise ActorDied(f"{kind} of {self.record.label}", NOPROC)
            context = process._cell.context.copy()  # whoever asks first, it is the process's
            starter = self.system.options(link=True, label=f"{kind} of {self.record.label}")
            found = self._supervisors[kind] = context.run(starter.start_now, DynamicSupervisor)
        return found

    def is_own(self, ref: Ref[Any]) -> bool:
        """True for one of the supervisors."""
        return ref in self._supervisors.values()

    async def ended(self) -> None:
        """Return when the supervisors have ended, with all that is in them."""
        for supervisor in list(self._supervisors.values()):
            await supervisor.wait()

    # -- agents -----------------------------------------------------------------------------------------------

    def reserve(self, request: StartAgent) -> AgentRecord:
        """Take the name, before anything is provisioned. Raises BadAgentName or :class:`AgentNameTaken`."""
        name = check_name(request.name)
        if name in self.record.agents:
            raise AgentNameTaken(self.record.label, name)
        address = self.record.run.take_address(name)
        made = AgentRecord(
            name,
            address,
            self.record,
            EventStream(AGENT_EVENTS, most_text=AGENT_TEXT),
            on_idle=request.options.get("on_idle"),
        )
        made.stream.on_wait = self.record.run.stalls.look
        made.stream.clock = self.system.clock.wall
        made.made_at = request.options.get("made_at", "")
        self.record.agents[name] = made
        self.record.run.agents[address] = made
        return made

    async def start_agent(self, made: AgentRecord, request: StartAgent) -> Ref[AgentActor]:
        """Start the agent's actor, on the machine that was given or on one of its own."""
        options = request.options
        given: MachineRecord | None = options.get("machine")
        machine = given if given is not None else await self.start_machine(options.get("image"))

        made.machine, made.machine_is_own = machine.ref, given is None

        def publish(type: str, data: Any, size: int) -> None:
            made.stream.publish(Event(type, data), size)
            if type in LOOKED_AT:
                self.record.run.stalls.look()
            elif type == "problem" and data["code"] == "unknown_model":
                warn_of_model(made, data["message"])

        plan = AgentOptions(
            name=made.name,
            address=made.address,
            machine=machine.ref,
            services=self.record.run.services,
            system_prompt=options.get("system_prompt"),
            model=options.get("model"),
            on_event=publish,
            usage=made.usage,
            **{
                key: options[key]
                for key in (
                    "restart",
                    "max_restarts",
                    "within",
                    "backoff",
                    "stale_after",
                    "daemons",
                    "retry_for",
                    "on_model_error",
                )
                if options.get(key) is not None
            },
        )
        spec = ChildSpec(made.address, AgentActor, (plan,), restart="temporary", shutdown="infinity", type="supervisor")
        ref: Ref[AgentActor] = await self.supervisor("agents").ask(Call("start_child", (spec,)), timeout=None)
        if self.record.run.statistics.paused:
            await ref.ask(Pause(), timeout=None)
        return ref

    async def end_agent(self, made: AgentRecord) -> None:
        """End an agent that nobody gets, and the machine that was made for it."""
        await self._end("agents", made.ref)
        if made.machine_is_own:
            await self._end("machines", made.machine)

    # -- machines ---------------------------------------------------------------------------------------------

    def image(self, given: Image | None) -> Image:
        """The image to use: the one given, else the process's, which may be inherited, else this host."""
        return given or self.record.image or LocalImage()

    async def start_machine(self, given: Image | None) -> MachineRecord:
        """Start a machine's actor. It may still be provisioning."""
        image = self.image(given)
        label = f"machine {self.record.run.next_number('machine')}"
        spec = ChildSpec(label, MachineActor, (image,), restart="temporary", shutdown="infinity", type="supervisor")
        ref: Ref[MachineActor] = await self.supervisor("machines").ask(Call("start_child", (spec,)), timeout=None)
        cleanup = self.system.loop.create_task(_bury(ref), name=f"cleanup of {label}", context=contextvars.Context())
        OURS.add(cleanup)
        if self._burials is None:
            self._burials = set()
        self._burials.add(cleanup)
        cleanup.add_done_callback(self._burials.discard)
        machines = self.record.run.statistics.machines
        cleanup.add_done_callback(lambda _: machines.pop(label, None))
        made = machines[label] = MachineRecord(label, image, self.record, ref)
        return made

    async def end_machine(self, made: MachineRecord) -> None:
        """End a machine that nobody gets."""
        await self._end("machines", made.ref)

    async def _end(self, kind: Owned, child: Ref[Any] | None) -> None:
        with contextlib.suppress(ActorDied, SupervisorStopping):  # then the process ends, and the child with it
            await self.supervisor(kind).ask(Call("terminate_child", (child,)), timeout=None)

    # -- the end ----------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Stop the child processes one by one, the last started first; then the agents; then the machines."""
        children = self._supervisors.get("children")
        if children is not None:
            await _stop_children(children)
        for kind in KINDS:
            self._closed += (kind,)
            supervisor = self._supervisors.get(kind)
            if supervisor is not None and supervisor.is_alive():
                supervisor.exit("shutdown")
                await supervisor.wait()
        if self._burials:
            await asyncio.wait(self._burials)


async def _stop_children(supervisor: Ref[DynamicSupervisor]) -> None:
    try:
        for child in reversed(await supervisor.ask(Call("which_children", ()), timeout=None)):
            await supervisor.ask(Call("terminate_child", (child.ref,)), timeout=None)
    except ActorDied:
        return  # the supervisor is gone, and its children with it


async def _bury(ref: Ref[MachineActor]) -> None:
    """Stop the machine of an actor that is killed, and cannot do it itself."""
    try:
        remote_home: RemoteHome = await ref.ask(GetRemoteHome(), timeout=None)
    except ActorDied:
        return  # it never had one
    if await ref.wait() == KILLED:
        await remote_home.close()
        with contextlib.suppress(StopTimeout):  # which is told: nothing else can be done
            await stop_machine(remote_home.machine)
