"""A stage for each end-to-end test, on the newest pi or on the oldest supported one."""

from __future__ import annotations

import pytest

from ramure.agents.pi.toolchain import Toolchain
from ramure.testing.leaks import LeakCheck
from tests.conftest import lend_toolchain
from tests.e2e.kit import Stage


@pytest.fixture
def stage(toolchain: Toolchain, leak_check: LeakCheck) -> Stage:
    """With the newest pi."""
    return Stage(toolchain, leak_check)


@pytest.fixture
def oldest_stage(toolchain_074: Toolchain, leak_check: LeakCheck) -> Stage:
    """With the oldest supported pi."""
    return Stage(toolchain_074, leak_check)


@pytest.fixture(params=["newest", "0.74.2"])
def any_stage(
    request: pytest.FixtureRequest, toolchain: Toolchain, toolchain_074: Toolchain, leak_check: LeakCheck
) -> Stage:
    """With the newest pi, and again with the oldest."""
    return Stage(toolchain if request.param == "newest" else toolchain_074, leak_check)


@pytest.fixture(params=["newest", "0.74.2"])
def any_home(
    request: pytest.FixtureRequest, toolchain: Toolchain, toolchain_074: Toolchain, leak_check: LeakCheck
) -> None:
    """The test's own ``RAMURE_HOME``, with the newest pi set up in it, and again with the oldest."""
    lend_toolchain(toolchain if request.param == "newest" else toolchain_074, leak_check.home)
