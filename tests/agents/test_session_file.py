"""pi's session file: the seed, and which messages of the log a session holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ramure.agents.session_file import marked, seed, seqs_in

CASES = json.loads((Path(__file__).parent / "vectors" / "conversation.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_seqs_of_a_session(case: dict[str, object]) -> None:
    branch = case["branch"]
    assert isinstance(branch, list)
    assert seqs_in("".join(json.dumps(entry) + "\n" for entry in branch)) == case["seqs"]


def test_a_torn_last_line_and_foreign_lines_are_passed_over() -> None:
    line = json.dumps({"type": "message", "message": {"role": "user", "content": marked(7, "x")}})
    assert seqs_in(f"{line}\n[]\n42\n{line[:-9]}") == [7]


def test_only_what_a_user_message_begins_with_is_a_marker() -> None:
    said = [{"role": "user", "content": "see [ramure 3] x"}, {"role": "assistant", "content": marked(4, "x")}]
    assert seqs_in("\n".join(json.dumps({"message": message}) for message in said)) == []


def test_the_seed_is_a_session_whose_conversation_is_empty() -> None:
    header, message, leaf = map(json.loads, seed("id-1", "/work here", "2026-01-31T12:00:00.000Z").splitlines())
    assert (header["type"], header["version"], header["id"], header["cwd"]) == ("session", 3, "id-1", "/work here")
    assert message["message"]["stopReason"] == "aborted"
    # Each stands on no branch: the conversation begins at the leaf, and does not hold the message.
    assert message["parentId"] is None and leaf["parentId"] is None
