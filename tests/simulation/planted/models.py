"""Models that several of the programs use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ramure.testing import Conversation, Step, Text, ToolCall

__all__ = ["diligent", "task_of"]


def diligent(
    tool: str, arguments: Callable[[Conversation], dict[str, Any]], accepted: str = "Recorded."
) -> Callable[[Conversation], Step]:
    """A model that calls ``tool`` until it has been answered ``accepted``, and then says so."""

    def model(conversation: Conversation) -> Step:
        if any(accepted in result.text for result in conversation.tool_results):
            return Text("It is done.")
        return ToolCall(tool, arguments(conversation))

    return model


def task_of(conversation: Conversation) -> str:
    """What the first message's line ``Task: …`` says."""
    for text in conversation.user_texts:
        for line in text.splitlines():
            if line.startswith("Task: "):
                return line.removeprefix("Task: ").strip()
    return ""
