"""The control socket's methods about single actors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ramure.runtime.run import Run

__all__ = ["ActorMethods"]


class ActorMethods:
    """What can be asked about the actors of a run, and done to them."""

    def __init__(self, run: Run) -> None:
        self._run = run
