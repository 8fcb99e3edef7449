"""A program with an agent works wherever its user starts it, or says what is in the way (`make edges` tries them all)."""

from __future__ import annotations

import pytest

from tests.e2e.kit import Stage
from tests.e2e.surroundings import SAMPLE, run_in


@pytest.mark.real_pi
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SAMPLE)
async def test_an_agent_works_or_the_error_names_the_remedy(stage: Stage, name: str) -> None:
    await run_in(stage, name)
