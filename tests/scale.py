"""How many examples a property is tried with, and whether they are the same ones each time.

``make test`` tries a tenth of what the issue of each property names, and the same examples in every run: a change is
never stopped by what it did not do. ``make soak`` tries all of them (``N=3``: three times as many), new ones each time.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import settings

SOAK: Final = float(os.environ.get("RAMURE_SOAK", "0"))

settings.register_profile("test", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("soak", deadline=None, print_blob=True)
settings.load_profile("soak" if SOAK else "test")


def examples(full: int) -> int:
    """How many to try now of what are ``full`` in a soak."""
    return max(1, round(full * (SOAK or 0.1)))


long_in_a_soak = pytest.mark.timeout(0 if SOAK >= 1 else 300)
"""For a test whose time grows with its examples."""
