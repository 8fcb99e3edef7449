"""``python -m tests.delivery [-n 2000] [--cuts 100] [--kills 5] [--seed S]``: exactly once, on real pi.

So many messages are sent, and so many tool calls made, while the connection is cut and pi is killed at random moments.
Afterwards each message is in pi's session file once, in order, and each call of it took effect once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ramure import agent, agent_process, current_runtime
from ramure.agents.session_file import seqs_in
from ramure.agents.toolchain import Toolchain
from ramure.runtime.log_files import entries
from ramure.supervisors import Backoff
from ramure.testing import ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.leaks import new_run
from tests.chaos.proxy import Proxy
from tests.conftest import _installed
from tests.e2e.kit import Stage

LONGEST_SILENCE = 60.0
"""Seconds without any progress after which it hangs."""


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    seconds: float
    sent: list[int]
    """The seqs of the messages in the log."""
    in_session: list[int]
    """The seqs in pi's session file, in its order."""
    called: Counter[str]
    """How often each call is in the conversation."""
    effects: Counter[str]
    """How often each call took effect."""
    cuts: int
    restarts: int

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        found = []
        if self.in_session != self.sent:
            repeated = [seq for seq, count in Counter(self.in_session).items() if count > 1]
            missing = sorted(set(self.sent) - set(self.in_session))
            found.append(f"the session has {repeated} more than once, lacks {missing}, or they are not in order")
        found += [f"call {call} took effect {count} times" for call, count in self.effects.items() if count != 1]
        found += [f"call {call} took no effect" for call in self.called if call not in self.effects]
        found += [f"{call} took effect and is not in the conversation" for call in self.effects - self.called]
        return found


async def deliver(stage: Stage, number: int, cuts: int, kills: int, seed: int) -> Figures:
    """Send and call so many, beside so many faults at random moments."""
    chosen = random.Random(seed)
    done = [0]

    def model(conversation: Conversation) -> Any:
        """Each turn calls the tool, until it has been called often enough."""
        return ToolCall("note", {"number": done[0]}) if done[0] < number else Text("That is all.")

    async with Proxy() as proxy, ScriptedModel(model) as served:
        stage.serve(served)
        os.environ.update(stage.environ)
        settings = stage.run.directory / "agent" / "settings.json"
        kept = json.loads(settings.read_text())
        settings.write_text(json.dumps(kept | {"compaction": {"enabled": False}}))
        began = time.monotonic()

        @agent_process(base_url=f"ws://127.0.0.1:{proxy.port}")
        async def main() -> Figures:
            run = current_runtime()
            proxy.target = run.gateway.port
            worker = await agent("worker", max_restarts=100, backoff=Backoff(first=0.01, factor=1, limit=0.01))

            @worker.on("note")
            async def note(number: int) -> str:
                """Notes a number."""
                done[0] += 1
                await asyncio.sleep(chosen.uniform(0.0, 0.01))  # so that a fault can come while it runs
                return f"noted {number}"

            faults = asyncio.create_task(_faults(stage, proxy, worker, chosen, number, cuts, kills, done))
            for count in range(number):
                await worker.send(f"message {count}")
                if count % 20 == 0:
                    await asyncio.sleep(0)
            cut = await faults
            await _until_quiet(worker, done)
            log = list(entries(run.paths.agent_log("worker")))
            effects = [entry["data"]["call_id"] for entry in log if entry["type"] == "tool_call"]
            text = run.paths.session_file("worker").read_text(encoding="utf-8")
            assert done[0] == len(effects)
            sent = [entry["seq"] for entry in log if entry["type"] == "message"]
            seconds = time.monotonic() - began
            return Figures(
                seconds, sent, seqs_in(text), Counter(calls_of(text)), Counter(effects), cut, worker.restarts
            )

        return await main()


async def _faults(
    stage: Stage, proxy: Proxy, worker: Any, chosen: random.Random, number: int, cuts: int, kills: int, done: list[int]
) -> int:
    """Let each fault happen at its place among the calls; how many connections were cut."""
    kinds = ["cut"] * cuts + ["kill"] * kills
    chosen.shuffle(kinds)
    places = sorted(chosen.uniform(0, number * 0.95) for _ in kinds)
    cut = 0
    for place, kind in zip(places, kinds, strict=True):
        await _progress(lambda place=place: done[0] >= place, worker, done)  # type: ignore[misc]
        await asyncio.sleep(chosen.uniform(0.0, 0.03))
        if kind == "kill":
            restarts = worker.restarts
            [pi] = await asyncio.to_thread(stage.panes, current_runtime().execution_id)
            os.kill(pi, signal.SIGKILL)
            await _progress(
                lambda before=restarts: worker.restarts > before and worker.state != "restarting", worker, done
            )  # type: ignore[misc]
        else:
            while not (was := proxy.cut()):  # one that is not connected has nothing to be cut
                await asyncio.sleep(0.01)
            cut += was
    return cut


async def _until_quiet(worker: Any, done: list[int]) -> None:
    actor = worker._record.ref._cell.actor
    await _progress(lambda: not actor.delivery.undelivered and worker.state == "idle", worker, done)


async def _progress(condition: Any, worker: Any, done: list[int]) -> None:
    """Wait for it as long as something goes on."""
    seen, at = None, time.monotonic()
    while not condition():
        now = (done[0], worker.state, worker.restarts, len(worker._record.ref._cell.actor.delivery.undelivered))
        if now != seen:
            seen, at = now, time.monotonic()
        assert time.monotonic() - at < LONGEST_SILENCE, f"nothing goes on: {now}"
        await asyncio.sleep(0.005)


def calls_of(session: str, tool: str = "note") -> Iterator[str]:
    """The ids of the calls of a tool in a session file, as the log has them."""
    for line in session.splitlines():
        entry = json.loads(line)
        message = entry.get("message") or {}
        if message.get("role") == "assistant" and message.get("stopReason") not in ("aborted", "error"):
            for block in message["content"]:
                if block["type"] == "toolCall" and block["name"] == tool:
                    yield f"{entry['id']}/{block['id']}"


@contextlib.contextmanager
def environment(stage: Stage) -> Iterator[None]:
    """This program on the stage."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(stage.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def on_stage(toolchain: Toolchain, number: int, cuts: int, kills: int, seed: int) -> Figures:
    """The whole of it, in directories of its own."""
    with new_run() as run:
        stage = Stage(toolchain, run)
        with environment(stage):
            figures = await deliver(stage, number, cuts, kills, seed)
        leaks = await asyncio.to_thread(run.wait_until_clean)
        assert not leaks, leaks
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.delivery", description=__doc__)
    parser.add_argument("-n", type=int, default=2000, help="messages, and tool calls (default 2000)")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    figures = asyncio.run(on_stage(_installed("toolchain"), given.n, given.cuts, given.kills, seed))
    print(
        f"seed {seed}: {len(figures.sent)} messages, {len(figures.effects)} calls, {figures.cuts} cuts, "
        f"{figures.restarts} restarts in {figures.seconds:.0f} s"
    )
    wrong = figures.wrong()
    print("\n".join(wrong) or "each message once and in order; each call's effect once")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
