"""What is measured. Every figure is better when it is lower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["REQUIRED", "ROWS", "Requirement", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    title: str
    unit: str
    what: str


ROWS: Final = (
    Row("tell", "one-way tell", "µs", "a message sent, and handled by a plain handler"),
    Row("tell_async", "one-way tell, async handler", "µs", "the same, the handler being a coroutine function"),
    Row("ask", "ask", "µs", "a request and its reply, one after the other"),
    Row("ring", "ring of 1,000", "µs", "a hop of one message around a ring of 1,000 actors"),
    Row("spawn", "spawn with handshake", "µs", "an actor started, and known to have started"),
    Row("kill", "kill to DOWN", "µs", "from killing an actor to its watcher having been told"),
    Row("memory", "memory of an actor", "bytes", "resident memory of one more actor that has handled a message"),
    Row("alive", "100,000 actors alive", "s", "100,000 actors started, each of which has handled a message"),
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """``ramure``'s figure in ``row`` is at most ``factor`` of ``peer``'s (or at most ``factor`` in itself)."""

    row: str
    peer: str | None
    factor: float


PEERS: Final = ("pykka", "thespian", "xoscar", "autogen-core")

REQUIRED: Final = (
    Requirement("tell", "queue+task", 1 / 0.6),
    Requirement("ask", "queue+task", 1.2),
    Requirement("ring", "queue+task", 1.0),
    Requirement("spawn", "queue+task", 1.0),
    Requirement("memory", None, 2048),
    Requirement("ask", "pykka", 1 / 5),
    Requirement("spawn", "pykka", 1 / 20),
    *(Requirement(row.key, peer, 1.0) for row in ROWS for peer in PEERS),
)
