"""Follows the runs of one program, from outside or from a thread of its own: what ``ramure run`` and ``progress()`` show.
Blocking; imports no event loop, and rich only for a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ramure.cli.common import age, clock, cost, number, tokens
from ramure.cli.doing import SHORT
from ramure.cli.text import one_line
from ramure.runtime.control.blocking import RunClient
from ramure.runtime.control.errors import RequestFailed
from ramure.runtime.control.find import sockets

__all__ = ["EVERY", "Display", "Lines", "Seen", "Watch", "display_for", "ending"]

EVERY: Final = 0.5
"""Seconds between two looks."""

PATIENCE: Final = 1.0
"""Seconds for which an answer of a run is waited for."""

ANCESTORS: Final = 20


@dataclass
class Seen:
    """A run of the program, as it was seen last."""

    status: dict[str, Any]
    live: bool = True
    answers: bool = True
    """False while its event loop is blocked."""


class Watch:
    """Looks at the runs whose program is ``pid``, or was started by it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._clients: dict[str, RunClient] = {}
        self._others: set[str] = {path.stem for path in sockets()} if pid != os.getpid() else set()
        self.runs: dict[str, Seen] = {}
        """By their ids, in order of their start."""

    def look(self) -> None:
        """Ask each of them."""
        self._find()
        for run, client in list(self._clients.items()):
            try:
                self.runs[run] = Seen(client.request("status", timeout=PATIENCE))
            except RequestFailed as error:
                seen = self.runs.get(run)
                if error.kind == "Timeout":
                    if seen is not None:
                        seen.answers = False
                    continue
                client.close()
                del self._clients[run]
                if seen is not None:
                    self.runs[run] = ended(seen)

    def _find(self) -> None:
        for path in sockets():
            if path.stem in self._others or path.stem in self._clients or path.stem in self.runs:
                continue
            try:
                client = RunClient(path, timeout=PATIENCE)
            except OSError:
                continue  # its run is dead, or not listening yet
            if _descends(client.peer_pid(), self._pid):
                self._clients[path.stem] = client
            else:
                self._others.add(path.stem)
                client.close()

    def close(self) -> None:
        """End the connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def ended(seen: Seen) -> Seen:
    """As its logs tell it."""
    from ramure.runtime.log.reader import outline

    known = outline(Path(seen.status["log_dir"]))
    now = known["started_at"] + known["seconds"] if known["started_at"] and known["seconds"] else seen.status["now"]
    changes = {key: known[key] for key in ("outcome", "reason", "usage")}
    return Seen({**seen.status, **changes, "now": now, "agents_ended": known["agents"]}, live=False)


def _descends(pid: int, ancestor: int) -> bool:
    for _ in range(ANCESTORS):
        if pid == ancestor:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        pid = int(stat.rpartition(b")")[2].split()[1])
    return False


def ending(seen: Seen) -> str:
    """A run in a line."""
    status = seen.status
    slug = status["execution_id"].rpartition("-")[0]
    took = age(status["now"] - status["started_at"])
    outcome = status.get("outcome") or "running"
    reason = f": {one_line(status['reason'], 200)}" if status.get("reason") and outcome != "done" else ""
    agents = status["agents_ended"] + (len(status["agents"]) if seen.live else 0)
    parts = [
        f"{'1 agent' if agents == 1 else f'{agents} agents'}",
        f"tokens {tokens(status['usage'])}",
        f"cost {cost(status['usage'])}",
        f"ramure {'logs' if outcome == 'done' else 'why'} --id {slug}",
    ]
    return f"{status['execution_id']} {status['program'] or ''} {outcome} after {took}{reason} ({', '.join(parts)})"


def doing(agent: Mapping[str, Any]) -> tuple[str, str]:
    """Its state and what it does, as they are shown."""
    name = "paused" if agent["paused"] else SHORT.get(agent["state"], agent["state"])
    return name, one_line(agent.get("doing") or "", 200)


def working(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Its agents: first those that work, in order of their start."""
    agents = status["agents"]
    yield from (agent for agent in agents if agent["state"] != "idle")
    yield from (agent for agent in agents if agent["state"] == "idle")


class Display(Protocol):
    """Where it is shown."""

    def show(self, runs: Iterable[Seen]) -> None:
        """What was seen last."""

    def write(self, text: str) -> None:
        """Output of the program."""

    def close(self, runs: Iterable[Seen]) -> None:
        """The end; how the runs ended stays on the screen."""


class Lines:
    """A line on standard error for each change."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[str, str]] = {}
        self._begun: set[str] = set()

    def show(self, runs: Iterable[Seen]) -> None:
        for seen in runs:
            status = seen.status
            run = status["execution_id"]
            if run not in self._begun:
                self._begun.add(run)
                _tell(f"run {run}")
            for agent in status["agents"] if seen.live else ():
                now = doing(agent)
                if self._told.get((run, agent["address"])) != now:
                    self._told[run, agent["address"]] = now
                    _tell(f"{one_line(agent['address'], 40)} {' '.join(now).strip()}")

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def close(self, runs: Iterable[Seen]) -> None:
        for seen in runs:
            _tell(ending(seen))


def _tell(text: str) -> None:
    sys.stderr.write(f"{clock(time.time())}  {text}\n")
    sys.stderr.flush()


def display_for(*, own: bool) -> Display:
    """The live one where standard error is a terminal, else lines. ``own``: of the program that this is."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        from ramure.cli.live_table import LiveTable

        return LiveTable(own=own)
    return Lines()


def head(seen: Seen) -> list[str]:
    """A run in a few words, for the line above its agents."""
    status = seen.status
    took = age((time.time() if seen.live else status["now"]) - status["started_at"])
    counts = {state: sum(p["state"] == state for p in status["processes"]) for state in ("running", "done", "failed")}
    processes = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    agents = len(status["agents"])
    return [
        status["program"] or "",
        took if seen.answers else f"{took}, does not answer",
        f"{agents} agent{'' if agents == 1 else 's'}"
        + (f" (+{status['agents_ended']})" if status["agents_ended"] else ""),
        f"tokens {tokens(status['usage'])}",
        f"cost {cost(status['usage'])}",
        f"processes: {processes}" if len(status["processes"]) > 1 else "",
    ]


def spent(agent: Mapping[str, Any]) -> tuple[str, str]:
    """Its tokens and cost."""
    usage = agent.get("usage") or {}
    total = sum(usage.get(kind) or 0 for kind in ("input", "output", "cache_read", "cache_write"))
    return (number(total) if total else "", cost(usage) if total else "")
