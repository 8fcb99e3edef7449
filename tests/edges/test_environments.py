"""A program with an agent works wherever its user starts it, or says what is in the way: all of the matrix."""

from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain import Toolchain
from ramure.testing.leaks import LeakCheck
from tests.e2e.kit import Stage
from tests.e2e.surroundings import MATRIX, run_in

pytestmark = pytest.mark.edges


@pytest.mark.real_pi
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", MATRIX)
async def test_an_agent_works_or_the_error_names_the_remedy(
    toolchain: Toolchain, leak_check: LeakCheck, name: str
) -> None:
    await run_in(Stage(toolchain, leak_check), name)
