"""``agent.ask(text, result=T)`` on real pi: a wrong answer comes back to the model, the right one to the program. With the
newest pi and the oldest supported one; all types in ``make edges``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from ramure import AnswerRefused, LocalImage, agent, agent_process
from ramure.testing import ScriptedModel, Text, ToolCall
from tests.scale import SOAK

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180), pytest.mark.usefixtures("any_home")]


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Report:
    title: str
    on: dt.date


class Item(typing.TypedDict):
    name: str
    tags: typing.NotRequired[list[str]]


class Row(typing.NamedTuple):
    id: int
    name: str


class Order(pydantic.BaseModel):
    id: int = pydantic.Field(ge=1)
    colors: list[Color] = []

    @pydantic.model_validator(mode="after")
    def _odd(self) -> Order:
        if self.id % 2 == 0:
            raise ValueError("the id must be odd")
        return self


TABLE: list[tuple[Any, Any, Any, Any, str]] = [
    # the type, a wrong answer, a right one, what the program gets, what the model is told of the wrong one
    (
        Report,
        {"title": "a", "on": "soon"},
        {"title": "a", "on": "2024-05-31"},
        Report("a", dt.date(2024, 5, 31)),
        "result.on",
    ),
    (Order, {"id": 2}, {"id": 3, "colors": ["red"]}, Order(id=3, colors=[Color.RED]), "result: the id must be odd"),
    (int, "seven", 7, 7, "result"),
    (list[str], {"a": 1}, ["a"], ["a"], "result"),
    (dict[str, int], {"a": "b"}, {"a": 1}, {"a": 1}, "result"),
    (tuple[int, str], [1], [1, "a"], (1, "a"), "result"),
    (Literal["a", "b"], "c", "b", "b", "result"),
    (Item, {"tags": []}, {"name": "a"}, {"name": "a"}, "result"),
    (Row, ["a", 1], [1, "a"], Row(1, "a"), "result"),
    (Decimal | None, "ten", "1.10", Decimal("1.10"), "result"),
    (dt.datetime, "2024-02-30T10:00", "2024-02-29T10:00Z", dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC), "result"),
    (bool, "perhaps", False, False, "result"),
]


@pytest.mark.parametrize("row", TABLE if SOAK else TABLE[:2], ids=lambda row: str(row[0]))
async def test_a_wrong_answer_comes_back_and_the_right_one_is_of_the_type(
    row: tuple[Any, Any, Any, Any, str], tmp_path: Path
) -> None:
    wanted, wrong, right, value, told = row
    turns = [ToolCall("answer", {"result": wrong}), ToolCall("answer", {"result": right}), Text("That is it.")]
    async with ScriptedModel(turns) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> Any:
            worker = await agent("worker")
            return await worker.ask("Which?", result=wanted)

        found = await main()
        results = [result.text for result in model.requests[-1].conversation.tool_results]
    assert found == value
    assert type(found) is type(value)
    assert told in results[0]
    assert results[1] == "Recorded."


async def test_a_model_that_never_gets_it_right_ends_with_an_error(tmp_path: Path) -> None:
    """pi itself refuses the calls; after the limit the run of the model is ended, and the agent answers on."""
    asked: list[str] = []

    def script(conversation: Any) -> Any:
        asked.append(conversation.last_user_text)
        return Text("Here I am.") if "there" in conversation.last_user_text else ToolCall("answer", {"result": "seven"})

    async with ScriptedModel(script) as model:

        @agent_process(image=LocalImage(workdir=tmp_path, env=model.write_config(tmp_path / "agent")))
        async def main() -> str:
            worker = await agent("worker")
            with pytest.raises(AnswerRefused, match="no answer that is a int in 2 tries") as raised:
                await worker.ask("How many?", result=int, tries=2)
            assert "result" in raised.value.reason
            return await worker.ask("Are you there?")

        assert await main() == "Here I am."
