"""What is said of a stalled process, and to its agents. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["TurnView", "describe", "reminder"]

LONGEST: Final = 300
"""Characters of an agent's last words that are shown."""

REMEDY: Final = (
    "Call done() or fail() in a tool, an endpoint or a task of the process; or choose what follows with on_idle= "
    "(docs/processes.md)"
)


@dataclass(frozen=True, slots=True)
class TurnView:
    """How an agent's last turn ended, and what it has of the process's tools: name and description of each."""

    address: str
    prompted: bool = True
    said: str | None = None
    stopped: str | None = None
    tools: tuple[tuple[str, str], ...] = ()
    called: frozenset[str] = frozenset()
    refused: str = ""
    """Why its first message failed, where nobody awaited that."""

    @property
    def uncalled(self) -> tuple[tuple[str, str], ...]:
        """The tools that it has not called."""
        return tuple(tool for tool in self.tools if tool[0] not in self.called)


def describe(label: str, places: Sequence[str], turns: Sequence[TurnView]) -> str:
    """Why the process ``label``, which waits in ``places``, is stalled."""
    why = "; ".join(map(_turn, turns)) or "it has no agent, child, task, timer, thread or endpoint that could"
    where = " and ".join(dict.fromkeys(places))
    return f"{label} waits in {where}, and nothing can decide it any more: {why}. {REMEDY}"


def _turn(turn: TurnView) -> str:
    who = f"agent {turn.address!r}"
    names = ", ".join(name for name, _ in turn.uncalled)
    if not turn.prompted and turn.refused:
        return f"{who} got no message: {turn.refused}"
    if not turn.prompted:
        return f"{who} was never sent anything (await its send())"
    how = "ended its turn"
    if turn.stopped is not None:
        how = "was interrupted" if turn.stopped == "interrupted" else f"ended its turn with an error ({turn.stopped})"
    tools = f" without calling {names}" if names else " (it has called all its tools)" if turn.tools else ""
    return f"{who} {how}{tools}; {_words(turn.said)}"


def _words(said: str | None) -> str:
    if said is None:
        return "it has said nothing yet"
    line = " ".join(said.split())
    if not line:
        return "its last reply was empty"
    return f"its last words: {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'!r}"


def reminder(process: str, turn: TurnView) -> str:
    """The message to an agent that stopped short."""
    tools = turn.uncalled or turn.tools
    listed = "\n".join(f"- {name}: {' '.join(about.split())}" if about else f"- {name}" for name, about in tools)
    verb = "You have not called" if turn.uncalled else "Its tools are"
    return (
        f"You ended your turn, but the program that you work for ({process}) still waits for you, and nothing else can "
        f"bring it on. Only a call of a tool does; text alone does not reach it. {verb}:\n{listed}\n"
        "If your work is done, call the tool that says so now. If it is not, go on with it, and call the tool then. If you "
        "cannot go on, call the tool that fits best, and say why in its arguments."
    )
