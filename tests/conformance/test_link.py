"""1,000 random scenarios of processes, links, monitors, signals, names and aliases: ramure beside Erlang.

With Erlang at hand the seeds are new in each run; without, the results that Erlang gave when they were recorded
(``python -m tests.conformance.oracle --record``) are compared.
"""

from __future__ import annotations

import gzip

import pytest

from tests.conformance import oracle

pytestmark = pytest.mark.real


@pytest.mark.timeout(300)
def test_a_thousand_scenarios_end_as_in_erlang() -> None:
    batch = oracle.tested("link")
    assert batch.differences(oracle.on_ramure("link", batch.scenarios)) == []


@pytest.mark.parametrize("kind", oracle.FULL)
def test_the_recorded_results_are_those_of_the_first_seeds(kind: str) -> None:
    names = [each["name"] for each in oracle.lines(gzip.decompress(oracle.recorded(kind).read_bytes()).decode())]
    assert names == [f"{kind}-{seed}" for seed in range(oracle.TESTED[kind])]
