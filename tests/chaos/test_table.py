"""Rows of the fault table, once each: some in ``make test``, all in ``make edges`` (``make chaos``: as often as you like)."""

from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain import Toolchain
from tests.chaos import memory
from tests.chaos.table import ROWS
from tests.chaos.trial import Row, run

SAMPLE = {
    "kill -9 pi, mid-turn",
    "kill -9 pi, mid-tool",
    "kill tmux server",
    "machine stopped",
    "socket dropped",
    "session file truncated with pi",
    "log's disk full, then freed",
    "handler raises",
}
"""One row of each kind."""


def row_named(row: Row) -> pytest.ParameterSet:
    return pytest.param(row, id=row.name, marks=() if row.name in SAMPLE else pytest.mark.edges)


def test_the_sample_is_of_the_table() -> None:
    assert {row.name for row in ROWS} >= SAMPLE


@pytest.mark.real_pi
@pytest.mark.timeout(150)
@pytest.mark.parametrize("row", [row_named(row) for row in ROWS])
async def test_row(row: Row, toolchain: Toolchain) -> None:
    result = await run(row, 1, toolchain, patience=5.0)
    assert result.wrong == []


@pytest.mark.real_pi
@pytest.mark.timeout(150)
async def test_a_task_whose_pi_is_killed_again_and_again_does_each_step_once(toolchain: Toolchain) -> None:
    figures = await memory.task(toolchain, steps=8, kills=4, seed=1)
    assert memory.wrong(figures) == []
