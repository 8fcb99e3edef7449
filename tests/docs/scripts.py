"""What the scripted model says in the documentation's programs: name -> script, as `ScriptedModel` takes it."""

from __future__ import annotations

import re
from typing import Any

from ramure.cli.demo import scripted as haikus
from ramure.testing import Conversation, HTTPError, Step, Text, ToolCall

LINES = {"rebase": "Old commits find a new branch.", "tmux": "One window, four panes."}


def farm(conversation: Conversation) -> Step:
    """A worker: hands in its line about what its task names."""
    if conversation.new_tool_results:
        return Text("Done.")
    task = conversation.last_user_text
    return ToolCall("finish", {"summary": next(line for word, line in LINES.items() if word in task)})


def invoices(conversation: Conversation) -> Step:
    """A reader of one invoice: misreads Acme's total at first."""
    refused = [result for result in conversation.new_tool_results if "Look again" in result.text]
    if conversation.new_tool_results and not refused:
        return Text("Done.")
    found = re.search(r"\n\n(\w+).* Total: (\S+)", conversation.first_user_text)
    assert found is not None
    misread = found[1] == "Acme" and not refused
    return ToolCall("record", {"supplier": found[1], "total": float(found[2]) * (100 if misread else 1)})


def pool(conversation: Conversation) -> Step:
    """The workers, and the monitor, which adds the task that it is told."""
    _, found, task = conversation.last_user_text.partition("Add a task: ")
    if not found or conversation.new_tool_results:
        return farm(conversation)
    return ToolCall("pool_add_task", {"spec": task.rstrip(".")})


SCRIPTS: dict[str, Any] = {
    "farm": farm,
    "haikus": haikus,
    "invoices": invoices,
    "pool": pool,
    "quiet": [],
    "orders": [
        ToolCall("place", {"order": {"customer": "Ann", "by": "Christmas", "boxes": 2}}),
        ToolCall("place", {"order": {"customer": "Ann", "by": "2026-12-24", "boxes": 2}}),
        Text("It is placed."),
    ],
    "pays": [
        ToolCall("pay", {"order": "A7", "amount": 5}),
        ToolCall("pay", {"order": "A7", "amount": 5}),
        Text("It is paid."),
    ],
    "no-credit": [HTTPError(402, "Insufficient credits")],
    "no-credit-once": [HTTPError(402, "Insufficient credits"), Text("Paid, and said.")],
    "stops": [Text("I am done.")],
    "killed": [ToolCall("bash", {"command": "kill -9 $PPID"}), Text("I was killed, and went on.")],
}
