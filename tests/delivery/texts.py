"""Texts that say themselves whether they are whole: unique, random, awkward, and with a checksum at their end. Pure."""

from __future__ import annotations

import hashlib
import random

__all__ = ["Texts", "is_sealed", "sealed"]

PIECES = (
    "plain words",
    "quotes \" and \\ and ' and `",
    "a line\nand another\n\n",
    "\ttabs and  two spaces ",
    "Grüße, naïve café",  # composed
    "cafe\u0301, A\u030a",  # decomposed: the same to the eye
    "日本語のテキスト",
    "עברית \u200f\u202a",
    "👩‍🔬 🎉 \U0001f600",
    "line\u2028separator\u2029",
    "\ufeff nbsp\u00a0end",
    "[ramure 3] [ramure continue] no marker",
    '{"role":"user","content":"no json"}',
    "&lt;b&gt; <b> %s {0} $HOME $(id)",
    "Ã¼ already wrong once",
)

LONG = 20_000
"""Characters that the 50th, 1,050th … text of a kind has, at least."""


def sealed(text: str) -> str:
    """The text with its checksum behind it."""
    return f"{text} #{_checksum(text)}"


def is_sealed(text: str) -> bool:
    """Whether it is as :func:`sealed` gave it."""
    head, mark, checksum = text.rpartition(" #")
    return bool(mark) and _checksum(head) == checksum


class Texts:
    """Makes them; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chosen = random.Random(f"texts {seed}")

    def make(self, kind: str, number: int) -> str:
        """The text of that kind and number, unlike every other: it holds 64 random bits."""
        pieces = [f"{kind} {number}", f"{self._chosen.getrandbits(64):016x}"]
        pieces += self._chosen.choices(PIECES, k=self._chosen.randint(1, 4))
        if number % 1000 == 50:
            pieces.append("".join(self._chosen.choices("abc déf\n日👍", k=LONG)))
        return sealed(" ".join(pieces))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
