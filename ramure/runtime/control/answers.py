"""What the control socket's methods answer with, as types: plain data, with these fields. Versions only add some.

Where a field's type is a dataclass, what travels is an object with its fields.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from ramure.runtime.views.actor_data import ActorRow, BusyActor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")

__all__ = [
    "ByHand",
    "Hello",
    "Killed",
    "Output",
    "Restarted",
    "Resumed",
    "Sent",
    "Terminal",
    "TopAgent",
    "TopView",
    "TreeView",
    "as_plain",
]


def as_plain(value: D) -> D:
    """A dataclass as it travels: an object with its fields."""
    fields: Any = asdict(value)
    plain: D = fields
    return plain


class Hello(TypedDict):
    """Who this is, and which protocol it speaks."""

    protocol: int
    execution_id: str
    pid: int


class Sent(TypedDict):
    """A message is in the agent's log."""

    seq: int
    """The number of the message in the agent's log."""


class Output(TypedDict, total=False):
    """A part of a command's output, as it comes: ``number`` first, then ``source`` with ``data``, at last ``exit_code``."""

    number: int
    source: Literal["stdout", "stderr"]
    data: bytes
    exit_code: int


class Terminal(TypedDict):
    """What to run in a terminal on this host."""

    argv: list[str]
    env: dict[str, str]
    """Variables that it gets beside yours."""
    cwd: str | None


class ByHand(TypedDict):
    """What was done to an actor."""

    actor: str
    """Its label."""
    path: str
    id: int


class Killed(ByHand):
    """An actor was ended."""

    ended: bool
    """Whether it has ended by now; one that was told to end in order may take its time."""
    reason: str | None
    """The exit reason."""
    then: str
    """What its supervisor does."""


class Resumed(ByHand):
    """A suspended actor goes on."""

    was_suspended: bool


class Restarted(ByHand):
    """An actor was stopped, and started again."""

    old: int
    """Who was stopped."""
    new: int | None
    """Who has come in its place; None while that start is still under way."""


class TreeView(TypedDict):
    """Every actor of a run."""

    execution_id: str
    at: float
    """Seconds since 1970."""
    actors: list[ActorRow]
    """Each after the one that started it."""


class TopAgent(TypedDict):
    """An agent, and what it uses."""

    address: str
    id: int | None
    """The number of its actor."""
    state: str
    busy: float
    """The share of the time in which it worked: its model, or a tool."""
    tokens: int
    tokens_per_minute: float
    cost: float


class TopView(TypedDict):
    """Who is at work."""

    execution_id: str
    at: float
    """Seconds since 1970."""
    seconds: float
    """For how long it was measured."""
    loop: float | None
    """The share of the time in which the event loop worked; None where the system does not tell."""
    actors: int
    waiting: int
    """Messages in all mailboxes."""
    busiest: list[BusyActor]
    longest_mailboxes: list[ActorRow]
    agents: list[TopAgent]
