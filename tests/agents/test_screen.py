"""What of a screen is masked before it goes into an error or a log."""

from __future__ import annotations

import pytest

from ramure.agents.pi.screen import dialog_in
from ramure.masking import MASK, Masker, masked, secrets_in


def test_the_values_of_secret_variables_are_masked() -> None:
    environment = {
        "OPENAI_API_KEY": "abc123def",
        "GH_TOKEN": "tok-45678",
        "HOME": "/home/user",
        "MONKEY": "banana-split",
    }
    mask = Masker(secrets_in(environment))
    assert (
        mask("key abc123def, token tok-45678, home /home/user, banana-split")
        == f"key {MASK}, token {MASK}, home /home/user, banana-split"
    )


def test_a_secret_is_found_where_the_edge_of_the_screen_cuts_it() -> None:
    assert masked("│ the key is abc1  │\n│ 23def, he said │", ["abc123def"]) == f"│ the key is {MASK}, he said │"


def test_short_values_are_left_alone() -> None:
    assert masked("a key of 1 and 2, in abc1234", ["1", "", "abc1234"]) == "a key of 1 and 2, in abc1234"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-REDACTED",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_masked(secret: str) -> None:
    assert masked(f"before {secret} after") == f"before {MASK} after"


def test_ordinary_text_is_not() -> None:
    text = "sk-ip this; tests/e2e/test_key.py passed; bearer of news; the token is in the file"
    assert masked(text) == text


@pytest.mark.parametrize(
    ("screen", "question"),
    [
        (
            "\n  Session cwd does not exist: /tmp/w\n  > Continue\n    Fork\n    Cancel\n",
            "Session cwd does not exist: /tmp/w",
        ),
        ("cwd from session file does not exist\n/tmp/w\n", "cwd from session file does not exist"),
        ("╭──\n│ Trust project folder? │\n", "Trust project folder?"),
        ("Overwrite? [y/N] ", "Overwrite? [y/N]"),
        ("pi v1.6.0\n escape to interrupt, /login to log in\n", None),
        ("", None),
    ],
)
def test_the_question_that_pi_waits_with_is_read_from_its_screen(screen: str, question: str | None) -> None:
    assert dialog_in(screen) == question
