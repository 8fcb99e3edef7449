"""The methods of an attached run that are about single actors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from ramure.runtime.control.connection import Calls, Stream
from ramure.runtime.views.actor_data import (
    ActorDetails,
    ActorRow,
    Child,
    Neighbour,
    Specification,
    Supervision,
    TraceRecord,
)
from ramure.runtime.views.story import Chapter, Story

__all__ = ["ActorCalls", "Deed", "Top", "TraceStream"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to an actor."""

    id: int
    actor: str
    path: str
    ended: bool | None = None
    """Of a kill: whether it has ended by now; one that was told to end in order may take its time."""
    reason: str | None = None
    """Of a kill: the exit reason."""
    then: str | None = None
    """Of a kill: what its supervisor does."""
    old: int | None = None
    """Of a restart: who was stopped."""
    new: int | None = None
    """Of a restart: who has come in its place; None while that start is still under way."""


@dataclass(frozen=True, slots=True)
class Top:
    """Who is at work. The rows are as in ``ramure top --json``."""

    at: float
    seconds: float
    loop: float | None
    """The share of a core that the run's event loop used; None where the system does not tell."""
    actors: int
    waiting: int
    busiest: list[dict[str, Any]]
    longest_mailboxes: list[dict[str, Any]]
    agents: list[dict[str, Any]]


class TraceStream:
    """A running trace: ``async for record in trace``. ``dropped`` counts the events that came too fast."""

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream

    @property
    def dropped(self) -> int:
        """Events that are missing, up to what was read."""
        return self._stream.dropped

    async def __aiter__(self) -> AsyncIterator[TraceRecord]:
        async for together in self._stream:
            for told in together:
                yield _trace_record(told)


class ActorCalls(Calls):
    """See :mod:`ramure.runtime.control.actors`. ``actor`` is a number (``"#12"``), a label, a registered name, a place in
    the tree (``"main#1/worker"``) or a pattern for these; one that fits none or several actors raises RequestFailed with
    the ``kind`` ``NoSuchActor`` or ``AmbiguousActor``."""

    async def tree(self) -> list[ActorRow]:
        """Every actor, each followed by those below it."""
        return [ActorRow(**_known(ActorRow, row)) for row in (await self.request("tree"))["actors"]]

    async def inspect(self, actor: str, *, record: bool | None = None, patience: float = 0.5) -> ActorDetails:
        """All that is known about one actor. ``record`` switches the recording of its last messages and its statistics
        on or off; ``patience`` is how many seconds its attributes are waited for."""
        return _details(await self.request("inspect", actor=actor, record=record, patience=patience))

    @asynccontextmanager
    async def trace(
        self,
        actor: str,
        *,
        show: Sequence[Literal["messages", "signals", "calls"]] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[TraceStream]:
        """What happens to the actors that fit, from entering the block on: ``async with run.trace("worker") as trace:
        async for record in trace: …``. Off again when the block, or the program, ends."""
        stream = await self.stream("trace", actor=actor, show=None if show is None else list(show), limit=limit)
        async with stream:
            await anext(stream)  # the trace is on
            yield TraceStream(stream)

    async def top(self, *, every: float = 1.0, most: int = 20) -> AsyncIterator[Top]:
        """Who is at work, every so many seconds."""
        async with await self.stream("top", every=every, most=most) as stream:
            async for item in stream:
                yield Top(**_known(Top, item))

    async def why(self, actor: str) -> Story:
        """The story of the deaths and restarts of an agent or an actor."""
        told = await self.request("why", actor=actor)
        chapters = tuple(Chapter(**_known(Chapter, chapter)) for chapter in told["chapters"])
        return Story(**{**_known(Story, told), "chapters": chapters})

    async def kill(self, actor: str, reason: str | None = None) -> Deed:
        """End an actor at once: it cannot refuse. ``"shutdown"`` lets it end in order; any other reason is what it ends
        with."""
        return _deed(await self.request("kill", actor=actor, reason=reason))

    async def suspend(self, actor: str) -> Deed:
        """Have an actor handle no messages until it is resumed; they wait."""
        return _deed(await self.request("suspend", actor=actor))

    async def resume_actor(self, actor: str) -> Deed:
        """Undo :meth:`suspend`."""
        return _deed(await self.request("resume_actor", actor=actor))

    async def restart(self, actor: str) -> Deed:
        """Have an actor's supervisor stop it and start it again; of an agent, its pi, with its conversation."""
        return _deed(await self.request("restart", actor=actor))


def _known(kind: type[Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows: a newer run may tell more."""
    return {field.name: told[field.name] for field in fields(kind) if field.name in told}


def _deed(told: Mapping[str, Any]) -> Deed:
    return Deed(**_known(Deed, told))


def _each(kind: type[T], told: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    return tuple(kind(**_known(kind, each)) for each in told)


def _trace_record(told: Mapping[str, Any]) -> TraceRecord:
    peer = told["peer"]
    neighbours = {"actor": Neighbour(**told["actor"]), "peer": None if peer is None else Neighbour(**peer)}
    return TraceRecord(**{**_known(TraceRecord, told), **neighbours})


def _details(told: Mapping[str, Any]) -> ActorDetails:
    made: dict[str, Any] = _known(ActorDetails, told)
    made["actor"] = ActorRow(**_known(ActorRow, told["actor"]))
    for name in ("links", "monitors", "monitored_by"):
        made[name] = _each(Neighbour, told[name])
    if (specification := told["specification"]) is not None:
        supervisor = Neighbour(**specification["supervisor"])
        made["specification"] = Specification(**{**_known(Specification, specification), "supervisor": supervisor})
    if (supervision := told["supervision"]) is not None:
        children = _each(Child, supervision["children"])
        made["supervision"] = Supervision(**{**_known(Supervision, supervision), "children": children})
    if told["messages"] is not None:
        made["messages"] = tuple(map(_trace_record, told["messages"]))
    made["waiting"], made["events"] = tuple(told["waiting"]), tuple(told["events"])
    return ActorDetails(**made)
