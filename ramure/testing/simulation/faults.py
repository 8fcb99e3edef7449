"""Faults as data: which ones there are, at which moments of a run they may happen, and which a seed draws. Pure.

A *moment* is a request that an agent makes to its model, or a call of one of its tools: "2nd tool call of worker". What a
seed draws for a moment depends on nothing but the two, so a run from which one fault is taken away still has the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ramure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KINDS", "Fault", "Faults", "Moment", "Plan", "Rate"]

What: TypeAlias = Literal["request", "tool call"]

KINDS: Final[Mapping[str, tuple[What, ...]]] = {
    "kill_pi": ("request", "tool call"),
    "kill_machine": ("request", "tool call"),
    "drop_link": ("request", "tool call"),
    "slow": ("request",),
    "disk_full": ("request", "tool call"),
    "provider": ("request",),
    "model_stops": ("request",),
    "handler_raises": ("tool call",),
    "duplicate_call": ("request",),
    "reorder": ("request", "tool call"),
    "clock_jump": ("request", "tool call"),
}
"""Each kind of fault, and at which moments it can happen."""

OUTCOMES: Final = (429, 500, 529, "hang", "cut", "empty")
"""What a provider in trouble may do: answer with an HTTP status, hang, cut its answer off, answer with nothing."""

LAST_WORDS: Final = ("I am done.", "Shall I go on?", "I cannot do that.", "")
"""What a model says that stops without calling a tool."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A point of a run at which faults happen: the ``number``-th request or tool call of the agent at ``agent``."""

    agent: str
    what: What
    number: int

    def __str__(self) -> str:
        return f"{_ordinal(self.number)} {self.what} of {self.agent}"

    @classmethod
    def parse(cls, text: str) -> Moment:
        """The moment that a text says, as "2nd tool call of worker". Raises :class:`UsageError`."""
        found = _MOMENT.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{text!r} is no moment: write '2nd tool call of worker' or '1st request of worker'")
        what: What = "tool call" if found["what"].startswith("tool") else "request"
        return cls(found["agent"], what, int(found["number"]))


_MOMENT: Final = re.compile(
    r"(?:at the )?(?P<number>[1-9]\d*)(?:st|nd|rd|th) (?P<what>tool call|request) of (?P<agent>\S+)"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at one moment. ``after``: seconds from the moment to the fault; ``seconds``: how long it lasts, or by how
    much it is; ``outcome``: what a provider does, or what a model says that stops."""

    kind: str
    moment: Moment
    after: float = 0.0
    seconds: float = 0.0
    outcome: int | str = ""

    def __str__(self) -> str:
        return f"{_TEXTS[self.kind](self)}, at the {self.moment}"

    @property
    def effect(self) -> str:
        """What it does, without its moment."""
        return str(_TEXTS[self.kind](self))


_TEXTS: Final[dict[str, Any]] = {
    "kill_pi": lambda f: f"{f.moment.agent}'s pi is killed after {f.after:.1f} s",
    "kill_machine": lambda f: f"{f.moment.agent}'s machine goes down after {f.after:.1f} s",
    "drop_link": lambda f: f"{f.moment.agent}'s connection is cut after {f.after:.1f} s",
    "slow": lambda f: f"{f.moment.agent}'s model takes {f.seconds:.0f} s longer",
    "disk_full": lambda f: f"the logs' disk is full for {f.seconds:.0f} s",
    "provider": lambda f: f"{f.moment.agent}'s provider answers {f.outcome!r} for {f.seconds:.0f} s",
    "model_stops": lambda f: f"{f.moment.agent}'s model stops with {f.outcome!r}",
    "handler_raises": lambda f: f"the handler of {f.moment.agent}'s call raises",
    "duplicate_call": lambda f: f"{f.moment.agent}'s model makes its last call once more",
    "reorder": lambda f: f"{f.moment.agent}'s connection is {f.seconds:.1f} s late",
    "clock_jump": lambda f: f"the wall clock jumps by {f.seconds:+.0f} s",
}

Rate: TypeAlias = float | str | Sequence[str]
"""How often: a probability for each moment, or the moments themselves: "2nd tool call of worker"."""


@dataclass(frozen=True)
class Faults:
    """Which faults a run may meet. Each is a probability for each moment (0: never), or one moment or several at which it
    happens: ``Faults(kill_pi="2nd tool call of worker", model_stops=0.1)``.

    ``provider_does`` is what a provider in trouble may do: an HTTP status, ``"hang"`` (300 s, then the connection breaks),
    ``"cut"`` or ``"empty"``. ``swarm``: each seed leaves some kinds out and makes others more frequent.
    """

    kill_pi: Rate = 0.0
    kill_machine: Rate = 0.0
    drop_link: Rate = 0.0
    slow: Rate = 0.0
    disk_full: Rate = 0.0
    provider: Rate = 0.0
    model_stops: Rate = 0.0
    handler_raises: Rate = 0.0
    duplicate_call: Rate = 0.0
    reorder: Rate = 0.0
    clock_jump: Rate = 0.0
    provider_does: Sequence[int | str] = OUTCOMES
    swarm: bool = True
    exactly: tuple[Fault, ...] = field(default=())
    """These faults, as an earlier run had them, beside those that the rates draw."""

    def __post_init__(self) -> None:
        for kind in KINDS:
            rate = getattr(self, kind)
            if isinstance(rate, (int, float)):
                if not 0 <= rate <= 1:
                    raise UsageError(f"Faults({kind}={rate!r}): a probability is between 0 and 1")
                continue
            for text in [rate] if isinstance(rate, str) else rate:
                moment = Moment.parse(text)
                if moment.what not in KINDS[kind]:
                    raise UsageError(f"Faults({kind}={text!r}): {kind} happens at a {' or '.join(KINDS[kind])}")
        for outcome in self.provider_does:
            if not (outcome in ("hang", "cut", "empty") or (isinstance(outcome, int) and 400 <= outcome < 600)):
                raise UsageError(f"provider_does={outcome!r}: give an HTTP status from 400, 'hang', 'cut' or 'empty'")

    @classmethod
    def usual(cls) -> Faults:
        """All kinds, at rates at which most programs meet some in a run."""
        return cls(
            kill_pi=0.06,
            kill_machine=0.01,
            drop_link=0.03,
            slow=0.05,
            disk_full=0.01,
            provider=0.04,
            model_stops=0.05,
            handler_raises=0.04,
            duplicate_call=0.1,
            reorder=0.05,
            clock_jump=0.02,
        )

    def only(self, *kinds: str) -> Faults:
        """These without all other kinds."""
        unknown = sorted(set(kinds) - KINDS.keys())
        if unknown:
            raise UsageError(f"there is no fault {', '.join(unknown)}; there are {', '.join(KINDS)}")
        none: dict[str, Any] = {kind: 0.0 for kind in KINDS if kind not in kinds}
        return replace(self, **none)

    def plan(self, seed: int) -> Plan:
        """What a run with this seed meets."""
        return Plan(self, seed)

    def rates(self, seed: int) -> dict[str, float]:
        """The probability of each kind in a run with this seed."""
        chance = random.Random(f"rates of {seed}")
        found = {}
        for kind in KINDS:
            factor = chance.choice((0.0, 0.5, 1.0, 4.0)) if self.swarm else 1.0
            rate = getattr(self, kind)
            found[kind] = min(1.0, factor * rate) if isinstance(rate, (int, float)) else 0.0
        return found

    def moments(self) -> dict[Moment, list[str]]:
        """The kinds that happen at given moments."""
        found: dict[Moment, list[str]] = {}
        for kind in KINDS:
            rate = getattr(self, kind)
            if not isinstance(rate, (int, float)):
                for text in [rate] if isinstance(rate, str) else rate:
                    found.setdefault(Moment.parse(text), []).append(kind)
        return found


class Plan:
    """The faults of one run, drawn as its moments come. ``only``: these, and nothing drawn."""

    def __init__(self, faults: Faults, seed: int, only: Iterable[Fault] | None = None) -> None:
        self._faults = faults
        self._seed = seed
        self._rates = faults.rates(seed) if only is None else dict.fromkeys(KINDS, 0.0)
        self._given = faults.moments() if only is None else {}
        self._exactly = list(faults.exactly if only is None else only)

    def at(self, moment: Moment) -> list[Fault]:
        """What happens at this moment."""
        found = [fault for fault in self._exactly if fault.moment == moment]
        given = self._given.get(moment, ())
        chance = random.Random(f"{self._seed} {moment}")
        for kind, moments in KINDS.items():
            lot, after, size = chance.random(), chance.random(), chance.random()
            if moment.what in moments and (lot < self._rates[kind] or kind in given):
                found.append(_drawn(kind, moment, after, size, self._faults.provider_does))
        return found


def _drawn(kind: str, moment: Moment, after: float, size: float, provider: Sequence[int | str]) -> Fault:
    """``after`` and ``size`` are chances, from 0 to 1."""
    match kind:
        case "kill_pi" | "kill_machine" | "drop_link":
            return Fault(kind, moment, after=round(20 * after**2, 1))
        case "slow":
            return Fault(kind, moment, seconds=round(30 * 20**size))
        case "disk_full":
            return Fault(kind, moment, seconds=round(2 * 30**size))
        case "provider":
            outcome = provider[int(after * len(provider))]
            return Fault(kind, moment, seconds=round(5 * 40**size), outcome=outcome)
        case "model_stops":
            return Fault(kind, moment, outcome=LAST_WORDS[int(after * len(LAST_WORDS))])
        case "reorder":
            return Fault(kind, moment, seconds=round(0.1 * 50**size, 1))
        case "clock_jump":
            return Fault(kind, moment, seconds=round((1 if after < 0.5 else -1) * 10 * 360**size))
    return Fault(kind, moment)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
