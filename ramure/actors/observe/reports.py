"""Crash reports: what ended abnormally, where in the tree, doing what, why, and what was done about it. Data only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ramure.actors.observe.addresses import labels_to
from ramure.data import data
from ramure.exits import Crashed, Phase, Shutdown

if TYPE_CHECKING:
    from ramure.actors.ref import Ref

__all__ = ["CrashReport", "path_of"]


@data
class CrashReport:
    """One abnormal end, told by the kernel (``did`` is empty), or by the supervisor that acts on it. ``str(report)``
    is the text for people."""

    ref: Ref[Any] | None
    """The actor that ended; None where a child did not start."""
    place: Ref[Any]
    """The actor; where a child did not start, its supervisor."""
    id: object
    """The actor's label is shown; where a child did not start, its id in its supervisor."""
    reason: object
    write: Callable[[], str]
    """Makes the text: when somebody reads it, since a storm of crashes has other things to do first."""
    did: str = ""
    attempt: int = 0
    """Which restart in a row this leads to; 0 where there is none."""

    @property
    def who(self) -> str:
        """What ended, as people call it."""
        return str(self.id) if self.ref is None else self.ref.label

    @property
    def path(self) -> str:
        """Its place in the tree: the labels of its ancestors and its own, outermost first."""
        return path_of(self.place)

    @property
    def doing(self) -> str:
        """What it was doing: ``handling <message>``, ``starting`` …; ``running`` where the reason does not say."""
        detail = self.reason.detail if isinstance(self.reason, Shutdown) else self.reason
        phase = detail.phase if isinstance(detail, Crashed) else None
        return str(phase if phase is not None else Phase("running"))

    def __str__(self) -> str:
        return self.write()


def path_of(ref: Ref[Any]) -> str:
    """Where an actor stands in its tree, also after its end."""
    return " / ".join(labels_to(ref))
