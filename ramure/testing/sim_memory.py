"""The conversation of a simulated pi, in pi's own session-file format. Pure: text in, lines out.

It answers what the extension asks of a session (``agents/extension/conversation.ts``): which messages of the log are in
it, which calls are open, what a killed pi left behind. Format: version 3 of pi's session-format.md.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ramure.agents.pi.session_file import marked, marker_of
from ramure.testing.conversation import text_of

__all__ = ["CALL_ENTRY", "RUN_ENTRY", "Memory", "OpenCall", "Unsettled", "calls_of"]

RUN_ENTRY: Final = "ramure-run"
CALL_ENTRY: Final = "ramure-call"
_SEED: Final = "aaaaaaa1"


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A tool call of the conversation that has no result. ``key`` is its name for the run."""

    key: str
    call_id: str
    name: str
    arguments: dict[str, Any]
    timestamp: int


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A run that a killed pi left: the messages it had taken in, its last reply, whether it waits to be gone on with."""

    seqs: tuple[int, ...]
    last: dict[str, Any] | None
    waiting: bool


class Memory:
    """A session. ``write`` gets each line that is added, to be appended to the session's file."""

    def __init__(self, text: str, write: Callable[[str], None]) -> None:
        self._write = write
        lines = [json.loads(line) for line in text.splitlines()]
        self.session_id: str = str(lines[0]["id"]) if lines else str(uuid.uuid4())
        self._branch = [line for line in lines[1:] if line["id"] != _SEED]

    def add_message(self, message: dict[str, Any]) -> str:
        """Add a message to the conversation; returns its entry's id."""
        return self._add({"type": "message", "message": message})

    def add_user(self, seq: int, mark: str, text: str, timestamp: int) -> None:
        """Add a message of the log."""
        content = [{"type": "text", "text": marked(seq, mark, text)}]
        self.add_message({"role": "user", "content": content, "timestamp": timestamp})

    def add_run(self, seqs: list[int]) -> None:
        """Record that a run is over for good."""
        self._add({"type": "custom", "customType": RUN_ENTRY, "data": {"seqs": seqs}})

    def add_outcome(self, call: OpenCall, *, ok: bool, text: str) -> None:
        """Record what a call that was left open came to."""
        data = {"timestamp": call.timestamp, "toolCallId": call.call_id, "ok": ok, "text": text}
        self._add({"type": "custom", "customType": CALL_ENTRY, "data": data})

    def markers(self) -> list[tuple[int, str]]:
        """Seq and mark of the log's messages that are in it, in its order."""
        return [marker for message in self._messages() if (marker := marker_of(message)) is not None]

    def open_calls(self) -> list[OpenCall]:
        """Calls that have neither a result nor a recorded outcome."""
        found: dict[str, OpenCall] = {}
        for entry in self._branch:
            message = entry.get("message", {})
            for call in calls_of(message):
                key = f"{entry['id']}/{call['id']}"
                found[call["id"]] = OpenCall(key, call["id"], call["name"], call["arguments"], message["timestamp"])
            if message.get("role") == "toolResult":
                found.pop(message["toolCallId"], None)
            elif entry.get("customType") == CALL_ENTRY:
                found.pop(entry["data"]["toolCallId"], None)
        return list(found.values())

    def unsettled(self) -> Unsettled | None:
        """What was left behind the last run that is recorded as settled; None when there is nothing."""
        start = len(self._branch)
        while start and self._branch[start - 1].get("customType") != RUN_ENTRY:
            start -= 1
        spoken = [entry["message"] for entry in self._branch[start:] if "message" in entry]
        if not any(message["role"] == "user" for message in spoken):
            return None
        replies = [message for message in spoken if message["role"] == "assistant"]
        tail = spoken[-1]
        answered = tail["role"] == "assistant" and not calls_of(tail) and tail["stopReason"] not in ("error", "aborted")
        seqs = tuple(dict.fromkeys(marker[0] for message in spoken if (marker := marker_of(message)) is not None))
        return Unsettled(seqs, replies[-1] if replies else None, not answered)

    def last_settled(self) -> tuple[list[int], dict[str, Any] | None] | None:
        """The last run that is recorded: the messages it had taken in, and the last reply before its end."""
        for index in range(len(self._branch) - 1, -1, -1):
            if self._branch[index].get("customType") == RUN_ENTRY:
                before = [e["message"] for e in self._branch[:index] if e.get("message", {}).get("role") == "assistant"]
                return list(self._branch[index]["data"]["seqs"]), before[-1] if before else None
        return None

    def request(self, system_prompt: str, tools: list[dict[str, Any]], model: str) -> dict[str, Any]:
        """What a model is sent: the conversation as OpenAI chat completions."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": system_prompt}]
        outcomes = {e["data"]["toolCallId"]: e["data"] for e in self._branch if e.get("customType") == CALL_ENTRY}
        for message in self._messages():
            match message["role"]:
                case "user":
                    messages.append({"role": "user", "content": text_of(message)})
                case "assistant" if message["stopReason"] not in ("error", "aborted"):
                    messages.append(_as_reply(message))
                    for call in calls_of(message):
                        if call["id"] in outcomes:
                            text = outcomes[call["id"]]["text"]
                            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
                case "toolResult":
                    content = text_of(message)
                    messages.append({"role": "tool", "tool_call_id": message["toolCallId"], "content": content})
        return {"model": model, "stream": True, "messages": messages, "tools": tools}

    def _messages(self) -> list[dict[str, Any]]:
        return [entry["message"] for entry in self._branch if "message" in entry]

    def _add(self, entry: dict[str, Any]) -> str:
        parent = self._branch[-1]["id"] if self._branch else None
        line = {**entry, "id": uuid.uuid4().hex[:8], "parentId": parent}
        self._branch.append(line)
        self._write(json.dumps(line) + "\n")
        return str(line["id"])


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of an assistant message; none of one that failed or was aborted."""
    if message.get("role") != "assistant" or message.get("stopReason") in ("error", "aborted"):
        return []
    return [block for block in message["content"] if block["type"] == "toolCall"]


def _as_reply(message: dict[str, Any]) -> dict[str, Any]:
    reply: dict[str, Any] = {"role": "assistant", "content": text_of(message)}
    calls = calls_of(message)
    if calls:
        reply["tool_calls"] = [
            {
                "id": c["id"],
                "type": "function",
                "function": {"name": c["name"], "arguments": json.dumps(c["arguments"])},
            }
            for c in calls
        ]
    return reply
