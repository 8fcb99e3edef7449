"""What machines made outside this program (directories, mounts, containers), written down, so that it can be removed
when this program and the reaper are both gone: after ``kill -9`` of both, or a power cut. Blocking functions.

A lease is a file in ``$RAMURE_HOME/machines``. It is data: a kind, and the fields of that kind. What is done about a
kind stands in the program that reads it (:mod:`ramure.machines.reaper.undo`), never in the file. It names its program, whose
lock says whether that lives (:mod:`ramure.life`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ramure.files import open_ours, read_json
from ramure.home import private_dir, ramure_home
from ramure.life import Life, Program, hold
from ramure.machines.errors import MachineError

__all__ = ["Lease", "Stale", "paths", "programs", "remove_stale", "stale", "take"]

UNDO_LIMIT: Final = 60.0

LONGEST: Final = 1 << 20
"""Bytes of a lease."""


class Lease:
    """A lease that this program holds."""

    def __init__(self, path: Path, content: dict[str, Any], life: Life) -> None:
        self.path = path
        self._content = content
        self._life: Life | None = life

    def release(self) -> None:
        """What it stood for is gone. Harmless when repeated."""
        if self._life is not None:
            self.path.unlink(missing_ok=True)
            self._let_go()

    def leave(self) -> None:
        """What it stands for could not be removed, and this program tries no more: `ramure gc` may, at once."""
        if self._life is not None:
            with contextlib.suppress(OSError):  # no room: then gc may when this program has ended
                _write(self.path, {**self._content, "program": None})
            self._let_go()

    def _let_go(self) -> None:
        if self._life is not None:
            self._life.drop()
            self._life = None


@dataclass(frozen=True, slots=True)
class Stale:
    """A lease whose program is dead. ``what`` is for people; ``run`` is the run's id, if it was in one. ``unread``
    says why the file could not be read, where that is so: then nothing else is known."""

    what: str
    run: str
    kind: str
    fields: Mapping[str, Any]
    path: Path
    unread: str = ""


def take(identity: str, what: str, kind: str, fields: Mapping[str, Any], *, run: str = "") -> Lease:
    """Write down that ``what`` is made, and what is to be known to undo it."""
    home = ramure_home()
    directory = private_dir(home / "machines")
    life = hold(home)
    try:
        content = {"what": what, "run": run, "kind": kind, "fields": dict(fields), "program": life.program.as_dict()}
        target = directory / f"{identity}.json"
        _write(target, content)
    except BaseException:
        life.drop()
        raise
    return Lease(target, content, life)


def _write(target: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, also after a power cut."""
    new = target.with_name(f".{target.stem}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = open_ours(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with open(descriptor, "wb") as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(descriptor)
        new.rename(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def stale(home: Path | None = None) -> list[Stale]:
    """The leases of dead programs, for a listing; nothing is changed."""
    home = home or ramure_home()
    return [lease for path in _files(home) if (lease := _abandoned(path, home)) is not None]


def remove_stale(
    home: Path | None = None, in_use: Callable[[Stale], str] = lambda lease: ""
) -> tuple[list[Stale], list[tuple[Stale, str]]]:
    """Undo what dead programs left: what was removed, and what could not be, with the reason (its lease stays).

    ``in_use`` says why one must not be undone now; "" if it may.
    """
    from ramure.machines.reaper.undo import UNDO  # which knows all kinds of machines, and these take leases

    removed, refused = [], []
    for lease in stale(home):
        why = lease.unread
        if why:
            refused.append((lease, f"{why}; look for what it may have been, then delete the file"))
            continue
        if lease.kind not in UNDO:
            why = f"its lease {lease.path} is of a kind {lease.kind!r} that this version does not know"
            refused.append((lease, f"{why}; use the version that made it, or remove it yourself and delete the file"))
            continue
        if why := in_use(lease):
            refused.append((lease, why))
            continue
        try:
            UNDO[lease.kind](lease.fields)
            lease.path.unlink(missing_ok=True)
        except (KeyError, TypeError, ValueError) as error:
            refused.append(
                (lease, f"its lease {lease.path} is wrong: {type(error).__name__}: {error}; delete the file")
            )
        except MachineError as error:
            refused.append((lease, str(error)))
        except Exception as error:  # whatever it is, the others are seen to
            refused.append((lease, f"{type(error).__name__}: {error}"))
        else:
            removed.append(lease)
    return removed, refused


def programs(home: Path) -> set[str]:
    """The names of the locks of the programs that leases name."""
    found = set()
    for path in _files(home):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            found.add(Program.read(read_json(path, LONGEST)["program"]).lock)
    return found


def paths(home: Path) -> set[str]:
    """The directories that leases name, of programs that live or not."""
    found = set()
    for path in _files(home):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            found.add(str(read_json(path, LONGEST)["fields"]["path"]))
    return found


def _files(home: Path) -> list[Path]:
    try:
        return sorted((home / "machines").glob("*.json"))
    except OSError:
        return []


def _abandoned(path: Path, home: Path) -> Stale | None:
    """What a lease says; None for a program's that lives, or of which only its own host can tell."""
    try:
        content = read_json(path, LONGEST)
        program = content["program"]
        texts = content["what"], content["run"], content["kind"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(content["fields"], dict):
            raise ValueError("its fields are of other types")
        if program is None or Program.read(program).state(home) == "dead":
            return Stale(*texts, content["fields"], path)
    except FileNotFoundError:  # its owner has just released it
        return None
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        said = f"this lease cannot be read: {type(error).__name__}: {error}"
        return Stale(f"something, by the lease {path}", "", "", {}, path, said)
    return None
