"""What the methods of the control socket answer with is what ``docs/control.json`` says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

import ramure
from ramure.runtime.control.client import AttachedRun
from ramure.runtime.errors import ProcessCancelled
from ramure.runtime.run.run import Run
from tests.cli.live import ROOT
from tests.control.kit import in_run

SCHEMAS = json.loads((ROOT / "docs" / "control.json").read_text(encoding="utf-8"))


def check(method: str, part: str, value: Any) -> None:
    schema = {**SCHEMAS["methods"][method][part], "$defs": SCHEMAS["$defs"]}
    plain = json.loads(
        json.dumps(value, default=lambda data: data.decode())
    )  # what is no JSON here: bytes of an output
    jsonschema.Draft202012Validator(schema).validate(plain)


ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("hello", {}),
    ("summary", {}),
    ("status", {}),
    ("send", {"agent": "worker", "text": "Hello."}),
    ("interrupt", {"agent": "worker"}),
    ("exec", {"agent": "worker", "command": "true"}),
    ("pause", {}),
    ("unpause", {"agent": "worker"}),
    ("tree", {}),
    ("actor_names", {}),
    ("inspect", {"actor": "worker", "record": True}),
    ("inspect", {"actor": "main#1"}),
    ("inspect", {"actor": "agents of main#1"}),
    ("why", {"actor": "worker"}),
    ("suspend", {"actor": "main#1"}),
    ("resume_actor", {"actor": "main#1"}),
    ("restart", {"actor": "worker"}),
    ("kill", {"actor": "pi of worker"}),
    ("exec_taken", {"number": 1, "items": 1}),
    ("stop", {}),
]
STREAMED: list[tuple[str, dict[str, Any]]] = [
    ("exec_stream", {"agent": "worker", "command": "true"}),
    ("top", {"every": 0.1, "most": 3}),
    ("trace", {"actor": "worker", "limit": 3}),
]


async def answer(there: AttachedRun, method: str, arguments: dict[str, Any]) -> None:
    check(method, "arguments", arguments)
    check(method, "answer", await there.request(method, **arguments))


async def items(there: AttachedRun, method: str, arguments: dict[str, Any]) -> None:
    check(method, "arguments", arguments)
    async with await there.stream(method, **arguments) as stream:
        check(method, "items", await anext(stream))
        if method == "trace":  # it is on
            await there.request("interrupt", agent="worker")
        elif method == "top":
            return
        async for item in stream:
            check(method, "items", item)
            if method == "trace" and item:
                return


async def test_each_answer_and_each_item_is_what_its_schema_says() -> None:
    async def ask(run: Run) -> None:
        async with ramure.attach(run.execution_id) as there:
            for method, arguments in STREAMED:
                await items(there, method, arguments)
            for method, arguments in ANSWERED:
                await answer(there, method, arguments)

    with pytest.raises(ProcessCancelled):  # by `stop`
        await in_run(ask, "worker")
    asked = {method for method, _ in (*ANSWERED, *STREAMED)}
    others = {"call", "screen", "shell"}  # what an endpoint returns has no schema; a simulated agent has no terminal
    assert asked | others == set(SCHEMAS["methods"])
