"""A model's view of one request: the conversation so far, and the tools it may call. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Conversation", "OfferedTool", "ToolResult"]


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool that the agent offers to the model: ``parameters`` is its JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call gave back: the call's id, the tool's name, and the text of the result."""

    id: str
    name: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """What the model was sent with one request.

    ``body`` is the request as it came (OpenAI chat completions); ``id`` is the same for all requests of one
    agent's session; ``turn`` counts this conversation's requests, from 1, those that are repeated included.
    """

    body: Mapping[str, Any]
    id: str = ""
    turn: int = 1

    @property
    def model(self) -> str:
        """The id of the model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages, oldest first, as they came: ``{"role": ..., "content": ...}``."""
        messages = self.body.get("messages")
        return messages if isinstance(messages, list) else []

    @cached_property
    def system_prompt(self) -> str:
        """The system prompt; empty if there is none."""
        return "\n".join(text_of(m) for m in self.messages if m.get("role") in ("system", "developer"))

    @cached_property
    def user_texts(self) -> list[str]:
        """The text of each user message, oldest first."""
        return [text_of(m) for m in self.messages if m.get("role") == "user"]

    @property
    def first_user_text(self) -> str:
        """The text of the first user message; empty if there is none."""
        return self.user_texts[0] if self.user_texts else ""

    @property
    def last_user_text(self) -> str:
        """The text of the last user message; empty if there is none."""
        return self.user_texts[-1] if self.user_texts else ""

    @cached_property
    def assistant_texts(self) -> list[str]:
        """The text of each reply that the model gave before, oldest first; empty where it only called tools."""
        return [text_of(m) for m in self.messages if m.get("role") == "assistant"]

    @cached_property
    def tool_results(self) -> list[ToolResult]:
        """The result of every tool call so far, oldest first."""
        return self._results(self.messages)

    @cached_property
    def new_tool_results(self) -> list[ToolResult]:
        """The results that came since the model's last reply."""
        replies = [i for i, message in enumerate(self.messages) if message.get("role") == "assistant"]
        return self._results(self.messages[replies[-1] :] if replies else self.messages)

    @cached_property
    def tools(self) -> dict[str, OfferedTool]:
        """The tools that the model may call now, by name."""
        offered: dict[str, OfferedTool] = {}
        for item in self.body.get("tools") or []:
            function = item.get("function", {})
            name = str(function.get("name", ""))
            offered[name] = OfferedTool(name, str(function.get("description", "")), function.get("parameters") or {})
        return offered

    def _results(self, messages: list[dict[str, Any]]) -> list[ToolResult]:
        names = {
            call.get("id"): call.get("function", {}).get("name", "")
            for message in self.messages
            for call in message.get("tool_calls") or []
        }
        return [
            ToolResult(str(m.get("tool_call_id", "")), names.get(m.get("tool_call_id"), ""), text_of(m))
            for m in messages
            if m.get("role") == "tool"
        ]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of one message; parts that are no text (images) are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
