"""Each row of the fault table, once (``make chaos`` runs as many as you like)."""

from __future__ import annotations

import pytest

from ramure.agents.toolchain import Toolchain
from tests.chaos import memory
from tests.chaos.table import ROWS
from tests.chaos.trial import Row, run


@pytest.mark.real_pi
@pytest.mark.timeout(150)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_row(row: Row, toolchain: Toolchain) -> None:
    result = await run(row, 1, toolchain, patience=5.0)
    assert result.wrong == []


@pytest.mark.real_pi
@pytest.mark.timeout(150)
async def test_a_task_whose_pi_is_killed_again_and_again_does_each_step_once(toolchain: Toolchain) -> None:
    figures = await memory.task(toolchain, steps=8, kills=4, seed=1)
    assert memory.wrong(figures) == []
