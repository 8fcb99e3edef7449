"""``agent.on(tool, once=key)``: the handler does its work once for each key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ramure import agent, agent_process
from ramure.agents.tools.idempotency import NoSuchArgument
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual


@pytest.fixture(autouse=True)
def _home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))


def calls(*turns: list[dict[str, Any]]) -> InProcessHarness:
    """A model that makes these calls of ``pay``, some a turn, and then says that it is done."""
    return InProcessHarness([*([ToolCall("pay", arguments) for arguments in turn] for turn in turns), Text("Done.")])


def results(harness: InProcessHarness) -> list[str]:
    harness.check()
    return [result.text for result in harness.requests[-1].conversation.tool_results]


def paid(harness: InProcessHarness, key: Any, pay: Callable[..., Any], **options: Any) -> list[dict[str, Any]]:
    """Let the agent make its calls; the data of its tool_result events."""

    @agent_process(image=harness.image)
    async def main() -> list[dict[str, Any]]:
        worker = await agent("worker")
        worker.on("pay", once=key, **options)(pay)
        assert await worker.ask("Pay.") == "Done."
        return [event.data for event in worker.events.snapshot() if event.type == "tool_result"]

    return run_virtual(main())


def test_a_second_call_with_the_key_gets_the_first_answer_and_its_result_says_whose_it_is() -> None:
    harness = calls([{"order": "a", "amount": 1}], [{"order": "a", "amount": 2}], [{"order": "b", "amount": 3}])
    effects: list[tuple[str, int]] = []

    async def pay(order: str, amount: int) -> str:
        """Pays."""
        effects.append((order, amount))
        return f"paid {amount} for {order}"

    first, second, third = paid(harness, "order", pay)
    assert effects == [("a", 1), ("b", 3)]
    assert results(harness) == ["paid 1 for a", "paid 1 for a", "paid 3 for b"]
    assert second["repeats"] == first["call_id"] != second["call_id"]
    assert "repeats" not in first
    assert "repeats" not in third


def test_a_call_beside_the_first_waits_for_it() -> None:
    harness = calls([{"order": "a"}, {"order": "a"}, {"order": "b"}])
    effects: list[str] = []

    async def pay(order: str) -> str:
        """Pays."""
        effects.append(order)
        await asyncio.sleep(10)
        return f"payment {len(effects)}"

    paid(harness, "order", pay)
    assert sorted(effects) == ["a", "b"]
    assert results(harness) == ["payment 2"] * 3


def test_a_call_that_failed_may_be_made_again() -> None:
    harness = calls([{"order": "a"}], [{"order": "a"}], [{"order": "a"}], [{"order": "a"}])
    effects: list[str] = []

    async def pay(order: str) -> str:
        """Pays."""
        effects.append(order)
        if len(effects) == 1:
            raise ValueError("the bank is closed")
        if len(effects) == 2:
            await asyncio.sleep(100)
        return "paid"

    paid(harness, "order", pay, timeout=5)
    assert len(effects) == 3
    failed, late, *rest = results(harness)
    assert failed == "ValueError: the bank is closed"
    assert "did not end within its 5 s" in late
    assert rest == ["paid", "paid"]


def test_a_key_may_be_a_function_of_the_arguments_with_their_defaults_and_need_not_be_hashable() -> None:
    harness = calls([{"items": ["x"]}], [{"items": ["x"], "currency": "EUR"}], [{"items": ["x"], "currency": "USD"}])
    effects: list[str] = []

    def pay(items: list[str], currency: str = "EUR") -> str:
        """Pays."""
        effects.append(currency)
        return currency

    paid(harness, lambda items, currency: [items, currency], pay)
    assert effects == ["EUR", "USD"]


def test_a_key_function_that_fails_and_bad_arguments_are_answered_as_errors() -> None:
    harness = calls([{"order": "a"}], [{"order": 1}])

    def pay(order: str) -> str:
        """Pays."""
        raise AssertionError("not to be called")

    paid(harness, lambda order: {}[order], pay)
    failed, bad = results(harness)
    assert failed == "KeyError: 'a'"
    assert bad == "Bad arguments: order: must be a text, not a number (1)"


def test_a_name_that_is_no_argument_is_refused_at_once() -> None:
    harness = calls()

    def pay(order: str) -> str:
        """Pays."""
        return order

    with pytest.raises(
        NoSuchArgument, match=r"once='oder': the handler of 'pay' has no such argument \(it has: order\)"
    ):
        paid(harness, "oder", pay)


def test_work_that_is_repeated_after_a_restart_is_done_once() -> None:
    harness = calls([{"order": "a"}], [{"order": "a"}])
    effects: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")
        holding, go = asyncio.Event(), asyncio.Event()

        @worker.on("pay", once="order")
        async def pay(order: str) -> str:
            """Pays."""
            effects.append(order)
            holding.set()
            await go.wait()
            return "paid"

        answer = asyncio.ensure_future(worker.ask("Pay."))
        await holding.wait()
        harness.kill("worker")
        await worker.events.listen_for("agent_restarted")
        go.set()
        assert await answer == "Done."

    run_virtual(main())
    assert effects == ["a"]
    assert results(harness) == ["paid", "paid"]
