"""Attributes that most objects never set, for objects of which there are a hundred thousand."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["Sparse"]

T = TypeVar("T")


class Sparse(Generic[T]):
    """An attribute with a default, kept in a dictionary that is made when the first of them is set.

    For classes with ``__slots__``, one of them ``_rare``, which ``__init__`` sets to None: there a slot for
    each would cost every instance eight bytes.
    """

    __slots__ = ("default", "name")

    def __init__(self, default: T) -> None:
        self.default: T = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name: str = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Any, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> T | Self:
        if instance is None:
            return self
        rare = instance._rare
        value: T = self.default if rare is None else rare.get(self.name, self.default)
        return value

    def __set__(self, instance: Any, value: T) -> None:
        if instance._rare is None:
            if value is self.default:
                return
            instance._rare = {}
        instance._rare[self.name] = value
