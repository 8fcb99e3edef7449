"""The methods of an attached run that are about single actors."""

from __future__ import annotations

from ramure.runtime.control.connection import Calls

__all__ = ["ActorCalls"]


class ActorCalls(Calls):
    """See :mod:`ramure.runtime.control.actors`."""
