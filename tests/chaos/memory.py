"""``python -m tests.chaos.memory [--steps 50] [--kills 20] [--seed S]``: a long task whose pi is killed in the middle of
its turns, again and again. Each step takes effect once, and the conversation has every step."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ramure.agents.pi.session_file import seqs_in
from ramure.agents.pi.toolchain import Toolchain
from ramure.testing import ScriptedModel
from ramure.testing.leaks import find_leaks, new_run
from tests.chaos.table import kill_pi
from tests.chaos.trial import STREAM, Trial, script, started
from tests.conftest import _installed
from tests.e2e.kit import Stage


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    seconds: float
    kills: int
    restarts: int
    effects: dict[int, int]
    """How often each step took effect."""
    results: dict[int, int]
    """How often each step's result is in the conversation."""
    messages: list[int]
    """The log's messages in the conversation, in its order."""
    outcome: str


async def task(toolchain: Toolchain, steps: int, kills: int, seed: int) -> Figures:
    """Do a task of so many steps, and kill pi so often in the middle of a turn, at random moments."""
    chosen = random.Random(seed)
    began = time.monotonic()
    with new_run(grace=20.0) as home:
        stage = Stage(toolchain, home)
        async with ScriptedModel(script(steps)) as model:
            stage.serve(model)
            async with started(stage, model, chosen, {"pause": 0.0, "max_restarts": 100}) as trial:
                await _kill(trial, steps, kills)
                end = await trial.told("end", within=300)
                await trial.program.ends(30)
                figures = _measure(trial, steps, kills, end["restarts"], end["result"], time.monotonic() - began)
        left = await asyncio.to_thread(home.wait_until_clean)
        assert not await asyncio.to_thread(find_leaks, home), left
    return figures


async def _kill(trial: Trial, steps: int, kills: int) -> None:
    """One kill after another, spread over the task: each while the model is answering."""
    done = 0
    for number in range(kills):
        done = max(done + 1, round((number + 0.5) * steps / kills))
        await trial.told("step", min(done, steps - 1), within=120)
        asked = len(trial.model.requests)
        await trial.model.wait_for_requests(asked + 1, timeout=60)
        await asyncio.sleep(trial.random.uniform(0, STREAM * 0.8))
        await kill_pi(trial)
        await trial.told("agent_restarted", number + 1)


def _measure(trial: Trial, steps: int, kills: int, restarts: int, outcome: str, seconds: float) -> Figures:
    text = trial.session_file().read_text(encoding="utf-8")
    said = Counter(int(found[1]) for line in text.splitlines() if (found := _STEP.search(_result(json.loads(line)))))
    effects = Counter(fact["number"] for fact in trial.facts() if fact["what"] == "step")
    every = range(1, steps + 1)
    return Figures(
        seconds,
        kills,
        restarts,
        {n: effects[n] for n in every},
        {n: said[n] for n in every},
        seqs_in(text),
        outcome,
    )


_STEP = re.compile(r"step (\d+) done")


def _result(entry: dict[str, Any]) -> str:
    """What the entry tells of a call's result; empty if it tells none."""
    if entry.get("customType") == "ramure-call":  # the call was under way when pi was killed
        return str(entry["data"]["text"])
    message = entry.get("message") or {}
    return json.dumps(message["content"]) if message.get("role") == "toolResult" else ""


def wrong(figures: Figures) -> list[str]:
    """What is not as it must be."""
    found = []
    if figures.outcome != "finished":
        found.append(f"the outcome is {figures.outcome!r}")
    if figures.restarts != figures.kills:
        found.append(f"{figures.restarts} restarts after {figures.kills} kills")
    for what, counts in (("took effect", figures.effects), ("stand in the conversation", figures.results)):
        odd = {n: count for n, count in counts.items() if count != 1}
        if odd:
            found.append(f"steps that {what} another number of times than once: {odd}")
    if figures.messages != sorted(set(figures.messages)):
        found.append(f"the messages are {figures.messages}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.memory", description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(100_000))
    options = parser.parse_args()
    figures = asyncio.run(task(_installed("toolchain"), options.steps, options.kills, options.seed))
    print(
        f"{options.steps} steps, pi killed {figures.kills} times in the middle of a turn: {figures.outcome} after "
        f"{figures.seconds:.0f} s; {sum(count == 1 for count in figures.effects.values())} steps took effect once, "
        f"{sum(count == 1 for count in figures.results.values())} stand in the conversation once; seed {options.seed}"
    )
    for text in wrong(figures):
        print("WRONG:", text)
    return 1 if wrong(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
