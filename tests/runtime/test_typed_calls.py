"""The same value by a tool, an attached endpoint, ``handle.call``, ``ramure.attach`` and ``ramure call``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import typing
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest

import ramure
from ramure import RequestFailed, WrongArguments, agent, agent_process, current_runtime, expose, spawn, wait
from ramure.testing import InProcessHarness, Text, ToolCall


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Item(typing.TypedDict):
    name: str
    tags: typing.NotRequired[list[str]]


class Row(typing.NamedTuple):
    id: int
    name: str


class Order(pydantic.BaseModel):
    id: int = pydantic.Field(ge=1)
    points: list[Point] = []


UUID = "12345678-1234-5678-1234-567812345678"
TABLE: list[tuple[Any, Any, Any, Any]] = [
    # the type, a JSON value, what the handler gets, a JSON value that is refused
    (str, "2024", "2024", 2024),
    (int, 7, 7, "7"),
    (float, 2.5, 2.5, "2.5"),
    (bool, True, True, "yes"),
    (Literal["a", 1], 1, 1, 2),
    (Color, "red", Color.RED, "green"),
    (list[int], [1, 2], [1, 2], [1, "a"]),
    (dict[str, int], {"a": 1}, {"a": 1}, {"a": "b"}),
    (tuple[int, str], [1, "a"], (1, "a"), [1]),
    (set[str], ["a"], {"a"}, [1]),
    (int | None, None, None, "none"),
    (int | list[str], ["a"], ["a"], [1]),
    (Point, {"x": 1}, Point(1), {"x": "1"}),
    (Item, {"name": "a", "tags": ["b"]}, {"name": "a", "tags": ["b"]}, {"tags": []}),
    (Row, [1, "a"], Row(1, "a"), ["a", 1]),
    (Order, {"id": 1, "points": [{"x": 2}]}, Order(id=1, points=[Point(2)]), {"id": 0}),
    (dt.date, "2024-05-31", dt.date(2024, 5, 31), "2024-02-31"),
    (dt.datetime, "2024-05-31T10:00:00", dt.datetime(2024, 5, 31, 10), "1700000000"),  # noqa: DTZ001 - a naive one
    (dt.timedelta, "PT90S", dt.timedelta(seconds=90), 90),
    (Decimal, "1.10", Decimal("1.10"), "ten"),
    (Path, "a/b", Path("a/b"), 1),
    (uuid.UUID, UUID, uuid.UUID(UUID), "1234"),
    (bytes, "é", "é".encode(), 1),
    (Annotated[int, pydantic.Field(ge=1, le=5)], 3, 3, 6),
]


Table = list[tuple[Any, Any, Any, Any]]

TRAPS: Table = [
    # what pydantic, or Python, would take for something
    (dt.datetime, "2024-05-31T10:00:00", dt.datetime(2024, 5, 31, 10), 1700000000),  # noqa: DTZ001 - a naive one
    (dt.date, "2024-05-31", dt.date(2024, 5, 31), 19800),
    (dt.time, "10:00:00", dt.time(10), 3600),
    (dt.timedelta, "PT90S", dt.timedelta(seconds=90), 90),
    (dt.timedelta, "P1D", dt.timedelta(days=1), "90"),
    (Decimal, 1.5, Decimal("1.5"), "nan"),
    (Decimal, "-1e3", Decimal("-1e3"), "Infinity"),
    (bool, False, False, "2"),
    (bool, True, True, 2),
    (int, 1.0, 1, 1.5),
    (int, -1, -1, "0x10"),
    (int, 0, 0, "٣"),
    (float, 1, 1.0, "nan"),
    (float, 0.5, 0.5, "1e999"),
    (float, -0.5, -0.5, "-inf"),
    (uuid.UUID, UUID, uuid.UUID(UUID), 5),
    (Color, "red", Color.RED, "RED"),
    (dt.datetime | None, None, None, 0),
    (list[dt.date], ["2024-05-31"], [dt.date(2024, 5, 31)], [19800]),
    (dict[str, bool], {"a": True}, {"a": True}, {"a": "2"}),
    (int | None, 5, 5, "None"),
]


def endpoints(table: Table) -> dict[str, Any]:
    """A function for each type, which returns what it got."""

    def made(number: int, annotation: Any) -> Any:
        def take(value: Any) -> str:
            return repr(value)

        take.__name__ = f"take_{number}"
        take.__annotations__ = {"value": annotation}
        return take

    return {f"take_{number}": made(number, row[0]) for number, row in enumerate(table)}


def texts(value: Any) -> str:
    """What a person writes for it."""
    return value if isinstance(value, str) else json.dumps(value)


async def answers(harness: InProcessHarness, table: Table) -> dict[str, list[list[str]]]:
    """By each way: for each row what came of the good value, and of the bad one."""
    cases = cases_of(table)
    found: dict[str, list[str]] = {}

    @agent_process(image=harness.image)
    async def pool() -> None:
        for function in endpoints(table).values():
            expose(function)
        await wait()

    @agent_process(image=harness.image)
    async def main() -> None:
        handle = spawn(pool)
        worker = await agent("worker")
        for name, function in endpoints(table).items():
            worker.on(name)(function)
        await handle.attach(worker, prefix="of_")
        await worker.ask("Call them all.")
        results = [event.data["text"] for event in worker.events.snapshot() if event.type == "tool_result"]
        found["tool"], found["attached"] = results[: len(cases)], results[len(cases) :]
        found["handle.call"] = [await called(handle.call(name, value=value)) for name, value in cases]
        async with ramure.attach(current_runtime().execution_id) as there:
            found["ramure.attach"] = [await called(there.call(name, value=value)) for name, value in cases]
            found["ramure call"] = [
                await called(there.request("call", endpoint=name, texts={"value": texts(value)}))
                for name, value in cases
            ]

    await main()
    return {way: [each[at : at + 2] for at in range(0, len(each), 2)] for way, each in found.items()}


async def called(answer: Any) -> str:
    """What a call returned, or the field and the reason that it was refused with."""
    try:
        return str(await answer)
    except (WrongArguments, RequestFailed) as error:
        return "Bad arguments: " + str(error).partition(": ")[2].partition("; it takes ")[0]


def cases_of(table: Table) -> list[tuple[str, Any]]:
    """The endpoint and the value, the good and the bad one of each row."""
    return [(f"take_{number}", row[at]) for number, row in enumerate(table) for at in (1, 3)]


@pytest.mark.parametrize("table", [TABLE, TRAPS], ids=["types", "traps"])
async def test_the_same_value_by_every_way_gives_the_same_result_or_the_same_error(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    calls = [ToolCall(prefix + name, {"value": value}) for prefix in ("", "of_") for name, value in cases_of(table)]
    harness = InProcessHarness([*([call] for call in calls), Text("Done.")])
    found = await answers(harness, table)
    harness.check()
    for number, (annotation, _, value, _) in enumerate(table):
        good, bad = found["tool"][number]
        assert good == repr(value), annotation
        assert bad.startswith("Bad arguments: value"), annotation
        for way in ("attached", "handle.call", "ramure.attach"):
            assert found[way][number] == [good, bad], (way, annotation)
        good_text, bad_text = found["ramure call"][number]
        assert good_text == good, annotation
        if table is TRAPS or annotation not in WIDER:
            assert bad_text.startswith("Bad arguments: value"), annotation


WIDER = (str, int, float, bool, dt.timedelta, Path, bytes)
"""Types for which a person's words are taken more widely: "yes" is true, "7" is seven, 2024 is a text."""


@pytest.mark.parametrize(
    "value",
    [Point(1, 2), Color.RED, dt.date(2024, 5, 31), Decimal("1.5"), Path("a"), uuid.UUID(UUID), {1, 2}, (1, "a")],
)
async def test_values_of_python_s_cross_the_control_socket(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))

    @agent_process
    async def main() -> str:
        def take(value: Any) -> str:
            return repr(value)

        take.__annotations__["value"] = (
            set[int] if isinstance(value, set) else tuple[int, str] if isinstance(value, tuple) else type(value)
        )
        expose(take)
        async with ramure.attach(current_runtime().execution_id) as there:
            return str(await there.call("take", value=value))

    assert await main() == repr(value)
