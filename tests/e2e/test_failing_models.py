"""A model that fails is a failure: the README's program on real pi, in each way that a model can fail."""

from __future__ import annotations

import pytest

from tests.e2e.failing_models import WAYS, check, played
from tests.e2e.kit import Stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(400)]


async def test_what_comes_of_each_way_in_which_a_model_fails(stage: Stage) -> None:
    """Transient errors are got over, the others end the agent with the provider's words and the remedy."""
    ends, said = await played(stage, list(WAYS), within=300)
    assert set(ends) == set(WAYS), said
    for name, end in ends.items():
        check(name, end, said)
