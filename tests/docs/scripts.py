"""What the scripted model says in the documentation's programs: name -> script, as `ScriptedModel` takes it."""

from __future__ import annotations

import re
from typing import Any

from ramure.cli.commands.demo import scripted as haikus
from ramure.testing import Conversation, Delay, Hang, HTTPError, Step, Text, ToolCall

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


def race(conversation: Conversation) -> list[Step]:
    """A runner: the one that goes to the nearest town finds the shortest tour at its second try, the others none."""
    tries = len(conversation.tool_results)
    if "nearest" in conversation.first_user_text:
        return [ToolCall("propose", {"tour": ("ABCEDF", "ABCDEF")[tries]})] if tries < 2 else [Text("Found.")]
    return [Delay(0.5), ToolCall("propose", {"tour": ("ADBECF", "ACEBDF", "AEC")[tries % 3]})]


def person(conversation: Conversation) -> Step:
    """A writer that can be brief, and a translator."""
    task = conversation.last_user_text
    if "Translate" in task:
        return Text("Version 1.0 ist da.")
    return Text(
        "Release 1.0 is here." if "shorter" in task else "The quick brown release 1.0 jumps over every lazy bug."
    )


FIRST = "def median(numbers):\n    return sorted(numbers)[len(numbers) // 2]\n"
SECOND = FIRST.replace(":\n", ":\n    if not numbers:\n        raise ValueError('there are no numbers')\n", 1)


def review(conversation: Conversation) -> Step:
    """An author that forgets the empty list, and a reviewer that does not."""
    results = conversation.new_tool_results
    answer = results[-1].text if results else ""
    if results and (results[-1].name == "message" or answer.startswith("Approved")):
        return Text("I wait.")
    asked = re.search(r"Message from author:.*?(ramure/\S+)", conversation.last_user_text, re.DOTALL)
    if asked is not None:  # the reviewer
        if not results:
            return ToolCall("bash", {"command": f"git show {asked[1]}:numbers_of_ours.py"})
        if "ValueError" in answer:
            return ToolCall("approve", {"branch": asked[1]})
        text = "median([]) fails with IndexError. Raise ValueError, which says why."
        return ToolCall("message", {"to": "author", "text": text})
    again = "Message from reviewer" in conversation.last_user_text
    if not again and "median" not in conversation.last_user_text:
        return Text("I wait.")
    if results:
        branch = re.search(r"ramure/\S+", answer)
        assert branch is not None, answer
        text = f"Please {'look again:' if again else 'review'} {branch[0]}"
        return ToolCall("message", {"to": "reviewer", "text": text})
    code, what = (SECOND, "Refuse an empty list") if again else (FIRST, "Add median")
    return ToolCall(
        "bash",
        {
            "command": f"""cat > numbers_of_ours.py <<'END'
{code}END
git add . && git commit -q -m '{what}' && git branch --show-current"""
        },
    )


def monitor(conversation: Conversation) -> list[Step]:
    """A builder of one part; the first one of the roof hangs."""
    task = conversation.first_user_text
    if "roof" in task and "Try 1" in task:
        return [Hang()]
    results = {"walls": "The walls stand.", "roof": "The roof is on."}
    steps: list[Step] = [
        ToolCall("progress", {"what": "half of it"}),
        ToolCall("finish", {"result": next(result for part, result in results.items() if part in task)}),
        Text("Done."),
    ]
    return [steps[min(len(conversation.tool_results), 2)]]


def retry(conversation: Conversation) -> Step:
    """A poet that counts its lines when it is told to."""
    short = "Spring rain on the roof\na cat listens at the door"
    return Text(f"{short}\nnobody comes home" if "refused" in conversation.last_user_text else short)


SCRIPTS: dict[str, Any] = {
    "farm": farm,
    "haikus": haikus,
    "invoices": invoices,
    "pool": pool,
    "monitor": monitor,
    "person": person,
    "quiet": [],
    "race": race,
    "retry": retry,
    "review": review,
    "estimates": [
        ToolCall("answer", {"result": {"days": "three", "parts": ["parser", "tests"]}}),
        ToolCall("answer", {"result": {"days": 3, "parts": ["parser", "tests"]}}),
        Text("Three days."),
    ],
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
