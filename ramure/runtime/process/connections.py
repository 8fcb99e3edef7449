"""``connect``: two agents that may message each other and exchange files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from ramure.agents.requests import AddPeer
from ramure.agents.tools.builtin import WORKDIR, Peer
from ramure.errors import ActorDied
from ramure.exits import NOPROC
from ramure.runtime.process.eager import Answer, Eager
from ramure.runtime.run.statistics import Connection

if TYPE_CHECKING:
    from ramure.runtime.process.record import AgentRecord, ProcessRecord

__all__ = ["connect_agents"]


def connect_agents(
    caller: ProcessRecord, one: AgentRecord, other: AgentRecord, direction: Literal["both", "forward"], files: str
) -> Eager:
    """Let ``one`` reach ``other``, or both each other. It fails with ToolExists or AgentDied."""
    system = caller.run.system
    act = Eager(system, caller, "connect()")
    system.on_loop(_connect, caller, Connection(one, other, direction, files), act.answer)
    return act


def _connect(caller: ProcessRecord, made: Connection, answer: Answer) -> None:
    one, other = made.one, made.other
    for each in (one, other):
        if each.ref is None or each.machine is None or not each.ref.is_alive():
            answer.set_exception(each.gone(NOPROC))
            return
    asked = [_introduce(one, other, True, made.files), _introduce(other, one, made.direction == "both", made.files)]
    left = len(asked)

    def came(request: asyncio.Future[Any]) -> None:
        nonlocal left
        left -= 1
        if not left:
            _connected(caller, made, asked, answer)

    for request in asked:
        request.add_done_callback(came)


def _introduce(agent: AgentRecord, peer: AgentRecord, reachable: bool, files: str) -> asyncio.Future[Any]:
    """Tell ``agent`` of ``peer``, now: what the program sends it after this comes after this."""
    assert agent.ref is not None
    assert peer.ref is not None
    assert peer.machine is not None
    return agent.ref.request(AddPeer(Peer(peer.name, peer.address, peer.ref, peer.machine, reachable, files)))


def _connected(caller: ProcessRecord, made: Connection, asked: list[asyncio.Future[Any]], answer: Answer) -> None:
    for agent, request in zip((made.one, made.other), asked, strict=True):
        error = request.exception()
        if error is not None:
            answer.set_exception(agent.gone(error.reason) if isinstance(error, ActorDied) else error)
            return
    caller.run.statistics.connections.append(made)
    names = {"one": made.one.address, "other": made.other.address}
    passes = {"files": made.files} if made.files != WORKDIR else {}
    caller.run.log("connected", {**names, "direction": made.direction, **passes})
    answer.set_result(None)
