"""One run: its id, its supervision tree, and what its processes and agents need of it."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from ramure.actors import ActorSystem, Call, Ref
from ramure.agents.pi.toolchain import Toolchain, find_toolchain
from ramure.errors import ActorDied, ExecutionFailed, StartFailed
from ramure.executor import in_thread
from ramure.exits import Crashed, Shutdown, format_exit
from ramure.home import ramure_home
from ramure.machines.errors import NotSupported
from ramure.machines.reaper.reaper import finished, live_reapers
from ramure.machines.relay import Relay
from ramure.machines.tmux.driver import Tmux
from ramure.marks import RUN_ID, mark_context
from ramure.masking import get_logger, masked_values
from ramure.runtime.control.server import ControlActor
from ramure.runtime.log.lines import log_line
from ramure.runtime.log.writer import URGENT, Logs, LogWriter
from ramure.runtime.process.process import Process, ProcessPlan
from ramure.runtime.process.record import AgentRecord, OnIdle, Outcome, ProcessRecord
from ramure.runtime.process.stray_tasks import StrayTasks
from ramure.runtime.process.stream import Event
from ramure.runtime.run.alarms import Alarms, DiskFull
from ramure.runtime.run.crashes import CrashReports
from ramure.runtime.run.daemon_thread import in_daemon_thread
from ramure.runtime.run.gateway import Gateway
from ramure.runtime.run.gc import sweep
from ramure.runtime.run.marked import kill_marked
from ramure.runtime.run.paths import Home, RunPaths, new_execution_id
from ramure.runtime.run.reserve import Reserve
from ramure.runtime.run.servers import GatewayActor, TmuxActor
from ramure.runtime.run.statistics import RunStatistics
from ramure.runtime.run.watchdog import Watchdog
from ramure.runtime.stalls.carriers import OURS
from ramure.runtime.stalls.watch import Stalls
from ramure.supervisors import ChildSpec, DynamicSupervisor, FailedToStartChild, Supervisor, SupervisorEvent

if TYPE_CHECKING:
    from ramure.agents.requests import Usage
    from ramure.machines.base import Machine

logger: logging.Logger = get_logger("ramure.runtime")

__all__ = ["Run", "RunFailed", "RunOptions"]


PARTING: Final = 15.0
"""Seconds that processes have to clean up when the run itself has ended under them."""

SWEEP_LIMIT: Final = 2.0
"""Seconds for which the end of a run waits for the removal of what killed runs have left."""

KEPT_ENDED: Final = 1000
"""Ended processes that a run still knows of; a pool that works for months has more."""


class RunFailed(ExecutionFailed):
    """A part of the run itself ended: its log writer, its gateway, its control socket."""

    def __init__(self, reason: object, part: str | None = None) -> None:
        self.reason = reason
        self.part = part
        what = f"its {part} ended: " if part is not None else ""
        super().__init__(f"the run could not go on: {what}{format_exit(reason)}")


@dataclass(frozen=True)
class RunOptions:
    """What a root process's decorator says about its run."""

    log_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    base_url: str | None = None
    fsync: bool = False
    rotate_logs: int | None = 64 << 20
    disk_full_timeout: float = 300.0


class Run:
    """Use it as ``async with Run(options) as run:``; leaving the block ends everything in it."""

    def __init__(self, options: RunOptions | None = None) -> None:
        self.options: RunOptions = options or RunOptions()
        self.execution_id: str = new_execution_id()
        self.paths: RunPaths = Home.find().run_paths(self.execution_id, self.options.log_dir)
        self.crashes: CrashReports = CrashReports(lambda: self.system.clock, self._log_crash)
        self.system: ActorSystem = ActorSystem(self.execution_id, grace=5.0, report=self.crashes.add)
        self.gateway: Gateway = Gateway(self.options.host, self.options.port)
        self.services: RunServices = RunServices(self)
        self.started_at: float = 0.0
        self.stray_tasks: StrayTasks = StrayTasks(self)
        self.stalls: Stalls = Stalls(self)
        self.statistics: RunStatistics = RunStatistics()
        self.watchdog: Watchdog = Watchdog(self._blocked)
        self.processes: dict[int, ProcessRecord] = {}
        """Every live process, and the last ones that ended, by number."""
        self._prune_at = 2 * KEPT_ENDED
        self._log = self.paths.run_log
        self.agents: dict[str, AgentRecord] = {}
        self._numbers: dict[str, int] = {}
        self._lives: dict[str, int] = {}  # address -> how many agents have had it
        self._spelled: dict[str, str] = {}
        """The spelling of each address, by its lower-case form."""
        self._logs: Logs | None = None
        self._began = False  # all its parts run: what its log lacks from then on is a loss
        self._sweeping: asyncio.Task[None] | None = None
        self._run_before: str | None = None
        self.failure: object = None
        self.failed_part: str | None = None
        """What a part of the run ended with, which ended the run."""
        self.alarms: Alarms | None = None

    # -- its life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._run_before = mark_context(self.execution_id)
        await self.system.__aenter__()
        self.started_at = self.system.clock.wall()
        self.watchdog.start()
        try:
            await self._start()
        except StartFailed as failed:
            await self.close()
            raise _cause(failed) from failed
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self) -> None:
        def part(name: str, start: Any, *args: Any, **kwargs: Any) -> ChildSpec:
            if start is DynamicSupervisor:
                return ChildSpec(name, start, args, kwargs, type="supervisor")
            return ChildSpec(name, start, args, kwargs, shutdown=10.0)

        self.root: Ref[Supervisor] = await self.system.options(label="run").start(
            Supervisor,
            [
                part("log", LogWriter, self._make_logs),
                part("gateway", GatewayActor, self.gateway),
                part("tmux", TmuxActor, self.paths.private, (self.paths.socket, self.paths.lease)),
                part("control", ControlActor, self),
                part("processes", DynamicSupervisor),
            ],
            strategy="one_for_all",
            intensity=0,
            on_event=self._on_part,
        )
        parts = {child.id: child.ref for child in await self.root.proxy().which_children()}
        self.tmux: Ref[Any] = parts["tmux"]
        self._roots: Ref[Any] = parts["processes"]
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep")
        OURS.add(self._sweeping)
        self._began = True
        self.log("run_started", {"execution_id": self.execution_id, "pid": os.getpid(), "ramure": _version()})
        if self.paths.note:
            self.warn("the run", self.paths.note)

    async def _sweep(self) -> None:
        """Remove what killed runs of this home have left."""
        try:
            found = await in_daemon_thread("ramure sweep", sweep, Home.find().runtimes)
        except Exception as error:  # another run's: whatever it is, it is not to cost this one its result
            self.log("problem", {"text": f"what killed runs have left could not be removed: {format_exit(error)}"})
            return
        for leftover in found:
            self.log("removed", leftover.as_dict())

    async def _leave_sweep(self, sweeping: asyncio.Task[None]) -> None:
        """Others' leftovers do not hold up the end of this run."""
        _, late = await asyncio.wait([sweeping], timeout=SWEEP_LIMIT)
        if late:
            sweeping.cancel()
            await asyncio.wait([sweeping])
            text = (
                "removing what killed runs have left takes longer than this run: the next one, or `ramure gc`, goes on"
            )
            self.log("problem", {"text": text})

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything, in order, and remove what is not to stay; a cancellation meanwhile is raised afterwards."""
        try:
            await finished(self._close())
        finally:
            mark_context(self._run_before)

    async def _close(self) -> None:
        self.stalls.close()
        if self.alarms is not None:
            self.alarms.close()
        if self._sweeping is not None:
            await self._leave_sweep(self._sweeping)
        self.crashes.flush()
        if self._began:
            took = self.system.clock.wall() - self.started_at
            self.log("run_ended", self.statistics.ending(took, self.agents, self.failure))
        await self.system.close()
        await self.gateway.close()  # once more: an actor that is killed cannot close what it owns
        await self.services.close()
        self.stray_tasks.report()
        self.watchdog.stop()
        if self._logs is not None:
            await self._logs.close()
        if self._began and self._logs is not None and self._logs.lost:
            logger.error("the logs in %s lack the last %d lines", self.paths.logs, self._logs.lost)
        await in_thread(self._end_processes)
        await in_thread(self.paths.release)

    def _end_processes(self) -> None:
        """End what is left of the run because a reaper was killed that was to end it."""
        left = kill_marked(RUN_ID, self.execution_id, apart=live_reapers())
        if left:
            what = "; ".join(f"{each.pid} {each.command}" for each in left[:5])
            logger.warning(
                "%d processes were left by a reaper that had been killed, and were ended: %s", len(left), what
            )

    # -- processes ------------------------------------------------------------------------------------------

    def new_process(self, name: str, parent: ProcessRecord | None, image: Any, **facts: Any) -> ProcessRecord:
        """The record of a process that is about to be started; ``facts``: other fields of it."""
        number = self.next_number("process")
        inherited = image if image is not None else parent.image if parent is not None else None
        record = ProcessRecord(self, name, number, parent, image=inherited, **facts)
        record.passing = parent is not None and (parent.passing or parent.each is not None)
        self.processes[number] = record
        record.stream.on_wait = record.inbox.on_wait = self.stalls.look
        record.stream.clock = self.system.clock.wall
        if len(self.processes) >= self._prune_at:
            ended = [number for number, record in self.processes.items() if record.outcome is not None]
            for old in ended[:-KEPT_ENDED]:
                del self.processes[old]
            self._prune_at = len(self.processes) + KEPT_ENDED
        if parent is not None:
            parent.offspring[record] = None
            parent.spawned += 1
        return record

    def start_process(self, plan: ProcessPlan) -> None:
        """Ask the supervisor of the parent (or the run's, for a root) to start a process; does not wait.

        Whatever becomes of it, the record gets its outcome.
        """
        record = plan.record
        spec = ChildSpec(record.label, Process, (plan,), restart="temporary", shutdown="infinity", type="supervisor")
        try:
            supervisor = self._roots if record.parent is None else record.parent.supervisor("children")
        except ActorDied as died:  # the parent is at its end, and starts nothing any more
            self.system.loop.call_soon(record.never_started, died)
            return
        answer = supervisor.request(Call("start_child", (spec,)))

        def settle(answer: asyncio.Future[Any]) -> None:
            error = answer.exception()
            if error is not None:
                record.never_started(error)

        answer.add_done_callback(settle)

    async def run_process(
        self,
        function: Callable[..., Awaitable[Any]],
        name: str,
        image: Any,
        plan: Mapping[str, Any],
        on_idle: OnIdle = "remind",
    ) -> Any:
        """Run a root process to its end, and return or raise its result."""
        record = self.new_process(name, None, image, on_idle=on_idle)
        self.statistics.program = self.statistics.program or name
        self.start_process(ProcessPlan(record, function, **plan))
        try:
            outcome = await self._outcome(record)
        except asyncio.CancelledError:
            await cancel_and_wait(record)
            raise
        finally:
            self.statistics.outcome = record.outcome
        record.retrieved = True
        return outcome.result(record.label)

    async def _outcome(self, record: ProcessRecord) -> Outcome:
        """How a root process ended. Raises :class:`RunFailed` when the run itself has, under it."""
        ended = asyncio.ensure_future(record.wait_ended())
        run_ended = asyncio.ensure_future(self.root.wait())
        waiting = asyncio.current_task()
        assert waiting is not None
        OURS.update((ended, run_ended, waiting))  # they wait for the run, and can decide nothing in it
        try:
            await asyncio.wait([ended, run_ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():  # what is under the run's root is ended with it, and cleans up after itself
                await asyncio.wait([ended], timeout=PARTING)
            if self.failure is None and run_ended.done():
                self.failure = run_ended.result()
            if self.failure is None or (ended.done() and ended.result().kind == "done"):
                return ended.result()
            raise RunFailed(self.failure, self.failed_part)
        finally:
            OURS.discard(waiting)
            ended.cancel()
            run_ended.cancel()

    def _on_part(self, event: SupervisorEvent) -> None:
        """A part of the run has ended: so does the run."""
        if event.kind == "gave_up":
            self.failure = event.reason
            if not (isinstance(event.reason, Crashed) and isinstance(event.reason.exception, DiskFull)):
                self.failed_part = str(event.id)

    # -- names and numbers ------------------------------------------------------------------------------------

    def next_number(self, kind: str) -> int:
        """1, 2, 3 … for each kind."""
        self._numbers[kind] = number = self._numbers.get(kind, 0) + 1
        return number

    def take_address(self, name: str) -> str:
        """An address for an agent: its name, or ``name~2``, ``name~3`` … where another live one has it."""
        address, number = name, 1
        # Where case makes no difference to files, those of "A" and "a" are the same.
        while address in self.agents or self._spelled.setdefault(address.lower(), address) != address:
            number += 1
            address = f"{name}~{number}"
        self._lives[address] = self._lives.get(address, 0) + 1
        return address

    def file_name(self, address: str) -> str:
        """What the files of the agent at ``address`` are called: as the address, with ``@2``, ``@3`` … where
        agents that have ended had it before: a new agent has a log and a conversation of its own."""
        life = self._lives.get(address, 1)
        return address if life == 1 else f"{address}@{life}"

    def free_address(self, record: AgentRecord) -> None:
        """The agent is gone."""
        if self.agents.get(record.address) is record:
            del self.agents[record.address]
            self.statistics.agent_ended(record)
            record.process.spent.take(record.usage)

    def _log_crash(self, type: str, data: Mapping[str, Any]) -> None:
        """Crash reports are for whoever looks for the cause; the program gets its exceptions."""
        self.log(type, data)

    def _blocked(self, seconds: float, stack: str) -> None:
        """On the watchdog's thread, while the loop stands still."""
        logger.warning("the event loop has been blocked for %.1f s, by:\n%s", seconds, stack)
        self.log("blocked", {"seconds": round(seconds, 1), "stack": stack})

    def warn(self, path: str, text: str) -> None:
        """Something that does not end the process at ``path``, but that its author should know."""
        logger.warning("%s: %s", path, text)
        self.log("problem", {"process": path, "text": text})

    @property
    def usage(self) -> Usage:
        """Tokens and cost of all its agents, of those that have ended too."""
        return self.statistics.usage(self.agents)

    # -- the log ----------------------------------------------------------------------------------------------

    def _make_logs(self, on_failure: Callable[[Exception], None]) -> Logs:
        options = self.options
        self.alarms = Alarms(options.disk_full_timeout, self._alarm, on_failure)
        self._logs = Logs(
            reserve=Reserve(self.paths.logs),
            fsync=options.fsync,
            rotate=options.rotate_logs,
            patience=options.disk_full_timeout,
            on_room=self.alarms.on_room,
            on_failure=on_failure,
        )
        return self._logs

    def _alarm(self, type: str, data: dict[str, Any]) -> None:
        self.log(type, data)
        for record in self.agents.values():
            record.stream.publish(Event(type, data))

    def write(self, path: Path, line: bytes, written: Callable[[], None] | None = None) -> bool:
        """Append a line to a log. True if it is in the file; else ``written`` is called when it is."""
        return self._logs is not None and self._logs.append(path, line, written)

    def log(self, type: str, data: Mapping[str, Any]) -> None:
        """Append an entry to the run's log."""
        if type != "event":  # what processes emit is theirs
            data = masked_values(data)
        entry = {"ts": self.system.clock.wall(), "type": type, **data}
        self.statistics.recent.append(entry)
        if type in URGENT and self._logs is not None:
            self._logs.append_urgent(self._log, log_line(entry))
        else:
            self.write(self._log, log_line(entry))


@dataclass
class RunServices:
    """The run, as its agents see it (``ramure.agents.services.Services``)."""

    run: Run
    _logs: dict[str, Path] = field(default_factory=dict)
    _relay: asyncio.Task[Relay] | None = None

    @property
    def run_id(self) -> str:
        return self.run.execution_id

    @property
    def scratch(self) -> Path:
        return self.run.paths.private.ensure()  # a cleaner may have removed it

    def expect(self, token: str, sink: Any, stale_after: float) -> None:
        self.run.gateway.expect(token, sink, stale_after)

    def forget(self, token: str) -> None:
        self.run.gateway.forget(token)

    async def url_for(self, machine: Machine) -> str:
        base_url = self.run.options.base_url
        if base_url is not None:
            return base_url
        if machine.here:
            return self.run.gateway.url
        try:
            return f"ws://{await machine.expose_port(await self._loopback_port())}"
        except NotSupported:
            return self.run.gateway.url  # it may be reachable as it is; a launch looks first

    async def _loopback_port(self) -> int:
        """Where the gateway is at 127.0.0.1, to which an ``expose_port`` leads: a relay, if it listens elsewhere."""
        host, port = urlsplit(self.run.gateway.url).hostname, self.run.gateway.port
        if host == "127.0.0.1":
            return port
        if self._relay is None:
            self._relay = asyncio.create_task(
                Relay.start("127.0.0.1", port, to=host or ""), name="relay to the gateway"
            )
            OURS.add(self._relay)
        return (await asyncio.shield(self._relay)).port

    async def close(self) -> None:
        """End what is made for agents and is no actor's."""
        if self._relay is not None:
            await asyncio.wait([self._relay])
            if self._relay.exception() is None:  # else who asked was told
                await self._relay.result().stop()

    async def tmux_for(self, machine: Machine) -> Tmux:
        own = getattr(machine, "tmux", None)
        if isinstance(own, Tmux):  # a machine that brings its own, as simulated ones do
            return own
        tmux: Tmux = await self.run.tmux.ask("server", timeout=30.0)
        return tmux

    def toolchain(self) -> Toolchain:
        return find_toolchain(ramure_home())

    def session_file(self, address: str) -> Path:
        return self.run.paths.session_file(self.run.file_name(address))

    def append(self, address: str, line: bytes, reply_to: Ref[Any] | None, token: object) -> bool:
        name = self.run.file_name(address)
        path = self._logs.get(name)
        if path is None:  # making a path anew for each line costs more than encoding the line
            path = self._logs[name] = self.run.paths.agent_log(name)
        return self.run.write(path, line, None if reply_to is None else functools.partial(reply_to.tell_now, token))

    def log(self, type: str, data: dict[str, Any]) -> None:
        self.run.log(type, data)

    def death_is_told(self, agent: Ref[Any], reason: object) -> None:
        self.run.crashes.is_told(agent, reason)

    def disk(self, address: str, report: dict[str, Any], machine: Machine | None) -> None:
        if self.run.alarms is not None:
            self.run.alarms.on_session(address, report, machine)


async def cancel_and_wait(record: ProcessRecord, reason: object = "shutdown") -> None:
    """Cancel a process and wait for its end, however often the caller is cancelled meanwhile."""
    from ramure.runtime.process.messages import Cancel

    ended = asyncio.ensure_future(_cancel(record, Cancel(reason)))
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            continue


async def _cancel(record: ProcessRecord, message: object) -> None:
    await record.wait_started()
    if record.ref is not None:
        record.ref.tell(message)
    await record.wait_ended()


def _cause(failed: StartFailed) -> Exception:
    """What a part of the run failed to start with, rather than that a supervisor did not start."""
    match failed.reason:
        case Shutdown(detail=FailedToStartChild(reason=Crashed(exception=Exception() as error))):
            return error
    return failed


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ramure")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def now_text(seconds: float) -> str:
    """A moment, for people."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
