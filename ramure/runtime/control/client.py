"""``ramure.attach``: a live run, from another program or the same one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ramure.runtime.control.actor_calls import ActorCalls
from ramure.runtime.control.connection import Connection
from ramure.runtime.control.find import choose, sockets
from ramure.runtime.control.run_calls import RunCalls

__all__ = ["AttachedRun", "attach"]


class AttachedRun(RunCalls, ActorCalls):
    """A live run, seen from outside. Its methods raise :class:`RequestFailed` for what the run refuses, and
    :class:`RunGone` when it has ended."""

    @property
    def execution_id(self) -> str:
        """The run's id."""
        return self._connection.execution_id

    async def wait(self) -> None:
        """Return when the run has ended."""
        await self._connection.wait_ended()


@asynccontextmanager
async def attach(run: str | None = None) -> AsyncIterator[AttachedRun]:
    """Attach to a live run: ``async with ramure.attach("brave-otter") as run: …``.

    ``run``: the id, or a beginning of it, such as its two words; without one, the only live run. Entering raises
    :class:`NoSuchRun`, or :class:`AmbiguousRun` where several fit. Leaving ends what is under way here, and
    nothing in the run.
    """
    connection = await _connect(run)
    try:
        yield AttachedRun(connection)
    finally:
        await connection.close()


async def _connect(wanted: str | None) -> Connection:
    live: dict[str, Connection] = {}
    try:
        for path in sockets():
            try:
                live[path.stem] = await Connection.open(path)
            except OSError:
                continue  # its run is dead
        return live.pop(choose(wanted, list(live)))
    finally:
        for other in live.values():
            await other.close()
