"""The run's side of an agent's replicated log: what is sent, what is waited for, what was done already. Pure.

:class:`Delivery` is fed with what happened and answers with *effects*, which its owner carries out in the order given.
It opens no socket, reads no clock, and writes no file. docs/protocol.md is its specification.

The rules, in short:

* The run alone assigns seqs. An entry is offered only once it is written (:meth:`Delivery.written`).
* Entries of the types in :data:`DELIVERED_TYPES` go to the extension, in order; each says which one came before it.
* A new launch (pi was restarted) is told the present state: each tool's latest definition, the latest system prompt,
  whether the agent is paused, the messages that are not in its session, and the interrupts that no launch has applied. A
  new connection of the same launch gets what it has not applied. A ``retry`` is for the launch that it was made for.
* A message once found in the session is sent again only to a new launch whose session has lost it. A call id once begun
  is never begun again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat, takewhile
from typing import Any, Final

from ramure.agents.message_marks import MessageMarks
from ramure.agents.tools.results import Picture
from ramure.agents.wire import (
    PROTOCOL,
    Entry,
    EntryFrame,
    ErrorFrame,
    Frame,
    Hello,
    Report,
    ReportsAck,
    Resend,
    ToolResult,
    Welcome,
)

__all__ = [
    "DELIVERED_TYPES",
    "BeginCall",
    "CancelCall",
    "Delivery",
    "Effect",
    "Forged",
    "InSession",
    "MissingFromSession",
    "Refuse",
    "Reported",
    "Send",
]

MESSAGE: Final = "message"
TOOL: Final = "tool"
TOOL_REMOVED: Final = "tool_removed"
SYSTEM_PROMPT: Final = "system_prompt"
INTERRUPT: Final = "interrupt"
PAUSE: Final = "pause"
RETRY: Final = "retry"

DELIVERED_TYPES: Final = frozenset({MESSAGE, TOOL, TOOL_REMOVED, SYSTEM_PROMPT, INTERRUPT, PAUSE, RETRY})
"""The types of entries that go to the extension; all others are for the log alone."""

KEPT_MESSAGES: Final = 1000
"""Messages that are in the session, which are kept for the case that it loses them."""

MOST_CALLS: Final = 1000
"""Calls of one agent that may be under way at a time; each is a task, and a model makes a few dozen at most."""

KEPT_RESULTS: Final = 100
"""Results of finished calls that are kept to be told again; of older ones only a digest of the id is remembered."""

MOST_FORGED: Final = 1000
"""Forged messages reported for one launch, at most; each is reported once."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame on the present connection."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close the present connection: this hello cannot be served."""

    reason: str


@dataclass(frozen=True, slots=True)
class InSession:
    """These messages came into the conversation (each is told once)."""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MissingFromSession:
    """These messages had been delivered, and the session no longer has them: its file was lost or cut, or a person began
    another session. ``again``: those of them that are delivered anew."""

    seqs: tuple[int, ...]
    again: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Forged:
    """These messages stand in the session and are none of this log, whatever seqs they bear: another program has written to
    its file, or a person has opened another agent's session. (Each is reported once per launch.)"""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BeginCall:
    """Run the tool; then tell :meth:`Delivery.call_done`."""

    call_id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CancelCall:
    """The model no longer waits for this call, which is under way."""

    call_id: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A report of the extension that is news (each is reported once per launch)."""

    kind: str
    data: dict[str, Any]


Effect = Send | Refuse | InSession | MissingFromSession | Forged | BeginCall | CancelCall | Reported


def _digest(call_id: str) -> int:
    """Of a call id that may be long: there may be millions of them in an agent's life."""
    return int.from_bytes(hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class Delivery:
    """The delivery state of one agent, across connections and launches. ``marks`` tell its messages from others in its
    session."""

    def __init__(self, marks: MessageMarks) -> None:
        self._marks = marks
        self._forged: set[tuple[int, str]] = set()
        self._last_seq = 0
        self._written = 0
        self._messages: dict[int, Entry] = {}
        self._latest: dict[str, Entry] = {}
        self._interrupts: dict[int, Entry] = {}
        self._retry: Entry | None = None
        self._in_session: set[int] = set()
        self._found: dict[int, Entry] = {}
        self._launch: tuple[str, int] | None = None
        self._connected = False
        self._sent = 0
        self._reports = 0
        self._running: set[str] = set()
        self._results: dict[str, ToolResult] = {}
        self._older: set[int] = set()

    # ---- what the run does ----

    @property
    def last_seq(self) -> int:
        """The seq of the newest entry."""
        return self._last_seq

    @property
    def undelivered(self) -> tuple[int, ...]:
        """The messages that are not known to be in the conversation, in order."""
        return tuple(self._messages)

    @property
    def due(self) -> bool:
        """True while a message waits that will set the model to work. A note goes along with what pi does next."""
        return any(entry.data.get("how") != "note" for entry in self._messages.values())

    @property
    def running(self) -> frozenset[str]:
        """The ids of the calls under way."""
        return frozenset(self._running)

    def append(self, type: str, data: dict[str, Any], origin: str, ts: float) -> int:
        """Makes the log's next entry; its seq. It is offered to the extension once :meth:`written` covers it."""
        self._last_seq = seq = self._last_seq + 1
        if type not in DELIVERED_TYPES:
            return seq
        entry = Entry(seq, ts, type, data, origin)
        if type == MESSAGE:
            self._messages[seq] = entry
        elif type in (TOOL, TOOL_REMOVED):
            self._latest[f"tool {data['name']}"] = entry
        elif type in (SYSTEM_PROMPT, PAUSE):
            self._latest[type] = entry
        elif type == INTERRUPT:
            self._interrupts[seq] = entry
        elif type == RETRY:  # a later one is about a later run
            self._retry = entry
        return seq

    def written(self, upto: int) -> list[Effect]:
        """All entries up to ``upto`` are in the log's file: those the extension has not been sent may go."""
        self._written = max(self._written, min(upto, self._last_seq))
        return self._offer(self._sent) if self._connected else []

    def call_done(self, call_id: str, ok: bool, text: str, pictures: Iterable[Picture] = ()) -> list[Effect]:
        """A call that :class:`BeginCall` began has ended. The result of one that had ended before is ignored."""
        if call_id not in self._running:
            return []
        self._running.discard(call_id)
        images = tuple({"mime_type": each.mime_type, "data": each.data} for each in pictures)
        result = self._results[call_id] = ToolResult(call_id, ok, text, images)
        if len(self._results) > KEPT_RESULTS:
            oldest = next(iter(self._results))
            del self._results[oldest]
            self._older.add(_digest(oldest))
        return [Send(result)] if self._connected else []

    # ---- what the connection brings ----

    def on_hello(self, hello: Hello) -> list[Effect]:
        """A connection has opened: what the extension lacks is sent, each in its order."""
        if hello.protocol != PROTOCOL:
            text = f"the extension speaks protocol {hello.protocol}, this run {PROTOCOL}; both must be of one ramure"
            return [Refuse(text)]
        launch = (hello.launch, hello.instance)
        new_launch = launch != self._launch
        persons = hello.instance > 1
        if not new_launch and hello.applied > self._last_seq:
            return [Refuse(f"the extension has applied entry {hello.applied}, the log ends at {self._last_seq}")]
        if new_launch:
            self._launch = launch
            self._reports = 0
            self._retry = None  # a new launch goes on by itself
            self._forged.clear()
        own, effects = self._told_apart(hello.delivered, hello.marks)
        if new_launch:
            # One that comes before a message of the session has been applied; in a person's new session nothing is at work.
            self._acknowledge(self._last_seq if persons else max(own, default=0))
        effects += self._known_in_session(own)
        missing = tuple(sorted(self._in_session.difference(own)))
        if missing:
            # A person who begins a new session in the same pi wants none of the old one.
            again = self._take_back(missing) if new_launch and not persons else ()
            effects.append(MissingFromSession(missing, again))
        self._connected = True
        self._acknowledge(hello.applied)
        entries = self._offer(hello.applied)
        upto = self._sent
        effects += [Send(Welcome(self._reports, upto)), *entries]
        return effects + [Send(self._result(call)) for call in hello.calls if self._was_made(call)]

    def on_ack(self, applied: int) -> list[Effect]:
        """The extension has applied what it was sent up to ``applied``."""
        self._acknowledge(applied)
        return []

    def on_delivered(self, seqs: Sequence[int], marks: Sequence[str]) -> list[Effect]:
        """The extension has found these messages in the session, with these marks."""
        own, effects = self._told_apart(seqs, marks)
        return effects + self._known_in_session(own)

    def on_resend(self, after: int) -> list[Effect]:
        """The extension has seen a gap: all that follows ``after`` is sent again."""
        return self._offer(after)

    def on_report(self, report: Report) -> list[Effect]:
        """A numbered report. One that came before is acknowledged again and has no other effect."""
        if report.n > self._reports + 1:
            return [Send(Resend(self._reports))]
        if report.n <= self._reports:
            return [Send(ReportsAck(self._reports))]
        self._reports = report.n
        return [*self._news(report), Send(ReportsAck(report.n))]

    def on_disconnected(self) -> list[Effect]:
        """The connection is gone; calls under way go on."""
        self._connected = False
        return []

    # ---- within ----

    def _news(self, report: Report) -> list[Effect]:
        data = report.data
        if report.kind in ("run_failed", "run_end"):
            data = {**data, "seqs": [seq for seq in data["seqs"] if seq in self._in_session]}
        if report.kind not in ("tool_call", "tool_cancel"):
            return [Reported(report.kind, data)]
        call_id = data.get("call_id")
        if not isinstance(call_id, str):
            return [Send(ErrorFrame("call", f"a {report.kind} report needs a call_id, which is a text"))]
        if report.kind == "tool_cancel":
            return [CancelCall(call_id)] if call_id in self._running else []
        if self._was_made(call_id):
            return [Send(self._result(call_id))]
        if call_id in self._running:
            return []
        name, arguments = data.get("name"), data.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return [Send(ToolResult(call_id, False, "a tool call needs a name and an object of arguments"))]
        if len(self._running) >= MOST_CALLS:
            return [Send(ToolResult(call_id, False, f"{MOST_CALLS:,} calls are under way: wait for some of them"))]
        self._running.add(call_id)
        return [BeginCall(call_id, name, arguments)]

    def _was_made(self, call_id: str) -> bool:
        """Whether it has ended before."""
        return call_id in self._results or (bool(self._older) and _digest(call_id) in self._older)

    def _result(self, call_id: str) -> ToolResult:
        kept = self._results.get(call_id)
        return kept or ToolResult(call_id, False, "This call was made before, and its result is no longer kept.")

    def _told_apart(self, seqs: Sequence[int], marks: Sequence[str]) -> tuple[list[int], list[Effect]]:
        """The messages of this log among those that a session holds; and the effects of there being others."""
        found = list(zip(seqs, chain(marks, repeat("")), strict=False))
        others = set(self._marks.others(found))
        if not others:
            return [seq for seq, _ in found], []
        own = [seq for seq, mark in found if (seq, mark) not in others]
        new = sorted(others - self._forged)[: MOST_FORGED - len(self._forged)]
        self._forged.update(new)
        return own, [Forged(tuple(dict.fromkeys(seq for seq, _ in new)))] if new else []

    def _known_in_session(self, seqs: Iterable[int]) -> list[Effect]:
        new = tuple(sorted(seq for seq in set(seqs) if seq in self._messages))
        for seq in new:
            self._found[seq] = self._messages.pop(seq)
            if len(self._found) > KEPT_MESSAGES:
                del self._found[next(iter(self._found))]
        self._in_session.update(new)
        return [InSession(new)] if new else []

    def _take_back(self, missing: Iterable[int]) -> tuple[int, ...]:
        """Messages that the session has lost wait again, in their order."""
        again = {seq: self._found.pop(seq) for seq in missing if seq in self._found}
        self._in_session.difference_update(again)
        self._messages = dict(sorted({**again, **self._messages}.items()))
        return tuple(again)

    def _acknowledge(self, applied: int) -> None:
        for seq in [seq for seq in self._interrupts if seq <= applied]:
            del self._interrupts[seq]

    def _marked(self, entry: Entry) -> Entry:
        """As the extension gets it. The log, which others may read, has no marks of what is still to be sent."""
        if entry.type != MESSAGE:
            return entry
        data = {**entry.data, "mark": self._marks.of(entry.seq)}
        return Entry(entry.seq, entry.ts, entry.type, data, entry.origin)

    def _offer(self, after: int) -> list[Effect]:
        """Every entry after ``after`` that the extension needs, chained by ``prev``."""
        # Messages wait in their order, so the new ones are found from the end.
        messages = takewhile(lambda entry: entry.seq > after, reversed(self._messages.values()))
        retry = () if self._retry is None else (self._retry,)
        candidates = (*messages, *self._latest.values(), *self._interrupts.values(), *retry)
        written = self._written
        due = [entry for entry in candidates if after < entry.seq <= written]
        if len(due) > 1:
            due.sort(key=lambda entry: entry.seq)
        effects: list[Effect] = []
        prev = after
        for entry in due:
            if not (after == 0 and entry.type == TOOL_REMOVED):
                effects.append(Send(EntryFrame(prev, self._marked(entry))))
                prev = entry.seq
        self._sent = max(prev, after)
        return effects
