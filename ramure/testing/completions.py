"""Turns as OpenAI chat completions: the chunks of a stream, or one whole reply. Pure: no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramure.testing.steps import Delay, DropConnection, Finish, Hang, HTTPError, Text, Thinking, ToolCall, Turn, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Chunk", "Cut", "Open", "Pause", "Refuse", "error_body", "render", "sse", "whole"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Send this ``chat.completion.chunk``."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error; nothing follows."""

    error: HTTPError


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection now; nothing follows."""


@dataclass(frozen=True, slots=True)
class Open:
    """Leave the connection open for ever; nothing follows."""


Action = Chunk | Pause | Refuse | Cut | Open


def render(turn: Turn, *, completion_id: str, model: str, created: int, call_id: Callable[[], str]) -> Iterator[Action]:
    """What a server does for ``turn``, in order. ``call_id`` makes the id of a tool call that has none."""
    usage = next((step for step in reversed(turn) if isinstance(step, Usage)), Usage())
    finish = next((step.reason for step in reversed(turn) if isinstance(step, Finish)), None)
    calls = 0

    def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> Chunk:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        head = {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}
        return Chunk({**head, "choices": choices, **more})

    # The role's chunk goes out with the first content, so that a first Delay delays the response itself.
    role: dict[str, Any] = {"role": "assistant"}
    for step in turn:  # Usage and Finish, which tell of the end, have been read
        match step:
            case Text() | Thinking():
                for number, delta in enumerate(_spoken(step)):
                    if number and step.pause > 0:
                        yield Pause(step.pause)
                    yield chunk({**role, **delta})
                    role = {}
            case ToolCall():
                for delta in _called(step, calls, step.id or call_id()):
                    yield chunk({**role, **delta})
                    role = {}
                calls += 1
            case Delay(seconds):
                yield Pause(seconds)
            case HTTPError():
                yield Refuse(step)
                return
            case DropConnection():
                yield Cut()
                return
            case Hang():
                yield Open()
                return
    yield chunk(role, finish=finish or ("tool_calls" if calls else "stop"))
    yield chunk(None, usage=_usage(usage))


def _spoken(step: Text | Thinking) -> Iterator[dict[str, Any]]:
    key = "content" if isinstance(step, Text) else "reasoning_content"
    size = max(1, step.chunk)
    for start in range(0, len(step.text), size):
        yield {key: step.text[start : start + size]}


def _called(step: ToolCall, index: int, call_id: str) -> Iterator[dict[str, Any]]:
    function = {"name": step.name, "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
    text = step.arguments if isinstance(step.arguments, str) else json.dumps(step.arguments)
    for start in range(0, len(text), 4096):
        yield {"tool_calls": [{"index": index, "function": {"arguments": text[start : start + 4096]}}]}


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def error_body(message: str, kind: str) -> bytes:
    """The body of an error answer, as OpenAI's."""
    return json.dumps({"error": {"message": message, "type": kind, "code": None, "param": None}}).encode()


def whole(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The reply to a request without ``stream``: all chunks as one ``chat.completion``."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: list[dict[str, Any]] = []
    finish = None
    for chunk in chunks:
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            delta = choice["delta"]
            for key in ("content", "reasoning_content"):
                if key in delta:
                    message[key] = (message.get(key) or "") + delta[key]
            for piece in delta.get("tool_calls", []):
                if "id" in piece:
                    calls.append({**piece, "function": dict(piece["function"])})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    last = chunks[-1]
    return {
        **{key: last[key] for key in ("id", "created", "model", "usage")},
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }


def _usage(usage: Usage) -> dict[str, Any]:
    prompt = usage.input + usage.cache_read + usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
    }
