"""Optimisation as a race: four agents look for a short tour through six towns, Python measures what they propose.

    python examples/race.py

The first whose tour is short enough wins. Leaving the loop over the results cancels the others. On the model of the tests it
prints, after the proposals:

    neighbours won: ABCDEF, 20.0 long
    cancelled: alphabet, crossings, outermost
"""
# test: pi=race; prints=neighbours won: ABCDEF, 20.0 long; seconds=120

import asyncio
from itertools import pairwise
from math import dist

from ramure import agent, agent_process, done, each, emit, wait

TOWNS = {"A": (0, 0), "B": (3, 0), "C": (6, 0), "D": (6, 4), "E": (3, 4), "F": (0, 4)}
SHORT_ENOUGH = 20.0
HINTS = {
    "alphabet": "Try the orders that look arbitrary.",
    "crossings": "Look for two legs that cross, and uncross them.",
    "neighbours": "Go from each town to the nearest that is left.",
    "outermost": "Begin with the towns that are farthest apart.",
}


def length(tour: str) -> float:
    return sum(dist(TOWNS[one], TOWNS[other]) for one, other in pairwise(tour + tour[0]))


@agent_process
async def runner(name: str) -> str:
    solver = await agent("solver", system_prompt="You look for short tours.")

    @solver.on("propose")
    async def on_propose(tour: str) -> str:
        """Propose a round tour: the letters of all towns in order, such as ACEBDF. Returns its length."""
        if sorted(tour) != sorted(TOWNS):
            return f"A tour has each of {''.join(TOWNS)} once."
        emit("proposed", (tour, length(tour)))
        if length(tour) <= SHORT_ENOUGH:
            done(tour)
        return f"{length(tour):.1f} long; {SHORT_ENOUGH} is short enough."

    await solver.send(f"{HINTS[name]} The towns: {TOWNS}. Call propose(tour) until a tour is short enough.")
    return await wait(str)


@agent_process
async def race() -> str:
    running = each(runner, HINTS, limit=len(HINTS), restart="temporary", key=str)
    winner = None
    async for result in running:
        if result.error is None:
            winner = result
            break  # the others are cancelled
    cancelled = []
    async for event in running.events:  # until the last of them has ended
        if event.type == "proposed":
            tour, measured = event.data
            print(f"{event.source}: {tour}, {measured:.1f}")
        elif event.type == "cancelled":
            cancelled.append(str(event.source))
    if winner is None:
        return "nobody found one"
    return f"{winner.key} won: {winner.value}, {length(winner.value)} long\ncancelled: {', '.join(sorted(cancelled))}"


if __name__ == "__main__":
    print(asyncio.run(race()))
