"""The marks by which the run knows its own messages in an agent's conversation. Pure.

pi's session file can be written by others on its machine. A message there counts as delivered only with the mark that the
run gave it, and nobody can make that of one that has not been sent: it is a keyed digest, and the key never leaves the run.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Iterable
from typing import Final

__all__ = ["MessageMarks"]

BYTES: Final = 5
"""Of a mark, 8 characters of five bits each: a session file with a million guesses for one message holds it once in a million."""

KEPT: Final = 1000
"""Marks that are kept: a message's is needed when it is sent, and again when it has arrived."""

_PAIRS: Final = [one + other for one, other in itertools.product("abcdefghijklmnopqrstuvwxyz234567", repeat=2)]
"""Ten bits each: base32, in which Python itself takes a while."""


class MessageMarks:
    """Those of one agent. ``key``: only for tests; by default a new one."""

    def __init__(self, key: bytes | None = None) -> None:
        key = secrets.token_bytes(32) if key is None else key
        self._keyed = hashlib.blake2b(key=key, digest_size=BYTES)
        self._made: dict[int, str] = {}

    def of(self, seq: int) -> str:
        """The mark of the message with this seq: 8 characters of ``a-z`` and ``2-7``."""
        mark = self._made.get(seq)
        if mark is None:
            if len(self._made) >= KEPT:
                self._made.clear()
            digest = self._keyed.copy()
            digest.update(b"%d" % seq)
            bits = int.from_bytes(digest.digest())
            mark = self._made[seq] = "".join([_PAIRS[bits >> shift & 0x3FF] for shift in (30, 20, 10, 0)])
        return mark

    def others(self, found: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those of the (seq, mark) that are no message of this agent's log."""
        return [(seq, mark) for seq, mark in found if mark != self.of(seq)]
