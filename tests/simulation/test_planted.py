"""Programs with a planted bug: each is found and shrunk; the same programs mended are sound."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import pytest

from ramure.testing import SimulationFailed, always, at_end, simulate
from tests import scale
from tests.simulation import planted

NAMES = sorted(each.name for each in pkgutil.iter_modules(planted.__path__) if each.name != "models")

FOUND, SOUND = (NAMES, NAMES) if scale.SOAK else (NAMES[::2], NAMES[1::2])
"""``make test`` looks at each program once: with its bug, or mended."""

MOST_EVENTS = 12


def options(module: ModuleType) -> dict[str, Any]:
    """What simulate() is called with, but for the seeds."""
    checks = [
        make(getattr(module, name)) for name, make in (("at_end", at_end), ("always", always)) if hasattr(module, name)
    ]
    return {"model": module.model, "invariants": checks, **getattr(module, "OPTIONS", {})}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FOUND)
def test_a_planted_bug_is_found_within_a_thousand_seeds_and_shrunk(name: str) -> None:
    module = importlib.import_module(f"{planted.__name__}.{name}")
    with pytest.raises(SimulationFailed) as failed:
        simulate(module.planted, *module.ARGS, seeds=1000, **options(module))
    story = str(failed.value).splitlines()
    assert len(story) <= 12, failed.value
    assert len(failed.value.outcome.run.faults) <= MOST_EVENTS
    assert module.FOUND in str(failed.value)


@scale.long_in_a_soak
@pytest.mark.parametrize("name", SOUND)
def test_the_mended_program_is_sound(name: str) -> None:
    module = importlib.import_module(f"{planted.__name__}.{name}")
    simulate(module.mended, *module.ARGS, seeds=2000 if scale.SOAK else 4, **options(module))
