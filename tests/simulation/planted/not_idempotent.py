"""A handler that is not idempotent: a model that asks again for what it has asked for pays an order twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ramure import agent, agent_process, done, wait
from ramure.testing import Conversation, Step, Text, ToolCall

ORDERS = ("A7", "B2")


@dataclass
class Bank:
    paid: list[str] = field(default_factory=list)


@agent_process
async def planted(bank: Bank) -> None:
    clerk = await agent("clerk")

    @clerk.on("pay")
    async def pay(order: str) -> str:
        """Pay an order."""
        bank.paid.append(order)
        return f"order {order}: paid"

    @clerk.on("finish")
    async def finish() -> str:
        """Call when all orders are paid."""
        done()
        return "Recorded."

    await clerk.send(f"Pay the orders {', '.join(ORDERS)}, then call finish.")
    await wait()


@agent_process
async def mended(bank: Bank) -> None:
    clerk = await agent("clerk")

    @clerk.on("pay", once="order")
    async def pay(order: str) -> str:
        """Pay an order."""
        bank.paid.append(order)
        return f"order {order}: paid"

    @clerk.on("finish")
    async def finish() -> str:
        """Call when all orders are paid."""
        done()
        return "Recorded."

    await clerk.send(f"Pay the orders {', '.join(ORDERS)}, then call finish.")
    await wait()


FOUND = "paid: ["
"""What its story says."""

ARGS = (Bank(),)


def model(conversation: Conversation) -> Step:
    """Pays one order after the other, then finishes."""
    answers = [result.text for result in conversation.tool_results]
    for order in ORDERS:
        if f"order {order}: paid" not in answers:
            return ToolCall("pay", {"order": order})
    return Text("All done.") if "Recorded." in answers else ToolCall("finish")


def at_end(run: Any) -> None:
    paid = run.args[0].paid
    assert len(paid) == len(set(paid)), f"paid: {paid}"
