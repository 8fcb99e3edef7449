"""pi's session file, as far as ramure writes and reads it. Pure: text in, text out; the file is the caller's.

Format: version 3 of pi's session-format.md, one JSON object a line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ramure.agents.message_marks import MessageMarks

__all__ = ["Mended", "marked", "marker_of", "mend", "seed", "seqs_in"]

MARKER: Final = re.compile(r"\[ramure ([0-9]{1,15})(?: ([a-z2-7]{8}))?\] ")
"""How a message of the log begins in the conversation (``extension/conversation.ts`` has the same). One without a mark is
not the run's, however it came there."""


_SEEDED: Final = ("aaaaaaa1", "aaaaaaa2")


def marked(seq: int, mark: str, text: str) -> str:
    """The text as it stands in the conversation. ``mark``: see :mod:`ramure.agents.message_marks`."""
    return f"[ramure {seq} {mark}] {text}"


def marker_of(message: dict[str, Any]) -> tuple[int, str] | None:
    """The seq and the mark ("" if it has none) that a user message begins with; None for every other message."""
    if message.get("role") != "user":
        return None
    content = message.get("content")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = (str(block.get("text", "")) for block in blocks if isinstance(block, dict) and block.get("type") == "text")
    found = MARKER.match("".join(texts))
    return (int(found[1]), found[2] or "") if found else None


@dataclass(frozen=True, slots=True)
class Mended:
    """``text``: what the session file must hold; None when it is sound. ``forged``: the seqs of the messages that the run did
    not send, which were left out."""

    text: str | None
    forged: tuple[int, ...] = ()


def seed(session_id: str, cwd: str, timestamp: str) -> str:
    """What a new session file holds before pi's first start; ``timestamp`` as ``2026-01-31T12:00:00.000Z``.

    pi opens a session's file only at the first assistant message: a message that it was given before that would be lost
    with the process. So the file begins with an assistant message, aborted and empty, that stands on no branch: it is
    neither shown nor sent. The custom entry beside it is the leaf, where the conversation begins.
    """
    usage = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 0}
    cost = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "total": 0}
    message = {
        "role": "assistant",
        "content": [],
        "api": "openai-completions",
        "provider": "ramure",
        "model": "none",
        "usage": {**usage, "cost": cost},
        "stopReason": "aborted",
        "timestamp": 0,
    }
    lines: list[dict[str, Any]] = [
        {"type": "session", "version": 3, "id": session_id, "timestamp": timestamp, "cwd": cwd},
        {"type": "message", "id": _SEEDED[0], "parentId": None, "timestamp": timestamp, "message": message},
        {
            "type": "custom",
            "id": _SEEDED[1],
            "parentId": None,
            "timestamp": timestamp,
            "customType": "ramure-seed",
            "data": {},
        },
    ]
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def mend(text: str, session_id: str, cwd: str, timestamp: str, marks: MessageMarks) -> Mended:
    """What a session file must hold for pi to go on with all that is left in it.

    A kill can tear the last line; a file that was cut or deleted under a live pi goes on with entries whose parents are gone,
    and pi would refuse it, or see nothing of what stands before the gap. The entries that are left become one conversation
    again, without tool results whose calls are lost: a model's server would refuse those. A message that bears the run's
    marker and was not sent by it (``marks``) is left out. The other arguments are :func:`seed`'s, for a file that has lost its
    beginning.
    """
    lines = text.split("\n")
    entries = [entry for line in lines if (entry := _entry(line)) is not None]
    if [entry["id"] for entry in entries[1:3]] != list(_SEEDED) or entries[0]["type"] != "session":
        begin = [json.loads(line) for line in seed(session_id, cwd, timestamp).splitlines()]
        header = [entry for entry in entries[:1] if entry["type"] == "session"] or begin[:1]
        rest = [entry for entry in entries if entry["type"] != "session" and entry["id"] not in _SEEDED]
        entries = [*header, *begin[1:], *rest]
    forged = marks.others(marker for entry in entries if (marker := _marker_in(entry)) is not None)
    if forged:
        entries = [entry for entry in entries if _marker_in(entry) not in forged]
    kept = _joined(entries)
    mended = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in kept)
    sound = text.endswith("\n") and len(kept) == len(lines) - 1 and kept == [_entry(line) for line in lines[:-1]]
    return Mended(None if sound else mended, tuple(dict.fromkeys(seq for seq, _ in forged)))


def _object(line: str) -> dict[str, Any] | None:
    """The JSON object that a line holds, unless it is torn, or none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _entry(line: str) -> dict[str, Any] | None:
    """The entry that a line holds, unless it is torn, or none."""
    entry = _object(line)
    known = entry is not None and isinstance(entry.get("type"), str) and isinstance(entry.get("id"), str)
    return entry if known else None


def _joined(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries (a header first) with every parent in its place: where one is lost, it is the entry before."""
    stands: dict[
        str, str | None
    ] = {}  # id of an entry -> of the one that stands for it: itself, or a parent of one left out
    calls: set[str] = set()
    kept, last = entries[:1], None
    for entry in entries[1:]:
        parent = entry.get("parentId")
        parent = parent if parent is None or isinstance(parent, str) else ""
        if entry["id"] in stands or entry["type"] == "session":
            continue
        parent = stands.get(parent, last) if parent is not None else None
        message = entry.get("message")
        message = message if isinstance(message, dict) else {}
        if message.get("role") == "toolResult" and str(message.get("toolCallId")) not in calls:
            stands[entry["id"]] = parent
            continue
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == "toolCall":
                calls.add(str(part.get("id")))
        stands[entry["id"]] = last = entry["id"]
        kept.append(entry if entry.get("parentId") == parent else {**entry, "parentId": parent})
    return kept


def _marker_in(entry: dict[str, Any]) -> tuple[int, str] | None:
    message = entry.get("message")
    return marker_of(message) if isinstance(message, dict) else None


def seqs_in(session: str) -> list[int]:
    """The seqs that the messages in the text of a session file bear, in its order, repeats included."""
    entries = filter(
        None, map(_object, session.splitlines())
    )  # a kill can tear the last line; pi leaves it out as well
    return [marker[0] for entry in entries if (marker := _marker_in(entry)) is not None]
