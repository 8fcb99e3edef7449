"""Fifty slow models on real pi that go on and finish: none is reminded."""

from __future__ import annotations

from tests.e2e.conftest import stage
from tests.e2e.test_stalled import test_slow_models_that_go_on_are_never_reminded

__all__ = ["stage", "test_slow_models_that_go_on_are_never_reminded"]
