"""Scripts: what is a sound one, and which turn a request gets. No socket is opened here."""

from __future__ import annotations

import re

import pytest

from ramure.errors import UsageError
from ramure.testing import Conversation, Delay, DropConnection, Finish, Hang, HTTPError, Text, Thinking, ToolCall, Usage
from ramure.testing.scripts import Script, ScriptError, ScriptPlayer, script_from_json
from ramure.testing.steps import Turn, as_turn, turn_from_json


def body(*user: str, system: str = "You are a worker.") -> dict[str, object]:
    return {"messages": [{"role": "system", "content": system}, *({"role": "user", "content": text} for text in user)]}


async def play(script: Script, *requests: dict[str, object]) -> list[Turn]:
    player = ScriptPlayer(script)
    return [await player.next_turn(player.converse(request)) for request in requests]


def test_a_string_is_text_and_a_sequence_is_one_turn() -> None:
    assert as_turn("hi") == (Text("hi"),)
    assert as_turn(["hi", ToolCall("ls")]) == (Text("hi"), ToolCall("ls"))


def test_what_is_no_step_is_refused_with_its_value() -> None:
    with pytest.raises(UsageError, match="42"):
        as_turn(["hi", 42])


def test_an_http_error_cannot_follow_what_was_streamed() -> None:
    with pytest.raises(UsageError, match="DropConnection"):
        as_turn(["hi", HTTPError(500)])
    assert as_turn([Delay(1), HTTPError(500)])


def test_every_step_has_a_json_form() -> None:
    assert turn_from_json(
        [
            "hi",
            {"text": "a", "pause": 0.5},
            {"thinking": "b", "chunk": 3},
            {"tool": "finish", "arguments": {"x": 1}, "id": "c1"},
            {"usage": {"input": 7}},
            {"delay": 2},
            {"finish": "length"},
            {"drop": True},
        ]
    ) == (
        Text("hi"),
        Text("a", pause=0.5),
        Thinking("b", chunk=3),
        ToolCall("finish", {"x": 1}, id="c1"),
        Usage(input=7),
        Delay(2),
        Finish("length"),
        DropConnection(),
    )
    assert turn_from_json({"http_error": 429, "retry_after": 1}) == (HTTPError(429, retry_after=1),)
    assert turn_from_json({"hang": True}) == (Hang(),)


@pytest.mark.parametrize("wrong", [{"sleep": 1}, {"text": 1}, {"text": "a", "colour": "red"}, 5, {"tool": None}])
def test_wrong_json_is_refused_with_the_value(wrong: object) -> None:
    with pytest.raises(UsageError) as caught:
        turn_from_json(wrong)
    assert repr(wrong) in str(caught.value) or "colour" in str(caught.value)


def test_a_script_that_is_a_string_is_refused() -> None:
    with pytest.raises(UsageError, match="list of turns"):
        ScriptPlayer("hello")
    with pytest.raises(UsageError, match="list of turns"):
        script_from_json({"a": "hello"})


async def test_each_conversation_has_its_own_place_in_a_list() -> None:
    turns = await play(["one", "two"], body("a"), body("b"), body("a"))
    assert turns == [(Text("one"),), (Text("one"),), (Text("two"),)]


async def test_a_key_says_what_is_one_conversation() -> None:
    player = ScriptPlayer(["one", "two"], key=lambda _: "")
    first, second = player.converse(body("a")), player.converse(body("b"))
    assert await player.next_turn(first) == (Text("one"),)
    assert await player.next_turn(second) == (Text("two"),)
    assert (first.turn, second.turn) == (1, 2)


async def test_a_used_up_script_says_so() -> None:
    with pytest.raises(ScriptError, match=r"used up: it has 1 turns, and this is request 2 .* begins 'a'"):
        await play(["one"], body("a"), body("a"))


async def test_a_dict_is_matched_by_text_pattern_and_predicate_in_order() -> None:
    script: Script = {
        "worker": ["by text"],
        re.compile("critic-[0-9]"): ["by pattern"],
        (lambda c: "tool" in c.last_user_text): ["by predicate"],
        "*": ["anything"],
    }
    turns = await play(
        script,
        body("x"),
        body("critic-7", system=""),
        body("a", "tool", system=""),
        body("b", system=""),
    )
    assert [step for turn in turns for step in turn] == [
        Text("by text"),
        Text("by pattern"),
        Text("by predicate"),
        Text("anything"),
    ]


async def test_no_match_names_what_there_is() -> None:
    with pytest.raises(ScriptError, match=r"begins 'x'; there are: 'boss'"):
        await play({"boss": ["hi"]}, body("x"))


async def test_a_function_gets_the_conversation_and_may_be_async() -> None:
    def shout(conversation: Conversation) -> str:
        return conversation.last_user_text.upper()

    async def count(conversation: Conversation) -> list[Text]:
        return [Text(str(conversation.turn))]

    assert await play(shout, body("a", "b")) == [(Text("B"),)]
    assert await play(count, body("a"), body("a")) == [(Text("1"),), (Text("2"),)]


async def test_a_function_that_raises_or_gives_no_turn_is_a_script_error() -> None:
    def broken(conversation: Conversation) -> str:
        raise KeyError("oops")

    with pytest.raises(ScriptError, match="KeyError: 'oops'"):
        await play(broken, body("a"))
    with pytest.raises(ScriptError, match="None"):
        await play(lambda _: None, body("a"))  # type: ignore[arg-type]


def test_a_conversation_reads_its_parts() -> None:
    conversation = Conversation(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "sys"},
                {"role": "user", "content": [{"type": "text", "text": "do"}, {"type": "image_url", "image_url": {}}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "ls"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "a.txt"},
                {"role": "assistant", "content": "hm", "tool_calls": [{"id": "2", "function": {"name": "cat"}}]},
                {"role": "tool", "tool_call_id": "2", "content": "text"},
                {"role": "user", "content": "go on"},
            ],
            "tools": [{"type": "function", "function": {"name": "ls", "description": "Lists.", "parameters": {}}}],
        }
    )
    assert (conversation.system_prompt, conversation.model) == ("sys", "m")
    assert (conversation.first_user_text, conversation.last_user_text) == ("do", "go on")
    assert conversation.assistant_texts == ["", "hm"]
    assert [(r.name, r.text) for r in conversation.tool_results] == [("ls", "a.txt"), ("cat", "text")]
    assert [(r.id, r.name) for r in conversation.new_tool_results] == [("2", "cat")]
    assert conversation.tools["ls"].description == "Lists."
