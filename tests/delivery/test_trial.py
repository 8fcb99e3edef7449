"""Delivery on real pi, beside faults: the small form of ``make delivery``."""

from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain import Toolchain
from tests.delivery.trial import Plan, on_stage

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]


async def test_the_model_gets_each_message_and_result_once_in_order_and_unchanged(toolchain: Toolchain) -> None:
    figures = await on_stage(toolchain, Plan(60, cuts=8, kills=1, seed=1))
    assert figures.wrong() == []
    assert (len(figures.statistics.sent), len(figures.statistics.answers)) == (66, 6)
    assert len(figures.statistics.handled) >= 60
    assert figures.cuts == 8
    assert (figures.statistics.kills, figures.restarts) == (1, 1)
    assert figures.sent_while_down > 0
