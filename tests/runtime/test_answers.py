"""Results of a type: ``-> T``, ``wait(T)`` and ``agent.ask(text, result=T)``."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from ramure import (
    Agent,
    AnswerRefused,
    UsageError,
    WrongEvent,
    WrongResult,
    agent,
    agent_process,
    child,
    done,
    emit,
    spawn,
    start_task,
    supervise,
    wait,
)
from ramure.testing import Conversation, InProcessHarness, Step, Text, ToolCall, run_virtual, virtual_time

if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction as NotHere


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))


@dataclasses.dataclass
class Report:
    title: str
    on: dt.date
    pages: int = 1


@dataclasses.dataclass
class Incomplete:
    """Names a type that only type checkers know."""

    title: str
    price: NotHere | None


REPORT = Report("Trees", dt.date(2024, 5, 31))
AS_JSON = {"title": "Trees", "on": "2024-05-31"}


# -- a process's own result -------------------------------------------------------------------------------------------


@virtual_time()
async def test_a_result_of_the_type_comes_as_it_is() -> None:
    made = [REPORT]

    @agent_process
    async def main() -> list[Report]:
        return made

    assert await main() is made


@virtual_time()
async def test_what_stands_for_a_result_becomes_one_whoever_decided_it() -> None:
    @agent_process
    async def returns() -> Report:
        return AS_JSON  # type: ignore[return-value]

    @agent_process
    async def decides() -> Report:  # type: ignore[return]
        done(AS_JSON)

    assert await returns() == await decides() == REPORT


@virtual_time()
async def test_a_result_of_another_type_fails_the_process_with_field_and_reason() -> None:
    @agent_process
    async def writes() -> list[Report]:
        return [REPORT, {**AS_JSON, "on": "soon"}]  # type: ignore[list-item]

    @agent_process
    async def main() -> list[str]:
        handle = spawn(writes)
        with pytest.raises(
            WrongResult, match=r"the result of writes#2 is no list\[.*Report\]: result\[1\].on: "
        ) as raised:
            await handle
        assert (raised.value.field, raised.value.reason) == (
            "result[1].on",
            "must be a date such as 2024-05-31, not a text ('soon')",
        )
        return [event.type for event in handle.events.snapshot()]

    assert await main() == ["failed"]


@virtual_time()
async def test_a_child_of_a_tree_whose_result_is_of_another_type_is_started_again() -> None:
    tries: list[int] = []

    @agent_process
    async def counts() -> int:
        tries.append(1)
        return len(tries) if len(tries) > 1 else "none"  # type: ignore[return-value]

    @agent_process
    async def main() -> Any:
        return await (await supervise(child(counts)))

    assert await main() == {"counts": 2}


@virtual_time()
async def test_a_type_that_says_nothing_or_is_for_type_checkers_checks_nothing() -> None:
    @agent_process
    async def nothing() -> None:
        done("something")

    @agent_process
    async def unknown() -> Decimal:
        return "1.5"  # type: ignore[return-value]

    @agent_process
    async def callback() -> Callable[[], int]:
        return lambda: 7

    assert (await nothing(), await unknown(), (await callback())()) == ("something", "1.5", 7)


# -- wait(T) -----------------------------------------------------------------------------------------------------------


@virtual_time()
async def test_wait_returns_a_value_of_its_type() -> None:
    @agent_process
    async def main(value: Any, wanted: Any) -> Any:
        done(value)
        return await wait(wanted)

    assert await main(AS_JSON, Report) == REPORT
    assert await main(["a"], list[str]) == ["a"]
    assert await main(None, int | None) is None
    with pytest.raises(WrongResult, match=r"wait\(list\[str\]\): result\[1\]: must be a text, not a number \(2\)"):
        await main(["a", 2], list[str])
    with pytest.raises(WrongResult, match=r"wait\(bool\): result: must be true or false, not a text \('yes'\)"):
        await main("yes", bool)


# -- events with a type --------------------------------------------------------------------------------------------------


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("wanted", "value", "got"),
    [
        (Cat, {"kind": "cat"}, Cat(kind="cat")),
        (Cat | None, {"kind": "cat"}, Cat(kind="cat")),
        (Pet, {"kind": "dog"}, Dog(kind="dog")),
        (list[Cat], [{"kind": "cat"}, Cat(kind="cat", lives=1)], [Cat(kind="cat"), Cat(kind="cat", lives=1)]),
        (dict[str, list[Pet]], {"a": [{"kind": "cat"}]}, {"a": [Cat(kind="cat")]}),
        (tuple[int, Cat], (1, {"kind": "cat"}), (1, Cat(kind="cat"))),
        (Iterable[int], (1, 2), [1, 2]),
    ],
    ids=lambda value: str(value)[:40],
)
@virtual_time()
async def test_a_dict_becomes_the_model_that_it_stands_for_anywhere_within(wanted: Any, value: Any, got: Any) -> None:
    @agent_process
    async def main() -> Any:
        done(value)
        return await wait(wanted)

    found = await main()
    assert found == got
    assert type(found) is type(got)


@virtual_time()
async def test_models_that_are_some_already_stay_the_objects_that_they_are() -> None:
    cats = [Cat(kind="cat")]

    @agent_process
    async def main() -> list[Pet]:
        return cats  # type: ignore[return-value]

    assert await main() is cats


@virtual_time()
async def test_an_error_names_the_type_without_what_is_said_of_it() -> None:
    @agent_process
    async def main() -> Any:
        done({"kind": "cow"})
        return await wait(Pet)

    why = r"^wait\(.*Cat \| .*Dog\): result.kind: must be 'cat' or 'dog', not a text \('cow'\)"
    with pytest.raises(WrongResult, match=why) as raised:
        await main()
    assert "FieldInfo" not in str(raised.value)


@virtual_time()
async def test_the_data_of_an_event_that_is_declared_is_checked_where_it_is_emitted() -> None:
    @agent_process(events={"report": Report, "share": float})
    async def main() -> list[Any]:
        emit("report", AS_JSON)
        emit("report", REPORT)
        emit("share", 0.5)
        emit("anything", "else")
        with pytest.raises(
            WrongEvent, match=r"emit\('report'\): data.on: must be a date .*; its data is declared as"
        ) as raised:
            emit("report", {**AS_JSON, "on": "soon"})
        assert raised.value.field == "data.on"
        with pytest.raises(WrongEvent, match=r"emit\('share'\): data: must be a number, not a text \('half'\)"):
            emit("share", "half")
        return []

    @agent_process
    async def root() -> list[Any]:
        handle = spawn(main)
        await handle
        return [event.data for event in handle.events.snapshot() if event.source is None][:-1]

    assert await root() == [REPORT, REPORT, 0.5, "else"]


def test_a_type_of_events_that_nothing_can_be_checked_by_is_refused_where_it_is_written() -> None:
    with pytest.raises(UsageError, match=r"@agent_process\(events=\{'bad': ...\}\): .*"):
        agent_process(events={"bad": Annotated[str, Field(pattern="(")]})(_nothing)


async def _nothing() -> None: ...


# -- agent.ask(text, result=T) ------------------------------------------------------------------------------------------


def asked(script: Any, wanted: Any, **options: Any) -> tuple[Any, InProcessHarness]:
    """The answer of an agent with this model."""
    harness = InProcessHarness(script)

    @agent_process(image=harness.image)
    async def main() -> Any:
        worker = await agent("worker")
        return await worker.ask("Which?", result=wanted, **options)

    return run_virtual(main()), harness


def answer(result: Any) -> ToolCall:
    return ToolCall("answer", {"result": result})


def test_an_answer_is_a_value_of_the_type_and_its_tool_goes_with_the_question() -> None:
    found, harness = asked([answer(AS_JSON), Text("That is it.")], Report)
    assert found == REPORT
    first = harness.requests[0].conversation
    assert first.last_user_text.endswith("Which?\n\nGive your answer by calling the tool 'answer' with it.")
    assert first.tools["answer"].parameters["properties"]["result"]["description"] == "your answer"


def test_a_wrong_answer_goes_back_with_field_and_reason() -> None:
    found, harness = asked([answer({**AS_JSON, "on": "soon"}), answer(AS_JSON), Text("That is it.")], Report)
    assert found == REPORT
    wrong, right = (result.text for result in harness.requests[-1].conversation.tool_results)
    assert wrong == "Bad arguments: result.on: must be a date such as 2024-05-31, not a text ('soon')"
    assert right == "Recorded."


def test_a_model_that_only_talks_is_told_of_the_tool() -> None:
    found, harness = asked([Text("Seven, I think."), answer(7), Text("Seven.")], int)
    assert found == 7
    assert "You have not given your answer: call the tool 'answer'" in harness.requests[1].conversation.last_user_text


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (lambda _: answer("seven"), "must be a whole number, not a text ('seven')"),
        (lambda _: Text("Seven."), "it ended its turn without calling 'answer'"),
    ],
    ids=["wrong", "silent"],
)
def test_a_model_that_never_gets_it_right_ends_with_an_error(script: Callable[[Conversation], Step], why: str) -> None:
    with pytest.raises(AnswerRefused, match="agent 'worker' gave no answer that is a int in 4 tries") as raised:
        asked(script, int, tries=4)
    assert raised.value.tries == 4
    assert why in raised.value.reason


def test_questions_one_after_the_other_and_beside_each_other() -> None:
    def script(conversation: Conversation) -> Step:
        if conversation.new_tool_results:
            return Text("Done.")
        _, _, tool = conversation.last_user_text.partition("calling the tool '")
        return ToolCall(tool.partition("'")[0], {"result": 2}) if tool else Text("Hello.")

    harness = InProcessHarness(script)
    offered: list[list[str]] = []

    @agent_process(image=harness.image)
    async def main() -> Any:
        worker: Agent = await agent("worker")
        one, two = start_task(worker.ask("One?", result=int)), start_task(worker.ask("Two?", result=float))
        found = [await one, await two, await worker.ask("Three?", result=list[int] | int), await worker.ask("Hello?")]
        offered.append(list(harness.requests[-1].conversation.tools))
        return found

    assert run_virtual(main()) == [2, 2.0, 2, "Hello."]
    assert offered == [[]]


def test_what_cannot_be_asked_for_is_said_at_once() -> None:
    with pytest.raises(UsageError, match=r"agent.ask\(result=Agent\): .*; use str, int"):
        asked([], Agent)
    with pytest.raises(UsageError, match=r"agent.ask\(result=\[.*\]\): \[.*\] is no type; use str, int"):
        asked([], [Cat, Dog])
    with pytest.raises(UsageError, match=r"agent.ask\(\): tries=0: give a whole number of at least 1"):
        asked([], int, tries=0)


def test_a_result_whose_type_names_one_that_cannot_be_found_is_returned_as_it_is() -> None:
    @agent_process
    async def main() -> list[Incomplete]:
        return [Incomplete("a", None)]

    assert run_virtual(main()) == [Incomplete("a", None)]


def test_a_wait_for_such_a_type_is_refused_with_the_name() -> None:
    @agent_process
    async def main() -> None:
        await wait(list[Incomplete])

    with pytest.raises(UsageError, match="NotHere"):
        run_virtual(main())
