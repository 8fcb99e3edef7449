"""``ramure trace`` says where events are missing, and how many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from click.testing import CliRunner

from ramure.cli.commands import trace


class Items:
    """A stream of which two events came too fast, in the middle, and one more at the end."""

    dropped = 0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        yield []
        yield [event(1), event(2)]
        self.dropped = 2
        yield [event(5)]
        self.dropped = 3


class Client:
    def stream(self, method: str, **arguments: Any) -> Items:
        assert (method, arguments["actor"]) == ("trace", "one")
        return Items()


def event(number: int) -> dict[str, Any]:
    return {"at": 1.0, "kind": "sent", "actor": {"id": 7, "label": "one"}, "peer": None, "value": f"number {number}"}


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "find", lambda run: nullcontext(Client()))


def test_in_words() -> None:
    done = CliRunner().invoke(trace.command, ["one"])
    said = [line.split("sent     ")[-1] for line in done.output.splitlines()]
    assert said == [
        "number 1",
        "number 2",
        "… 2 events came too fast, and are not shown",
        "number 5",
        "… 1 events came too fast, and are not shown",
    ]


def test_as_json() -> None:
    done = CliRunner().invoke(trace.command, ["one", "--json"])
    said = [json.loads(line) for line in done.output.splitlines()]
    assert [line.get("dropped") or line["value"] for line in said] == ["number 1", "number 2", 2, "number 5", 1]
