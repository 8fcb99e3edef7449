"""Each row of the fault table, once (``make chaos`` runs as many as you like)."""

from __future__ import annotations

import pytest

from ramure.agents.toolchain import Toolchain
from tests.chaos.table import ROWS
from tests.chaos.trial import Row, run


@pytest.mark.real_pi
@pytest.mark.timeout(150)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_row(row: Row, toolchain: Toolchain) -> None:
    result = await run(row, 1, toolchain, patience=5.0)
    assert result.wrong == []
