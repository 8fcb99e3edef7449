"""What can be wrong with the programs that agents need. Each error names the remedy."""

from __future__ import annotations

from ramure.errors import OperationalError

__all__ = ["SetupBusy", "SetupFailed", "ToolError", "ToolMissing", "ToolTooOld"]


class ToolError(OperationalError):
    """A program that agents need cannot be used. ``tool`` is its name, ``remedy`` the command that mends it."""

    def __init__(self, tool: str, problem: str, remedy: str) -> None:
        self.tool = tool
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}; to mend it: {remedy}")


class ToolMissing(ToolError):
    """The program was not found."""


class ToolTooOld(ToolError):
    """The program was found, but this version of it (or the two together) will not do."""


class SetupFailed(OperationalError):
    """``ramure setup`` could not install something. Nothing half-installed is left."""


class SetupBusy(OperationalError, TimeoutError):
    """Another ``ramure setup`` held the lock for too long."""
