"""Handles: what a program holds of a process that it spawned, and of an agent that it made."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ramure.actors import Monitor, Ref
from ramure.agents.agent import AgentActor
from ramure.agents.errors import ToolExists
from ramure.agents.requests import AddTool, AskModel, Interrupt, Say, Usage
from ramure.agents.tools.calls import handled_agent
from ramure.agents.tools.idempotency import Key, Once
from ramure.agents.tools.schema import Tool, check_tool
from ramure.errors import ActorDied, UsageError, WouldDeadlock
from ramure.machines.actor import Exec
from ramure.machines.base import AGENT
from ramure.places import names_its_line
from ramure.runtime.errors import ProcessEnded, WaitsForItself
from ramure.runtime.process.answers import ask_for
from ramure.runtime.process.attachment import Attachment
from ramure.runtime.process.checks import check_count, check_text
from ramure.runtime.process.eager import Eager
from ramure.runtime.process.messages import CallEndpoint, Cancel
from ramure.runtime.process.mistakes import warn_of_tool
from ramure.runtime.process.record import AgentRecord, Outcome, ProcessRecord
from ramure.runtime.process.scope import current_process, process_here

if TYPE_CHECKING:
    from ramure.runtime.process.stream import EventStream
    from ramure.types import ExecResult

__all__ = ["Agent", "ProcessHandle"]

R = TypeVar("R")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ProcessHandle(Generic[R]):
    """A process, seen from outside. ``await handle`` gives its result, or raises what it failed with."""

    def __init__(self, record: ProcessRecord) -> None:
        self.__record = record

    @property
    def _record(self) -> ProcessRecord:
        """For what uses the process: who does is no one who forgot it."""
        self.__record.used = True
        return self.__record

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.__record.name

    @property
    def events(self) -> EventStream:
        """Its events, from the first: ``async for event in handle.events``."""
        return self._record.stream

    @property
    def agents(self) -> dict[str, Agent]:
        """Its live agents, by name."""
        return {name: Agent(agent) for name, agent in self._record.agents.items()}

    @property
    def usage(self) -> Usage:
        """Tokens and cost so far of its agents, and of those of the processes below it, by model too."""
        return self._record.usage()

    @property
    def ended(self) -> bool:
        """True when it has ended, and all of it is cleaned up."""
        return self._record.outcome is not None

    def __await__(self) -> Generator[Any, None, R]:
        return self._result().__await__()

    async def _result(self) -> R:
        record, waiting = self._record, current_process()
        if waiting is not None and (waiting is record or record in waiting.ancestors()):
            raise WaitsForItself(waiting.path, record.path)
        outcome = await (record.wait_ended() if waiting is None else _ended(record, waiting))
        record.retrieved = True
        result: R = outcome.result(record.label)
        return result

    @names_its_line
    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Call an endpoint that the process exposes, and return what it returns.

        Waits as long as the process lives. Raises NoSuchEndpoint, EndpointError, or ProcessEnded.
        """
        record = self._record
        await record.wait_started()
        what = f"calling {name!r}"
        if record.ref is None:
            raise ProcessEnded(record.label, what)
        try:
            return await record.ref.ask(CallEndpoint(name, arguments), timeout=None)
        except ActorDied as died:
            raise ProcessEnded(record.label, what, died.reason) from died

    @names_its_line
    async def attach(self, agent: Agent, *, only: Iterable[str] | None = None, prefix: str = "") -> None:
        """Give ``agent`` the process's endpoints as tools, those to come included.

        ``only``: just these; ``prefix`` goes before each tool's name. Parameters and docstrings are the
        endpoints' own. Raises ToolExists, UnsupportedParameter, ProcessEnded.
        """
        await self._record.wait_started()
        attachment = Attachment(agent._record, self.call, only, prefix)
        answers = attachment.present(self._record)
        self._record.on_expose(attachment)
        await asyncio.gather(*answers)

    def cancel(self, reason: object = "shutdown") -> Eager:
        """End it, in order: its stream ends with ``cancelled``. ``await`` that to wait until it has ended, whatever
        happens meanwhile. In the process itself, or in one below it, such an ``await`` does not return: the code is
        cancelled with the process."""
        record, caller = self._record, current_process()
        record.retrieved = True
        system = record.run.system
        # Inside, the last who waits cannot stay: the end that it waits for waits for this code.
        inside = caller is not None and (caller is record or record in caller.ancestors())
        act = Eager(system, caller or record, f"cancel() of {record.label}", stays=not inside)
        system.on_loop(record.answer_when_ended, act.answer)
        system.on_loop(record.tell_when_started, Cancel(reason))
        return act

    @names_its_line
    async def monitor(self) -> Monitor:
        """Get a ``Down`` (with ``receive``) when it ends; call it in a process."""
        self._record.retrieved = True
        return (await self.ref()).monitor()

    @names_its_line
    async def link(self) -> None:
        """Link the current process and this one, as in Erlang: when one ends with a reason other than ``normal``, so
        does the other, unless it traps exits."""
        self._record.retrieved = True
        (await self.ref()).link()

    @names_its_line
    async def ref(self) -> Ref[Any]:
        """Its actor's ref."""
        await self._record.wait_started()
        if self._record.ref is None:
            raise ProcessEnded(self._record.label, "its actor was wanted")
        return self._record.ref

    def __repr__(self) -> str:
        record = self.__record
        state = record.outcome.kind if record.outcome else "running"
        return f"<process {record.path}: {state}>"


async def _ended(record: ProcessRecord, waiting: ProcessRecord) -> Outcome:
    """Wait for the end of ``record`` in the process ``waiting``. If they wait for each other, that is told: the wait is
    not refused, for it may have a limit, and any of them may be cancelled."""
    if waiting.body is None or asyncio.current_task() is not waiting.body:
        return await record.wait_ended()
    waiting.awaits = record
    try:
        circle = waiting.circle()
        if circle and record.outcome is None:
            names = " → ".join(one.path for one in circle)
            waiting.run.warn(waiting.path, f"these processes wait for each other, and none will end by itself: {names}")
        return await record.wait_ended()
    finally:
        waiting.awaits = None


class Agent:
    """A coding agent: pi, in tmux, on a machine."""

    def __init__(self, record: AgentRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name in its process."""
        return self._record.name

    @property
    def address(self) -> str:
        """Its name in the run: ``name``, or ``name~2`` where another live agent has the name."""
        return self._record.address

    @property
    def events(self) -> EventStream:
        """What happens with it: ``state``, ``assistant``, ``tool_call``, ``tool_result``, ``run_end`` …"""
        return self._record.stream

    @property
    def state(self) -> str:
        """provisioning, launching, connecting, idle, busy, waiting_for_model, restarting or ended."""
        actor = self._actor()
        return "ended" if actor is None else actor.state

    @property
    def restarts(self) -> int:
        """How often its pi was started again."""
        actor = self._actor()
        return 0 if actor is None else actor.restarts

    @property
    def usage(self) -> Usage:
        """Tokens and cost so far, by model too."""
        return self._record.usage

    def _actor(self) -> AgentActor | None:
        return self._record.actor()

    def on(self, tool: str | None = None, *, timeout: float | None = None, once: Key | None = None) -> Callable[[F], F]:
        """Give the agent a tool; the decorated function, plain or async, is its handler::

            @worker.on("finish")
            async def on_finish(summary: str) -> str:
                \"\"\"Call with your result when the task is done.\"\"\"

        Parameters become the tool's arguments, the docstring its description, the return value its result.
        An exception is answered to the agent as an error; so is a call that takes longer than ``timeout`` seconds
        (default: no limit), and the handler is then cancelled.

        ``once``: the name of an argument, or a function of the handler's arguments. While the agent lives, the handler
        does its work once for each key that this gives; who calls again gets the first answer. A call that failed (an
        exception, the timeout) does not count: it may be made again.

        Raises UnsupportedParameter, NoSuchArgument, BadTool, ToolExists.
        """
        if tool is not None and not isinstance(tool, str):
            raise UsageError(f'agent.on({tool!r}): give the tool\'s name, as @agent.on("name"), or write @agent.on()')

        def decorate(function: F) -> F:
            process_here(f"agent.on({tool!r})")
            described = Tool.of(function, check_tool(function, tool))
            dedupe = Once(described, once) if once is not None else None
            if described.name in self._record.tools:  # said here; the actor's answer would come when this has returned
                raise ToolExists(self.name, described.name)
            request = AddTool(described, contextvars.copy_context(), timeout, dedupe)
            self._ref().request(request).add_done_callback(_report)
            self._record.tools.add(described.name)
            self._record.given_tools.add(described.name)
            warn_of_tool(self._record, described.name, function)
            return function

        return decorate

    def send(self, text: str, how: Literal["steer", "queue"] = "steer") -> Eager:
        """Send it a message, durably and exactly once; ``await`` it to know that the message is in its log.

        A busy agent gets it between two steps (``how="steer"``), or when it is idle (``"queue"``). The ``await`` raises
        MessageTooLarge and AgentDied; where nobody awaits it, these fail the process.
        """
        check_text("agent.send()", text)
        if how not in ("steer", "queue"):
            raise UsageError(f"agent.send(how={how!r}): use 'steer' or 'queue'")
        self._record.prompted = True
        return self._act("send()", Say(text, how))

    @overload
    async def ask(self, text: str) -> str: ...
    @overload
    async def ask(self, text: str, *, result: type[T], tries: int = ...) -> T: ...
    @overload
    async def ask(self, text: str, *, result: Any, tries: int = ...) -> Any: ...
    @names_its_line
    async def ask(self, text: str, *, result: Any = None, tries: int = 3) -> Any:
        """Send it a message and return the last thing it says in the run that the message starts.

        With ``result``, a type, it answers with a tool that takes one, and you get that: ``await agent.ask("Which files?",
        result=list[str])``. An answer that does not fit goes back to it with the field and the reason; after ``tries``
        answers that do not, AnswerRefused is raised. The tool is called ``answer``, and goes with the question.

        Raises ModelError, MessageTooLarge, AgentDied, and Interrupted if its answer was interrupted; one that ``ramure
        pause`` holds up comes after ``ramure resume``. A handler of one of its own tools cannot ask it: the answer would
        come when the handler has ended.
        """
        check_text("agent.ask()", text)
        if self._record.ref is not None and self._record.ref == handled_agent():
            raise WouldDeadlock(
                (self.name, self.name),
                f"{self.name!r} is asked by a handler that it waits for, of its tool or of its model's error: this would never end; "
                f"use `send`, or ask it in a task: start_task({self.name}.ask(...))",
            )
        check_count("agent.ask()", "tries", tries)
        self._record.prompted = True
        if result is not None:
            return await ask_for(self._record, self._ask, text, result, tries)
        return await self._ask(AskModel(text))

    def interrupt(self) -> Eager:
        """End what it is doing now; ``await`` it to know that this is in its log. Raises AgentDied there."""
        return self._act("interrupt()", Interrupt())

    @names_its_line
    async def exec(self, command: str, *, user: str = AGENT, timeout: float | None = None) -> ExecResult:
        """Run a shell command on the agent's machine."""
        check_text("agent.exec()", command)
        result: ExecResult = await self._ask(Exec(command, user, timeout))
        return result

    def on_exit(self, handler: F) -> F:
        """Have ``handler(reason)`` called if the agent dies for good, instead of ``wait()`` raising AgentDied."""
        self._record.on_exit = handler
        return handler

    def monitor(self) -> Monitor:
        """Get a ``Down`` (with ``receive``) when it ends for good."""
        return self._ref().monitor()

    def link(self) -> None:
        """Link the current process to this agent: when it ends with a reason other than ``normal``, so does the
        process, unless it traps exits. (An agent outlives whoever is linked to it; it ends with its owner.)"""
        self._ref().link()

    @property
    def ref(self) -> Ref[Any]:
        """Its actor's ref. Raises AgentDied."""
        return self._ref()

    def _ref(self) -> Ref[Any]:
        if self._record.ref is None:
            raise self._record.gone(None)
        return self._record.ref

    def _act(self, verb: str, request: object) -> Eager:
        """Send ``request`` now; from any thread."""
        record = self._record
        system = record.process.run.system
        act = Eager(system, current_process() or record.process, f"{self.name}.{verb}", self._explain)
        if record.ref is not None:
            record.ref.request(request, act.answer)
        else:
            system.on_loop(act.answer.set_exception, record.gone(None))
        return act

    async def _ask(self, request: object) -> Any:
        try:
            return await self._ref().ask(request, timeout=None)
        except ActorDied as died:
            raise self._explain(died) from died

    def _explain(self, error: BaseException) -> BaseException:
        """The error that a program gets for one of the agent's actor."""
        if not isinstance(error, ActorDied):
            return error
        died = self._record.gone(error.reason)
        died.__cause__ = error
        return died

    def __repr__(self) -> str:
        return f"<agent {self.address}>"


def _report(answer: asyncio.Future[Any]) -> None:
    """A tool that could not be added: the decorator cannot raise, so the loop's handler tells."""
    error = None if answer.cancelled() else answer.exception()
    if error is not None and not isinstance(error, ActorDied):
        answer.get_loop().call_exception_handler({"message": f"agent.on: {error}", "exception": error})
