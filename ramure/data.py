"""How data classes are made of which many come and go: messages, events, effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")

__all__ = ["data"]


@dataclass_transform(frozen_default=True)
def data(cls: type[T]) -> type[T]:
    """A data class with slots that the type checker does not let anybody change. Nothing else keeps it from being
    changed: that would make it three times as expensive to create."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
