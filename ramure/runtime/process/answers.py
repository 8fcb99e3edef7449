"""Results and answers of a type: what a process returns, what ``wait(T)`` returns, and ``agent.ask(text, result=T)``."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.errors import AnswerRefused
from ramure.agents.requests import AddTool, AskModel, Interrupt, RemoveTool
from ramure.agents.tools.fields import BadDeclaration, Field, Fields, InvalidArguments
from ramure.agents.tools.kinds import Kind, kind_name, returned_kind
from ramure.agents.tools.schema import Tool
from ramure.agents.tools.signatures import Signature
from ramure.errors import UsageError
from ramure.places import place_of
from ramure.runtime.errors import WrongEvent, WrongResult
from ramure.runtime.process.checks import check_event

if TYPE_CHECKING:
    from ramure.runtime.process.record import AgentRecord
    from ramure.runtime.process.stream import Event

__all__ = ["ask_for", "check_emitted", "check_returned", "check_waited", "event_kinds", "waited_kind"]

TOOL: Final = "answer"
"""The tool that an agent answers with; ``answer_2`` where it has one of the name."""

Ask = Callable[[object], Coroutine[Any, Any, Any]]
"""Asks the agent's actor."""


def check_returned(label: str, function: Callable[..., Any], value: Any) -> Any:
    """The result of a process, as its ``-> T`` says. Raises :class:`WrongResult`."""
    kind = returned_kind(function)
    if kind is None:
        return value
    try:
        return kind.check(value)
    except BadDeclaration:
        return value  # of a type that no value can be checked by
    except InvalidArguments as error:
        what = f"the result of {label} is no {kind_name(kind.annotation)}"
        remedy = f"return one, call done() with one, or change the annotation (the function is at {place_of(function)})"
        raise WrongResult(what, error.field, error.reason, value, remedy) from None


def waited_kind(wanted: Any) -> Kind:
    """The type of ``wait(T)``. Raises :class:`UsageError` for what is none."""
    kind = Kind(wanted)
    try:
        if type(wanted) is not type:  # any class can be checked, and need not be now
            kind.fields.check()
    except BadDeclaration as bad:
        raise UsageError(f"wait({kind_name(wanted)}): {bad.problem}; {bad.remedy}") from bad
    return kind


def check_waited(kind: Kind, value: Any) -> Any:
    """What ``wait(T)`` returns. Raises :class:`WrongResult`."""
    try:
        return kind.check(value)
    except InvalidArguments as error:
        what = f"wait({kind_name(kind.annotation)})"
        raise WrongResult(what, error.field, error.reason, value, "call done() with such a value") from None


def event_kinds(events: Mapping[str, Any]) -> dict[str, Kind]:
    """The types of ``@agent_process(events=)``. Raises :class:`UsageError` for what is none."""
    given: object = events
    if not isinstance(given, Mapping):
        raise UsageError(f'@agent_process(events={given!r}): give a type for each, as events={{"progress": Progress}}')
    for name in events:
        check_event(name)
    kinds = {name: Kind(wanted) for name, wanted in events.items()}
    for name, kind in kinds.items():
        try:
            kind.fields.check()
        except BadDeclaration as bad:
            raise UsageError(f"@agent_process(events={{{name!r}: ...}}): {bad.problem}; {bad.remedy}") from bad
    return kinds


def check_emitted(kind: Kind, type: str, data: Any) -> Any:
    """The data of an event whose type is declared. Raises :class:`WrongEvent`."""
    try:
        return kind.check(data)
    except InvalidArguments as error:
        field = error.field.replace("result", "data", 1)
        raise WrongEvent(type, kind_name(kind.annotation), field, error.reason) from None


async def ask_for(agent: AgentRecord, ask: Ask, text: str, wanted: Any, tries: int) -> Any:
    """Put a question with a tool that takes the answer; the agent has the tool as long as the question is.

    A call that does not fit is answered to the agent, by pi or by the run, and is a try; so is a run of the model that
    ends without an answer. Raises :class:`AnswerRefused` after so many, and what ``ask`` raises.
    """
    question = _Question(agent, wanted, tries)
    name = question.tool.name
    agent.tools.add(name)
    watching = agent.stream.watch(question.on_event)
    try:
        await ask(AddTool(question.tool, contextvars.copy_context()))
        await question.put(ask, f"{text}\n\nGive your answer by calling the tool {name!r} with it.")
        while not question.answers:
            await question.put(ask, f"You have not given your answer: call the tool {name!r} with it.")
    finally:
        watching.cancel()
        agent.tools.discard(name)
        if agent.ref is not None:
            agent.ref.request(RemoveTool(name)).add_done_callback(_seen)
    return question.answers[-1]


def _seen(answer: asyncio.Future[Any]) -> None:
    """An agent that has died meanwhile has no tool to remove."""
    if not answer.cancelled():
        answer.exception()


class _Question:
    """A question that waits for its answer."""

    def __init__(self, agent: AgentRecord, wanted: Any, tries: int) -> None:
        self._agent = agent
        self._wanted = wanted
        self._tries = tries
        self._refused: list[str] = []
        self._gave_up = asyncio.Event()
        self.answers: list[Any] = []
        self.tool = self._tool()

    def _tool(self) -> Tool:
        fields = Fields({"result": Field(self._wanted, description="your answer")})
        try:
            schema = fields.schema()
        except BadDeclaration as bad:
            raise UsageError(f"agent.ask(result={kind_name(self._wanted)}): {bad.problem}; {bad.remedy}") from bad
        taken = self._agent.tools
        names = (TOOL if number == 1 else f"{TOOL}_{number}" for number in range(1, len(taken) + 2))
        name = next(name for name in names if name not in taken)
        description = "Give your answer to the question that you were asked. Call it once, when you are sure."
        return Tool(name, description, schema, self._take, Signature(fields, None, {}))

    def _take(self, result: Any) -> str:
        self.answers.append(result)
        return "Recorded."

    def on_event(self, event: Event) -> None:
        """pi or the run has refused a call; the agent gets the reason from either."""
        if event.type == "tool_end" and event.data.get("name") == self.tool.name and not event.data.get("ok"):
            self._on_refused(str(event.data.get("text", "")).split("\n\nReceived arguments:")[0])

    def _on_refused(self, why: str) -> None:
        if self.answers or self._gave_up.is_set():
            return
        self._refused.append(why)
        if len(self._refused) >= self._tries:
            self._gave_up.set()

    async def put(self, ask: Ask, text: str) -> None:
        """One run of the model. Raises :class:`AnswerRefused` when it was the last."""
        asking = asyncio.ensure_future(ask(AskModel(text)))
        giving_up = asyncio.ensure_future(self._gave_up.wait())
        try:
            await asyncio.wait([asking, giving_up], return_when=asyncio.FIRST_COMPLETED)
            if self._gave_up.is_set() and not asking.done():
                await ask(Interrupt())
                await asyncio.wait([asking])
            if not self._gave_up.is_set():
                asking.result()
        finally:
            asking.cancel()
            giving_up.cancel()
        if not self.answers and not self._gave_up.is_set():
            self._on_refused(f"it ended its turn without calling {self.tool.name!r}")
        if self._gave_up.is_set():
            raise AnswerRefused(self._agent.name, kind_name(self._wanted), self._tries, self._refused[-1])
