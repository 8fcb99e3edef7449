"""The random trees of ``tests/runtime/test_stall_trees.py``, at full size."""

from __future__ import annotations

import pytest

from tests.runtime.conftest import home
from tests.runtime.test_stall_trees import test_a_process_is_stalled_exactly_when_nothing_can_decide_it

__all__ = ["home", "test_a_process_is_stalled_exactly_when_nothing_can_decide_it"]

pytestmark = pytest.mark.edges
