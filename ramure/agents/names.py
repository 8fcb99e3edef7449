"""Names of agents: checked where they enter."""

from __future__ import annotations

import re
from typing import Final

from ramure.errors import UsageError

__all__ = ["BadAgentName", "check_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class BadAgentName(UsageError):
    """A name that no agent can have."""

    def __init__(self, name: object) -> None:
        super().__init__(
            f"{name!r} is no name for an agent: use 1 to 100 letters, digits, '.', '_' and '-', not beginning with '.'"
        )


def check_name(name: object) -> str:
    """``name`` if it is a good one. Names become file and session names, so nothing that could be a path gets in."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadAgentName(name)
    return name
