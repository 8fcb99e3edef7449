"""A lost update: a handler reads the stock, asks somebody, and writes back what it had read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ramure import agent, agent_process, done, wait
from tests.simulation.planted.models import diligent

CLERKS = ("ann", "bob", "cem")


@dataclass
class Stock:
    boxes: int = 10
    sold: list[str] = field(default_factory=list)


async def price_of(boxes: int) -> float:
    """Ask the price list."""
    await asyncio.sleep(0.5)
    return boxes * 2.5


def clerk_process(sell_with_lock: bool) -> Any:
    @agent_process
    async def shop(stock: Stock) -> int:
        lock = asyncio.Lock()

        async def sell_one(name: str) -> None:
            left = stock.boxes
            await price_of(1)
            stock.boxes = left - 1
            stock.sold.append(name)

        async def clerk(name: str) -> None:
            seller = await agent(name)
            served: list[str] = []

            @seller.on("sell", once=lambda: name)
            async def sell() -> str:
                """Sell one box to the customer."""
                if sell_with_lock:
                    async with lock:
                        await sell_one(name)
                else:
                    await sell_one(name)
                served.append(name)
                if len(stock.sold) == len(CLERKS):
                    done(stock.boxes)
                return "Recorded."

            await seller.send("Sell one box.")

        await asyncio.gather(*map(clerk, CLERKS))
        return await wait(int)

    return shop


planted = clerk_process(sell_with_lock=False)
mended = clerk_process(sell_with_lock=True)

FOUND = "boxes left, and sold"
"""What its story says."""

ARGS = (Stock(),)
model = diligent("sell", lambda conversation: {})


def at_end(run: Any) -> None:
    stock = run.args[0]
    if run.succeeded:
        assert stock.boxes + len(stock.sold) == 10, f"{stock.boxes} boxes left, and sold {len(stock.sold)} of 10"
