"""``python -m benchmarks agents``: how long an agent takes to be ready, and to be back; how fast entries come into its log.

Beside it: the same pi, started bare in tmux, with an extension that does nothing but say that it is there; and a loop of
``json.dumps`` and ``write``. Pairs are measured in turn. Exits with 1 when a requirement is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from ramure import agent, agent_process, current_runtime
from ramure.runtime.process.handle import Agent
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, ScriptedModel, Text
from ramure.testing.leaks import new_run
from tests.conftest import _installed
from tests.delivery.trial import environment
from tests.e2e.kit import Stage, until

__all__ = ["main"]

AT_ONCE = 8
READY_TIMES, READY_MORE = 1.25, 0.150
"""agent() may take so many times what a bare pi takes, or so many seconds more: the greater of the two."""
AT_ONCE_TIMES, RESTART_TIMES, LOG_TIMES = 1.25, 1.3, 0.6

EXTENSION = """
import { writeFileSync } from "node:fs";
export default (pi) => pi.on("session_start", () => writeFileSync(process.env.BARE_READY, ""));
"""

ENTRY = {"text": "The quick brown fox jumps over the lazy dog. " * 4, "stop_reason": "stop", "usage": {"input": 1000}}


class Bare:
    """pi in a tmux server of its own, with an extension that does nothing."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._directory = stage.run.directory / "bare"
        self._directory.mkdir()
        self._extension = self._directory / "index.ts"
        self._extension.write_text(EXTENSION)
        self._socket = str(self._directory / "tmux")
        self._count = 0
        stage.run.keep.add(Path(self._socket))

    def tmux(self, *command: str) -> None:
        subprocess.run(["tmux", "-f", "/dev/null", "-S", self._socket, *command], check=True, env=self._stage.environ)

    async def start(self) -> float:
        """Seconds until a new one is ready."""
        self._count += 1
        ready = self._directory / f"ready-{self._count}"
        pi = [*self._stage.toolchain.pi_argv, "-ne", "-e", str(self._extension)]
        pi += ["--session", str(self._directory / f"{self._count}.jsonl")]
        command = f"BARE_READY={ready} exec {shlex.join(pi)}"
        began = time.perf_counter()
        await asyncio.to_thread(self.tmux, "new-session", "-d", "-s", f"bare-{self._count}", "-x", "120", command)
        while not ready.exists():
            await asyncio.sleep(0.002)
            assert time.perf_counter() - began < 60, "the bare pi did not start"
        return time.perf_counter() - began

    def end(self) -> None:
        self.tmux("kill-session", "-a", "-t", "=keeps-the-server")


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def starts(stage: Stage, pairs: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds, ours and bare."""
    found: dict[str, tuple[list[float], list[float]]] = {"ready": ([], []), "8 at once": ([], []), "restart": ([], [])}
    bare = Bare(stage)
    bare.tmux("new-session", "-d", "-s", "keeps-the-server", "sleep 100000")
    made: list[Agent] = []

    async def ours() -> None:
        made.append(await agent(f"w{time.perf_counter_ns()}", backoff=Backoff(first=0.001, factor=1, limit=0.001)))

    async def end() -> None:
        bare.end()
        for each in made:
            await each.ref.stop()
        made.clear()

    @agent_process
    async def main() -> None:
        await ours()  # Node's caches are warm, and both tmux servers run
        await bare.start()
        await end()
        for number in range(pairs):
            order = (0, 1) if number % 2 else (1, 0)
            for which in order:
                found["ready"][which].append(await (bare.start() if which else timed(ours)))
            found["restart"][0].append(await restart(stage, made[-1]))
            found["restart"][1].append(found["ready"][0][-1])
            await end()
        for number in range(max(1, pairs // 3)):
            for which in (0, 1) if number % 2 else (1, 0):
                one = bare.start if which else ours
                found["8 at once"][which].append(await timed(lambda one=one: _all(one)))  # type: ignore[misc]
                await end()

    await main()
    bare.tmux("kill-server")
    return found


async def _all(one: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def restart(stage: Stage, made: Agent) -> float:
    """Kill its pi; seconds until it is ready again."""
    [pi] = await asyncio.to_thread(stage.panes, current_runtime().execution_id)
    began = time.perf_counter()
    os.kill(pi, signal.SIGKILL)
    await until(lambda: made.restarts > 0 and made.state == "idle", 60, "the restart")
    return time.perf_counter() - began


async def entries_a_second(number: int, directory: Path) -> tuple[float, float]:
    """Through an agent's log, and with a bare loop."""
    harness = InProcessHarness(lambda _: Text("Hello."))

    @agent_process(image=harness.image)
    async def main() -> float:
        worker = await agent("worker")
        actor = worker._record.ref._cell.actor  # type: ignore[union-attr]
        began = time.perf_counter()
        for count in range(number):
            actor._append("assistant", ENTRY, "agent")
            if count % 100 == 0:
                await asyncio.sleep(0)
        await worker.send("All before this is written.")
        return number / (time.perf_counter() - began)

    ours = await main()
    began = time.perf_counter()
    with (directory / "bare.jsonl").open("w", encoding="utf-8") as file:
        for count in range(number):
            entry = {"seq": count, "ts": time.time(), "type": "assistant", "data": ENTRY, "origin": "agent"}
            file.write(json.dumps(entry) + "\n")
    return ours, number / (time.perf_counter() - began)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks agents", description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="how many starts are measured (default 10)")
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    with new_run(grace=20.0) as run:
        stage = Stage(_installed("toolchain"), run)
        with ScriptedModel(lambda _: Text("Hello.")).serve_in_thread() as model:
            stage.serve(model)
            with environment(stage):
                found = asyncio.run(starts(stage, options.pairs))
                rates = [asyncio.run(entries_a_second(options.entries, run.directory)) for _ in range(5)]
    missed = []
    figures = {}
    allowed = {"ready": READY_TIMES, "8 at once": AT_ONCE_TIMES, "restart": RESTART_TIMES}
    for name, (ours, other) in found.items():
        mine, theirs = statistics.median(ours), statistics.median(other)
        figures[name] = {"ramure_s": mine, "reference_s": theirs}
        print(
            f"{name:10} {mine:8.3f} s   {'cold' if name == 'restart' else 'bare'} {theirs:8.3f} s   {mine / theirs:.2f}"
        )
        limit = max(theirs * allowed[name], theirs + READY_MORE) if name == "ready" else theirs * allowed[name]
        if mine > limit:
            missed.append(f"{name}: {mine:.3f} s, where {limit:.3f} s are allowed")
    mine, theirs = (statistics.median(rate[which] for rate in rates) for which in (0, 1))
    figures["log"] = {"ramure_per_s": mine, "reference_per_s": theirs}
    print(f"{'log':10} {mine:8.0f} entries/s   bare {theirs:8.0f}   {mine / theirs:.2f}")
    if mine < LOG_TIMES * theirs:
        missed.append(f"log entries: {mine / theirs:.2f} of a bare loop, {LOG_TIMES:g} are required")
    print(f"on {describe()}, {options.pairs} pairs")
    for text in missed:
        print(f"NOT MET: {text}")
    if options.json:
        whole = {"machine": describe(), "figures": figures, "not_met": missed}
        options.json.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return 1 if missed else 0
