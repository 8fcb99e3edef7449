"""While much of an agent's log waits to be written, no more is taken from its connection."""

from __future__ import annotations

from typing import Any

from ramure.agents.backlog import LARGE, MOST, Backlog, LargeWritten


class Taker:
    def __init__(self) -> None:
        self.count = 0

    def taken(self) -> None:
        self.count += 1


def test_frames_are_held_while_more_waits_than_may_and_are_all_given_back() -> None:
    backlog, taker = Backlog(), Taker()
    connection: Any = taker
    backlog.on_large(MOST)
    backlog.taken(connection)
    assert taker.count == 1
    backlog.on_large(LARGE)
    for _ in range(3):
        backlog.taken(connection)
    assert taker.count == 1
    backlog.on_written(LargeWritten(LARGE))
    assert taker.count == 4
    backlog.taken(connection)
    assert taker.count == 5
