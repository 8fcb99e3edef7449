"""Models that fail, on real pi: the ways on the oldest pi too, and many agents at a busy provider. Full size in ``make edges``."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import oldest_stage, stage
from tests.e2e.failing_models import WAYS, check, fanned_out, played
from tests.e2e.kit import Stage
from tests.scale import SOAK, long_in_a_soak

__all__ = ["oldest_stage", "stage"]

pytestmark = [pytest.mark.real_pi, long_in_a_soak]

NAMES = list(WAYS) if SOAK else ["402", "500-for-30-s", "500-for-good", "cut-stream"]
LIMITS = {"overflow": 220.0}
"""Seconds of silence before the end, where they are not 45: pi 0.74 does not say when its compaction has failed."""

AGENTS, SECONDS = (20, 60) if SOAK else (4, 5)


async def test_what_comes_of_each_way_in_which_a_model_fails_on_the_oldest_pi(oldest_stage: Stage) -> None:
    ends, said = await played(oldest_stage, NAMES, within=250)
    assert set(ends) == set(NAMES), said
    for name, end in ends.items():
        check(name, end, said, LIMITS.get(name, 45.0))


async def test_agents_at_a_provider_that_answers_429_for_a_while_all_complete(stage: Stage) -> None:
    """20 for a minute in ``make edges``."""
    await fanned_out(stage, AGENTS, SECONDS, within=600)
