"""Trials of a disk that fills up at a random moment, and has room again later, or never.

A program of its own, so that it can run in a mount namespace of its own: ``unshare -m --propagation private python -m
tests.edges.full_disks [--seed S] [-n N] [--pi toolchain_074] [--patience P]``, as root. Prints a line for each trial; the
status is 1 where one went wrong. The small disk is ramure's home (``home``), that of the logs alone (``logs``), or that of
the session files alone (``sessions``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ramure.agents.pi.session_file import seqs_in
from ramure.agents.pi.toolchain import Toolchain
from ramure.runtime.log.files import entries
from ramure.testing import Delay, ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.leaks import LeakCheck, clean_up, find_leaks, new_run
from tests.conftest import _installed
from tests.disk import SmallDisk
from tests.e2e.kit import Program, Stage, owned, until

SIZE: Final = "3m"
ASKS: Final = 14
LIMIT: Final = 3.0
"""The program's ``disk_full_timeout``, where the disk stays full."""

WITHIN: Final = 2.0
"""Seconds from the full disk to the alarm, and from the limit to the end."""


def asked(number: int) -> str:
    """The text of a question."""
    return f"Do step {number}."


def reply(number: int) -> str:
    """Its answer, of some length: several blocks of the disk or none."""
    return f"Step {number} is done. " + "word " * (number * 397 % 1500)


def answer(conversation: Conversation) -> Any:
    """The model: one step for each question, then the answer."""
    number = int(re.findall(r"Do step (\d+)\.", "\n".join(conversation.user_texts))[-1])
    if any(result.text == f"step {number} done" for result in conversation.tool_results):
        return [Delay(0.15), Text(reply(number), chunk=2000)]  # the disk is full before the last of them, on any host
    return ToolCall("step", {"number": number, "text": "x" * (number * 811 % 3000)})


def _unbroken(facts: Facts) -> float:
    """Since when the oldest of the alarms lasts that are not over: a pi that is killed leaves a little room, for a moment."""
    since: dict[str, float] = {}
    changes = [(each["at"], 1, each["text"]) for each in facts.all("alarm")]
    changes += [(each["at"], 0, each["text"]) for each in facts.all("alarm_over")]
    for at, begins, text in sorted(changes):
        place = text.partition(": ")[0]
        if begins:
            since.setdefault(place, at)
        else:
            since.pop(place, None)
    return min(since.values())


class Trial:
    """One trial, chosen by its seed."""

    def __init__(self, seed: int, patience: float) -> None:
        chosen = random.Random(seed)
        self.seed = seed
        self.patience = patience
        self.disk = chosen.choice(("home", "logs", "sessions"))
        self.kept = chosen.random() < 0.4
        """The disk stays full."""
        self.greedy = chosen.random() < 0.3
        """Something else takes at once what room there is."""
        self.after = chosen.randint(0, 5)
        self.pause = chosen.uniform(0.0, 0.4)
        self.lasts = chosen.uniform(0.1, 2.5)
        self.killed = chosen.random() < 0.25
        """pi is killed while the disk is full."""
        self.wrong: list[str] = []
        self.alarm = self.end = self.seconds = 0.0

    def __str__(self) -> str:
        then = "kept" if self.kept else f"freed after {self.lasts:.1f} s"
        what = f"{self.disk}, {then}{', greedy' if self.greedy else ''}{', pi killed' if self.killed else ''}; after {self.after} answers + {self.pause:.2f} s"
        end = f", end {self.end - LIMIT:+.2f} s of the limit" if self.kept else ""
        verdict = "ok" if not self.wrong else "WRONG: " + "; ".join(self.wrong)
        return f"seed {self.seed:<6} {what:<70} alarm {self.alarm:.2f} s{end}, {self.seconds:.1f} s  {verdict}"

    def check(self, right: bool, text: str) -> None:
        if not right:
            self.wrong.append(text)

    # -- its course -----------------------------------------------------------------------------------------------

    async def run(self, toolchain: Toolchain) -> None:
        """Whatever goes wrong is in ``wrong``."""
        began = time.monotonic()
        with new_run(grace=20.0) as home, contextlib.ExitStack() as disks:
            if self.disk != "sessions":
                where = home.home if self.disk == "home" else home.home / "logs"
                disks.enter_context(mounted(where))
            try:
                async with asyncio.timeout(120):
                    await self._run(Stage(toolchain, home))
            except TimeoutError as error:
                self.wrong.append(f"hangs: {error or 'not over within 120 s'}")
            except (AssertionError, OSError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
            await self._leaks(home)
        self.seconds = time.monotonic() - began

    async def _leaks(self, home: LeakCheck) -> None:
        if self.disk == "sessions":  # the program has mounted it
            for path in home.home.glob("logs/*/sessions"):
                await asyncio.to_thread(subprocess.run, ["umount", "--lazy", str(path)], check=True)
        if await asyncio.to_thread(home.wait_until_clean):
            leaks = find_leaks(home)
            self.wrong.append(f"left behind: {[str(leak) for leak in leaks]}")
            clean_up(leaks)

    async def _run(self, stage: Stage) -> None:
        settings = {"disk": self.disk, "asks": ASKS, "limit": LIMIT if self.kept else 60.0}
        async with ScriptedModel(answer) as model:
            stage.serve(model)
            environment: dict[str, str | None] = {"FULL_DISK": json.dumps(settings)}
            command = (sys.executable, "-m", "tests.edges.full_disk_program")
            async with stage.start(*command, env=environment) as program:
                facts = Facts(program)
                run_id = (await facts.told("run"))["id"]
                logs = stage.logs(run_id)
                if self.after:
                    await facts.told("answer", self.after)
                else:
                    await program.says("@")
                await asyncio.sleep(self.pause)
                disk = SmallDisk(logs / "sessions" if self.disk == "sessions" else stage.run.home)
                if self.disk == "logs":
                    disk = SmallDisk(stage.run.home / "logs")
                await self._fill(stage, facts, disk, run_id)
                end = await facts.told("end")
                self._ended(facts, end)
                await program.ends(30)
                self._logs(logs, run_id, facts)
                if self.wrong:
                    print(program.said, *(logs / "_runtime.jsonl").read_text().splitlines()[-20:], sep="\n")
                if left := owned(run_id):
                    await until(lambda: not owned(run_id), 15, f"nothing of the run is left: {left}")

    async def _fill(self, stage: Stage, facts: Facts, disk: SmallDisk, run_id: str) -> None:
        with filled(disk, self.greedy):
            at = time.time()
            alarm = await facts.told("alarm")
            self.alarm = alarm["at"] - at
            needed = self.after > 0 or self.disk != "sessions"  # else only once pi has started, which takes its time
            self.check(not needed or self.alarm <= WITHIN * self.patience, f"alarm after {self.alarm:.2f} s")
            if self.killed:
                for pid in stage.panes(run_id):
                    os.kill(pid, signal.SIGKILL)
            if self.kept:
                end = await facts.told("end")
                self.end = end["at"] - _unbroken(facts)
                late = self.end - LIMIT
                self.check(-0.1 <= late <= WITHIN * self.patience, f"the end came {late:.2f} s after the limit")
                return
            freed = asyncio.create_task(asyncio.sleep(self.lasts))
            for command in (("ls",), ("status",), ("why", "worker")):
                async with stage.ramure(*command) as shown:
                    status = await shown.ends(60)
                self.check(status == 0, f"ramure {command[0]}: {status}: {shown.said}")
                named = "disk full" in shown.said or "held up by a full disk" in shown.said
                self.check(named or facts.over(), f"ramure {command[0]} names no full disk: {shown.said}")
            await freed

    # -- what must hold -------------------------------------------------------------------------------------------

    def _ended(self, facts: Facts, end: dict[str, Any]) -> None:
        steps = [fact["number"] for fact in facts.all("step")]
        answers = [fact["number"] for fact in facts.all("answer") if fact["right"]]
        if self.kept:
            self.check("DiskFull" in end["result"], f"the result is {end['result']}")
            self.check(answers == list(range(1, len(answers) + 1)), f"the answers are {answers}")
        else:
            self.check(end["result"] == "finished", f"the result is {end['result']}")
            self.check(answers == list(range(1, ASKS + 1)), f"the answers are {answers}")
            once = sorted(set(steps)) if self.killed else steps  # a model may ask anew after a restart
            self.check(once == list(range(1, ASKS + 1)), f"the steps are {steps}")
            self.check(self.killed or not facts.all("agent_down"), f"pi died: {facts.all('agent_down')}")
            begun, over = len(facts.all("alarm")), len(facts.all("alarm_over"))
            self.check(begun == over, f"{begun} alarms, {over} are over")

    def _logs(self, logs: Path, run_id: str, facts: Facts) -> None:
        for path in [*logs.glob("*.jsonl"), *logs.glob("sessions/*.jsonl")]:
            whole = path.read_bytes()
            if path.parent.name == "sessions" and self.kept and (self.greedy or self.killed):
                whole = whole[: whole.rfind(b"\n") + 1]  # pi had no room, and no time, for more: a start would mend it
            self.check(not whole or whole.endswith(b"\n"), f"{path.name} ends in half a line")
            for line in whole.splitlines():
                with contextlib.suppress(ValueError):
                    json.loads(line)
                    continue
                self.wrong.append(f"{path}: {line[:100]!r}")
        told = list(entries(logs / "_runtime.jsonl"))
        types = Counter(entry["type"] for entry in told)
        ticks = [entry["data"]["number"] for entry in told if entry.get("event") == "tick"]
        self.check(
            ticks == list(range(1, len(ticks) + 1)) and len(ticks) > 0, f"the ticks are {ticks[:5]} … {ticks[-5:]}"
        )
        if not (self.kept and self.greedy):  # else there may be no room even for these
            self.check(types["alarm"] > 0, "the run's log has no alarm")
            self.check(types["run_ended"] == 1, "the run's log does not say that it ended")
        seqs = [entry["seq"] for entry in entries(logs / "worker.jsonl")]
        self.check(seqs == list(range(1, len(seqs) + 1)), f"the agent's log has {seqs}")
        path = logs / "sessions" / "worker.jsonl"  # none where the disk was full before pi was started
        session = path.read_text(encoding="utf-8") if path.exists() or not self.kept else ""
        found = Counter(seqs_in(session))
        self.check(all(count == 1 for count in found.values()), f"messages in the session: {found}")
        if not self.kept:
            messages = {entry["seq"] for entry in entries(logs / "worker.jsonl") if entry["type"] == "message"}
            self.check(
                set(found) == messages, f"messages in the session: {sorted(found)}, in the log: {sorted(messages)}"
            )
            for number in range(1, ASKS + 1):
                self.check(json.dumps(reply(number)) in session, f"the session lacks the answer {number}")
        left = [str(path) for path in logs.rglob("*reserve*")]
        self.check(not left, f"left behind: {left}")


class Facts:
    """What the program has told."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def all(self, what: str) -> list[dict[str, Any]]:
        lines = [line for line in self._program.said.splitlines(True) if line.startswith("@{") and line.endswith("}\n")]
        return [fact for fact in (json.loads(line[1:]) for line in lines) if fact["what"] == what]

    def over(self) -> bool:
        """Whether no alarm stands."""
        return len(self.all("alarm")) == len(self.all("alarm_over"))

    async def told(self, what: str, count: int = 1) -> dict[str, Any]:
        """Wait until it has told ``what`` so often; the last of these."""

        def enough() -> bool:
            assert self._program.process.returncode is None or len(self.all(what)) >= count, self._program.said
            return len(self.all(what)) >= count

        try:
            await until(enough, 60, f"{what} told {count} times")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self._program.said}") from None
        return self.all(what)[count - 1]


@contextlib.contextmanager
def mounted(path: Path) -> Iterator[None]:
    """A small disk at ``path``, in this mount namespace."""
    path.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "ramure-tests", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def filled(disk: SmallDisk, greedy: bool) -> Iterator[None]:
    """While in the block, the disk is full."""
    disk.fill()
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.005):
            disk.fill()

    filling = threading.Thread(target=go_on)
    if greedy:
        filling.start()
    try:
        yield
    finally:
        stop.set()
        if greedy:
            filling.join()
        disk.free()


async def trials(first: int, count: int, pi: str, patience: float) -> list[Trial]:
    toolchain = await asyncio.to_thread(_installed, pi)
    done = []
    for seed in range(first, first + count):
        trial = Trial(seed, patience)
        await trial.run(toolchain)
        print(trial, flush=True)
        done.append(trial)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edges.full_disks", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(100_000))
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("--pi", default="toolchain")
    parser.add_argument("--patience", type=float, default=1.0, help="so many times as long may things take")
    options = parser.parse_args()
    done = asyncio.run(trials(options.seed, options.n, options.pi, options.patience))
    right = sum(not trial.wrong for trial in done)
    print(f"{right} of {len(done)} as expected; seed {options.seed}, {options.pi}")
    return 0 if right == len(done) else 1


if __name__ == "__main__":
    sys.exit(main())
