"""What ``top`` shows: the busiest actors, the longest mailboxes, the agents that use most tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ramure.agents.agent import AgentActor
from ramure.runtime.actor_views import actor_rows

if TYPE_CHECKING:
    from ramure.actors.sampling import Sample
    from ramure.agents.requests import Usage
    from ramure.runtime.record import AgentRecord
    from ramure.runtime.run import Run

__all__ = ["TopView"]


class TopView:
    """Turns samples into what is shown, ``most`` of each sort."""

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self._most = most
        self._spent = {address: _tokens(made.usage) for address, made in run.agents.items()}

    def fields(self, sample: Sample) -> dict[str, Any]:
        """As plain data. On the system's loop."""
        rows = actor_rows(self._run.system)
        by_id = {row.id: row for row in rows}
        busiest = sorted(sample.work.items(), key=lambda item: (-item[1].busy, -item[1].handled, item[0]))
        longest = sorted((row for row in rows if row.mailbox), key=lambda row: -row.mailbox)
        agents = [self._agent(address, made, sample.seconds) for address, made in self._run.agents.items()]
        agents.sort(key=lambda agent: (-float(agent["tokens_per_minute"]), -int(agent["tokens"])))
        return {
            "execution_id": self._run.execution_id,
            "at": self._run.system.clock.wall(),
            "seconds": sample.seconds,
            "loop": sample.loop,
            "actors": len(rows),
            "waiting": sum(row.mailbox for row in rows),
            "busiest": [
                {**asdict(by_id[number]), "busy": work.busy, "handled_per_second": work.handled}
                for number, work in busiest[: self._most]
                if number in by_id
            ],
            "longest_mailboxes": [asdict(row) for row in longest[: self._most]],
            "agents": agents[: self._most],
        }

    def _agent(self, address: str, made: AgentRecord, seconds: float) -> dict[str, Any]:
        tokens = _tokens(made.usage)
        before, self._spent[address] = self._spent.get(address, 0), tokens
        actor = getattr(made.ref._cell, "actor", None) if made.ref is not None else None
        return {
            "address": address,
            "state": actor.state if isinstance(actor, AgentActor) else "provisioning",
            "tokens": tokens,
            "tokens_per_minute": (tokens - before) / seconds * 60,
            "cost": made.usage.cost,
        }


def _tokens(usage: Usage) -> int:
    return usage.input + usage.output + usage.cache_read + usage.cache_write
