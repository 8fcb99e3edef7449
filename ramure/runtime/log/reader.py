"""Finds and follows the logs of runs, also of those that have ended or died. Blocking, and quick to import."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ramure.files import open_ours
from ramure.home import ramure_home
from ramure.runtime.log.entries import LONGEST, Entry, Passed, number, parse
from ramure.runtime.log.files import entries, parts

if TYPE_CHECKING:
    from ramure.runtime.views.status_data import EndedRun, TokenUsage

__all__ = [
    "RUN_LOG",
    "LogTail",
    "RunLogs",
    "add_usage",
    "agents_of",
    "logs",
    "no_usage",
    "outline",
    "run_directories",
]

RUN_LOG: Final = "_runtime.jsonl"


def run_directories() -> list[Path]:
    """The log directory of each run in this home, the newest first."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in (ramure_home() / "logs").iterdir():
            with contextlib.suppress(OSError):
                found.append(((path / RUN_LOG).lstat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def logs(directory: Path) -> dict[str, Path]:
    """The logs of a run by name: ``_runtime``, and one for each agent."""
    return {path.name.removesuffix(".jsonl"): path for path in sorted(directory.glob("*.jsonl"))}


def agents_of(directory: Path) -> list[str]:
    """The names of the agents that have a log: their addresses, with ``@2`` … for later ones at the same address."""
    return [name for name in logs(directory) if name != "_runtime"]


class LogTail:
    """Reads a log entry by entry, and goes on where it was: across rotations, and only whole lines."""

    def __init__(self, path: Path, name: str, passed: Passed | None = None) -> None:
        self.path = path
        self.name = name
        self.passed: Passed = Passed() if passed is None else passed
        self._too_long = False
        self._file: Any = None
        self._rest = b""
        self._read_parts = 0

    def entries(self) -> Iterator[Entry]:
        """What has come since the last time; every entry has ``"log"``, the log's name."""
        while True:
            if self._file is None and not self._open():
                return
            yield from self._whole_lines()
            if not self._rotated():
                return
            yield from self._whole_lines()  # what came before it was renamed
            self._file.close()
            self._file = None
            self._read_parts += 1

    def _open(self) -> bool:
        """Open the part to read next: the oldest that was not read, and is a file of this user's."""
        for part in parts(self.path):
            if part == self.path or int(part.suffix[1:]) > self._read_parts:
                try:
                    self._file = open(open_ours(part), "rb")  # noqa: SIM115
                    self._rest = b""
                except FileNotFoundError:
                    return False  # it is being rotated just now
                except OSError as error:
                    self.passed.files[str(part)] = str(error)
                    continue
                return True
        return False

    def _rotated(self) -> bool:
        """Whether the file that is open is no longer the log's newest part."""
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), self.path.lstat())
        except OSError:
            return False

    def _whole_lines(self) -> Iterator[Entry]:
        while data := self._file.read(1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                entry = None if self._too_long else parse(line)
                self._too_long = False
                if entry is None:
                    self.passed.lines += 1
                    continue
                entry["log"] = self.name
                yield entry
            if len(self._rest) > LONGEST:
                self._rest, self._too_long = b"", True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class RunLogs:
    """The logs of a run and its agents, or those of one agent, read as one: filtered, in the order of time."""

    def __init__(
        self, directory: Path, agent: str | None = None, *, since: float | None = None, types: Collection[str] = ()
    ) -> None:
        self._directory = directory
        self._agent = agent
        self._since = since
        self._types = types
        self._tails: dict[str, LogTail] = {}
        self.passed: Passed = Passed()
        """What was passed over until now."""

    def known(self) -> bool:
        """Whether there is any log: of an agent's address nobody may have heard."""
        self._look()
        return bool(self._tails)

    def news(self) -> list[Entry]:
        """What has come since the last time."""
        self._look()
        return sorted(
            (entry for tail in self._tails.values() for entry in tail.entries() if self._wanted(entry)), key=_at
        )

    def _look(self) -> None:
        """An agent's log comes with the agent, and one ``@2`` with a later agent of its address."""
        for name, path in logs(self._directory).items():
            own = self._agent is None or name == self._agent or name.startswith(f"{self._agent}@")
            if own and name not in self._tails:
                self._tails[name] = LogTail(path, name, self.passed)

    def _wanted(self, entry: Entry) -> bool:
        if self._since is not None and _at(entry) < self._since:
            return False
        return not self._types or entry.get("type") in self._types

    def close(self) -> None:
        """Close the files."""
        for tail in self._tails.values():
            tail.close()


def _at(entry: Entry) -> float:
    return number(entry.get("ts")) or 0.0


# -- a run in a few lines -------------------------------------------------------------------------------------


OUTCOMES: Final = ("done", "failed", "cancelled")


def outline(directory: Path) -> EndedRun:
    """A run that is not live, for ``ramure ls --all``: outcome, duration, tokens, cost. The outcome of one that never
    said that it ended (it was killed) is ``died``. ``passed_over`` says what in its logs could not be read, or None."""
    run_log = directory / RUN_LOG
    passed = Passed()
    first = next(entries(run_log, passed), {})
    passed = Passed(files=passed.files)  # lines are counted where all of them are read
    last = _last(run_log, passed)
    ending = last if last.get("type") == "run_ended" else {}
    started, ended = _at(first) or None, _at(last) or None
    agents = number(ending.get("agents"))
    return {
        "execution_id": directory.name,
        "program": _text(ending.get("program")),
        "outcome": ending["outcome"] if ending.get("outcome") in OUTCOMES else "died",
        "reason": _text(ending.get("reason")),
        "started_at": started,
        "seconds": max(0.0, ended - started) if ended is not None and started is not None else None,
        "agents": int(agents) if agents is not None else len(agents_of(directory)),
        "usage": _usage(ending["usage"], passed) if "usage" in ending else _usage_in_logs(directory, passed),
        "log_dir": str(directory),
        "passed_over": str(passed) if passed else None,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _last(path: Path, passed: Passed) -> Entry:
    """The last whole entry."""
    try:
        descriptor = open_ours(path)
    except OSError as error:
        passed.files[str(path)] = str(error)
        return {}
    with open(descriptor, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        back = 1 << 13
        while True:
            file.seek(max(0, size - back))
            for line in reversed(file.read().split(b"\n")[0 if back >= size else 1 :]):
                entry = parse(line)
                if entry is not None:
                    return entry
            if back >= size or back > LONGEST:
                return {}
            back *= 8


_REPORTED: Final = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheWrite": "cache_write"}
_OURS: Final = tuple(_REPORTED.values())


def _usage_in_logs(directory: Path, passed: Passed) -> TokenUsage:
    total: Any = no_usage()
    for name, path in logs(directory).items():
        for entry in entries(path, passed) if name != "_runtime" else ():
            data = entry.get("data")
            if entry.get("type") == "assistant" and isinstance(data, dict):
                add_usage(total, data, passed)
    counted: TokenUsage = total
    return counted


def no_usage() -> TokenUsage:
    """Of whoever has used nothing yet."""
    return {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0, "cost": 0.0}


def add_usage(total: Any, reply: dict[str, Any], passed: Passed) -> None:
    """Add what pi says of a reply of the model."""
    used = reply.get("usage")
    if used is None:
        return
    cost = used.get("cost") if isinstance(used, dict) else None
    renamed = {ours: used.get(theirs) for theirs, ours in _REPORTED.items()} if isinstance(used, dict) else used
    if isinstance(renamed, dict):
        renamed["cost"] = cost.get("total") if isinstance(cost, dict) else None
    for kind, amount in _usage(renamed, passed).items():
        total[kind] += amount


def _usage(reported: object, passed: Passed) -> TokenUsage:
    """Tokens and cost. What is no amount counts as nothing, and is passed over."""
    given = reported if isinstance(reported, dict) else {}
    amounts: dict[str, Any] = {kind: _amount(given.get(kind)) for kind in (*_OURS, "cost")}
    if not isinstance(reported, dict) or None in amounts.values():
        passed.lines += 1
    tokens = {kind: int(amounts[kind] or 0) for kind in _OURS}
    used: Any = {**tokens, "cost": amounts["cost"] or 0.0}
    counted: TokenUsage = used
    return counted


def _amount(value: object) -> float | None:
    if value is None:
        return 0.0
    amount = number(value)
    return amount if amount is not None and 0 <= amount < 1e15 else None
