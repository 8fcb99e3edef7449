"""One row of the table of links, the quickest (``make links`` runs them all)."""

from __future__ import annotations

import os

import pytest

from ramure.agents.pi.toolchain import Toolchain
from tests.links.table import ROWS
from tests.links.trial import run


@pytest.mark.real_pi
@pytest.mark.timeout(150)
async def test_an_agent_is_adopted_again_when_sshds_children_were_killed(toolchain: Toolchain) -> None:
    if os.geteuid() != 0:
        pytest.skip("LINKS WERE NOT TESTED: only root can make a network namespace")
    [row] = [row for row in ROWS if row.name == "sshd's children killed"]
    result = await run(row, 1, toolchain, patience=10.0)
    assert result.wrong == []
    assert result.count("lost") > 0
    assert result.lost == 1
