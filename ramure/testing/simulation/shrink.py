"""A failing run made smaller: fewer faults first, then less chance in the order of things. Each try is a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ramure.testing.simulation.execute import Case, Outcome, execute

if TYPE_CHECKING:
    from ramure.testing.simulation.faults import Fault

__all__ = ["shrink"]

MOST_TRIES: Final = 150
"""Runs that the search for a smaller one may take."""

PARTS: Final = 16
"""Chance is confined to a part of the run that is known to this fraction of it."""


class _Search:
    """The smallest failing run found so far."""

    def __init__(self, case: Case, outcome: Outcome) -> None:
        self._case = case
        self.best: Outcome = outcome
        self.tries: int = 0

    @property
    def faults(self) -> list[Fault]:
        return self.best.run.faults

    def attempt(self, faults: list[Fault], window: tuple[int, int | None]) -> bool:
        """Whether a run with these faults and this window breaks in the same way; then it is the best one."""
        if self.tries >= MOST_TRIES:
            return False
        self.tries += 1
        found = execute(self._case, self.best.run.seed, faults, window)
        assert self.best.failure is not None
        if not self.best.failure.is_like(found.failure) or len(found.run.faults) > len(self.faults):
            return False
        self.best = found
        return True

    def fewer_faults(self) -> None:
        """Leave out halves, then single ones, as long as it still breaks."""
        size = max(1, len(self.faults) // 2)
        while self.faults:
            start, less = 0, False
            while start < len(self.faults):
                rest = [*self.faults[:start], *self.faults[start + size :]]
                if self.attempt(rest, self.best.window):
                    less = True
                else:
                    start += size
            if size > 1:
                size //= 2
            elif not less:
                return

    def less_chance(self) -> None:
        """Draw the order of tasks in a part of the run only, or not at all."""
        if self.attempt(self.faults, (0, 0)):
            return
        near = self.best.choices // PARTS
        low, high = 0, self.best.choices
        while high - low > near and self.tries < MOST_TRIES:  # the earliest end of the part
            middle = (low + high) // 2
            if self.attempt(self.faults, (0, middle)):
                high = middle
            else:
                low = middle + 1
        end = self.best.window[1]
        low, high = 0, self.best.choices if end is None else end
        while high - low > near and self.tries < MOST_TRIES:  # and its latest start
            middle = (low + high + 1) // 2
            if self.attempt(self.faults, (middle, end)):
                low = middle
            else:
                high = middle - 1

    def plainer_faults(self) -> None:
        """Faults at once, and short ones."""
        for number, fault in enumerate(self.faults):
            for plainer in (replace(fault, after=0.0), replace(fault, seconds=min(fault.seconds, 10.0))):
                if plainer != fault:
                    self.attempt([*self.faults[:number], plainer, *self.faults[number + 1 :]], self.best.window)


def shrink(case: Case, outcome: Outcome) -> Outcome:
    """The smallest run found that breaks as this one does, with the same seed."""
    search = _Search(case, outcome)
    search.fewer_faults()
    search.plainer_faults()
    search.less_chance()
    search.plainer_faults()
    search.fewer_faults()
    return search.best
