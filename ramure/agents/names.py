"""Names of agents: checked where they enter."""

from __future__ import annotations

import re
from typing import Final

from ramure.errors import UsageError

__all__ = ["BadAgentName", "check_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


RESERVED: Final = frozenset({"_runtime"})
"""Names of the run's own files, in lower case: on some file systems case makes no difference."""


class BadAgentName(UsageError):
    """A name that no agent can have."""

    def __init__(self, name: object) -> None:
        why = "use 1 to 100 letters, digits, '.', '_' and '-', not beginning with '.'"
        if isinstance(name, str) and name.lower() in RESERVED:
            why = "it is the name of the run's own log; choose another"
        super().__init__(f"{name!r} is no name for an agent: {why}")


def check_name(name: object) -> str:
    """``name`` if it is a good one. Names become file and session names, so nothing that could be a path gets in."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in RESERVED:
        raise BadAgentName(name)
    return name
