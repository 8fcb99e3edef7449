"""What an agent is made with, and what it is asked and told. Data only."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ramure.actors import Ref
from ramure.agents.message_marks import MessageMarks
from ramure.agents.models.retries import BACKOFF
from ramure.agents.tools.schema import Tool
from ramure.supervisors import Backoff

if TYPE_CHECKING:
    from ramure.agents.models.watch import OnModelError
    from ramure.agents.services import Services
    from ramure.agents.tools.builtin import Peer
    from ramure.agents.tools.idempotency import Once
    from ramure.machines.reaper.process_tree import Daemons
    from ramure.supervisors.spec import Restart

__all__ = [
    "AddPeer",
    "AddTool",
    "AgentOptions",
    "AskModel",
    "Interrupt",
    "Pause",
    "Ready",
    "RemoveTool",
    "Say",
    "Unpause",
    "Usage",
]


TOTALS: Final = ("input", "output", "cache_read", "cache_write", "cost")
COUNTED: Final = ("input", "output", "cacheRead", "cacheWrite")
"""The first four of these, as pi calls them."""

MOST_MODELS: Final = 100
"""Models that are counted apart; the names come from the agents' machines."""

OTHERS: Final = "other"


@dataclass(slots=True)
class Usage:
    """Tokens, and their cost in the currency of the model's price list: of an agent over its whole life, of a process
    and all below it, or of a run."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: float = 0.0
    by_model: dict[str, Usage] = field(default_factory=dict)
    """The same of each model, by ``provider/model``."""

    def add(self, reported: dict[str, Any], model: str) -> None:
        """Count one answer of ``model``; ``reported`` is what pi says of it."""
        tokens = [int(reported.get(name) or 0) for name in COUNTED]
        cost = reported.get("cost")
        paid = float(cost.get("total") or 0.0) if isinstance(cost, dict) else 0.0
        for each in (self, self._of(model)):
            each.input += tokens[0]
            each.output += tokens[1]
            each.cache_read += tokens[2]
            each.cache_write += tokens[3]
            each.cost += paid

    def take(self, other: Usage) -> None:
        """Count all of ``other`` too."""
        for name in TOTALS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for model, used in other.by_model.items():
            self._of(model).take(used)

    @property
    def tokens(self) -> int:
        """All tokens together."""
        return self.input + self.output + self.cache_read + self.cache_write

    def totals(self) -> dict[str, Any]:
        """The five sums, by name."""
        return {name: getattr(self, name) for name in TOTALS}

    def _of(self, model: str) -> Usage:
        known = self.by_model
        return known.setdefault(model if model in known or len(known) < MOST_MODELS else OTHERS, Usage())


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What an agent is made with."""

    name: str
    address: str
    machine: Ref[Any]
    services: Services
    system_prompt: str | None = None
    model: str | None = None
    on_event: Callable[[str, Any, int], None] = lambda kind, data, size: None
    """Called with each event of the agent, its stream: type, data, and how many bytes these take in its log."""
    usage: Usage = field(default_factory=Usage)
    """Summed up here; whoever gave it can read it after the agent's end."""
    restart: Restart = "transient"
    max_restarts: int = 3
    within: float = 600.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, factor=2.0, limit=60.0))
    stale_after: float = 15.0
    """Seconds without a sign of life after which pi counts as hung."""
    daemons: Daemons = "end"
    """What becomes, at pi's end, of what its shell has left running."""
    retry_for: float = 900.0
    """Seconds after the first failure of its model during which runs are tried again, if that can help."""
    model_backoff: Backoff = BACKOFF
    """The pauses between these tries."""
    on_model_error: OnModelError | None = None
    """Decides instead, where it is given."""
    marks: MessageMarks = field(default_factory=MessageMarks)
    """Of its messages. One that is to know an earlier one's session as its own needs the same."""
    session: dict[str, Any] = field(default_factory=dict)
    """More fields for the :class:`SessionPlan`."""


# -- what it is asked and told ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """Answered when pi has connected and knows its tools."""


@dataclass(frozen=True, slots=True)
class Say:
    """``agent.send(text)``: answered with the entry's seq when it is in the log."""

    text: str
    how: Literal["steer", "queue"] = "steer"
    origin: str = "run"


@dataclass(frozen=True, slots=True)
class AskModel:
    """``agent.ask(text)``: answered with the last assistant text of the run that consumed it."""

    text: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """``agent.interrupt()``: end what the model is doing now."""


@dataclass(frozen=True, slots=True)
class Pause:
    """``ramure pause``: hold up what the model is doing now and what comes until :class:`Unpause`. Handlers of calls go on."""


@dataclass(frozen=True, slots=True)
class Unpause:
    """``ramure resume``: deliver what has waited; an agent that was at work is told to go on."""


@dataclass(frozen=True, slots=True)
class AddTool:
    """``agent.on(tool)``: ``context`` is the scope that the handler runs in."""

    tool: Tool
    context: contextvars.Context
    timeout: float | None = None
    """Seconds that a call may take."""
    once: Once | None = None
    """Where calls with the same key are to take effect once."""


@dataclass(frozen=True, slots=True)
class AddPeer:
    """``connect``: this agent knows another one now, and may reach it if ``peer.reachable``."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class RemoveTool:
    """Take a tool away again."""

    name: str
