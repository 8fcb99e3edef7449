"""How long to wait before a restart.

Pure: no clock, no asyncio, no I/O; randomness is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from ramure.supervisors.errors import InvalidSpec

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays between the restarts of one child. OTP has none: it restarts at once.

    The n-th restart in a row waits ``first * factor ** (n - 1)`` seconds, at most ``limit``, made shorter
    by a random part of at most the share ``jitter`` (0 to 1), so that children that failed together do not
    come back together. A child that ran for ``reset_after`` seconds (``limit`` when None) starts again at
    ``first``. Restarts count against the supervisor's intensity as ever: give a period that fits.
    """

    first: float = 1.0
    factor: float = 2.0
    limit: float = 60.0
    jitter: float = 0.1
    reset_after: float | None = None

    def __post_init__(self) -> None:
        _number("first", self.first, at_least=0.0)
        _number("factor", self.factor, at_least=1.0)
        _number("limit", self.limit, at_least=0.0)
        _number("jitter", self.jitter, at_least=0.0)
        if self.jitter > 1:
            raise InvalidSpec("Backoff", "jitter", self.jitter, "give a share from 0 to 1")
        if self.reset_after is not None:
            _number("reset_after", self.reset_after, at_least=0.0)

    def delay(self, attempt: int, luck: float) -> float:
        """Seconds to wait before restart number ``attempt`` (1, 2, …) in a row; ``luck`` is from 0 to 1."""
        try:
            grown = self.first * self.factor ** (attempt - 1)
        except OverflowError:  # a float overflows after about a thousand doublings
            grown = self.limit
        return min(self.limit, grown) * (1.0 - self.jitter * luck)

    def forgotten(self, uptime: float) -> bool:
        """True when a child that ran for ``uptime`` seconds counts as recovered."""
        return uptime >= (self.limit if self.reset_after is None else self.reset_after)


def _number(field: str, value: object, at_least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < float("inf"):
        raise InvalidSpec("Backoff", field, value, f"give a number of at least {at_least:g}")
