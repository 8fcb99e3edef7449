"""Registered names, each for one live actor; and a registry where many actors share a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ramure.errors import ActorDied, MailboxFull, NameTaken, NoSuchName, UsageError
from ramure.exits import NOPROC
from ramure.masking import get_logger

if TYPE_CHECKING:
    from ramure.actors._kernel.cell import Cell
    from ramure.actors.ref import Ref
    from ramure.actors.system import ActorSystem

__all__ = ["Names", "Registry"]

logger: logging.Logger = get_logger("ramure.actors")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9_.~:@/-]{1,200}")


class Names:
    """Unique names, as Erlang's ``register/2``: one name an actor, freed when it ends."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}

    def get(self, name: str) -> Cell | None:
        return self._cells.get(name)

    def check(self, name: object) -> None:
        """Raise unless ``name`` is well formed and free."""
        if not isinstance(name, str) or not _ALLOWED.fullmatch(name):
            raise UsageError(f"{name!r} is no name for an actor: use 1 to 200 of letters, digits and . _ - ~ : @ /")
        holder = self._cells.get(name)
        if holder is not None:
            raise NameTaken(name, holder.label)

    def register(self, name: str, cell: Cell) -> None:
        self.check(name)
        if cell.dead:
            raise ActorDied(cell.label, NOPROC)
        if cell.names:
            raise UsageError(f"{cell.label} has the name {cell.names[0]!r} already; an actor has one name at a time")
        self._cells[name] = cell
        cell.names = (name,)

    def unregister(self, name: str) -> None:
        cell = self._cells.pop(name, None)
        if cell is None:
            raise NoSuchName(name)
        cell.names = ()

    def forget(self, cell: Cell) -> None:
        for name in cell.names:
            del self._cells[name]

    def __iter__(self) -> Iterator[tuple[str, Cell]]:
        return iter(self._cells.items())


class Registry:
    """Keys that any number of actors register under, each with a value (Elixir's ``Registry`` with
    ``keys: :duplicate``). An actor's entries go when it ends."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._entries: dict[object, dict[Cell, list[object]]] = {}
        self._keys: dict[Cell, set[object]] = {}

    def register(self, key: object, ref: Ref[Any], value: object = None) -> None:
        """Add ``ref`` under ``key``. Raises :class:`ActorDied` when it is dead."""
        cell = ref._cell
        if cell.system is not self._system:
            raise UsageError(f"{ref.label} belongs to another system: it cannot be registered in {self._system!r}")
        if cell.dead:
            raise ActorDied(cell.label, NOPROC)
        self._entries.setdefault(key, {}).setdefault(cell, []).append(value)
        self._keys.setdefault(cell, set()).add(key)

    def unregister(self, key: object, ref: Ref[Any]) -> None:
        """Remove every entry of ``ref`` under ``key``."""
        cell = ref._cell
        entries = self._entries.get(key, {})
        if entries.pop(cell, None) is not None:
            self._keys[cell].discard(key)
            if not self._keys[cell]:
                del self._keys[cell]
        if not entries:
            self._entries.pop(key, None)

    def lookup(self, key: object) -> list[tuple[Ref[Any], object]]:
        """Every (ref, value) under ``key``, in order of registration of the refs."""
        return [(cell.ref, value) for cell, values in self._entries.get(key, {}).items() for value in values]

    def keys(self, ref: Ref[Any]) -> list[object]:
        """The keys that ``ref`` is registered under."""
        return list(self._keys.get(ref._cell, ()))

    def tell(self, key: object, message: object) -> int:
        """Send ``message`` to each entry under ``key``; returns to how many (a full mailbox is passed over)."""
        entries = self.lookup(key)
        delivered = 0
        for ref, _ in entries:
            try:
                ref.tell(message)
                delivered += 1
            except MailboxFull:  # the others get it all the same
                logger.warning("%s is full: no room for what was sent to all under %r", ref.label, key)
        return delivered

    def forget(self, cell: Cell) -> None:
        for key in self._keys.pop(cell, ()):
            entries = self._entries[key]
            entries.pop(cell, None)
            if not entries:
                del self._entries[key]
