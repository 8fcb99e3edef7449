"""A model that fails is a failure: the README's program on real pi, in each way that a model can fail."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ramure.testing import DropConnection, HTTPError
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
    end, said = await too_large(oldest_stage, lambda: "The user wants a haiku.", within=60)
    assert end["result"] == ["Rebase in the night"], said
    assert end["problems"] == [], said


@pytest.mark.parametrize("failure", [HTTPError(529, "overloaded"), DropConnection()], ids=["529", "cut"])
async def test_a_conversation_that_is_too_large_waits_while_its_compaction_fails_for_a_while(
    oldest_stage: Stage, failure: Any
) -> None:
    """pi 0.74 does not say that a compaction has failed, nor why."""
    began = time.monotonic()

    def summary() -> Any:
        return failure if time.monotonic() - began < 20 else "The user wants a haiku."

    end, said = await too_large(oldest_stage, summary, within=200, retry_for=300)
    assert end["result"] == ["Rebase in the night"], said
    assert "waiting_for_model" in end["states"], end
    assert set(end["problems"]) == {"retry"}, said
