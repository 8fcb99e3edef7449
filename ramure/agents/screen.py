"""Masking what is secret in a screen, before it goes into errors and logs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["MASK", "dialog_in", "masked", "secrets_in"]

MASK: Final = "[secret]"

SHORTEST: Final = 6
"""Shorter values are not masked: they would be found everywhere."""

_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE)|CREDENTIAL|(^|_)AUTH($|_)", re.IGNORECASE)

_SECRET_FORMS: Final = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(sk|pk|rk|key|ghp|gho|ghs|ghu|ghr|github_pat|glpat|xox[abprs]|npm|hf|AIza|ya29)[-_.][A-Za-z0-9_.\-]{12,}
    | \bAIza[A-Za-z0-9_\-]{30,}
    | \b(AKIA|ASIA)[A-Z0-9]{16}\b
    | \beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*
    | (?<=\bBearer\ )[A-Za-z0-9_.~+/=\-]{8,}
    """,
    re.VERBOSE | re.DOTALL,
)
"""Keys of well-known providers, tokens, and private keys, wherever they come from."""

_BREAK: Final = r"(?:[ \t│|]*\n[ \t│|]*)?"
"""Where a terminal program broke a line, with the edges of a box around it."""


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The values of the variables whose names say that they are secret."""
    return [value for name, value in environment.items() if _SECRET_NAME.search(name)]


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` with every one of ``secrets``, and whatever looks like one, replaced; also where a line break cuts it."""
    for secret in sorted({secret.strip() for secret in secrets}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = re.sub(_BREAK.join(map(re.escape, secret)), MASK, text)
    return _SECRET_FORMS.sub(MASK, text)


_DIALOGS: Final = re.compile(
    r"^.*(?:session cwd does not exist|cwd from session file does not exist|trust (?:this |project )?folder\?|"
    r"do you trust|select a provider to log ?in|log ?in to continue|\[y/n\]|\(y/n\)).*$",
    re.IGNORECASE | re.MULTILINE,
)


def dialog_in(screen: str) -> str | None:
    """The question that a pi waits with before it loads any extension, as its screen says it; None where it asks none."""
    found = _DIALOGS.search(screen)
    return None if found is None else " ".join(found[0].strip(" │┃|─").split())
