"""Directories that this program makes in the temporary directory, and removes. Blocking functions.

Each is recorded when it is made, with its identity, in a lease outside of it; it is removed by that record alone
(:mod:`ramure.machines.reaper.removal`). What is at its path and is not it stays.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ramure.machines.errors import NotRemoved
from ramure.machines.reaper import leases
from ramure.machines.reaper.removal import Identity, Refused, identify, same
from ramure.machines.reaper.removal import remove_tree as remove_identified
from ramure.marks import marked_prefix, marked_run

__all__ = ["adopted", "make", "read_identity", "record_of", "remove_identified", "remove_recorded", "remove_tree"]


@dataclass(frozen=True, slots=True)
class _Made:
    identity: Identity
    lease: leases.Lease | None


_made: dict[str, _Made] = {}


def make(
    identity: str, what: str, kind: str = "directory", prepare: Callable[[str], Mapping[str, Any]] = lambda path: {}
) -> str:
    """A new directory of mode 0700 for the machine ``identity``. ``what`` and ``kind``: of its lease. ``prepare`` is
    called with the path, and returns further fields of the lease."""
    path = tempfile.mkdtemp(prefix=marked_prefix(identity))
    known = identify(path)
    try:
        content = {"path": path, "identity": known, "machine": identity, **prepare(path)}
        lease = leases.take(os.path.basename(path), f"{what} {path}", kind, content, run=marked_run())
    except BaseException:
        with contextlib.suppress(Refused):
            remove_identified(path, known)
        raise
    _made[path] = _Made(known, lease)
    return path


def record_of(path: str) -> tuple[Identity, str] | None:
    """The identity of a directory that was made here, and the file of its lease."""
    made = _made.get(path)
    return None if made is None else (made.identity, str(made.lease.path) if made.lease else "")


def remove_tree(path: str) -> None:
    """Remove a directory that :func:`make` made, with all in it, and its lease. Harmless when it is gone.

    Raises :class:`NotRemoved` when it stays; then the lease does too, for ``ramure gc``.
    """
    made = _made.pop(path, None)
    if made is None:
        if os.path.lexists(path):
            raise NotRemoved(path, "it is not recorded as made by this program", "look at it, and remove it yourself")
        return
    try:
        remove_recorded(path, made.identity)
    except NotRemoved:
        if made.lease is not None:
            made.lease.leave()
        raise
    if made.lease is not None:
        made.lease.release()


def remove_recorded(path: str, identity: Identity) -> bool:
    """Remove the directory that has this identity; whether it was there. Raises :class:`NotRemoved`."""
    try:
        return remove_identified(path, identity)
    except Refused as refused:
        raise NotRemoved(refused.place, refused.why, refused.remedy) from refused


@contextlib.contextmanager
def adopted(fields: Mapping[str, Any]) -> Iterator[str]:
    """The path of a directory that a dead program made, by the fields of its lease; :func:`remove_tree` removes it in
    this block. Raises :class:`NotRemoved` when another directory is there, and ValueError for fields that are wrong."""
    path, identity = fields["path"], read_identity(fields["identity"])
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise ValueError(f"no path: {str(path)[:100]!r}")
    with contextlib.suppress(FileNotFoundError):
        try:
            there = same(identity, identify(path))
        except NotADirectoryError:
            there = False
        if not there:
            raise NotRemoved(
                path, "it is not the directory that was made here", "look at it, and remove it and its lease yourself"
            )
    _made[path] = _Made(identity, None)
    try:
        yield path
    finally:
        _made.pop(path, None)


def read_identity(data: object) -> Identity:
    """The identity in a lease. Raises ValueError when it is none."""
    if not isinstance(data, dict) or set(data) != {"inode", "device", "born", "boot"}:
        raise ValueError(f"no identity of a directory: {str(data)[:100]}")
    numbers = [data["inode"], data["device"], data["born"] if data["born"] is not None else 0]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"no identity of a directory: {str(data)[:100]}")
    if not isinstance(data["boot"], str):
        raise ValueError(f"no identity of a directory: {str(data)[:100]}")
    return data
