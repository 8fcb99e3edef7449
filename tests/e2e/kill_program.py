"""``python -m tests.e2e.kill_program 30 [SEED]``: SIGKILL of the Python program at random moments; what is left?

Each time: no process of the run is left, its logs are whole up to the last entry that was acknowledged, and `ramure gc`
removes what is on disk, and nothing else. Meanwhile another run lives, and 20 tmux sessions of somebody else, named as
ours or nearly so: neither may be touched.
"""

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
from collections.abc import Iterator
from pathlib import Path

from ramure.runtime.log.files import entries
from ramure.testing import Hang, ScriptedModel, ToolCall
from ramure.testing.leaks import new_run
from tests.conftest import _installed
from tests.e2e.kit import Program, Stage, owned, until

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, machine, wait

@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    other = await machine()
    await other.exec("setsid nohup sleep 600 >/dev/null 2>&1 &")
    await (await other.machine()).snapshot()
    worker = await agent("worker")

    @worker.on("hold")
    async def hold() -> str:
        \"\"\"Holds.\"\"\"
        print("tool runs", flush=True)
        await asyncio.Event().wait()

    print("agent ready", flush=True)
    await worker.exec("setsid nohup sleep 600 >/dev/null 2>&1 &")
    print("acked", await worker.send("Begin."), flush=True)
    print("message sent", flush=True)
    while True:
        print("acked", await worker.send("And more.", how="queue"), flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""

MOMENTS = ("pi starts", "agent ready", "message sent", "model asked", "tool runs")
LIMIT = 15.0
LATEST = 7.0
"""Seconds after its start until which the program is killed, at least: by then it has been through all that it does."""


async def kill_once(stage: Stage, moment: str) -> float:
    """Kill the program at such a moment; seconds until nothing of its run is left."""
    async with ScriptedModel([[ToolCall("hold")] if moment == "tool runs" else [Hang()]]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            if moment == "pi starts":
                socket = stage.scratch(run_id) / "tmux" / "server"
                await until(lambda: socket.exists() and stage.panes(run_id), 10, "a pane of the run")
            elif moment == "model asked":
                await model.wait_for_requests(1, timeout=40)
            else:
                await program.says(moment)
            return await killed(stage, program, moment == "tool runs")


async def killed(stage: Stage, program: Program, in_tool: bool = False) -> float:
    """Kill it now, and look at what there is; seconds until nothing ran any more."""
    before = set(stage.run.home.glob("logs/*"))
    program.signal(signal.SIGKILL)
    assert await program.ends(40) == -signal.SIGKILL
    said = re.search(r"\brun (\S+)\n", program.said)
    leases = {path.stem for path in stage.run.home.glob("runtimes/*.json")}
    run_id = said[1] if said else next(iter(leases - program_ids(stage)), None)
    if run_id is None:
        return 0.0  # it had not even begun
    took = await nothing_runs(stage, run_id)
    logs_are_whole(stage.logs(run_id), program.said)
    await gc_removes_the_rest(stage, run_id)
    if in_tool:
        assert "tool_unknown" in [entry["type"] for entry in entries(stage.logs(run_id) / "worker.jsonl")]
    assert before <= set(stage.run.home.glob("logs/*"))
    return took


def program_ids(stage: Stage) -> set[str]:
    """The ids of the runs that live on."""
    return {name for name in os.listdir(stage.sockets / f"ramure-{os.getuid()}") if owned(name)}


async def nothing_runs(stage: Stage, run_id: str) -> float:
    """Wait until there is no process of the run, and nothing secret of it; the seconds it took."""
    began = time.monotonic()
    while left := owned(run_id):
        assert time.monotonic() - began < LIMIT, f"left of the run: {left}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def logs_are_whole(logs: Path, said: str) -> None:
    """Every entry that the program was told is written is there, and none is missing before it."""
    acked = [int(number) for number in re.findall(r"^acked (\d+)\n", said, re.MULTILINE)]
    seqs = [entry["seq"] for entry in entries(logs / "worker.jsonl")] if (logs / "worker.jsonl").exists() else []
    assert seqs == list(range(1, len(seqs) + 1)), seqs
    assert len(seqs) >= max(acked, default=0), (len(seqs), acked[-1])


async def gc_removes_the_rest(stage: Stage, run_id: str) -> None:
    """``ramure gc`` finds this run and no other, and then there is nothing of it but its logs."""
    async with stage.ramure("gc", "--json") as gc:
        assert await gc.ends(60) == 0, gc.said
        found = json.loads(gc.said)["found"]
    assert {each["run"] for each in found} == {run_id}, found
    # A directory that only has the id in it is a worktree's or a user's own; there are none here.
    places = (stage.run.directory, Path("/tmp"))
    left = [path for place in places for path in find(place, run_id) if path != stage.logs(run_id)]
    assert not left, left


def find(place: Path, name: str) -> Iterator[Path]:
    """What has ``name`` in its own name, below a directory of the tests, or beside it."""
    depth = place.glob(f"*{name}*") if place == Path("/tmp") else place.rglob(f"*{name}*")
    yield from depth


@contextlib.contextmanager
def foreign_sessions(stage: Stage) -> Iterator[set[str]]:
    """20 sessions of somebody else's, on a tmux server of theirs."""
    names = ["w", "wo", "wor", "work", "worke", "worker", "worker-1", "worker2", "ramure", "ramure-1"]
    names += [f"{word}-{number}" for word in ("brave-otter", "worker~2", "agent", "pi", "main#1") for number in (1, 2)]
    socket = stage.run.directory / "foreign"
    stage.run.keep.add(socket)
    env = {name: value for name, value in os.environ.items() if name != "RAMURE_RUN_ID"}
    for name in names:
        command = ["tmux", "-f", "/dev/null", "-S", str(socket), "new-session", "-d", "-s", name, "sleep 100000"]
        subprocess.run(command, check=True, env=env, timeout=30)
    listing = ["tmux", "-S", str(socket), "list-panes", "-a", "-F", "#{session_name} #{pane_pid} #{pane_dead}"]

    def panes() -> set[str]:
        return set(subprocess.run(listing, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines())

    before = panes()
    assert len(before) == 20
    try:
        yield before
        assert panes() == before
    finally:
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], check=True, timeout=30)


async def main(times: int, seed: int) -> None:
    chance = random.Random(seed)
    took = []
    with new_run() as run:
        stage = Stage(_installed("toolchain"), run)
        # One model for all: whoever begins gets a tool call, which then hangs, or no answer.
        async with ScriptedModel(lambda _: ToolCall("hold") if chance.random() < 0.7 else Hang()) as model:
            stage.serve(model)
            with foreign_sessions(stage):
                async with stage.python(PROGRAM) as other:
                    other_id = await other.run_id()
                    await other.says("message sent")
                    latest = max(LATEST, 1.5 * (time.monotonic() - other.began))
                    [pi] = stage.panes(other_id)
                    for number in range(times):
                        delay = chance.uniform(0.0, latest)
                        async with stage.python(PROGRAM) as program:
                            await asyncio.sleep(delay)
                            took.append(await killed(stage, program))
                        assert stage.panes(other_id) == [pi]
                        assert other.process.returncode is None
                        print(f"{number + 1:3} killed after {delay:.2f} s: gone in {took[-1]:.3f} s", flush=True)
                    other.signal(signal.SIGTERM)
                    await other.ends(30)
        leaks = await asyncio.to_thread(run.wait_until_clean)
        assert not leaks, leaks
    print(
        f"seed {seed}: nothing left {times} times of {times}; most {max(took):.3f} s; foreign sessions and run untouched"
    )


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(given[0] if given else 10, given[1] if len(given) > 1 else random.randrange(1 << 32)))
