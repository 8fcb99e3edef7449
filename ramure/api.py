"""The decorator API: what most programs use of ramure.

Each verb turns into a message to an actor (``docs/facade.md`` has the table), and this module holds no state.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import CoroutineType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, overload

from ramure.agents.models.watch import ModelErrorHandler, OnModelError
from ramure.errors import OperationalError, UsageError
from ramure.forks import loop_of_a_run
from ramure.machines.errors import MachineDown
from ramure.places import here, missing_await, names_its_line, place_of_call
from ramure.runtime.errors import NoProcess, ProcessFailed
from ramure.runtime.process.answers import check_emitted, check_waited, event_kinds, waited_kind
from ramure.runtime.process.checks import (
    check_agent,
    check_endpoint,
    check_event,
    check_files,
    check_image,
    check_options,
    check_process,
    check_source,
)
from ramure.runtime.process.connections import connect_agents
from ramure.runtime.process.eager import Eager
from ramure.runtime.process.endpoints import Endpoint
from ramure.runtime.process.handle import Agent, ProcessHandle
from ramure.runtime.process.machine_handle import MachineHandle
from ramure.runtime.process.messages import (
    Done,
    Expose,
    Fail,
    StartAgent,
    StartMachine,
    TrapExit,
    Wait,
)
from ramure.runtime.process.process import ProcessPlan
from ramure.runtime.process.record import OnIdle, ProcessRecord
from ramure.runtime.process.retry import note_spawn
from ramure.runtime.process.scope import ask_process, current_process, live_process, process_here
from ramure.runtime.run.run import Run, RunOptions, cancel_and_wait
from ramure.runtime.run.signals import interruptible
from ramure.runtime.trees.each import Each
from ramure.runtime.trees.handles import ChildHandle
from ramure.supervisors import Backoff
from ramure.tracebacks import fold

if TYPE_CHECKING:
    import os

    from ramure.agents.tools.kinds import Kind
    from ramure.machines.base import Image
    from ramure.supervisors.spec import Restart

__all__ = [
    "AgentProcess",
    "agent",
    "agent_process",
    "bubble",
    "connect",
    "current_runtime",
    "done",
    "emit",
    "expose",
    "fail",
    "machine",
    "receive",
    "self_ref",
    "spawn",
    "start_task",
    "trap_exit",
    "wait",
]

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class AgentProcess(Generic[P, R]):
    """A function decorated with :func:`agent_process`. Calling and awaiting it runs it as a process: inside
    another process as its child, elsewhere as the root of a run of its own."""

    def __init__(self, function: Callable[P, Awaitable[R]], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name: str = check_process(function)
        self.image: Image | None = options.pop("image")
        self.timeout: float | None = options.pop("timeout")
        self.retain: int | None = options.pop("retain")
        given: Mapping[str, Any] | None = options.pop("events")
        self.events: dict[str, Kind] = event_kinds({} if given is None else given)
        self.on_idle: OnIdle = options.pop("on_idle")
        self.run_options: RunOptions = RunOptions(**options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        running = self._run(args, kwargs)
        if isinstance(running, CoroutineType):
            running.__name__ = running.__qualname__ = self.name  # for who warns that it lacks its await
        return running

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: AgentProcess[Concatenate[S, Q], R], instance: S, owner: type | None = ...
    ) -> AgentProcess[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method can be a process too: looked up on an object, it is bound to it."""
        if instance is None:
            return self
        bound = copy.copy(self)
        bound.function = MethodType(self.function, instance)
        return bound

    @names_its_line
    async def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        parent = current_process()
        if parent is not None:
            process_here(f"await {self.name}()")
            record = self.start(parent, args, kwargs)
            try:
                outcome = await record.wait_ended()
            except asyncio.CancelledError:
                await cancel_and_wait(record)
                raise
            record.retrieved = True
            result: R = outcome.result(record.label)
            return result
        try:
            async with interruptible() as interruption, Run(self.run_options) as run:
                plan = {"args": args, "kwargs": kwargs, **self._plan()}
                with loop_of_a_run(), interruption.of_run(run):
                    root: R = await run.run_process(self.function, self.name, self.image, plan, self.on_idle)
        except Exception as error:
            raise fold(error)  # noqa: B904 - the same one; a bare `raise` would bring the frames back
        return root

    def start(self, parent: ProcessRecord, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ProcessRecord:
        """Start it as a child of ``parent``."""
        record = parent.run.new_process(self.name, parent, self.image, on_idle=self.on_idle)
        record.stream.function = self.function
        parent.run.start_process(ProcessPlan(record, self.function, args, kwargs, **self._plan()))
        return record

    def _plan(self) -> dict[str, Any]:
        return {
            "timeout": self.timeout,
            "retain": self.retain,
            "events": self.events,
            "context": contextvars.copy_context(),
        }

    def __repr__(self) -> str:
        return f"<agent process {self.name}>"


@overload
def agent_process(function: Callable[P, Awaitable[R]], /) -> AgentProcess[P, R]: ...
@overload
def agent_process(
    *,
    image: Image | None = ...,
    timeout: float | None = ...,
    log_dir: str | os.PathLike[str] | None = ...,
    host: str = ...,
    port: int = ...,
    base_url: str | None = ...,
    retain: int | None = ...,
    events: Mapping[str, Any] | None = ...,
    fsync: bool = ...,
    rotate_logs: int | None = ...,
    disk_full_timeout: float = ...,
    on_idle: OnIdle = ...,
) -> Callable[[Callable[P, Awaitable[R]]], AgentProcess[P, R]]: ...
def agent_process(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    image: Image | None = None,
    timeout: float | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    base_url: str | None = None,
    retain: int | None = None,
    events: Mapping[str, Any] | None = None,
    fsync: bool = False,
    rotate_logs: int | None = 64 << 20,
    disk_full_timeout: float = 300.0,
    on_idle: OnIdle = "remind",
) -> Any:
    """Make an async function a process; plain ``@agent_process``, or with options.

    ``image``: what its agents and machines are made from, and its children's (default: this host).
    ``timeout``: seconds after which it fails with ProcessTimeout. ``retain``: how many events its stream keeps for
    late readers (default: all), which bounds the memory of one that lives long. ``events``: the types of its events' data,
    ``{"progress": Progress}``: ``emit`` converts and checks it, and raises WrongEvent. The others matter where it is the root of
    a run: ``log_dir`` (default ``logs/`` in ramure's home), ``host`` and ``port`` that agents connect to, and
    ``base_url``, how they reach it, where that differs. ``fsync``: what is acknowledged survives a power cut too.
    ``rotate_logs``: bytes at which a log goes on in a new file (None: never). ``disk_full_timeout``: seconds that a run
    waits for room on a full disk (of the logs, or of an agent's conversation) before it fails with DiskFull.

    ``on_idle``: what follows when the process is stalled: it waits, in ``wait()``, ``receive()`` or a loop over events, and
    nothing can decide it any more, since its agent ended its turn without calling a tool, say. Its stream gets an event
    ``stalled`` at once. ``"remind"``: an agent that has tools of it is reminded after 10 seconds, and once more 10 seconds
    after its answer; then the wait raises Stalled. ``"fail"``: the wait raises Stalled at once. ``"report"``: nothing else.
    Or a function, async or not, that is called with the Stalled error.
    """
    options: dict[str, Any] = {
        "image": image,
        "timeout": timeout,
        "log_dir": log_dir,
        "host": host,
        "port": port,
        "base_url": base_url,
        "retain": retain,
        "events": events,
        "fsync": fsync,
        "rotate_logs": rotate_logs,
        "disk_full_timeout": disk_full_timeout,
        "on_idle": on_idle,
    }
    check_options(options)
    options["log_dir"] = Path(log_dir) if log_dir is not None else None

    def decorate(function: Callable[..., Awaitable[Any]]) -> AgentProcess[Any, Any]:
        return AgentProcess(function, dict(options))

    return decorate if function is None else decorate(function)


# -- outcome ------------------------------------------------------------------------------------------------


def done(value: Any = None) -> None:
    """Decide that the process is done, with ``value``: ``wait()`` returns it. The first of done and fail wins.

    May be called from handlers, tasks and threads of the process.
    """
    _process("done()").tell(Done(value))


def fail(reason: str | BaseException | type[BaseException]) -> None:
    """Decide that the process has failed: ``wait()`` raises ProcessFailed with ``reason`` (or the exception
    given). A process whose function returns without having seen it fails all the same."""
    if isinstance(reason, type) and issubclass(reason, BaseException):
        reason = reason()  # as `raise ValueError` does
    error = reason if isinstance(reason, BaseException) else ProcessFailed(reason)
    _process("fail()").tell(Fail(error))


@overload
async def wait() -> Any: ...
@overload
async def wait(result: type[T], /) -> T: ...
@overload
async def wait(result: Any, /) -> Any: ...
@names_its_line
async def wait(result: Any = Any, /) -> Any:
    """Wait until ``done`` or ``fail`` is called; returns the value, or raises.

    ``wait(list[str])`` returns a ``list[str]``: a value that is none, and whose JSON is none, raises WrongResult. So does a
    process whose result is not what its own ``-> T`` says.

    Raises AgentDied when an agent of the process dies for good meanwhile (or died before, unseen).
    Raises Stalled when nothing can decide it any more (:func:`agent_process`, ``on_idle``).
    """
    kind = waited_kind(result)
    return check_waited(kind, await ask_process("wait()", Wait()))


# -- agents and machines --------------------------------------------------------------------------------------


@names_its_line
async def agent(
    name: str,
    system_prompt: str | None = None,
    model: str | None = None,
    image: Image | None = None,
    machine: MachineHandle | None = None,
    *,
    restart: Restart = "transient",
    max_restarts: int = 3,
    within: float = 600,
    backoff: Backoff | None = None,
    stale_after: float = 15,
    daemons: Literal["end", "keep"] = "end",
    retry_for: float = 900,
    on_model_error: ModelErrorHandler | None = None,
    on_idle: OnIdle | None = None,
) -> Agent:
    """Start a coding agent and return when it is ready.

    ``name``: letters, digits, ``.``, ``_``, ``-``; unique among the live agents of this process.
    ``system_prompt`` is added to pi's own. ``model``: ``provider/model``, where not pi's default.
    ``machine``: one to run on; else a new one is made from ``image``, or from the process's image.

    A pi that ends unasked is started again with its conversation, at most ``max_restarts`` times ``within``
    seconds, after a growing delay (``backoff``); ``restart="temporary"``: never. When that is used up, the
    agent dies: ``wait()`` raises AgentDied. A pi that has given no sign of life for ``stale_after`` seconds
    (it is stopped, or hangs) is ended, and treated like any other that died (``docs/faults.md``).

    What pi's shell has started (servers, too) is ended when pi ends, before it is started again, and the next pi is told
    which commands those were. ``daemons="keep"``: what runs in the background then lives on until the machine's end.

    A model whose error is permanent (no key, no credit, no such model) ends the agent: ``wait()`` raises AgentDied
    from a ModelError. One that fails for a while (too many requests, a server error, a lost connection) is asked again
    for ``retry_for`` seconds; meanwhile the agent's state is ``waiting_for_model``. ``on_model_error(error)``, plain or
    async, decides instead: it returns ``"retry"``, ``"end"`` or ``"ignore"``. The error of a run that an ``ask`` waits
    for is raised by that ``ask`` alone.

    ``on_idle``: what follows when a process is stalled whose tools it has, as :func:`agent_process` describes; None: as that
    process says.

    One that is left before it is ready, as with ``asyncio.timeout``, is ended; its name is free at once.

    Raises BadAgentName, AgentNameTaken, LaunchFailed (with pi's last screen), ToolMissing, MachineDown.
    """
    what = f"agent({name!r})"
    given: object = machine
    if given is not None and not isinstance(given, MachineHandle):
        remedy = missing_await(given) or "give what `await machine()` returned"
        raise UsageError(f"{what}: machine={given!r} is no machine; {remedy}")
    if machine is not None and not machine.ref.is_alive():
        raise MachineDown(repr(machine), "it has ended")
    options: dict[str, Any] = {
        "system_prompt": system_prompt,
        "model": model,
        "image": image,
        "machine": machine._record if machine is not None else None,
        "restart": restart,
        "max_restarts": max_restarts,
        "within": within,
        "backoff": backoff,
        "stale_after": stale_after,
        "daemons": daemons,
        "retry_for": retry_for,
        "on_model_error": on_model_error,
        "on_idle": on_idle,
    }
    check_agent(what, options)
    if on_model_error is not None:
        options["on_model_error"] = OnModelError(on_model_error, contextvars.copy_context())
    options["made_at"] = place_of_call()
    return Agent(await ask_process(what, StartAgent(name, options)))


def start_task(coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
    """Run ``coroutine`` as a task of the process: it is cancelled when the process ends, and its failure is the
    process's failure."""
    if not isinstance(coroutine, Coroutine):
        raise UsageError(f"start_task({coroutine!r}): give a coroutine: call the async function, without `await`")
    try:
        record = process_here("start_task()")
    except (UsageError, OperationalError):
        coroutine.close()  # refused: it is never awaited, and need not be warned of
        raise
    assert record.tasks is not None
    return record.tasks(coroutine, name)


@names_its_line
async def machine(image: Image | None = None) -> MachineHandle:
    """Start a machine from ``image`` (or the process's image) and return when it runs.

    Nothing stays of one that is left before, as with ``asyncio.timeout``. Raises what the image's ``spawn()`` did.
    """
    check_image("machine()", image)
    return MachineHandle(await ask_process("machine()", StartMachine(image)))


def connect(
    one: Agent,
    other: Agent,
    direction: Literal["both", "forward"] = "both",
    *,
    files: Literal["workdir", "machine", "none"] | str | os.PathLike[str] = "workdir",
) -> Eager:
    """Let two agents message each other and exchange files; ``"forward"``: only ``one`` to ``other``.

    ``files`` says which files their tools can copy, from and to both machines: those in the working directories (the
    default), at any path (``"machine"``), ``"none"``, or those in a folder. A folder is a path with a ``/`` in it; one that
    does not begin with ``/`` is in each machine's working directory, and paths that do not are relative to the folder. No link
    and no ``..`` leads out. With ``"machine"``, an agent has the files of the other one's machine, on which it may be
    *this host*: your keys, say. If the same two are connected again, the last one counts.

    It acts when it is called; ``await`` it to know that they are connected. Raises ToolExists and AgentDied there; where
    nobody awaits it, these fail the process.
    """
    if direction not in ("both", "forward"):
        raise UsageError(f"connect(direction={direction!r}): use 'both' or 'forward'")
    passed = check_files(files)
    agents: tuple[object, ...] = (one, other)
    for each in agents:
        if not isinstance(each, Agent):
            remedy = missing_await(each) or "give two agents, as `await agent(...)` returns them"
            raise UsageError(f"connect({each!r}): {remedy}")
    if one._record is other._record:
        raise UsageError(f"connect: agent {one.name!r} cannot be connected to itself")
    return connect_agents(live_process("connect()"), one._record, other._record, direction, passed)


# -- events -----------------------------------------------------------------------------------------------------


def emit(type: str, data: Any = None) -> None:
    """Put an event into the process's stream: ``handle.events`` shows it. From handlers, tasks and threads too.

    ``done``, ``failed`` and ``cancelled`` are the stream's own endings, and refused.
    """
    check_event(type)
    record = live_process("emit()")
    assert record.recorder is not None
    if type in record.event_kinds:
        data = check_emitted(record.event_kinds[type], type, data)
    record.recorder.emit(type, data)


def bubble(handle: ProcessHandle[Any] | ChildHandle[Any] | Each[Any, Any], source: str | None = None) -> None:
    """Make a process's events this one's too, tagged with ``source`` (default: the process's name).

    An event that was bubbled before keeps the tag that it has. Asked for twice with one tag, it is done once.
    """
    record = process_here("bubble()")
    if not isinstance(handle, ProcessHandle | ChildHandle | Each):
        raise UsageError(f"bubble({handle!r}): give a handle, as spawn() returns it, or what each() returns")
    check_source(source)
    if not record.stream.take_from(handle.events):
        raise UsageError(
            f"bubble({handle!r}): its events have those of {record.path} in them: they would go round for ever"
        )
    assert record.recorder is not None
    record.recorder.bubble(handle.events, source if source is not None else handle.name)


# -- processes ----------------------------------------------------------------------------------------------------


def spawn(function: AgentProcess[P, R], *args: P.args, **kwargs: P.kwargs) -> ProcessHandle[R]:
    """Start a process beside this one, as its child, and return its handle at once.

    It ends at the latest with this process. Its failure is an event and an error of ``await handle``; this
    process lives on. Spawned again by a loop over its events, while that handles its ``failed``, the loop goes on with
    the events of the new process.
    """
    parent = process_here("spawn()")
    if not isinstance(function, AgentProcess):
        raise UsageError(f"spawn({function!r}): give a function that is decorated with @agent_process")
    record = function.start(parent, args, kwargs)
    record.spawned_at = here()
    if parent.retries:
        note_spawn(parent, record)
    return ProcessHandle(record)


@overload
def expose(function: F, /) -> F: ...
@overload
def expose(*, name: str) -> Callable[[F], F]: ...
def expose(function: Any = None, /, *, name: str | None = None) -> Any:
    """Make a function an endpoint of the process: ``await handle.call("its_name", argument=...)`` runs it here.

    It may be plain or async; calls run concurrently. Arguments are checked and converted by its annotations: what does not
    fit raises WrongArguments in the caller. An exception is raised in the caller as EndpointError.

    Raises UnsupportedParameter for an annotation that is not known or that no value can have.
    """

    def decorate(function: Any) -> Any:
        called = check_endpoint(function, name)
        _process("expose()").tell(Expose(called, Endpoint.of(function, called)))
        return function

    return decorate if function is None else decorate(function)


def current_runtime() -> Run:
    """The run that this code belongs to."""
    record = current_process()
    if record is None:
        raise NoProcess("current_runtime()")
    return record.run


# -- the process as an actor ------------------------------------------------------------------------------------------


def self_ref() -> Any:
    """The ref of this process's actor: send it to others, who ``tell`` it messages for :func:`receive`."""
    return _process("self_ref()")


def trap_exit(on: bool = True) -> None:
    """Get the exit signals of linked actors as :class:`ramure.actors.Exit` messages, with :func:`receive`, from now
    on, instead of ending with them (Erlang's ``process_flag(trap_exit, true)``)."""
    _process("trap_exit()").tell(TrapExit(on))


@names_its_line
async def receive(pattern: object = None, *, timeout: float | None = None) -> Any:
    """The first message to this process that matches; waits for one. See :func:`ramure.actors.receive`."""
    record = process_here("receive()")
    return await record.inbox.receive(pattern, timeout, record, record.run.system.clock)


def _process(what: str) -> Any:
    record = live_process(what)
    assert record.ref is not None
    return record.ref
