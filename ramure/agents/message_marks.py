"""The marks by which the run knows its own messages in an agent's conversation. Pure.

pi's session file can be written by others on its machine. A message there counts as delivered only with the mark that the
run gave it, and nobody can make that of one that has not been sent: it is a keyed digest, and the key never leaves the run.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

__all__ = ["MessageMarks"]

BYTES: Final = 5
"""Of a mark, 8 characters of five bits each: a session file with a million guesses for one message holds it once in a million."""


class MessageMarks:
    """Those of one agent. ``key``: only for tests; by default a new one."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key

    def of(self, seq: int) -> str:
        """The mark of the message with this seq: 8 characters of ``a-z`` and ``2-7``."""
        digest = hmac.digest(self._key, str(seq).encode(), "sha256")
        return base64.b32encode(digest[:BYTES]).decode().lower()  # in Python, it takes a while for a whole digest

    def others(self, found: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those of the (seq, mark) that are no message of this agent's log."""
        return [(seq, mark) for seq, mark in found if mark != self.of(seq)]
