"""A restart that loses a task: a worker takes a task off the list and then fails; its next life takes another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ramure import Backoff, agent, agent_process, child, done, supervise, wait
from tests.simulation.planted.models import diligent, task_of


@dataclass
class Board:
    open: list[str]
    finished: list[str] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)


@agent_process
async def do(task: str) -> str:
    worker = await agent("worker", restart="temporary")

    @worker.on("finish")
    async def finish(summary: str) -> str:
        """Hand in the result."""
        done(summary)
        return "Recorded."

    await worker.send(f"Task: {task}\nDo it, then call finish.")
    return await wait(str)


@agent_process
async def forgetful(board: Board, name: str) -> None:
    while board.open:
        task = board.open.pop(0)
        board.finished.append(await do(task))


@agent_process
async def faithful(board: Board, name: str) -> None:
    while name in board.taken or board.open:
        task = board.taken[name] = board.taken[name] if name in board.taken else board.open.pop(0)
        board.finished.append(await do(task))
        del board.taken[name]


@agent_process
async def planted(board: Board) -> int:
    children = [child(forgetful, board, name, id=name) for name in ("ann", "bob")]
    await (await supervise(*children, max_restarts=20, within=600, backoff=Backoff(first=1)))
    return len(board.finished)


@agent_process
async def mended(board: Board) -> int:
    children = [child(faithful, board, name, id=name) for name in ("ann", "bob")]
    await (await supervise(*children, max_restarts=20, within=600, backoff=Backoff(first=1)))
    return len(board.finished)


FOUND = "finished: ['"
"""What its story says."""

ARGS = (Board(open=["a", "b", "c", "d"]),)
model = diligent("finish", lambda conversation: {"summary": task_of(conversation)})


def at_end(run: Any) -> None:
    if run.succeeded:
        assert sorted(run.args[0].finished) == ["a", "b", "c", "d"], f"finished: {run.args[0].finished}"
