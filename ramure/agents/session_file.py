"""pi's session file, as far as ramure writes and reads it. Pure: text in, text out; the file is the caller's.

Format: version 3 of pi's session-format.md, one JSON object a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["MARKER", "marked", "seed", "seqs_in"]

MARKER: Final = re.compile(r"\[ramure (\d+)\] ")
"""How a message of the log begins in the conversation (``extension/conversation.ts`` has the same)."""


def marked(seq: int, text: str) -> str:
    """The text as it stands in the conversation."""
    return f"[ramure {seq}] {text}"


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
        {"type": "message", "id": "aaaaaaa1", "parentId": None, "timestamp": timestamp, "message": message},
        {
            "type": "custom",
            "id": "aaaaaaa2",
            "parentId": None,
            "timestamp": timestamp,
            "customType": "ramure-seed",
            "data": {},
        },
    ]
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def _user_texts(session: str) -> Iterator[str]:
    for line in session.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # A kill can tear the last line; pi leaves it out as well.
        message = entry.get("message") if isinstance(entry, dict) else None
        if not isinstance(message, dict) or message.get("role") != "user":
            continue
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        yield "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def seqs_in(session: str) -> list[int]:
    """The seqs of the log's messages in the text of a session file, in its order, repeats included."""
    found = (MARKER.match(text) for text in _user_texts(session))
    return [int(match[1]) for match in found if match]
