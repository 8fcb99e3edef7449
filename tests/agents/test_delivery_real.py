"""Delivery on real pi, beside faults: the small form of ``python -m tests.delivery``."""

from __future__ import annotations

import pytest

from ramure.agents.toolchain import Toolchain
from tests import delivery

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]


async def test_each_message_comes_once_and_each_call_takes_effect_once(toolchain: Toolchain) -> None:
    figures = await delivery.on_stage(toolchain, 60, cuts=8, kills=1, seed=1)
    assert not figures.wrong()
    assert (len(figures.sent), len(figures.effects)) >= (60, 60)
    assert figures.cuts == 8
    assert figures.restarts == 1
