"""What pi asks a person on its screen. Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["dialog_in"]

_DIALOGS: Final = re.compile(
    r"^.*(?:session cwd does not exist|cwd from session file does not exist|trust (?:this |project )?folder\?|"
    r"do you trust|select a provider to log ?in|log ?in to continue|\[y/n\]|\(y/n\)).*$",
    re.IGNORECASE | re.MULTILINE,
)


def dialog_in(screen: str) -> str | None:
    """The question that a pi waits with before it loads any extension, as its screen says it; None where it asks none."""
    found = _DIALOGS.search(screen)
    return None if found is None else " ".join(found[0].strip(" │┃|─").split())
