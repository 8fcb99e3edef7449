"""Models that fail or stop, on real pi, all ways on the oldest one; and many agents at a busy provider. Full size in ``make edges``."""

from __future__ import annotations

import pytest

from ramure.testing import Delay, HTTPError
from tests.e2e.conftest import oldest_stage, stage
from tests.e2e.failing_models import STOPS, WAYS, check, fanned_out, played, too_large
from tests.e2e.kit import Stage
from tests.scale import SOAK, long_in_a_soak

__all__ = ["oldest_stage", "stage"]

pytestmark = [pytest.mark.edges, pytest.mark.real_pi, long_in_a_soak]

NAMES = [*WAYS, *STOPS] if SOAK else ["402", "500-for-good", "unknown-tool-corrected"]
AGENTS, SECONDS = (20, 60) if SOAK else (4, 5)


async def test_what_comes_of_each_way_in_which_a_model_fails_or_stops_on_the_oldest_pi(oldest_stage: Stage) -> None:
    """Nine at a time, each with a pi of its own. The newest is in tests/e2e."""
    for names in filter(None, (NAMES[:9], NAMES[9:])):
        ends, said = await played(oldest_stage, names, within=300)
        assert set(ends) == set(names), said
        for name, end in ends.items():
            check(name, end, said)


async def test_a_compaction_that_takes_its_time_to_fail_is_noticed_on_the_oldest_pi_too(oldest_stage: Stage) -> None:
    """It does not say so, and its request is followed to the end."""
    steps = [Delay(20), HTTPError(500, "oops", retry=False)]
    end, said = await too_large(oldest_stage, lambda: steps, within=200)
    assert end["cause"] == "ModelError", said
    assert "HTTP 500 Internal Server Error (in the compaction, after: 400 prompt is too long" in end["error"], end
    assert "waiting_for_model" in end["states"], end
    assert end["silent"] > 20


async def test_agents_at_a_provider_that_answers_429_for_a_while_all_complete(stage: Stage) -> None:
    """20 for a minute in ``make edges``."""
    await fanned_out(stage, AGENTS, SECONDS, within=600)
