"""The process: an actor that serves the facade's messages, and its function, a task beside it.

Its actor owns up to three dynamic supervisors: of its machines, its agents and its child processes. It ends in one
way, :meth:`Process.terminate`: the function is cancelled if it still runs, then the children, the agents and
the machines are stopped, each in reverse order of their start, then the stream gets its ending. One that is killed gets
its ending from its recorder.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.actors import NO_REPLY, Actor, Ask, Down, Exit, Monitor, Ref
from ramure.agents.requests import Ready
from ramure.agents.tools.fields import InvalidArguments
from ramure.errors import ActorDied, UsageError
from ramure.exits import NORMAL, SHUTDOWN, Crashed, format_exit, is_clean
from ramure.faults import failure_of
from ramure.machines.actor import GetMachine
from ramure.machines.errors import MachineError
from ramure.runtime.errors import (
    AgentDied,
    BodyStuck,
    EndpointError,
    NoSuchEndpoint,
    ProcessEnded,
    ProcessFailed,
    ProcessTimeout,
    WrongResult,
)
from ramure.runtime.process import scope
from ramure.runtime.process.answers import check_returned
from ramure.runtime.process.cleanup import CLEANUP, end_tasks
from ramure.runtime.process.eager import Failure, answers_came, take_failures
from ramure.runtime.process.messages import (
    BodyEnded,
    CallEndpoint,
    Cancel,
    Done,
    Expose,
    Fail,
    StartAgent,
    StartMachine,
    Timeout,
    TrapExit,
    Unawaited,
    Unseen,
    Wait,
)
from ramure.runtime.process.mistakes import (
    IDLE_AFTER,
    at_return,
    check_result,
    explain,
    idle_agents,
    unfit_value,
    warn_of_idle,
    wrong_arguments,
)
from ramure.runtime.process.ownership import Ownership
from ramure.runtime.process.record import AgentRecord, MachineRecord, Outcome, ProcessRecord
from ramure.runtime.process.recorder import Recorder
from ramure.tracebacks import fold

if TYPE_CHECKING:
    from ramure.agents.tools.kinds import Kind
    from ramure.machines.base import Image
    from ramure.runtime.process.endpoints import Endpoint
    from ramure.runtime.run.run import Run

__all__ = ["Process", "ProcessPlan"]

AGENT_GRACE: Final = 5.0
"""Seconds that a function has, after an agent of its died, to wait() or to end before it is cancelled."""


_OF_COROUTINES: Final = (asyncio.CancelledError, GeneratorExit)


@dataclass(frozen=True)
class ProcessPlan:
    """What a process is started from."""

    record: ProcessRecord
    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    context: contextvars.Context | None = None
    """The context of the spawning code: the user's own ContextVars are inherited."""
    retain: int | None = None
    """How many of its events its stream keeps."""
    events: Mapping[str, Kind] = field(default_factory=dict)
    """The types of the data of its events."""


class Process(Actor):
    """One process. ``record`` is what others see of it."""

    def init(self, plan: ProcessPlan) -> None:  # type: ignore[override]
        self.trap_exit = True
        self.plan = plan
        record = plan.record
        self.record: ProcessRecord = record
        self.run: Run = record.run
        self._waiting: list[Ask] = []
        self._early_calls: list[Ask] = []
        self._decided: Outcome | None = None
        self._fail_seen = 0  # how many wait()s have raised it
        self._trapping = False
        self._has_waited = False
        self._watched: dict[Monitor, AgentRecord] = {}
        self._agent_died: AgentDied | None = None
        self._outcome: Outcome | None = None
        scope.enter(record)
        record.event_kinds = plan.events
        if plan.retain is not None:
            record.stream.retain(plan.retain)
        self.recorder: Recorder = Recorder(record)
        record.recorder = self.recorder
        self._cell.on_end = self.recorder.process_ended
        self.owns: Ownership = Ownership(self.ref, record)
        record.owns = self.owns
        record.tasks = self._own
        record.started(self.ref)
        if plan.timeout is not None:
            self.send_after(plan.timeout, Timeout(plan.timeout))
        self.body: asyncio.Task[None] = self._start_body()
        record.body = self.body
        record.work.add(self.body)

    def _start_body(self) -> asyncio.Task[None]:
        context = (self.plan.context or contextvars.copy_context()).copy()
        context.run(scope.enter, self.record)
        context.run(self._cell.become_current)
        return self._cell.own_task(self._body(), f"process {self.record.label}", context)

    def _own(self, coroutine: Coroutine[Any, Any, Any], name: str | None) -> asyncio.Task[Any]:
        """A task of the user's: its failure is the process's."""
        task = self._at_work(self._cell.own_task(self._guarded(coroutine), name, contextvars.copy_context()))
        task.add_done_callback(lambda _: coroutine.close())  # cancelled before its first step, it was never awaited
        return task

    def _at_work(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """Code of the process's own beside its function: the process does not end before it has."""
        self.record.work.add(task)
        task.add_done_callback(self.record.work.discard)
        return task

    async def _guarded(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise  # whoever awaits the task decides what that means
            self.ref.tell(BodyEnded(Outcome("failed", error=fold(failure_of(error)))))
            raise asyncio.CancelledError from error  # told already; the actor itself goes on to its end

    async def _body(self) -> None:
        plan = self.plan
        try:
            value = await plan.function(*plan.args, **plan.kwargs)
            check_result(self.record, plan.function, value)
            outcome = Outcome("done", value)
        except BaseException as error:
            outcome = self._failed(error)
        if self.record.unawaited:
            outcome = await self._with_unawaited(outcome)
        if outcome.kind == "done":
            at_return(self.record, waited=self._has_waited or self._decided is not None)
        self.ref.tell(BodyEnded(outcome))

    def _failed(self, error: BaseException) -> Outcome:
        """The outcome of a function that ``error`` left. Raises it, once it is told, if it ends more than the process."""
        explain(self.record, error)
        try:
            failure = failure_of(error)
        except asyncio.CancelledError:
            return Outcome("cancelled", reason=SHUTDOWN)
        except BaseException:
            self.ref.tell(BodyEnded(Outcome("failed", error=error)))
            raise
        if failure is not error and self.record.parent is None and not isinstance(error, _OF_COROUTINES):
            return Outcome("failed", error=fold(error))  # the program's own: the run ends in order, and then with that
        return Outcome("failed", error=fold(failure))

    async def _with_unawaited(self, outcome: Outcome) -> Outcome:
        """The outcome of the function, after what the eager verbs that nobody has awaited came to."""
        if outcome.kind == "done":
            await answers_came(self.record)
        failures = take_failures(self.record)
        if failures and outcome.kind == "done" and (self._decided is None or self._decided.kind == "done"):
            outcome = _of_failure(failures.pop(0))
        if outcome.kind != "cancelled":  # then they may have failed because all of it ends
            self._warn_of(failures)
        return outcome

    def _warn_of(self, failures: list[Failure]) -> None:
        for error, note in failures:
            self.run.warn(self.record.path, f"{format_exit(error)} ({note})")

    # -- requests -------------------------------------------------------------------------------------------

    def handle_call(self, request: object, caller: Ask) -> Any:
        match request:
            case Wait():
                self._on_wait(caller)
            case CallEndpoint():
                self._on_call(request, caller)
            case StartAgent():
                try:
                    record = self.owns.reserve(request)
                except UsageError as error:
                    caller.fail(error)
                else:
                    caller.future.add_done_callback(lambda answer: record.free_name() if answer.cancelled() else None)
                    work = self._work(caller, f"start {request.name}", self._start_agent, record, request, caller)
                    # Cancelled before its first step, it has not freed what was reserved.
                    work.add_done_callback(lambda work: record.release() if work.cancelled() else None)
            case StartMachine(image=image):
                self._work(caller, "start machine", self._start_machine, image, caller)
            case _:
                return super().handle_call(request, caller)
        return NO_REPLY

    def _work(self, caller: Ask, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> asyncio.Task[None]:
        """Answer ``caller`` with what ``function(*args)`` gives, without holding up the process's mailbox."""
        return self._cell.own_task(self._answer(caller, function, args), name)

    async def _answer(self, caller: Ask, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:  # called here: a task that is cancelled before its first step leaves no coroutine behind, unawaited
            caller.reply(await function(*args))
        except asyncio.CancelledError:
            caller.fail(ProcessEnded(self.record.label, "this was under way"))
            raise
        except Exception as error:
            caller.fail(error)

    def _on_wait(self, caller: Ask) -> None:
        self._has_waited = True
        if idle_agents(self.record):
            self.send_after(IDLE_AFTER, _LookForIdle())
        for early in self._early_calls:
            self._no_endpoint(early)
        self._early_calls.clear()
        if caller.future.done():
            return  # it has left already: what it is told, nobody sees
        if self._decided is not None:
            self._tell_outcome(caller, self._decided)
        elif self._agent_died is not None:
            caller.fail(self._agent_died)
            self._agent_died = None
        else:
            self._waiting = [*self._waiters(), caller]
            self.run.stalls.look()

    @property
    def waiting(self) -> list[Ask]:
        """Who is in ``wait()`` now."""
        return self._waiters()

    @property
    def is_deciding(self) -> bool:
        """True when its outcome is on its way: it ends, or it will be ended since an agent died."""
        return self._outcome is not None or self._agent_died is not None

    def _waiters(self) -> list[Ask]:
        """Who is in ``wait()`` now. Who has left it, as after a timeout, takes nothing: it is for the next."""
        return [caller for caller in self._waiting if not caller.future.done()]

    def _tell_outcome(self, caller: Ask, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail_seen += 1
            caller.fail(outcome.error)
        else:
            caller.reply(outcome.value)

    # -- messages -------------------------------------------------------------------------------------------

    def handle_info(self, message: object) -> None:
        handler = _INFO.get(type(message))
        if handler is None:
            self.record.inbox.put(message)
        else:
            handler(self, message)

    def _on_done(self, message: Done) -> None:
        self._decide(Outcome("done", message.value))

    def _on_fail(self, message: Fail) -> None:
        self._decide(Outcome("failed", error=message.error))

    def _on_cancel(self, message: Cancel) -> None:
        self._end(Outcome("cancelled", reason=message.reason))

    def _on_unawaited(self, message: Unawaited) -> None:
        if self._outcome is None and not self.body.done():  # else its own end is on its way, and takes them with it
            failures = take_failures(self.record, dropped=True)
            if failures:
                self._end(_of_failure(failures.pop(0)))
            self._warn_of(failures)

    def _on_timeout(self, message: Timeout) -> None:
        self._end(Outcome("failed", error=ProcessTimeout(self.record.label, message.seconds)))

    def _on_exit(self, message: Exit) -> None:
        """An exit signal: of somebody that the user linked, from code that sent one, or of a supervisor of ours (a
        defect). As in Erlang: ``normal`` ends nobody, any other reason whoever does not trap it."""
        sender, reason = message.sender, message.reason
        ours = sender is not None and self.owns.is_own(sender)
        if self._trapping and not ours:
            self.record.inbox.put(message)
        elif reason != NORMAL and not (ours and is_clean(reason)):
            self._end(_of_signal(sender, reason))

    def _on_trap_exit(self, message: TrapExit) -> None:
        self._trapping = message.on

    def _on_down(self, message: Down) -> None:
        record = self._watched.pop(message.monitor, None)
        if record is not None:
            self._on_agent_down(record, message.reason)
        else:
            self.record.inbox.put(message)

    def _on_look_for_idle(self, message: _LookForIdle) -> None:
        if self._waiters():
            warn_of_idle(self.record, idle_agents(self.record))

    def _on_elsewhere(self, message: _BodyElsewhere) -> None:
        if self._agent_died is message.error:
            self._end(Outcome("failed", error=message.error))

    def _on_unseen(self, message: Unseen) -> None:
        answer = message.answer
        if isinstance(answer, AgentRecord):
            answer.announced = False
            answer.free_name()
            self._cell.own_task(self.owns.end_agent(answer), f"end {answer.address}")
        elif isinstance(answer, MachineRecord):
            self._cell.own_task(self.owns.end_machine(answer), f"end {answer.name}")
        elif self._decided is not None and answer is self._decided.error:
            self._fail_seen -= 1
        elif isinstance(answer, AgentDied):
            self._keep_death(answer)

    def _decide(self, outcome: Outcome) -> None:
        """``done`` or ``fail``: the first wins."""
        if self._decided is None:
            self._decided = outcome
            for caller in self._waiters():
                self._tell_outcome(caller, outcome)
            self._waiting.clear()

    def _on_body_ended(self, message: BodyEnded) -> None:
        outcome, decided = message.outcome, self._decided
        if outcome.kind == "done":
            if (decided is not None and decided.kind == "failed" and not self._fail_seen) or (
                outcome.value is None and decided is not None and decided.kind == "done"
            ):
                outcome = decided
            elif self._agent_died is not None and outcome.value is None and decided is None:
                outcome = Outcome("failed", error=self._agent_died)
        self._end(self._checked(outcome))

    def _checked(self, outcome: Outcome) -> Outcome:
        """With a result of the type that the function says."""
        if outcome.kind != "done":
            return outcome
        try:
            value = check_returned(self.record.label, self.plan.function, outcome.value)
        except WrongResult as error:
            return Outcome("failed", error=error)
        return Outcome("done", value)

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            self.stop(outcome.exit_reason())

    # -- endpoints ------------------------------------------------------------------------------------------

    def _on_call(self, request: CallEndpoint, caller: Ask) -> None:
        endpoint = self.record.endpoints.get(request.name)
        if endpoint is not None:
            context = contextvars.copy_context()
            self._at_work(self._cell.own_task(self._run_endpoint(endpoint, request, caller), request.name, context))
        elif self._has_waited:
            self._no_endpoint(caller)
        else:
            self._early_calls.append(caller)

    def _on_expose(self, message: Expose) -> None:
        name = message.name
        self.record.expose(name, message.endpoint)
        ready = [caller for caller in self._early_calls if _wanted(caller) == name]
        for caller in ready:
            self._early_calls.remove(caller)
            self._on_call(caller.request, caller)  # type: ignore[arg-type]

    def _no_endpoint(self, caller: Ask) -> None:
        name = _wanted(caller)
        caller.fail(NoSuchEndpoint(self.record.label, name, list(self.record.endpoints)))

    async def _run_endpoint(self, endpoint: Endpoint, request: CallEndpoint, caller: Ask) -> None:
        label, function = self.record.label, endpoint.function
        given = {**request.texts, **request.arguments}
        try:
            try:
                arguments = endpoint.bind(request.arguments, request.texts)
            except InvalidArguments as error:
                caller.fail(unfit_value(label, request.name, function, given, error))
                return
            value = function(**arguments)
            if asyncio.iscoroutine(value) or isinstance(value, asyncio.Future):
                value = await value
            caller.reply(value)
        except asyncio.CancelledError as error:
            if self._outcome is not None or not self.ref.is_alive():
                caller.fail(ProcessEnded(self.record.label, f"calling {request.name!r}"))
                raise
            caller.fail(EndpointError(self.record.label, request.name, error))  # the endpoint's own: the process lives
        except BaseException as error:
            misfit = wrong_arguments(label, request.name, function, given, error)
            wrapped = misfit or EndpointError(label, request.name, failure_of(error))
            wrapped.__cause__ = None if misfit else fold(error)
            caller.fail(wrapped)

    # -- agents ---------------------------------------------------------------------------------------------

    async def _start_agent(self, record: AgentRecord, request: StartAgent, caller: Ask) -> AgentRecord:
        """Start it, wait until it is ready, and from then on treat its end as a death. If ``caller`` leaves before,
        nobody would ever end it: its name is free from then on, and it ends."""
        try:
            record.ref = await self.owns.start_agent(record, request)
            self._watched[self.monitor(record.ref)] = record
            await _unless_left(caller, record.ref.request(Ready()))
        except _Left:
            await self.owns.end_agent(record)
            record.release()
            raise
        except ActorDied as died:
            record.release()
            raise _launch_error(record, died) from died
        except BaseException:
            record.release()
            raise
        record.announced = True
        return record

    async def _start_machine(self, image: Image | None, caller: Ask) -> MachineRecord:
        """Start one, and wait until it runs; if ``caller`` leaves before, it ends."""
        made = await self.owns.start_machine(image)
        try:
            await _unless_left(caller, made.ref.request(GetMachine()))
        except _Left:
            await self.owns.end_machine(made)
            raise
        except ActorDied as died:
            if isinstance(died.reason, Crashed) and isinstance(died.reason.exception, MachineError):
                raise died.reason.exception from died
            raise
        return made

    def _on_agent_down(self, record: AgentRecord, reason: object) -> None:
        record.ended = reason
        record.release()
        self.run.stalls.look()
        if self._outcome is not None or is_clean(reason) or not record.announced:
            return
        error = AgentDied(record.name, reason)
        error.__cause__ = reason.exception if isinstance(reason, Crashed) else None
        self.run.log("agent_died", {"agent": record.address, "reason": str(error)})
        if record.on_exit is not None:
            self._cell.own_task(self._on_exit_handler(record, reason), f"on_exit of {record.address}")
        elif waiters := self._waiters():
            for caller in waiters:
                caller.fail(error)
            self._waiting.clear()
        else:
            self._keep_death(error)

    def _keep_death(self, error: AgentDied) -> None:
        """Nobody is in ``wait()``: the next one raises it, within the grace."""
        if self._agent_died is None and self._decided is None:
            self._agent_died = error
            self.send_after(AGENT_GRACE, _BodyElsewhere(error))

    async def _on_exit_handler(self, record: AgentRecord, reason: object) -> None:
        assert record.on_exit is not None
        try:
            result = record.on_exit(reason)
            if asyncio.iscoroutine(result):
                await result
        except BaseException as error:
            self._end(Outcome("failed", error=failure_of(error)))

    # -- the one way out --------------------------------------------------------------------------------------

    async def terminate(self, reason: object) -> None:
        if self._outcome is None:  # ended from above: its supervisor shut it down, or a defect of ours
            self._outcome = Outcome.of_exit(reason)
        late = await end_tasks([self.body])
        late += await end_tasks(self.record.work)
        for task in late:
            self.run.warn(self.record.path, str(BodyStuck(self.record.label, task.get_name(), CLEANUP)))
        await self.owns.stop()
        await self.record.belongings_ended()
        self._warn_of_unseen_failures()
        self.run.stray_tasks.look_for(self.record)
        self.recorder.end(self._outcome)

    def _warn_of_unseen_failures(self) -> None:
        unseen = self.record.unseen_failures()
        if unseen:
            shown = "; ".join(f"{child.label}: {child.outcome.text()}" for child in unseen[:10] if child.outcome)
            more = f"; and {len(unseen) - 10} more" if len(unseen) > 10 else ""
            self.run.warn(
                self.record.path,
                f"nobody has seen that children of {self.record.label} failed ({shown}{more}); "
                "await their handles, or read their events",
            )


@dataclass(frozen=True, slots=True)
class _LookForIdle:
    """The function has been in wait() for a while, with agents that nobody had sent anything."""


@dataclass(frozen=True, slots=True)
class _BodyElsewhere:
    """The function has not looked at the death of an agent within its grace."""

    error: AgentDied


class _Left(Exception):
    """Whoever asked has left, before what it asked for was there."""


async def _unless_left(caller: Ask, answer: asyncio.Future[Any]) -> None:
    """Wait for ``answer``. Raises its error, or :class:`_Left` as soon as ``caller`` has left."""
    await asyncio.wait([answer, caller.future], return_when=asyncio.FIRST_COMPLETED)
    if caller.future.done():
        raise _Left
    answer.result()


def _of_failure(failure: Failure) -> Outcome:
    """The outcome of a process whose eager verb failed."""
    return Outcome("failed", error=failure.error, note=failure.note)


def _of_signal(sender: Ref[Any] | None, reason: object) -> Outcome:
    """The outcome of a process that an exit signal ends."""
    if is_clean(reason):
        return Outcome("cancelled", reason=reason)
    error = ProcessFailed(reason if sender is None else f"exit signal from {sender.label}: {format_exit(reason)}")
    if isinstance(reason, Crashed):
        error.__cause__ = reason.exception
    return Outcome("failed", error=error, reason=reason)


def _launch_error(record: AgentRecord, died: ActorDied) -> Exception:
    """Why an agent did not become ready, as its own exception where it has one."""
    reason = died.reason
    if isinstance(reason, Crashed) and isinstance(reason.exception, Exception):
        cause = reason.exception
        while isinstance(cause, ActorDied) and isinstance(cause.reason, Crashed):  # a death behind a death
            inner = cause.reason.exception
            if not isinstance(inner, Exception):
                break
            cause = inner
        return cause
    return AgentDied(record.name, reason)


def _wanted(caller: Ask) -> str:
    request = caller.request
    assert isinstance(request, CallEndpoint)
    return request.name


_INFO: Final[Mapping[type, Callable[[Process, Any], None]]] = {
    Done: Process._on_done,
    Fail: Process._on_fail,
    Expose: Process._on_expose,
    BodyEnded: Process._on_body_ended,
    Cancel: Process._on_cancel,
    Unawaited: Process._on_unawaited,
    Timeout: Process._on_timeout,
    Down: Process._on_down,
    Exit: Process._on_exit,
    TrapExit: Process._on_trap_exit,
    Unseen: Process._on_unseen,
    _BodyElsewhere: Process._on_elsewhere,
    _LookForIdle: Process._on_look_for_idle,
}
