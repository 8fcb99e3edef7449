"""Typed arguments and results through real pi, the newest and the oldest supported one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import re
import typing
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import pydantic
import pytest
import typing_extensions

from ramure import LocalImage, agent, agent_process
from ramure.testing import ScriptedModel, Text, ToolCall

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180), pytest.mark.usefixtures("any_home")]


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf500f0003820180"
    "5bb0e1250000000049454e44ae426082"
)


T = TypeVar("T")
Tree = typing_extensions.TypeAliasType("Tree", "dict[str, Tree] | list[Tree] | int | None")


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    more: list[Point] = dataclasses.field(default_factory=list)


class Item(typing.TypedDict):
    name: str
    on: typing.NotRequired[dt.date]


class Row(typing.NamedTuple):
    id: int
    name: str = "x"


class Order(pydantic.BaseModel):
    id: int = pydantic.Field(ge=1)
    color: Color | None = None


GIVEN: dict[str, Any] = {
    "color": "red",
    "choice": 1,
    "point": {"x": 1, "more": [{"x": 2}]},
    "item": {"name": "a", "on": "2024-05-31"},
    "row": [1],
    "order": {"id": 3, "color": "red"},
    "pair": [1, "a"],
    "tags": ["a", "b", "a"],
    "table": {"7": 1.5},
    "at": "2024-05-31T10:00:00Z",
    "naive": "2024-05-31T10:00:00",
    "wait": "PT1H30M",
    "price": "1.10",
    "path": "a/b",
    "id": "12345678-1234-5678-1234-567812345678",
    "data": "é",
    "either": ["a"],
    "size": 3,
    "copy": "c",
}
GOT: dict[str, Any] = {
    "color": Color.RED,
    "choice": 1,
    "point": Point(1, [Point(2)]),
    "item": {"name": "a", "on": dt.date(2024, 5, 31)},
    "row": Row(1, "x"),
    "order": Order(id=3, color=Color.RED),
    "pair": (1, "a"),
    "tags": {"a", "b"},
    "table": {7: 1.5},
    "at": dt.datetime(2024, 5, 31, 10, tzinfo=dt.UTC),
    "naive": dt.datetime(2024, 5, 31, 10),  # noqa: DTZ001
    "wait": dt.timedelta(hours=1, minutes=30),
    "price": Decimal("1.10"),
    "path": Path("a/b"),
    "id": uuid.UUID(GIVEN["id"]),
    "data": "é".encode(),
    "either": ["a"],
    "size": 3,
    "copy": "c",
}
WRONG: dict[str, Any] = {
    "color": "green",
    "choice": 2,
    "point": {"x": 1, "more": [{"x": "two"}]},
    "item": {"name": "a", "on": "2024-02-31"},
    "order": {"id": 0},
    "pair": [1],
    "table": {"seven": 1},
    "at": "1700000000",
    "wait": "an hour",
    "price": "ten",
    "id": "1234",
    "either": {"a": 1},
    "size": 9007199254740993,
}


async def test_every_kind_of_argument_arrives_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    turns = [
        ToolCall("take", GIVEN),
        *(ToolCall("take", {**GIVEN, name: value}) for name, value in WRONG.items()),
        Text("Done."),
    ]
    taken: list[dict[str, Any]] = []

    def take(
        color: Color,
        choice: Literal["a", 1],
        point: Point,
        item: Item,
        row: Row,
        order: Order,
        pair: tuple[int, str],
        tags: set[str],
        table: dict[int, float],
        at: dt.datetime,
        naive: dt.datetime,
        wait: dt.timedelta,
        price: Decimal,
        path: Path,
        id: uuid.UUID,
        data: bytes,
        either: int | list[str],
        size: Annotated[int, pydantic.Field(le=5), "how large"],
        copy: str = "none",
    ) -> str:
        """Take all of these.

        Args:
            color: of the box
        """
        taken.append(dict(locals()))
        return "Taken."

    async with ScriptedModel(turns) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> None:
            worker = await agent("worker")
            worker.on("take")(take)
            assert await worker.ask("Begin.") == "Done."

        await main()
        results = [result.text for result in model.requests[-1].conversation.tool_results]
        shown = model.requests[0].conversation.tools["take"]
    assert [{name: each[name] for name in GOT} for each in taken] == [GOT]
    assert results[0] == "Taken."
    assert len(results) == 1 + len(WRONG)
    for name, text in zip(WRONG, results[1:], strict=True):
        assert name in text, (name, text)
    assert shown.description == "Take all of these."
    assert shown.parameters["properties"]["color"]["description"] == "of the box"
    assert shown.parameters["properties"]["size"]["description"] == "how large"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


async def test_what_users_of_other_libraries_write_arrives_too(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "pet": {"kind": "cat", "lives": 3},
        "color": "red",
        "address": "10.0.0.1",
        "network": "10.0.0.0/8",
        "pattern": "a+",
        "page": {"items": [1, 2]},
        "tree": {"a": [1, None, {"b": 2}]},
        "link": "https://example.com/a",
    }
    wrong: dict[str, Any] = {
        "pet": {"kind": "cow"},
        "color": "RED",
        "address": "10.0.0.300",
        "network": "ten",
        "pattern": "a(",
        "page": {"items": ["a"]},
        "tree": {"a": "x"},
        "link": "nowhere",
    }
    turns = [
        ToolCall("take", given),
        *(ToolCall("take", {**given, name: value}) for name, value in wrong.items()),
        Text("Done."),
    ]
    taken: list[dict[str, Any]] = []

    def take(
        pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")],
        color: Literal[Color.RED],
        address: ipaddress.IPv4Address,
        network: ipaddress.IPv4Network,
        pattern: re.Pattern[str],
        page: Page[int],
        tree: Tree,
        link: pydantic.HttpUrl,
    ) -> str:
        """Take all of these."""
        taken.append(dict(locals()))
        return "Taken."

    async with ScriptedModel(turns) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> None:
            worker = await agent("worker")
            worker.on("take")(take)
            assert await worker.ask("Begin.") == "Done."

        await main()
        results = [result.text for result in model.requests[-1].conversation.tool_results]
    assert [{name: each[name] for name in given} for each in taken] == [
        {
            "pet": Cat(kind="cat", lives=3),
            "color": Color.RED,
            "address": ipaddress.IPv4Address("10.0.0.1"),
            "network": ipaddress.IPv4Network("10.0.0.0/8"),
            "pattern": re.compile("a+"),
            "page": Page[int](items=[1, 2]),
            "tree": given["tree"],
            "link": pydantic.HttpUrl("https://example.com/a"),
        }
    ]
    assert results[0] == "Taken."
    for name, text in zip(wrong, results[1:], strict=True):
        assert name in text, (name, text)


async def test_an_image_and_a_dataclass_are_results(tmp_path: Path) -> None:
    async with ScriptedModel([ToolCall("look"), ToolCall("both"), ToolCall("where"), Text("Seen.")]) as model:
        environment = model.write_config(tmp_path / "agent")
        config = tmp_path / "agent" / "models.json"
        providers = json.loads(config.read_text())
        for provider in providers["providers"].values():
            for each in provider["models"]:
                each["input"] = ["text", "image"]
        config.write_text(json.dumps(providers))

        @agent_process(image=LocalImage(workdir=tmp_path, env=environment))
        async def main() -> None:
            worker = await agent("worker")

            @worker.on("look")
            def look() -> bytes:
                """Look."""
                return PIXEL

            @worker.on("both")
            def both() -> list[Any]:
                """Look, and say."""
                return ["the screen", PIXEL]

            @worker.on("where")
            def where() -> Point:
                """Where it is."""
                return Point(1, [Point(2)])

            assert await worker.ask("Look.") == "Seen."

        await main()
        conversation = model.requests[-1].conversation
    look_text, both_text, where_text = (result.text for result in conversation.tool_results)
    assert "image/png" in look_text
    assert "the screen" in both_text
    assert where_text == '{"x": 1, "more": [{"x": 2, "more": []}]}'
    assert str(conversation.messages).count("data:image/png;base64,") == 2
