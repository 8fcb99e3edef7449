"""What ``top`` shows: the busiest actors, the longest mailboxes, the agents that use most tokens."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ramure.agents.work import AT_WORK
from ramure.runtime.control.answers import TopAgent, TopView, as_plain
from ramure.runtime.views.actor_data import BusyActor
from ramure.runtime.views.actor_views import actor_rows
from ramure.runtime.views.status import agent_actor, agent_state

if TYPE_CHECKING:
    from ramure.actors.observe.sampling import Sample
    from ramure.agents.agent import AgentActor
    from ramure.runtime.process.record import AgentRecord
    from ramure.runtime.run.run import Run
    from ramure.runtime.views.actor_data import ActorRow

__all__ = ["TopWatch"]


class TopWatch:
    """Turns samples into what is shown, ``most`` of each sort."""

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self._most = most
        self._at, self._worked = self._look()

    def fields(self, sample: Sample) -> TopView:
        """As plain data. On the system's loop."""
        rows = actor_rows(self._run.system)
        by_id = {row.id: row for row in rows}
        agents = self._agents()
        work = {number: (done.busy, done.handled) for number, done in sample.work.items()}
        for agent in agents:  # its model works: to the kernel, its actor only waits
            if agent["busy"] and (number := agent["id"]) is not None:
                share, handled = work.get(number, (0.0, 0.0))
                work[number] = max(share, agent["busy"]), handled
        works = {agent["id"] for agent in agents if agent["state"] in AT_WORK}
        busiest = sorted(work.items(), key=lambda item: (-item[1][0], -item[1][1], item[0]))
        longest = sorted((row for row in rows if row.mailbox), key=lambda row: -row.mailbox)
        agents.sort(key=lambda agent: (-agent["tokens_per_minute"], -agent["tokens"]))
        return {
            "execution_id": self._run.execution_id,
            "at": self._run.system.clock.wall(),
            "seconds": sample.seconds,
            "loop": sample.loop,
            "actors": len(rows),
            "waiting": sum(row.mailbox for row in rows),
            "busiest": [
                as_plain(BusyActor(**asdict(_row(by_id[number], works)), busy=share, handled_per_second=handled))
                for number, (share, handled) in busiest[: self._most]
                if number in by_id
            ],
            "longest_mailboxes": [as_plain(row) for row in longest[: self._most]],
            "agents": agents[: self._most],
        }

    def _agents(self) -> list[TopAgent]:
        before, worked = self._at, self._worked
        self._at, self._worked = self._look()
        seconds = max(self._at - before, 1e-6)
        return [self._agent(record, worked, seconds) for record in self._run.agents.values()]

    def _look(self) -> tuple[float, dict[AgentActor, float]]:
        """How many seconds each agent has worked until now."""
        now = self._run.system.clock.monotonic()
        actors = map(agent_actor, self._run.agents.values())
        return now, {actor: actor.work.worked(now) for actor in actors if actor is not None}

    def _agent(self, record: AgentRecord, before: dict[AgentActor, float], seconds: float) -> TopAgent:
        actor = agent_actor(record)
        worked = self._worked[actor] - before.get(actor, 0.0) if actor is not None else 0.0
        return {
            "address": record.address,
            "id": record.ref.id if record.ref is not None else None,
            "state": agent_state(record),
            "busy": min(1.0, worked / seconds),
            "tokens": record.usage.tokens,
            "tokens_per_minute": float(actor.work.tokens_a_minute(self._at)) if actor is not None else 0.0,
            "cost": record.usage.cost,
        }


def _row(row: ActorRow, works: Container[int | None]) -> ActorRow:
    """An agent that works is busy, also while its actor waits."""
    return replace(row, state="busy") if row.id in works and row.state == "idle" else row
