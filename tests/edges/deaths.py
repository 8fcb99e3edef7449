"""Deaths of pi in the middle of shell commands that have started daemons: what is left when the next pi begins."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ramure.testing import ScriptedModel, ToolCall
from ramure.testing.conversation import Conversation
from tests.e2e.kit import Program, Stage, until

PROGRAM: Final = """
import asyncio
from ramure import agent, agent_process, current_runtime, wait
from ramure.supervisors import Backoff

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    worker = await agent("worker", max_restarts=100_000, within=1, backoff=Backoff(first=0.01, factor=1, limit=0.01) {more})
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""

KINDS: Final = {
    "background": "sleep {} & ",
    "nohup": "nohup sleep {} >/dev/null 2>&1 & ",
    "disown": "sleep {} >/dev/null 2>&1 & disown; ",
    "setsid": "setsid sleep {} </dev/null >/dev/null 2>&1 & ",
    "setsid fork": "setsid -f sleep {} </dev/null >/dev/null 2>&1; ",
    "no environment": "env -i setsid sleep {} </dev/null >/dev/null 2>&1 & ",
    "double fork": "(setsid sh -c 'env -i sleep {} & exit' </dev/null >/dev/null 2>&1 &); ",
    "tmux": "tmux -L s{} -f /dev/null new-session -d sleep {}; ",
    "deaf": "(trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep {}; done' &) >/dev/null 2>&1; ",
}
"""How a daemon is started; {} is a number by which it is known."""

VICTIMS: Final = {
    "pi": lambda stage, run_id: stage.panes(run_id),
    "parent": lambda stage, run_id: stage.parents(run_id),
    "holder": lambda stage, run_id: [child_of(pid) for pid in stage.parents(run_id)],
}


def child_of(pid: int) -> int:
    """The first child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def sleepers(first: int, last: int) -> dict[int, str]:
    """The processes whose command line has a number of this range as a word: a life's, by pid."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(word.isdigit() and first <= int(word) < last for word in words):
                found[int(directory.name)] = " ".join(words)
    return found


@dataclass
class Deaths:
    """A running program whose agent's shell starts daemons in each life of pi, and waits."""

    stage: Stage
    program: Program
    run_id: str
    model: ScriptedModel
    lives: list[list[int]]
    base: int

    async def under_way(self) -> list[str]:
        """Wait until the present life's daemons and its foreground command run; what is to be ended."""
        life = len(self.lives)
        await until(lambda: len(self.lives) > life - 1 and self.lives, 40, "a life that has begun its command")
        numbers = self.lives[-1]
        await until(lambda: running(numbers) == set(numbers), 40, "its daemons and its foreground command run")
        return [str(number) for number in numbers]

    async def kill(self, victim: str) -> None:
        """SIGKILL to one of a life's processes; returns when the next pi is seen, with what is left of the last life."""
        [pi] = self.stage.panes(self.run_id)
        numbers = self.lives[-1]
        [target] = VICTIMS[victim](self.stage, self.run_id)
        os.kill(target, signal.SIGKILL)
        await until(lambda: any(pid != pi for pid in self.stage.panes(self.run_id)), 40, "the next pi begins")
        left = sleepers(min(numbers), max(numbers) + 1)
        assert not left, f"left of the last life when the next begins: {left}"


def running(numbers: list[int]) -> set[int]:
    """Which of these numbers are in the command line of a process that sleeps."""
    found = sleepers(min(numbers), max(numbers) + 1).values()
    return {number for number in numbers if any(str(number) in line.split() and "sleep" in line for line in found)}


def script(rand: random.Random, lives: list[list[int]], base: int, kinds: list[str] | None = None):  # type: ignore[no-untyped-def]
    """Each request of the model starts daemons of random kinds and then waits in the foreground."""

    def turn(conversation: Conversation) -> ToolCall:
        chosen = kinds or rand.sample(sorted(KINDS), rand.randint(1, 4))
        first = base + 10 * len(lives)
        numbers = [first + place for place in range(len(chosen) + 1)]
        command = "".join(KINDS[kind].replace("{}", str(number)) for kind, number in zip(chosen, numbers, strict=False))
        lives.append(numbers)
        return ToolCall("bash", {"command": f"{command} sleep {numbers[-1]}; echo over"})

    return turn


async def trial(stage: Stage, count: int, seed: int, more: str = "") -> None:
    """So many deaths, of random victims."""
    rand = random.Random(seed)
    lives: list[list[int]] = []
    base = 10_000_000 + 100_000 * (os.getpid() % 10_000)
    async with ScriptedModel(script(rand, lives, base)) as model:
        stage.serve(model)
        async with stage.python(PROGRAM.replace("{more}", more)) as program:
            deaths = Deaths(stage, program, await program.run_id(), model, lives, base)
            for number in range(count):
                await until(lambda number=number: len(lives) > number, 60, f"life {number + 1} begins its command")
                await deaths.under_way()
                await deaths.kill(rand.choice(sorted(VICTIMS)))
            program.signal(signal.SIGINT)
            await program.ends(40)
    assert not sleepers(base, base + 100_000)
    await asyncio.sleep(0)
