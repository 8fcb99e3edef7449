"""What happened in a failing run, in at most a dozen lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ramure.testing.simulation.execute import Outcome
    from ramure.testing.simulation.world import Happening

__all__ = ["story"]

LINES: Final = 12

MOST_WAITS: Final = 3
"""Processes of which a story says where they wait, if it is one of waiting."""

WIDTH: Final = 120

_WEIGHT: Final = {
    "fault": 100,
    "stalled": 60,
    "agent_gave_up": 60,
    "model_error": 60,
    "agent_down": 50,
    "call": 45,
    "event": 40,
    "reminded": 40,
    "crash": 35,
    "agent_restarted": 30,
    "message": 20,
    "state": 10,
}
"""What a story leaves out last."""


def story(name: str, outcome: Outcome, replay: str) -> str:
    """Who did what, which fault, what broke, and how to see it again."""
    failure, run = outcome.failure, outcome.run
    assert failure is not None
    head = _cut(f"{name}, seed {run.seed:#x}: {failure.text}")
    first, last = outcome.window
    chance = [] if last == 0 else ["the order of tasks that are ready together is drawn from the seed"]
    if last != 0 and (first or last is not None):
        chance = [
            f"from the {first + 1}. to the {last or outcome.choices}. time that tasks are ready together, chance decides"
        ]
    tail = [*(f"       ({text})" for text in chance), f"replay: {replay}"]
    waits = [f"       {line.strip()}" for line in failure.details.splitlines() if line.startswith("  process ")]
    tail[:0] = [_cut(line) for line in waits if " simulation#" not in line][:MOST_WAITS]
    shown = _chosen(run.happenings, LINES - 1 - len(tail))
    return "\n".join([head, *(_cut(str(each)) for each in shown), *tail])


def _chosen(happenings: list[Happening], most: int) -> list[Happening]:
    """The weightiest, in their order; of equal ones, the last, and the first of all."""
    places = sorted(
        (place for place, each in enumerate(happenings) if each.kind in _WEIGHT),
        key=lambda place: (_WEIGHT[happenings[place].kind], place),
        reverse=True,
    )
    return [happenings[place] for place in sorted(places[:most])]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
