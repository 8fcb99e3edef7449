"""Random trees of processes on simulated agents: those are stalled that an independent reference says are."""

from __future__ import annotations

import threading
from unittest import mock

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ramure.runtime.stalls import carriers
from ramure.testing import run_virtual
from tests.scale import SOAK, examples, long_in_a_soak
from tests.stalls import Tree, expected, play, trees


@long_in_a_soak
@settings(
    max_examples=examples(500 if SOAK else 300),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
)
@given(trees(), st.integers(0, 1000))
def test_a_process_is_stalled_exactly_when_nothing_can_decide_it(tree: Tree, seed: int) -> None:
    there, is_ours = (
        set(threading.enumerate()),
        carriers._is_ours,
    )  # a thread that another test has left decides nothing here
    with mock.patch.object(carriers, "_is_ours", lambda thread, stack: thread in there or is_ours(thread, stack)):
        assert run_virtual(play(tree), seed=seed, limit=900.0) == expected(tree)
