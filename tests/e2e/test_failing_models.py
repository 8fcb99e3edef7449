"""A model that fails is a failure: the README's program on real pi, in each way that a model can fail."""

from __future__ import annotations

import pytest

from tests.e2e.failing_models import STOPS, WAYS, check, played, too_large
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(400)]


async def test_what_comes_of_each_way_in_which_a_model_fails(stage: Stage) -> None:
    """Transient errors are got over, the others end the agent with the provider's words and the remedy."""
    names = [*WAYS, *(name for name in STOPS if name.startswith("unknown"))]  # the others: test_stalled.py
    ends, said = await played(stage, names, within=300)
    assert set(ends) == set(names), said
    for name, end in ends.items():
        check(name, end, said)


async def test_a_conversation_that_is_too_large_goes_on_when_pi_has_compacted_it(oldest_stage: Stage) -> None:
    end, said = await too_large(oldest_stage, "The user wants a haiku.", within=60)
    assert end["result"] == ["Rebase in the night"], said
    assert end["problems"] == [], said
