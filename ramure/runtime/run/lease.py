"""A run's lease: the file that says which program holds the run, and what is the run's on disk.

It is written before anything else is made, and removed when all of that is gone. A lease whose program is dead belongs to
a run that was killed: ``ramure gc`` and the next run's start remove what it left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.files import open_ours, read_json
from ramure.life import Program
from ramure.machines.reaper.directories import read_identity
from ramure.machines.reaper.removal import Identity

__all__ = ["Lease", "Unreadable", "leases", "write_lease"]

LONGEST: Final = 1 << 20
"""Bytes of a lease."""

_PATHS: Final = ("logs", "scratch", "socket", "temporary")


@dataclass(frozen=True, slots=True)
class Lease:
    """What a run has on disk. ``scratch`` is its private directory, once made the one with ``scratch_identity``;
    ``temporary`` is the directory in which the run's temporary directories are."""

    execution_id: str
    program: Program
    logs: str
    scratch: str
    socket: str
    temporary: str
    scratch_identity: Identity | None = None

    @property
    def pid(self) -> int:
        """Of its program."""
        return self.program.pid

    @classmethod
    def read(cls, data: object, execution_id: str) -> Lease:
        """From a file of this name. Raises ValueError when it is none."""
        if not isinstance(data, Mapping) or set(data) != set(cls.__slots__):
            raise ValueError("it does not have the fields of a lease")
        if data["execution_id"] != execution_id:
            raise ValueError("it is another run's")
        for name in _PATHS:
            path = data[name]
            if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path or len(path) > 4096:
                raise ValueError(f"{name} is no path: {str(path)[:100]!r}")
        if os.path.basename(data["logs"]) != execution_id or not data["scratch"].endswith(execution_id):
            raise ValueError("its directories are another run's")
        identity = data["scratch_identity"]
        return cls(
            execution_id,
            Program.read(data["program"]),
            **{name: data[name] for name in _PATHS},
            scratch_identity=None if identity is None else read_identity(identity),
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file where a lease is expected, which is none."""

    path: Path
    why: str


def write_lease(path: Path, lease: Lease) -> None:
    """Write it to its file, whole or not at all: others read it at any time."""
    new = path.with_name(f".{path.stem}.new")
    new.unlink(missing_ok=True)
    content: dict[str, Any] = {name: getattr(lease, name) for name in Lease.__slots__}
    content["program"] = lease.program.as_dict()
    try:
        with open(open_ours(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as file:
            json.dump(content, file)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def leases(runtimes: Path) -> tuple[list[tuple[Path, Lease]], list[Unreadable]]:
    """The leases in a home's ``runtimes``, with their files, and the files that are none."""
    found, unreadable = [], []
    for path in sorted(runtimes.glob("*.json")) if runtimes.is_dir() else []:
        try:
            found.append((path, Lease.read(read_json(path, LONGEST), path.stem)))
        except FileNotFoundError:
            continue  # its run has just ended
        except (OSError, ValueError, RecursionError) as error:
            unreadable.append(Unreadable(path, f"{type(error).__name__}: {error}"))
    return found, unreadable
