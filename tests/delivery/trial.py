"""One trial: a program that sends messages to real pi and serves its calls, beside faults, and writes down what it did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ramure import agent, agent_process, current_runtime
from ramure.agents.pi.toolchain import Toolchain
from ramure.supervisors import Backoff
from ramure.testing import ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.http1 import HttpRequest, Responder
from ramure.testing.leaks import new_run
from tests.chaos.proxy import Proxy
from tests.delivery.bodies import Bodies
from tests.delivery.checker import Handled, RunStatistics, check
from tests.delivery.texts import Texts
from tests.e2e.kit import Stage

__all__ = ["Figures", "Plan", "environment", "on_stage"]

DOWN = ("launching", "connecting", "restarting")
"""The states in which pi is not there."""

BURST = 4
"""Messages that are sent at once, at most, in the moment of a fault: some are then on their way."""


@dataclass(frozen=True)
class Plan:
    """How large a trial is."""

    number: int
    """Messages, and calls, at least."""
    cuts: int
    kills: int
    seed: int
    silence: float = 60.0
    """Seconds without any progress after which it hangs."""

    @property
    def asks(self) -> int:
        """Messages beyond, which are asked and answered, at the end."""
        return max(2, min(20, self.number // 10))


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    seconds: float
    statistics: RunStatistics
    requests: Bodies
    cuts: int
    restarts: int
    sent_while_down: int
    """Messages that were sent while pi was not there."""
    hung: str = ""

    def wrong(self) -> list[str]:
        """What is not as it must be."""
        return ([f"nothing goes on: {self.hung}"] if self.hung else []) + check(self.statistics, self.requests)

    def __str__(self) -> str:
        statistics, requests = self.statistics, self.requests
        return (
            f"{len(statistics.sent)} messages ({len(statistics.answers)} of them asked and answered), {len(statistics.handled)} calls, "
            f"{self.cuts} cuts, {statistics.kills} kills, {self.restarts} restarts, {self.sent_while_down} messages sent while pi "
            f"was down; the model got {len(requests)} requests of {requests.bytes / 1e6:.1f} MB; {self.seconds:.0f} s"
        )


class RecordingModel(ScriptedModel):
    """Keeps the bytes of each request as its server got them, before anything reads them."""

    def __init__(self, script: Any) -> None:
        super().__init__(script)
        self.bodies = Bodies()

    async def _answer_completion(self, request: HttpRequest, responder: Responder) -> None:
        self.bodies.append(request.body)
        await super()._answer_completion(request, responder)
        self.requests.clear()  # each holds a whole conversation, parsed


class Trial:
    """The program's side."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.stage, self.plan = stage, plan
        self.statistics = RunStatistics()
        self.cuts = self.sent_while_down = 0
        self._chosen = random.Random(plan.seed)
        self._texts = Texts(plan.seed)
        self._sending = asyncio.Lock()
        self._under_way = 0
        self._turns = random.Random(f"turns {plan.seed}")

    @property
    def progress(self) -> int:
        return len(self.statistics.handled) + len(self.statistics.answers)

    def model(self, conversation: Conversation) -> Any:
        """Each turn calls the tool, once or at the same time several times, until it has been called often enough."""
        left = self.plan.number - len(self.statistics.handled)
        if left <= 0:
            self.statistics.said.append(self._texts.make("answer", len(self.statistics.said)))
            return Text(self.statistics.said[-1], chunk=4096)
        made = sum(map(len, self.statistics.called))
        count = min(left, self._turns.choice((1, 1, 1, 2, 3)))
        turn = [{"number": made + n, "text": self._texts.make("argument", made + n)} for n in range(count)]
        self.statistics.called.append(turn)
        return [ToolCall("note", arguments) for arguments in turn]

    async def note(self, number: int, text: str) -> str:
        """Notes a text."""
        handled = Handled({"number": number, "text": text}, self._texts.make("result", number))
        self.statistics.handled.append(handled)
        self._under_way += 1
        await asyncio.sleep(
            self._chosen.uniform(0.0, 0.01)
        )  # so that a fault can come while it runs, and another overtake
        self._under_way -= 1
        return handled.result

    async def send(self, worker: Any, count: int) -> None:
        """Send the next messages, at most so many; they are written down as they are passed on."""
        async with self._sending:
            for _ in range(min(count, self.plan.number - len(self.statistics.sent))):
                text = self._texts.make("message", len(self.statistics.sent))
                self.statistics.sent.append(text)
                self.sent_while_down += worker.state in DOWN and worker.restarts + self.statistics.kills > 0
                await worker.send(text)

    async def work(self, worker: Any, proxy: Proxy) -> None:
        """All of it: sends beside the calls, then questions, whose last answer comes when all else has come."""
        faults = asyncio.create_task(self.faults(worker, proxy))
        try:
            while len(self.statistics.sent) < self.plan.number:
                await self.send(worker, self._chosen.randint(1, 3))
                await self._until(self.progress_for(len(self.statistics.sent)))
            await self._until(self.plan.number)
            for number in range(self.plan.asks):
                async with self._sending:
                    text = self._texts.make("question", number)
                    self.statistics.sent.append(text)
                self.statistics.answers[text] = await worker.ask(text)
            await faults
        finally:
            faults.cancel()

    def progress_for(self, sent: int) -> float:
        """How far the calls must be before so many messages are exceeded: the last are sent before the last calls."""
        return sent * 0.9 - 5

    async def faults(self, worker: Any, proxy: Proxy) -> None:
        """Let each happen at its place among the calls and questions, with messages on their way."""
        plan, chosen = self.plan, self._chosen
        kinds = ["cut"] * plan.cuts + ["kill"] * plan.kills
        chosen.shuffle(kinds)
        places = sorted(chosen.uniform(0, (plan.number + plan.asks) * 0.95) for _ in kinds)
        for place, kind in zip(places, kinds, strict=True):
            await self._until(place)
            await asyncio.sleep(chosen.uniform(0.0, 0.03))
            if kind == "kill":
                await self._kill(worker)
            else:
                sending = asyncio.create_task(self.send(worker, chosen.randint(0, BURST)))
                await asyncio.sleep(chosen.uniform(0.0, 0.003))
                while not (was := proxy.cut()):  # one that is not connected has nothing to be cut
                    await asyncio.sleep(0.01)
                self.cuts += was
                await sending

    async def _kill(self, worker: Any) -> None:
        restarts = worker.restarts
        [pi] = await asyncio.to_thread(self.stage.panes, current_runtime().execution_id)
        await self.send(worker, self._chosen.randint(0, BURST))
        while (
            self.statistics.kills % 2 == 0 and not self._under_way and len(self.statistics.handled) < self.plan.number
        ):
            await asyncio.sleep(0.001)  # every other one comes while a call is under way
        self.statistics.kills += 1
        os.kill(pi, signal.SIGKILL)
        while worker.state not in DOWN and worker.restarts == restarts:
            await asyncio.sleep(0.001)
        await self.send(worker, BURST)
        while not (worker.restarts > restarts and worker.state in ("idle", "busy")):
            await asyncio.sleep(0.005)

    async def _until(self, progress: float) -> None:
        while self.progress < progress:
            await asyncio.sleep(0.002)


async def deliver(stage: Stage, plan: Plan) -> Figures:
    """Send and call so many, beside so many faults at random moments."""
    trial = Trial(stage, plan)
    async with Proxy() as proxy, RecordingModel(trial.model) as served:
        stage.serve(served)
        os.environ.update(stage.environ)
        settings = stage.run.directory / "agent" / "settings.json"
        kept = json.loads(settings.read_text())
        settings.write_text(json.dumps(kept | {"compaction": {"enabled": False}}))
        began = time.monotonic()

        @agent_process(base_url=f"ws://127.0.0.1:{proxy.port}")
        async def main() -> Figures:
            proxy.target = current_runtime().gateway.port
            worker = await agent("worker", max_restarts=100, backoff=Backoff(first=0.01, factor=1, limit=0.01))
            worker.on("note")(trial.note)
            hung = await _watched(trial, worker, proxy, served)
            seconds = time.monotonic() - began
            return Figures(
                seconds, trial.statistics, served.bodies, trial.cuts, worker.restarts, trial.sent_while_down, hung
            )

        return await main()


async def _watched(trial: Trial, worker: Any, proxy: Proxy, served: RecordingModel) -> str:
    """Work as long as something goes on; else where it stands."""
    work = asyncio.create_task(trial.work(worker, proxy))
    seen, at = None, time.monotonic()
    while not work.done():
        await asyncio.wait({work}, timeout=0.2)
        now = (trial.progress, len(trial.statistics.sent), len(served.bodies), worker.restarts, worker.state)
        if now != seen:
            seen, at = now, time.monotonic()
        elif time.monotonic() - at > trial.plan.silence:
            work.cancel()
            await asyncio.wait({work})
            calls_and_answers, sent, requests, restarts, state = now
            return f"{calls_and_answers} calls and answers, {sent} messages, {requests} requests, {restarts} restarts, {state}"
    work.result()
    return ""


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


async def on_stage(toolchain: Toolchain, plan: Plan) -> Figures:
    """The whole of it, in directories of its own."""
    with new_run() as run:
        stage = Stage(toolchain, run)
        with environment(stage):
            figures = await deliver(stage, plan)
        leaks = await asyncio.to_thread(run.wait_until_clean)
        assert not leaks, leaks
    return figures
