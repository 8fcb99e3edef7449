"""A persistent map: every change returns a new map and shares most of its storage with the old one.

Pure: no clock, no asyncio, no I/O.

A supervisor may have ten thousand children, and each step of its core returns a new state; copying one
dict of them all each time would make starting n children cost n². Here the entries are spread over about
√n small dicts, and a change copies one of those and the tuple that holds them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import chain
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

__all__ = ["PMap"]

_GROWTH = 4
"""Buckets are added by this factor, so that growing is rare."""

_FILL = 16
"""Buckets are added when the entries exceed this times the square of the buckets."""


class PMap(Generic[K, V]):
    """An immutable map of hashable keys; reading is as a dict's, a change costs about √n."""

    __slots__ = ("_buckets", "_size")

    def __init__(self, _buckets: tuple[dict[K, V], ...] = ({},), _size: int = 0) -> None:
        self._buckets = _buckets
        self._size = _size

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: object) -> bool:
        return key in self._buckets[hash(key) & (len(self._buckets) - 1)]

    def __getitem__(self, key: K) -> V:
        return self._buckets[hash(key) & (len(self._buckets) - 1)][key]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: object = None) -> object:
        return self._buckets[hash(key) & (len(self._buckets) - 1)].get(key, default)

    def values(self) -> Iterable[V]:
        """The values, in no particular order."""
        buckets = self._buckets
        return buckets[0].values() if len(buckets) == 1 else chain.from_iterable(b.values() for b in buckets)

    def put(self, key: K, value: V) -> PMap[K, V]:
        """This map with ``key`` set to ``value``."""
        buckets = self._buckets
        at = hash(key) & (len(buckets) - 1)
        bucket = buckets[at].copy()
        size = self._size + (key not in bucket)
        bucket[key] = value
        changed = (bucket,) if len(buckets) == 1 else (*buckets[:at], bucket, *buckets[at + 1 :])
        if size > _FILL * len(buckets) ** 2:
            changed = _spread(changed, len(buckets) * _GROWTH)
        return PMap(changed, size)

    def remove(self, key: K) -> PMap[K, V]:
        """This map without ``key``; raises KeyError when it is absent."""
        if self._size == 1 and key in self:
            return PMap()
        buckets = self._buckets
        at = hash(key) & (len(buckets) - 1)
        bucket = buckets[at].copy()
        del bucket[key]
        return PMap((*buckets[:at], bucket, *buckets[at + 1 :]), self._size - 1)


def _spread(buckets: tuple[dict[K, V], ...], count: int) -> tuple[dict[K, V], ...]:
    spread: tuple[dict[K, V], ...] = tuple({} for _ in range(count))
    for bucket in buckets:
        for key, value in bucket.items():
            spread[hash(key) & (count - 1)][key] = value
    return spread
