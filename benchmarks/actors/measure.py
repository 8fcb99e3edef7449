"""Helpers of the peers' measurements."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

RING = 1_000
ALIVE = 100_000

now = time.perf_counter


def resident() -> int:
    """Bytes of resident memory; where the system does not tell, the most there ever was."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def per(count: int, seconds: float) -> float:
    """Microseconds for one of ``count``."""
    return seconds / count * 1e6


def best_of(times: int, measure: Callable[[], float]) -> float:
    """The lowest of some measurements: for figures so short that a scheduler's whim doubles them."""
    return min(measure() for _ in range(times))
