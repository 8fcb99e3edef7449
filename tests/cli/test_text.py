"""What the commands write on terminals of any width, and of texts that are anybody's."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.cli import text
from ramure.cli.text import hanging, one_line, run_together, shortened, table

HEAD = ("NAME", "KIND", "STATE", "MAILBOX", "DOING")
ROWS: list[list[Any]] = [
    ["run", "Supervisor", "idle", "0", ""],
    [
        "  └ a very long name of an actor",
        "DynamicSupervisor",
        ("busy", "cyan"),
        "1234",
        "ask something(of, great, length)",
    ],
]


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda number: monkeypatch.setattr(text, "width", lambda: number)


def shown(**options: Any) -> list[str]:
    return click.unstyle(table(HEAD, ROWS, right=("MAILBOX",), **options)).splitlines()


def test_in_a_pipe_nothing_is_cut() -> None:
    head, _, second = shown()
    assert head.split() == list(HEAD)
    assert "a very long name of an actor" in second
    assert second.endswith("ask something(of, great, length)")
    assert second.index("1234") + 4 == head.index("MAILBOX") + len("MAILBOX")


def test_on_a_narrower_terminal_long_texts_are_cut(columns: Any) -> None:
    columns(90)
    head, _, second = shown()
    assert head.split() == list(HEAD)
    assert max(map(len, (head, second))) <= 90
    assert "…" in second
    assert "1234" in second


def test_where_that_is_not_enough_columns_are_left_out_and_the_head_says_so(columns: Any) -> None:
    columns(50)
    head, _, second = shown(spare=("KIND", "DOING"))
    assert head.split() == ["NAME", "STATE", "MAILBOX", "…"]
    assert max(map(len, (head, second))) <= 50
    assert second.endswith("1234")


@given(st.integers(20, 200), st.lists(st.lists(st.text(max_size=60), min_size=5, max_size=5), max_size=6))
def test_no_line_is_longer_than_the_terminal_if_columns_may_be_left_out(room: int, rows: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "width", lambda: max(room, 26))
        lines = click.unstyle(table(HEAD, rows, spare=HEAD[1:])).split("\n")
    assert all(text._columns(line) <= max(room, 26) for line in lines)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


def test_texts_of_others_cannot_speak_to_the_terminal() -> None:
    assert one_line("a\x1b[31m b\n\tc\x07", 100) == "a�[31m b c�"
    assert click.unstyle(table(("A",), [["\x1b]0;title\x07"]])).splitlines() == ["A", "�]0;title�"]


def test_wide_characters_take_two_columns() -> None:
    assert shortened("日本語の名前", 7) == "日本語…"
    assert shortened("日本語", 6) == "日本語"
    assert shortened("abc", 2) == "a…"
    assert shortened("abc", 0) == ""


def test_long_lines_hang_below_their_first_word(columns: Any) -> None:
    columns(40)
    assert hanging("12:30  ", 7, "one two three four five six seven eight").splitlines() == [
        "12:30  one two three four five six seven",
        "       eight",
    ]
    assert run_together("next: ", ["ramure tree", "ramure stop", "ramure send a"], " · ").splitlines() == [
        "next: ramure tree · ramure stop",
        "      ramure send a",
    ]
