"""Models that several of the programs use."""

from __future__ import annotations

import re
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
    """What the newest ``Task: …`` of a message says, to the end of its line."""
    found = re.findall(r"Task: (.*)", "\n".join(conversation.user_texts))
    return found[-1].strip() if found else ""
