"""No process of a life of pi is left when the next begins. 100 deaths in ``make edges``, a few in ``make test``."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import stage
from tests.e2e.kit import Stage
from tests.edges.deaths import trial
from tests.scale import SOAK, long_in_a_soak

__all__ = ["stage"]

pytestmark = [pytest.mark.real_pi, long_in_a_soak]

DEATHS = max(5, round(100 * SOAK))


async def test_no_process_of_a_life_is_left_when_the_next_begins(stage: Stage) -> None:
    await trial(stage, DEATHS, seed=12)
