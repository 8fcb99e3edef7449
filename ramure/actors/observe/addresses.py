"""How people name actors: by number, name, label or place in the tree, exactly or with a pattern.

Labels need not be unique, so what a person types can fit none, one or several; the errors say what there is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from ramure.actors.ref import Ref
from ramure.errors import UsageError

if TYPE_CHECKING:
    from ramure.actors._kernel.cell import Cell
    from ramure.actors.system import ActorSystem

__all__ = [
    "AmbiguousActor",
    "NoSuchActor",
    "find",
    "find_one",
    "forest",
    "label_of",
    "labels_to",
    "leads_to",
    "near_labels",
    "path_of",
    "selector",
]

SHOWN = 10
"""Candidates that an error lists."""


class NoSuchActor(UsageError):
    """No live actor fits. ``candidates`` are some that nearly do."""

    def __init__(self, address: str, candidates: list[str]) -> None:
        self.address = address
        self.candidates = candidates
        near = f"did you mean {' or '.join(candidates)}? " if candidates else ""
        super().__init__(f"no live actor {address!r}; {_printable(near)}`ramure tree` shows all of them")


class AmbiguousActor(UsageError):
    """Several actors fit. ``candidates`` are their numbers and places."""

    def __init__(self, address: str, candidates: list[str]) -> None:
        self.address = address
        self.candidates = candidates
        more = f" and {len(candidates) - SHOWN} more" if len(candidates) > SHOWN else ""
        listed = _printable(", ".join(candidates[:SHOWN]))
        super().__init__(f"{address!r} fits {len(candidates)} actors; say which, by number or place: {listed}{more}")


def _printable(text: str) -> str:
    """Labels are anybody's, and errors go to terminals."""
    return "".join(char if char.isprintable() else "�" for char in text)


def label_of(ref: Ref[Any]) -> str:
    """What it is called in a tree: its label, its registered name, or what it runs."""
    return _label(ref._cell)


def path_of(ref: Ref[Any]) -> str:
    """Its place in the tree: the labels of those it was started by, linked to them, and its own, with ``/`` between."""
    return _path(ref._cell)


def _label(cell: Cell) -> str:
    return cell.given_label or (cell.names[0] if cell.names else cell.kind)


def labels_to(ref: Ref[Any]) -> list[str]:
    """The labels of its ancestors and its own, outermost first; also after its end."""
    labels = []
    above: Cell | None = ref._cell
    while above is not None:
        labels.append(_label(above))
        above = above.parent
    labels.reverse()
    return labels


def _path(cell: Cell) -> str:
    return "/".join(labels_to(cell.ref))


def leads_to(address: str, path: str) -> bool:
    """True when ``address`` is ``path``, with any labels but the last left out: ``main#1/worker`` leads to
    ``run/processes/main#1/agents of main#1/worker``."""
    *above, last = address.split("/")
    *labels, end = path.split("/")
    rest = iter(labels)
    return last == end and all(label in rest for label in above)


def forest(system: ActorSystem) -> Iterator[tuple[Ref[Any], int]]:
    """Every live actor with its depth, each followed by those that were started linked to it, in order of starting.

    One whose parent has ended (it was unlinked) stands at depth 0.
    """
    below: dict[Cell, list[Cell]] = {}
    roots: list[Cell] = []
    for cell in system.cells.values():
        parent = cell.parent
        if parent is None or parent.dead:
            roots.append(cell)
        else:
            below.setdefault(parent, []).append(cell)
    waiting = [(cell, 0) for cell in reversed(roots)]
    while waiting:  # no recursion: a tree may be of any depth
        cell, depth = waiting.pop()
        yield cell.ref, depth
        waiting.extend((child, depth + 1) for child in reversed(below.get(cell, ())))


# -- finding ------------------------------------------------------------------------------------------------


def find(system: ActorSystem, address: str) -> list[Ref[Any]]:
    """The live actors that ``address`` fits, in order of starting; the first of these kinds of fit that any has:

    ``#12`` or ``12``, the number; the registered name, label or place; the end of a place (``pool/worker``); a place with
    steps left out (``main#1/worker``); a pattern with ``*``, ``?`` or ``[…]`` for any of these; the class or function that
    it runs.
    """
    cells = list(system.cells.values())
    for fits in _ways(_tidy(address)):
        found = [cell.ref for cell in cells if fits(cell)]
        if found:
            return found
    return []


def find_one(system: ActorSystem, address: str) -> Ref[Any]:
    """The one live actor that ``address`` fits. Raises :class:`NoSuchActor` or :class:`AmbiguousActor`."""
    found = find(system, address)
    if len(found) > 1:
        raise AmbiguousActor(address, [f"#{ref.id} {path_of(ref)}" for ref in found])
    if not found:
        raise NoSuchActor(address, near_labels(system, address))
    return found[0]


def selector(system: ActorSystem, address: str) -> Callable[[Ref[Any]], bool]:
    """A predicate for ``system.trace``: the actors that fit now, and those that take their places later, as after a
    restart. Raises :class:`NoSuchActor` when none does and ``address`` is no pattern."""
    address = _tidy(address)
    number = _number(address)
    found = find(system, address)
    if not found and (number is not None or not _is_pattern(address)):
        raise NoSuchActor(address, near_labels(system, address))
    if number is not None:
        return lambda ref: ref.id == number
    if _is_pattern(address) and not any(_exactly(address)(ref._cell) for ref in found):
        fits = _like(address)
        return lambda ref: fits(ref._cell)
    ids, paths = {ref.id for ref in found}, {path_of(ref) for ref in found}
    return lambda ref: ref.id in ids or _path(ref._cell) in paths


def _tidy(address: str) -> str:
    """Places in crash reports have spaces around their slashes."""
    return address.strip().replace(" / ", "/")


def _ways(address: str) -> Iterable[Callable[[Cell], bool]]:
    number = _number(address)
    if number is not None:
        yield lambda cell: cell.number == number
    yield _exactly(address)
    yield lambda cell: _path(cell).endswith(f"/{address}")
    if "/" in address:
        yield lambda cell: leads_to(address, _path(cell))
    if _is_pattern(address):
        yield _like(address)
    yield lambda cell: cell.kind == address


def _number(address: str) -> int | None:
    match = re.fullmatch(r"#?(\d{1,15})", address, re.ASCII)
    return int(match[1]) if match else None


def _is_pattern(address: str) -> bool:
    return any(sign in address for sign in "*?[")


def _exactly(address: str) -> Callable[[Cell], bool]:
    return lambda cell: address == _label(cell) or address in cell.names or address == _path(cell)


def _like(pattern: str) -> Callable[[Cell], bool]:
    fits = re.compile(translate(pattern)).match
    return lambda cell: bool(fits(_label(cell)) or any(map(fits, cell.names)) or fits(_path(cell)))


def near_labels(system: ActorSystem, address: str) -> list[str]:
    labels = {_label(cell) for cell in system.cells.values()}
    wanted = address.rsplit("/", 1)[-1].lower()
    lower = {label.lower(): label for label in labels}
    near = [lower[label] for label in difflib.get_close_matches(wanted, lower, n=3, cutoff=0.6)]
    return near or sorted(label for label in labels if wanted and wanted in label.lower())[:3]
