"""What must be true of a simulated run: a user's own invariants, and how they are checked. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ramure.errors import UsageError
from ramure.testing.simulation.world import SimulatedRun

__all__ = ["Check", "Failure", "Invariant", "always", "at_end", "checked", "eventually"]

Check: TypeAlias = Callable[[SimulatedRun], object]
"""Looks at a run. It is broken if this raises an exception, or returns False."""


@dataclass(frozen=True)
class Invariant:
    """A check, and when it is made."""

    when: Literal["always", "eventually", "at_end"]
    check: Check
    within: float | None = None

    @property
    def name(self) -> str:
        """What it is called in a story."""
        return str(getattr(self.check, "__name__", "invariant"))


@dataclass(frozen=True)
class Failure:
    """What broke. ``kind`` and ``subject`` say which failure it is: a smaller run must break in the same way."""

    kind: str
    text: str
    subject: str = ""
    details: str = ""

    def is_like(self, other: Failure | None) -> bool:
        """Whether it is the same failure."""
        return other is not None and (self.kind, self.subject) == (other.kind, other.subject)


def always(check: Check) -> Invariant:
    """It holds whenever something has happened, and at the end."""
    return Invariant("always", check)


def eventually(check: Check, *, within: float | None = None) -> Invariant:
    """It holds at some time, ``within`` so many virtual seconds or before the end; of runs that succeed."""
    return Invariant("eventually", check, within)


def at_end(check: Check) -> Invariant:
    """It holds when the program has ended, however it has."""
    return Invariant("at_end", check)


def as_invariant(value: Invariant | Check) -> Invariant:
    """A plain function is checked at the end. Raises :class:`UsageError`."""
    if isinstance(value, Invariant):
        return value
    if callable(value):
        return at_end(value)
    raise UsageError(
        f"{value!r} is no invariant: use always(f), eventually(f) or at_end(f), f being a function of the run"
    )


def checked(invariant: Invariant, run: SimulatedRun) -> Failure | None:
    """What is broken now."""
    try:
        result = invariant.check(run)
    except Exception as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if not isinstance(error, AssertionError):
            why = f"{type(error).__name__}: {why}"
        return Failure("invariant", f"{invariant.when} {invariant.name}: {why}", invariant.name)
    if result is False:
        return Failure("invariant", f"{invariant.when} {invariant.name}: it is False", invariant.name)
    return None
