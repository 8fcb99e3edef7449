"""Finds and follows the logs of runs, also of those that have ended or died. Blocking, and quick to import."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from ramure.home import ramure_home
from ramure.runtime.log_files import entries, parts

__all__ = ["RUN_LOG", "LogTail", "RunLogs", "agents_of", "logs", "outline", "run_directories"]

RUN_LOG: Final = "_runtime.jsonl"
LONGEST: Final = 32 << 20
"""Bytes of a line that a reader keeps: an agent's message is 16 MiB at most."""

Entry = dict[str, Any]


def run_directories() -> list[Path]:
    """The log directory of each run in this home, the newest first."""
    place = ramure_home() / "logs"
    found = [path for path in place.iterdir() if (path / RUN_LOG).exists()] if place.is_dir() else []
    return sorted(found, key=lambda path: (path / RUN_LOG).stat().st_mtime, reverse=True)


def logs(directory: Path) -> dict[str, Path]:
    """The logs of a run by name: ``_runtime``, and one for each agent."""
    return {path.name.removesuffix(".jsonl"): path for path in sorted(directory.glob("*.jsonl"))}


def agents_of(directory: Path) -> list[str]:
    """The names of the agents that have a log: their addresses, with ``@2`` … for later ones at the same address."""
    return [name for name in logs(directory) if name != "_runtime"]


class LogTail:
    """Reads a log entry by entry, and goes on where it was: across rotations, and only whole lines."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
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
        """The part to read next: the oldest that was not read."""
        for part in parts(self.path):
            if part == self.path or int(part.suffix[1:]) > self._read_parts:
                try:
                    self._file = part.open("rb")
                except FileNotFoundError:
                    return False  # it is being rotated just now
                return True
        return False

    def _rotated(self) -> bool:
        """Whether the file that is open is no longer the log's newest part."""
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _whole_lines(self) -> Iterator[Entry]:
        while data := self._file.read(1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                entry = _entry(line)
                if entry is not None:
                    entry["log"] = self.name
                    yield entry
            if len(self._rest) > LONGEST:
                self._rest = b""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _entry(line: bytes) -> Entry | None:
    """None for what is no entry: a power cut can leave zeros, a full disk half a line."""
    try:
        entry = json.loads(line.decode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


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
                self._tails[name] = LogTail(path, name)

    def _wanted(self, entry: Entry) -> bool:
        if self._since is not None and _at(entry) < self._since:
            return False
        return not self._types or entry.get("type") in self._types

    def close(self) -> None:
        """Close the files."""
        for tail in self._tails.values():
            tail.close()


def _at(entry: Entry) -> float:
    at = entry.get("ts")
    return at if isinstance(at, int | float) else 0.0


# -- a run in a few lines -------------------------------------------------------------------------------------


def outline(directory: Path) -> dict[str, Any]:
    """A run that is not live, for ``ramure ls --all``: outcome, duration, tokens, cost. The outcome of one that never
    said that it ended (it was killed) is ``died``."""
    run_log = directory / RUN_LOG
    first, last = _first(parts(run_log)[0]), _last(run_log)
    started = _at(first) or None
    usage = last.get("usage") if last.get("type") == "run_ended" else _usage_in_logs(directory)
    ended = _at(last) or None
    return {
        "execution_id": directory.name,
        "program": last.get("program") if last.get("type") == "run_ended" else None,
        "outcome": last.get("outcome", "died") if last.get("type") == "run_ended" else "died",
        "reason": last.get("reason") if last.get("type") == "run_ended" else None,
        "started_at": started,
        "seconds": max(0.0, ended - started) if ended is not None and started is not None else None,
        "agents": last.get("agents") if last.get("type") == "run_ended" else len(agents_of(directory)),
        "usage": usage,
        "log_dir": str(directory),
    }


def _first(path: Path) -> Entry:
    with path.open("rb") as file:
        return _entry(file.readline(1 << 20)) or {}


def _last(path: Path) -> Entry:
    """The last whole entry."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        back = 1 << 13
        while True:
            file.seek(max(0, size - back))
            for line in reversed(file.read().split(b"\n")[0 if back >= size else 1 :]):
                entry = _entry(line)
                if entry is not None:
                    return entry
            if back >= size:
                return {}
            back *= 8


_USAGE: Final = {"input": "input", "output": "output", "cacheRead": "cache_read", "cacheWrite": "cache_write"}


def _usage_in_logs(directory: Path) -> dict[str, Any]:
    total: dict[str, Any] = {**dict.fromkeys(_USAGE.values(), 0), "cost": 0.0}
    for name, path in logs(directory).items():
        if name == "_runtime":
            continue
        for entry in entries(path):
            data = entry.get("data")
            used = data.get("usage") if entry.get("type") == "assistant" and isinstance(data, dict) else None
            if isinstance(used, dict):
                for reported, ours in _USAGE.items():
                    total[ours] += int(used.get(reported) or 0)
                cost = used.get("cost")
                total["cost"] += float(cost.get("total") or 0.0) if isinstance(cost, dict) else 0.0
    return total
