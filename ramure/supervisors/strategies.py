"""The restart strategies, as a table.

Pure: no clock, no asyncio, no I/O. A strategy gets the children's ids in start order and the id of the one
that is to be restarted; it returns, in start order, those that are restarted with it, itself among them.
All but that one are stopped first, last to first. To add a strategy, add a function and its row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["SIMPLE_ONE_FOR_ONE", "STRATEGIES", "Strategy"]

Strategy = Callable[[tuple[Hashable, ...], Hashable], tuple[Hashable, ...]]

SIMPLE_ONE_FOR_ONE: Final = "simple_one_for_one"


def _all(order: tuple[Hashable, ...], failed: Hashable) -> tuple[Hashable, ...]:
    return order


def _it_and_later(order: tuple[Hashable, ...], failed: Hashable) -> tuple[Hashable, ...]:
    return order[order.index(failed) :]


STRATEGIES: Final[dict[str, Strategy | None]] = {
    "one_for_one": None,
    "one_for_all": _all,
    "rest_for_one": _it_and_later,
    SIMPLE_ONE_FOR_ONE: None,
}
"""Strategy names and their functions; None restarts only the one that failed, without a look at the others."""
