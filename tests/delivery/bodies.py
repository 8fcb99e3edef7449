"""The bodies of a model's requests, byte for byte. Each holds the whole conversation, so each is kept as what it has more
than the one before: 2,000 of them, 2 GB together, take a few MB. Pure."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Bodies"]


class Bodies:
    """Append bytes; iterate to have them again, in their order."""

    def __init__(self) -> None:
        self.bytes = 0
        """Of all bodies together."""
        self._last = b""
        self._kept: list[tuple[int, bytes, int]] = []

    def append(self, body: bytes) -> None:
        head = _common(self._last, body)
        tail = _common(self._last[head:][::-1], body[head:][::-1])
        self._kept.append((head, body[head : len(body) - tail], tail))
        self._last = body
        self.bytes += len(body)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[bytes]:
        last = b""
        for head, middle, tail in self._kept:
            last = last[:head] + middle + (last[-tail:] if tail else b"")
            yield last


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
