"""``simulate``: many runs of a program with agents, each from a seed; the first that is not sound is shrunk and told."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ramure.errors import UsageError
from ramure.testing.simulation.execute import Case, Outcome, execute, own_home
from ramure.testing.simulation.faults import Faults
from ramure.testing.simulation.invariants import Check, Invariant, as_invariant
from ramure.testing.simulation.shrink import shrink
from ramure.testing.simulation.story import story
from ramure.testing.simulation.workers import in_processes

if TYPE_CHECKING:
    from ramure.testing.scripts import Script
    from ramure.types import ExecResult

__all__ = ["SEED", "SEEDS", "Simulation", "SimulationFailed", "simulate"]

SEED: Final = "RAMURE_SEED"
"""The variable that names the only seed to be run: what ``pytest --ramure-seed`` and ``ramure simulate`` set."""

SEEDS: Final = "RAMURE_SEEDS"
"""The variable that says how many seeds to run, whatever a test says: ``pytest --ramure-seeds``."""


class SimulationFailed(AssertionError):
    """A simulated run was not sound; the text is its story. ``outcome``: the smallest such run that was found."""

    def __init__(self, text: str, outcome: Outcome) -> None:
        self.outcome: Outcome = outcome
        super().__init__(text)

    @property
    def seed(self) -> int:
        """The seed that shows it."""
        return self.outcome.run.seed


@dataclass
class Simulation:
    """What sound runs came to: ``seeds`` of them; ``faults`` and ``errors`` by kind, how often; ``seconds`` in real time."""

    seeds: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    traces: dict[int, str] = field(default_factory=dict)
    """A digest of each seed's run: equal for equal runs."""

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.seeds += 1
        self.faults.update(fault.kind for fault in outcome.run.faults)
        self.errors.update([type(outcome.run.error).__name__] if outcome.run.error is not None else [])
        self.traces[outcome.run.seed] = outcome.trace


def simulate(
    program: Callable[..., Awaitable[Any]],
    *args: Any,
    model: Script,
    seeds: int | Iterable[int] = 100,
    faults: Faults | None = None,
    invariants: Sequence[Invariant | Check] = (),
    allow: type[BaseException] | tuple[type[BaseException], ...] = (),
    exec: Callable[[str], ExecResult] | None = None,
    jobs: int = 1,
    limit: float = 86_400.0,
    quiet: float = 600.0,
    max_turns: int = 200_000,
    max_requests: int = 1000,
) -> Simulation:
    """Run ``program(*args)`` once for each seed, and raise :class:`SimulationFailed` for the first run that is not sound.

    The runtime is the real one; pi, its model (the script ``model``), machines and time are simulated, and ``faults``
    happen (default: :meth:`Faults.usual`). Each run gets a copy of ``args``. It is not sound if it hangs, fails without a
    fault or with an error that no fault explains, leaves something behind, lets a failure go unseen, does something
    twice, or breaks one of the ``invariants``. The failure is shrunk, and the error's text is its story, with a line that
    replays it.

    ``seeds``: how many, from 0 on, or which. ``allow``: errors with which the program may end. ``exec``: answers commands
    on machines. ``jobs``: processes at once. A run hangs after ``limit`` virtual seconds, ``quiet`` virtual seconds in
    which nothing happens and nobody waits for a timer, ``max_turns`` turns of the event loop, or ``max_requests`` requests
    to models.
    """
    __tracebackhide__ = True
    case = Case(
        program,
        args,
        model,
        Faults.usual() if faults is None else faults,
        tuple(map(as_invariant, invariants)),
        allow if isinstance(allow, tuple) else (allow,),
        exec,
        limit,
        quiet,
        max_turns,
        max_requests,
    )
    chosen = _chosen(seeds)
    began, found = time.perf_counter(), Simulation()
    with own_home():
        broken = _first_broken(case, chosen, jobs, found)
        found.seconds = time.perf_counter() - began
        if broken is None:
            return found
        seed = broken
        outcome = _broken_again(case, seed)
        if not _hypothesis_shrinks():
            outcome = shrink(case, outcome)
    text = story(case.name, outcome, _replay(case, seed))
    raise SimulationFailed(text, outcome)


def _first_broken(case: Case, seeds: Sequence[int], jobs: int, found: Simulation) -> int | None:
    """The first seed whose run is not sound."""
    if jobs > 1 and len(seeds) > 1:
        return in_processes(lambda seed: execute(case, seed), seeds, jobs, found)
    for seed in seeds:
        outcome = execute(case, seed)
        if outcome.failure is not None:
            return seed
        found.add(outcome)
    return None


def _hypothesis_shrinks() -> bool:
    """Whether this is called from a ``@given`` test: what that has drawn, it makes smaller itself."""
    hypothesis = sys.modules.get("hypothesis")
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())


def _broken_again(case: Case, seed: int) -> Outcome:
    """The same seed once more, for what it was that broke."""
    outcome = execute(case, seed)
    if outcome.failure is None:
        raise UsageError(
            f"seed {seed:#x} broke, and then it did not: the program or its model takes chance, time or state from outside "
            "of the run. State of its own goes into simulate()'s arguments, of which each run gets a copy"
        )
    return outcome


def _chosen(seeds: int | Iterable[int]) -> Sequence[int]:
    if only := os.environ.get(SEED):
        return [int(only, 0)]
    if isinstance(seeds, int) and (count := os.environ.get(SEEDS)):
        return range(int(count))
    return range(seeds) if isinstance(seeds, int) else list(seeds)


def _replay(case: Case, seed: int) -> str:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    if test:
        return f"pytest {test if ' ' not in test else repr(test)} --ramure-seed {seed:#x}"
    return f"simulate({case.name}, ..., seeds=[{seed:#x}])"
