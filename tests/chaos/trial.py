"""One trial: the program runs its task, a fault happens to it at a random moment, and what came of it is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ramure.agents.pi.toolchain import Toolchain
from ramure.testing import Delay, ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.leaks import clean_up, find_leaks, new_run
from tests.chaos.proxy import Proxy
from tests.chaos.why import wrong_story
from tests.e2e.kit import Program, Stage, owned, until

Moment = Literal["idle", "mid-turn", "mid-tool"]

STEPS = 4
LIMIT = 120.0
"""Seconds that a trial may take; one that takes longer hangs."""

STREAM = 0.25
"""Seconds that the model takes for a turn, in which "mid-turn" lies."""
PAUSE = 0.25
"""Seconds that a step takes, in which "mid-tool" lies."""

HANG = """
export default function () {
	process.on("SIGUSR2", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
}
"""
"""An extension that lets Node hang, for good, on a signal."""


@dataclass
class Trial:
    """What a fault is given: the running program, and how to reach its parts."""

    stage: Stage
    model: ScriptedModel
    program: Program
    proxy: Proxy
    random: random.Random
    run_id: str
    port: int

    def pi(self) -> int:
        """The process id of pi."""
        [pid] = self.stage.panes(self.run_id)
        return pid

    def session_file(self) -> Path:
        return self.stage.logs(self.run_id) / "sessions" / "worker.jsonl"

    def facts(self) -> list[dict[str, Any]]:
        """What the program has told so far."""
        return [
            json.loads(line[1:])
            for line in self.program.said.splitlines()
            if line.startswith("@{") and line.endswith("}")
        ]

    async def told(self, what: str, count: int = 1, within: float = 60.0) -> dict[str, Any]:
        """Wait until the program has told ``what`` so often; the last of these."""
        mark = f'@{{"what": "{what}"'

        def enough() -> bool:
            assert self.program.process.returncode is None or self._count(mark) >= count, self.program.said
            return self._count(mark) >= count

        try:
            await until(enough, within, f"{what} told {count} times")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.program.said}") from None
        return [fact for fact in self.facts() if fact["what"] == what][count - 1]

    def _count(self, mark: str) -> int:
        return sum(line.startswith(mark) and line.endswith("}\n") for line in self.program.said.splitlines(True))


Fault = Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """A row of the fault table: a fault, and what is expected of it."""

    name: str
    fault: Fault
    moments: tuple[Moment, ...] = ("idle", "mid-turn", "mid-tool")
    agent_downs: int = 1
    downs: int = 0
    reason: str = ""
    """A pattern in the reason of each ``agent_down``."""
    outcome: str = "finished"
    """A pattern in the task's result."""
    noticed_within: float = 2.0
    """Seconds from the fault to the first ``agent_down`` (or ``DOWN``, where there is none)."""
    once: bool = True
    """Whether each step takes effect exactly once."""
    settings: dict[str, Any] = field(default_factory=dict)
    wrapped: bool = False
    """pi runs below a shell, rather than as tmux's own child."""
    small_disk: bool = False
    """The logs are on a small disk of their own, which only root can make."""


@dataclass
class Result:
    """What was measured."""

    row: Row
    seed: int
    moment: str
    patience: float
    seconds: float = 0.0
    agent_downs: int = 0
    downs: int = 0
    reason: str = ""
    outcome: str = ""
    noticed: float | None = None
    restarted: float | None = None
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        noticed = "-" if self.noticed is None else f"{self.noticed:.2f} s"
        back = "-" if self.restarted is None else f"{self.restarted:.2f} s"
        verdict = "ok" if not self.wrong else "WRONG: " + "; ".join(self.wrong)
        return (
            f"{self.row.name:<38} seed {self.seed:<5} {self.moment:<9} agent_down {self.agent_downs} DOWN {self.downs} "
            f"noticed {noticed:>7} ready {back:>7} {self.seconds:5.1f} s  {verdict}"
        )


def script(steps: int) -> Callable[[Conversation], Any]:
    """The model: it does the first of so many steps that has no result yet, one a turn."""

    def answer(conversation: Conversation) -> Any:
        if "finish" not in conversation.tools or conversation.last_user_text.endswith("Hello."):
            return Text("Hello.")
        results = [result.text for result in conversation.tool_results]
        if any("noted" in text for text in results[-1:]):
            return Text("Finished.")
        after = next(n for n in range(1, steps + 2) if f"step {n} done" not in results)
        call = ToolCall("step", {"number": after}) if after <= steps else ToolCall("finish")
        # Long enough that no log finds room for it on a disk that is full but for the rest of a block.
        return [Delay(STREAM / 2), Text(f"Now {after}. " + "word " * 1500, chunk=2000), Delay(STREAM / 2), call]

    return answer


async def run(row: Row, seed: int, toolchain: Toolchain, patience: float = 1.0) -> Result:
    """One trial of ``row``. Whatever goes wrong is in the result. ``patience``: so many times as long may noticing take
    (on a machine that does much else)."""
    chosen = random.Random(f"{row.name} {seed}")
    result = Result(row, seed, chosen.choice(row.moments), patience)
    began = time.monotonic()
    with new_run(grace=20.0) as home, _disk(home.home / "logs") if row.small_disk else contextlib.nullcontext():
        try:
            async with asyncio.timeout(LIMIT):
                await _run(result, chosen, Stage(toolchain, home), toolchain)
        except TimeoutError as error:
            result.wrong.append(f"hangs: {error or f'not over within {LIMIT:g} s'}")
        except (AssertionError, OSError) as error:
            result.wrong.append(f"{type(error).__name__}: {error}")
        if await asyncio.to_thread(home.wait_until_clean):
            leaks = find_leaks(home)
            result.wrong.append(f"left behind: {[str(leak) for leak in leaks]}")
            clean_up(leaks)
    result.seconds = time.monotonic() - began
    return result


@contextlib.contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """A disk of 2 MB at ``directory``."""
    directory.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextlib.asynccontextmanager
async def started(
    stage: Stage, model: ScriptedModel, chosen: random.Random, settings: dict[str, Any]
) -> AsyncIterator[Trial]:
    """The program, with these settings, and a way to the gateway that can be cut."""
    async with Proxy() as proxy:
        given = {"base_url": f"ws://127.0.0.1:{proxy.port}", "pause": PAUSE, **settings}
        environment: dict[str, str | None] = {"CHAOS": json.dumps(given)}
        async with stage.start(sys.executable, "-m", "tests.chaos.program", env=environment) as program:
            facts = json.loads((await program.says(r'@\{"what": "run"[^\n]*\n'))[0][1:])
            proxy.target = facts["port"]
            yield Trial(stage, model, program, proxy, chosen, facts["id"], facts["port"])


async def _run(result: Result, chosen: random.Random, stage: Stage, toolchain: Toolchain) -> None:
    row = result.row
    settings = {"warm_up": result.moment == "idle", **row.settings}
    async with ScriptedModel(script(STEPS)) as model:
        stage.serve(model)
        _prepare(stage, row, toolchain)
        async with started(stage, model, chosen, settings) as trial:
            await _come_to(trial, result.moment)
            at = time.time()
            await row.fault(trial)
            if result.moment == "idle":
                await _begin_after(trial, row)
            await trial.told("end", within=LIMIT)
            await trial.program.ends(30)
            _measure(result, trial.facts(), at)
            result.wrong += wrong_story(row.name, row.reason, stage.logs(trial.run_id))
            left = owned(trial.run_id)
            if left:
                await until(lambda: not owned(trial.run_id), 15, f"nothing of the run is left: {left}")


def _prepare(stage: Stage, row: Row, toolchain: Toolchain) -> None:
    extensions = stage.run.directory / "agent" / "extensions"
    extensions.mkdir(mode=0o700)
    (extensions / "hang.ts").write_text(HANG)
    if row.wrapped:
        (stage.run.home / "toolchain").unlink()
        command = stage.run.directory / "bin" / "pi"
        command.parent.mkdir()
        words = " ".join(f"'{word}'" for word in toolchain.pi_argv)
        command.write_text(f'#!/bin/sh\n{words} "$@"\nexit $?\n')
        command.chmod(0o755)
        stage.environ["PATH"] = f"{command.parent}{os.pathsep}{stage.environ['PATH']}"


async def _come_to(trial: Trial, moment: str) -> None:
    """Wait until the program is at the moment; where in it is a matter of chance."""
    step = trial.random.randint(2, STEPS - 1)
    if moment == "idle":
        await trial.told("idle")
        return
    if moment == "mid-turn":
        await trial.model.wait_for_requests(step, timeout=60)
        await asyncio.sleep(trial.random.uniform(0.0, STREAM))
    else:
        await trial.told("step", step)
        await asyncio.sleep(trial.random.uniform(0.0, PAUSE))


async def _begin_after(trial: Trial, row: Row) -> None:
    """The task begins once the fault, which came while the agent was idle, has been dealt with."""
    if row.outcome == "finished" and row.agent_downs:
        await trial.told("agent_restarted", row.agent_downs, within=row.noticed_within + 30)
    trial.program.signal(signal.SIGUSR2)


def _measure(result: Result, facts: list[dict[str, Any]], at: float) -> None:
    row, wrong = result.row, result.wrong
    told = {what: [fact for fact in facts if fact["what"] == what] for what in {fact["what"] for fact in facts}}
    downs = told.get("agent_down", [])
    [end] = told["end"]
    result.agent_downs, result.downs, result.outcome = len(downs), len(end["downs"]), end["result"]
    reason = next(iter([*(down["reason"] for down in downs), *end["downs"]]), "")
    reason = reason.removeprefix("crashed: ").removesuffix("; its last screen:")
    result.reason = re.sub(r" in /\S+", "", reason)  # a machine's directory
    noticed = [*told.get("alarm", []), *downs, *([end] if end["downs"] else [])]
    noticed += told.get("problem", []) if row.small_disk else []
    if noticed:
        result.noticed = min(fact["at"] for fact in noticed) - at
    for down, up in zip(downs, told.get("agent_restarted", []), strict=False):
        result.restarted = up["at"] - down["at"]
    if result.agent_downs != row.agent_downs:
        wrong.append(f"{result.agent_downs} agent_down, not {row.agent_downs}: {[down['reason'] for down in downs]}")
    if result.downs != row.downs:
        wrong.append(f"{result.downs} DOWN, not {row.downs}")
    if not all(re.search(row.reason, reason) for reason in [*(down["reason"] for down in downs), *end["downs"]]):
        wrong.append(f"the reason is {result.reason!r}")
    if not re.search(row.outcome, result.outcome):
        wrong.append(f"the outcome is {result.outcome!r}")
    if result.noticed is not None and result.noticed > row.noticed_within * result.patience:
        wrong.append(f"noticed after {result.noticed:.2f} s")
    if row.outcome == "finished":
        numbers = [step["number"] for step in told.get("step", []) if step["attempt"] == 1]
        if numbers != list(range(1, STEPS + 1)):
            wrong.append(f"the steps were {numbers}")
        again = [step["number"] for step in told.get("step", []) if step["attempt"] > 1]
        if again and row.once:
            wrong.append(f"steps {again} took effect again")
