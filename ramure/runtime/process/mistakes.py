"""Mistakes that no error can tell of: what a program left undone. One warning each, with the place and the remedy."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.tools.fields import InvalidArguments
from ramure.places import missing_await, place_of
from ramure.runtime.errors import NotAwaited, WrongArguments
from ramure.runtime.process.eager import Eager

if TYPE_CHECKING:
    from ramure.runtime.process.record import AgentRecord, ProcessRecord

__all__ = [
    "IDLE_AFTER",
    "at_return",
    "check_result",
    "child_failed",
    "explain",
    "idle_agents",
    "unfit_value",
    "warn_of_idle",
    "warn_of_model",
    "warn_of_tool",
    "wrong_arguments",
]

IDLE_AFTER: Final = 2.0
"""Seconds of a wait() after which an agent that nobody has sent anything is named."""

TOLD: Final = 10
"""Failures of a process's children that get a warning of their own; the others are named at its end."""


def check_result(record: ProcessRecord, function: Callable[..., Any], value: object) -> None:
    """Raise :class:`NotAwaited` for a result that only an ``await`` would make one: it is useless to who gets it.

    There is a warning too: a loop that tries again until a try succeeds takes the failure, and would go on for ever
    without a word.
    """
    if inspect.iscoroutine(value):
        text = missing_await(value)
        value.close()  # it is never awaited, and this says so better than Python's warning
    elif isinstance(value, Eager):
        text = f"{value!r} was not awaited: write `await` before it, or return something else"
    else:
        return
    text = f"{record.label} returned a coroutine and not its result: {text} (the function is at {place_of(function)})"
    record.run.warn(record.path, text)
    raise NotAwaited(text)


def wrong_arguments(
    label: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any], error: BaseException
) -> WrongArguments | None:
    """The error of an endpoint's call whose arguments do not fit; None if ``error`` came from inside of it."""
    inside = error.__traceback__ is not None and error.__traceback__.tb_next is not None
    if not isinstance(error, TypeError) or inside:
        return None
    return _misnamed(label, name, function, arguments)


def unfit_value(
    label: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any], error: InvalidArguments
) -> WrongArguments:
    """The error of an endpoint's call with a value that does not fit, or with a name that it does not have."""
    return _misnamed(label, name, function, arguments) or WrongArguments(
        label, name, str(inspect.signature(function)), str(error), error.field, error.reason
    )


def _misnamed(
    label: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]
) -> WrongArguments | None:
    try:
        signature = inspect.signature(function)
        signature.bind(**arguments)
    except TypeError as misfit:
        return WrongArguments(label, name, str(signature), _misfit(arguments, signature) or str(misfit))
    except ValueError:  # a builtin without a signature
        return None
    return None


def _misfit(arguments: Mapping[str, Any], signature: inspect.Signature) -> str:
    for given in arguments:
        if given not in signature.parameters:
            close = difflib.get_close_matches(given, signature.parameters, 1)
            return f"there is no argument {given!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
    return ""


def explain(record: ProcessRecord, error: BaseException) -> None:
    """Name the ``await`` that is missing where an error comes of it: in a note, and in a warning (see check_result)."""
    if isinstance(error, AttributeError) and (text := missing_await(error.obj)) and text not in _notes(error):
        error.add_note(text)
        record.run.warn(record.path, text)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


# -- at the end of a function -----------------------------------------------------------------------------------------


def at_return(record: ProcessRecord, *, waited: bool) -> None:
    """The function has returned. ``waited``: it has called wait(), or done(), and so has decided when that is."""
    agents = list(record.agents.values())
    at_work = [] if waited else [agent for agent in agents if _at_work(agent)]
    if at_work:
        names = ", ".join(f"{agent.name!r} (made at {agent.made_at})" for agent in at_work)
        record.run.warn(
            record.path,
            f"{record.label} returned while what its agents were sent was under way: {names}; they end with it. "
            "`await wait()` before the return, and call done(...) in a tool that they finish with",
        )
    warn_of_idle(record, idle_agents(record))
    left = [child for child in record.offspring if not child.used and child.spawned_at and not child.of_tree]
    if left:
        names = ", ".join(f"{child.label} (spawned at {child.spawned_at})" for child in left)
        record.run.warn(
            record.path,
            f"{record.label} returned while children ran that nobody has awaited: {names}; they are cancelled. "
            "`await` their handles before the return, or wait()",
        )


def _at_work(agent: AgentRecord) -> bool:
    actor = agent.actor()
    if actor is None or agent.stream.ever_read:
        return False
    return (actor.state == "busy" and not actor.turns.answered) or bool(actor.delivery.undelivered)


def idle_agents(record: ProcessRecord) -> list[AgentRecord]:
    """Its agents that have tools, that nobody has ever sent anything, and that no other agent can reach."""
    connected = {each for made in record.run.statistics.connections for each in (made.one, made.other)}
    return [
        agent
        for agent in record.agents.values()
        if agent.given_tools
        and not agent.prompted
        and not agent.told_idle
        and agent not in connected
        and _is_idle(agent)
    ]


def _is_idle(agent: AgentRecord) -> bool:
    actor = agent.actor()
    return actor is not None and actor.state == "idle" and not actor.delivery.undelivered and not agent.usage.input


def warn_of_idle(record: ProcessRecord, agents: list[AgentRecord]) -> None:
    """One warning for each of them."""
    for agent in agents:
        agent.told_idle = True
        tools = ", ".join(sorted(agent.given_tools))
        record.run.warn(
            record.path,
            f"agent {agent.name!r} (made at {agent.made_at}) has tools ({tools}), but nobody has sent it anything, so it "
            f"does nothing: tell it what to do with `{agent.name}.send(...)`",
        )


def warn_of_model(agent: AgentRecord, text: str) -> None:
    """Its pi does not know the model that it is to ask."""
    agent.process.run.warn(agent.process.path, f"agent {agent.name!r} (made at {agent.made_at}): {text}")


# -- while it runs ------------------------------------------------------------------------------------------------------


def child_failed(child: ProcessRecord) -> None:
    """A spawned process has failed. If nobody is looking, that is told now."""
    parent, outcome = child.parent, child.outcome
    if parent is None or outcome is None or parent.of_tree or not child.spawned_at or parent.outcome is not None:
        return
    looked_at = child.is_awaited() or child.stream.reading or parent.stream.takes(child.stream)
    if child.retrieved or looked_at or parent.told_failures >= TOLD:
        return
    parent.told_failures += 1
    child.told = True
    parent.run.warn(
        parent.path,
        f"its child {child.label}, spawned at {child.spawned_at}, failed while nobody awaited it: {outcome.text()}; "
        "`await` its handle, or read its events, to handle this",
    )


def warn_of_tool(record: AgentRecord, tool: str, function: Callable[..., Any]) -> None:
    """A tool of which the model is told too little: no docstring, parameters without annotations."""
    lacks = []
    if not inspect.getdoc(function):
        lacks.append("no docstring, so the model is not told when to call it")
    bare = [name for name, each in inspect.signature(function).parameters.items() if each.annotation is each.empty]
    if bare:
        what = "parameter" if len(bare) == 1 else "parameters"
        lacks.append(f"no annotation of its {what} {', '.join(bare)}, so the model may pass anything")
    if lacks:
        at = place_of(function)
        record.process.run.warn(
            record.process.path,
            f"agent {record.name!r}: the tool {tool!r}{f' (at {at})' if at else ''} has {'; and '.join(lacks)}. Write "
            f'`async def {tool}({", ".join(f"{name}: str" for name in bare) or "..."}) -> str:` with """what it does""" below',
        )
