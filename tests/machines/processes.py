"""Which processes of a machine live: seen from this host where that can be, else by the machine itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ramure.machines.base import Machine

if TYPE_CHECKING:
    from tests.machines.conftest import Row

__all__ = ["alive", "still_there"]

STILL_THERE = """
for pid in {pids}; do
    read -r stat 2>/dev/null < /proc/$pid/stat || continue
    case ${{stat##*) }} in [ZX]*) ;; *) echo $pid ;; esac
done"""


def alive(pid: int) -> bool:
    """Whether a process of this host lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def still_there(machine: Machine, row: Row, pids: Sequence[int]) -> list[int]:
    """Which of these processes live."""
    if row.here:
        return [pid for pid in pids if alive(pid)]
    listing = await machine.exec(STILL_THERE.format(pids=" ".join(map(str, pids))))
    return [int(pid) for pid in listing.stdout.split()]
