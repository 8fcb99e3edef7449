"""Real pi, the newest and the oldest supported, for the tests that compare with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ramure.agents.pi.toolchain import Toolchain


@pytest.fixture(params=["newest", pytest.param("oldest", marks=pytest.mark.edges)])
def pi_argv(request: pytest.FixtureRequest, toolchain: Toolchain, toolchain_074: Toolchain) -> tuple[str, ...]:
    """The words that start a real pi."""
    chosen = toolchain if request.param == "newest" else toolchain_074
    return chosen.pi_argv
