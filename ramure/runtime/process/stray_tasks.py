"""Tasks that a process's code created itself, and left pending at its end: one warning names them.

They are not ended: a program may have its reasons. They can do nothing in the process any more, though.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ramure.runtime.stalls.carriers import owner_of_task

if TYPE_CHECKING:
    from ramure.runtime.process.record import ProcessRecord
    from ramure.runtime.run.run import Run

__all__ = ["StrayTasks"]

PASS: Final = 64
"""Tasks for each process that has ended that are looked at without waiting for more ends."""

GATHER: Final = 0.05
"""Seconds for which ends are gathered where there are more tasks than that."""


class StrayTasks:
    """Looks, in one pass for all the processes that have just ended: a pass goes over all tasks of the loop."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ended: set[ProcessRecord] = set()
        self._tasks = 0  # of the loop, when we looked last

    def look_for(self, record: ProcessRecord) -> None:
        """``record``'s process is at its end. What ends in the loop's next two turns has ended with it."""
        if not self._ended:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._soon)
        self._ended.add(record)

    def _soon(self) -> None:
        """Look now, or where a pass is long for the few that have ended, with those that end in the next moment: a
        thousand processes that end one by one do not make a thousand passes over each other's tasks."""
        if self._tasks > PASS * len(self._ended):
            asyncio.get_running_loop().call_later(GATHER, self.report)
        else:
            self.report()

    def report(self) -> None:
        """Look now, and warn once for each process."""
        ended, self._ended = self._ended, set()
        if not ended:
            return
        left: dict[ProcessRecord, list[str]] = {}
        tasks = asyncio.all_tasks()
        self._tasks = len(tasks)
        for task in tasks - self._run.system.tasks:
            record = owner_of_task(task)
            if record in ended:
                left.setdefault(record, []).append(task.get_name())
        for record, names in left.items():
            self._run.warn(
                record.path,
                f"{record.label} ended and left tasks of its own pending: {', '.join(sorted(names))}; "
                "await them, or start them with start_task()",
            )
