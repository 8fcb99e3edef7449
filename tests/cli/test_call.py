"""``ramure call``: a person's words as what the endpoint takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.live import Shell, live_run

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cli") / "home")
    with live_run(shell, program=Path(__file__).with_name("typed_program.py")):
        yield shell


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["approve=False"], (False, False, 0, "", None)),
        (["approve=True", "urgent=no", "spec=2024"], (True, False, 0, "2024", None)),
        (["approve=on", "n=7", "spec=[1, 2]"], (True, False, 7, "[1, 2]", None)),
        (["approve=0", "by=2024-05-31", "spec=null"], (False, False, 0, "null", "2024-05-31")),
        (["approve=false", "by=null", "n=-9007199254740993"], (False, False, -9007199254740993, "", None)),
    ],
)
def test_a_value_is_taken_for_what_the_endpoint_wants(shell: Shell, words: list[str], got: tuple[Any, ...]) -> None:
    assert shell("call", "decide", *words).out == f"{got!r}\n"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("at=1700000000", "at: must be a date and time such as 2024-05-31T10:00:00Z, not a number (1700000000)"),
        ("at=1700000000.5", "at: must be a date and time such as 2024-05-31T10:00:00Z, not a number (1700000000.5)"),
        ("took=90", "took: must be a duration such as PT1H30M or P2D, not a number (90)"),
        ("price=nan", "price: must be a finite number, not a text ('nan')"),
        ("share=nan", "share: must be a number, not a text ('nan')"),
        ("share=1e999", "share: must be a number, not a text ('1e999')"),
    ],
)
def test_what_a_library_would_take_for_something_is_refused(shell: Shell, word: str, why: str) -> None:
    said = shell("call", "measure", word)
    assert said.code == 2
    assert f"endpoint 'measure' of the process main#1: {why}; it takes measure(at: " in said.err


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("items=a,b", "items: must be a list, not a text ('a,b'); write it as JSON"),
        (
            "items=['a']",
            """items: must be a list, not a text ("['a']"); this is no JSON: expecting value, at character 2""",
        ),
        ("prices=a:1", "prices: must be an object, not a text ('a:1'); write it as JSON"),
        ('prices={"a": NaN}', """prices: must be an object, not a text ('{"a": NaN}'); NaN is no JSON"""),
    ],
)
def test_how_a_list_and_an_object_are_written_is_said(shell: Shell, word: str, why: str) -> None:
    said = shell("call", "order", word)
    assert said.code == 2
    assert f"{why}; it takes order(items: " in said.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["approve=maybe"], "approve: must be true or false, not a text ('maybe')"),
        (["approve=2"], "approve: must be true or false, not a number (2)"),
        (["approve=no", "n=abc"], "n: must be a whole number, not a text ('abc')"),
        (["approve=no", "by=2024"], "by: must be a date such as 2024-05-31, not a number (2024)"),
        (["approve=no", "by=soon"], "by: must be a date such as 2024-05-31, not a text ('soon')"),
    ],
)
def test_the_field_of_a_value_that_does_not_fit_is_named(shell: Shell, words: list[str], why: str) -> None:
    said = shell("call", "decide", *words)
    assert said.code == 2
    assert f"endpoint 'decide' of the process main#1: {why}; it takes decide(approve: " in said.err
