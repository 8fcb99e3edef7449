"""One trial: an agent calls a tool, messages are sent to it, commands run beside it; a link or a host breaks meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ramure import agent, agent_process, current_runtime, machine, receive
from ramure.actors import Down
from ramure.agents.pi.session_file import seqs_in
from ramure.agents.pi.toolchain import Toolchain
from ramure.exits import format_exit
from ramure.machines.base import Machine
from ramure.machines.errors import ExecTimeout, LinkLost, MachineDown, MachineError, MachineStopped
from ramure.runtime.log.files import entries
from ramure.supervisors import Backoff
from ramure.testing import Delay, ScriptedModel, Text, ToolCall
from ramure.testing.conversation import Conversation
from ramure.testing.leaks import new_run
from tests.delivery.trial import environment
from tests.e2e.kit import Stage, until
from tests.links.host import Host

__all__ = ["Result", "Row", "run"]

LIMIT = 120.0
"""Seconds after the fault in which all must go on; one that takes longer hangs."""
MORE = 3
"""Calls and commands that must succeed before the fault, and again after it."""
AT_ONCE = 3
"""Commands that run all the time, beside each other."""


@dataclass(frozen=True)
class Row:
    """What happens, and what is expected of it."""

    name: str
    fault: Callable[[Host], None]
    noticed_within: float | None
    """Seconds in which it is to be noticed; None: nobody is to notice it."""
    dead_after: float = 15.0
    give_up_after: float = 60.0
    abandon_after: float = 600.0
    agent_downs: int = 0
    reason: str = ""
    """In the reason of ``agent_down``, or of the agent's end."""
    ends: bool = False
    """The machine counts as down, and the agent ends with it."""
    forgets: bool = False
    """The conversation's last seconds may be lost with the host, or cannot be read from it."""
    loses_commands: bool = True
    """Commands under way may be lost."""


@dataclass
class Result:
    """What was seen."""

    row: Row
    seed: int
    began: float = 0.0
    """When the fault came."""
    over: float = 0.0
    """When it was over: the link or the host was there again."""
    commands: dict[str, str] = field(default_factory=dict)
    """What each command was said to have come to, by its name."""
    files: dict[str, int] = field(default_factory=dict)
    """The files that were said to be written, and their sizes."""
    noticings: list[float] = field(default_factory=list)
    """When something was noticed."""
    lost: int = 0
    """How often the agent's connection was lost."""
    back: float | None = None
    """When it was last there again."""
    downs: list[str] = field(default_factory=list)
    """The reasons of ``agent_down``."""
    ending: str = ""
    """The reason for which the agent ended, if it did."""
    ended: float = 0.0
    """When that was."""
    machine_down: str = ""
    """The reason of the machine's ``Down``, if it got one."""
    messages: int = 0
    calls: int = 0
    left_after: float | None = None
    """Seconds after the agent's end in which the pi that nobody could reach ended by itself."""
    wrong: list[str] = field(default_factory=list)

    @property
    def noticed(self) -> float | None:
        """Seconds from the fault until something was noticed; where the agent ends, until that."""
        if self.ended:
            return self.ended - self.began
        return min(self.noticings) - self.began if self.noticings else None

    @property
    def back_after(self) -> float | None:
        """Seconds from the end of the fault until the agent was connected again."""
        return self.back - self.over if self.lost and self.back is not None else None

    def count(self, outcome: str) -> int:
        return sum(each == outcome for each in self.commands.values())

    def __str__(self) -> str:
        noticed = "-" if self.noticed is None else f"{self.noticed:.1f} s"
        back = "-" if self.back_after is None else f"{self.back_after:.1f} s"
        verdict = "ok" if not self.wrong else "WRONG: " + "; ".join(self.wrong)
        return (
            f"{self.row.name:<36} noticed {noticed:>7}  back {back:>7}  commands {dict(Counter(self.commands.values()))}  "
            f"files {len(self.files)}  connection lost {self.lost}  agent_down {self.downs}  "
            f"messages {self.messages}  calls {self.calls}  {self.ending}  {verdict}"
        )


def model(conversation: Conversation) -> Any:
    """It works with the host's shell, and calls the tool every third time, until it is told to end."""
    if any("That is enough." in text for text in conversation.user_texts):
        return Text("Done.")
    turn = len(conversation.tool_results)
    call = (
        ToolCall("note", {"number": turn}) if turn % 3 == 2 else ToolCall("bash", {"command": "echo at work >>by-pi"})
    )
    return [Delay(0.1), call]


async def run(row: Row, seed: int, toolchain: Toolchain, patience: float = 1.0) -> Result:
    """One trial. ``patience``: so many times as long may noticing take (on a machine that does much else)."""
    result = Result(row, seed)
    with new_run(grace=20.0) as home:
        stage = Stage(toolchain, home)
        host = await asyncio.to_thread(Host, stage.run.directory)
        try:
            with environment(stage):
                async with ScriptedModel(model, host=host.outside) as served:
                    stage.serve(served)
                    run_id = await asyncio.wait_for(_run(result, stage, host, random.Random(seed)), 2 * LIMIT)
                await _nothing_there(result, host)
            await asyncio.to_thread(_measure, result, stage, run_id, patience)
        except (AssertionError, TimeoutError, MachineError) as error:
            result.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            await asyncio.to_thread(host.close)
        leaks = await asyncio.to_thread(home.wait_until_clean)
        result.wrong += [f"left behind: {leak}" for leak in leaks if "host-tmp" not in str(leak)]
    return result


async def _run(result: Result, stage: Stage, host: Host, chosen: random.Random) -> str:
    row = result.row
    image = host.image(
        workdir=str(stage.work), dead_after=row.dead_after, give_up_after=row.give_up_after,
        abandon_after=row.abandon_after,
        env={**stage.environ, "TMPDIR": str(host.temporary)},
    )  # fmt: skip

    @agent_process(image=image)
    async def main() -> str:
        run = current_runtime()
        box = await machine()
        worker = await agent("worker", machine=box, max_restarts=10, backoff=Backoff(first=0.1))
        box.monitor()
        worker.events.subscribe(lambda event: _on_event(result, event))
        ended = asyncio.Event()

        @worker.on_exit
        def on_exit(reason: object) -> None:
            result.ending = format_exit(reason).splitlines()[0]
            result.ended = time.time()
            ended.set()

        @worker.on("note")
        async def note(number: int) -> str:
            """Takes a note."""
            result.calls += 1
            return f"noted {number}"

        await worker.send("Work, and take notes.")
        stop = asyncio.Event()
        there = await box.machine()
        work = [asyncio.create_task(_commands(there, f"c{n}", result, chosen, stop)) for n in range(AT_ONCE)]
        work += [asyncio.create_task(_endless(there, result, stop)), asyncio.create_task(_files(there, result, stop))]
        work += [asyncio.create_task(_messages(worker, result, stop, ended))]
        try:
            await through_the_fault(worker, ended)
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*work), LIMIT)
        if not row.ends:
            await worker.send("That is enough.")
            await _settled(worker, ended)
        return run.execution_id

    async def through_the_fault(worker: Any, ended: asyncio.Event) -> None:
        await _goes_on(result, worker, ended)
        result.began = time.time()
        await asyncio.to_thread(row.fault, host)
        result.over = time.time()
        if row.ends:
            await asyncio.wait_for(ended.wait(), LIMIT)
            down = await receive(Down, timeout=10)
            result.machine_down = format_exit(down.reason).splitlines()[0]
        else:
            await _goes_on(result, worker, ended)

    return await main()


def _on_event(result: Result, event: Any) -> None:
    if event.type == "agent_down":
        result.downs.append(event.data["reason"].splitlines()[0])


async def _goes_on(result: Result, worker: Any, ended: asyncio.Event) -> None:
    """Wait until so many more calls and commands have succeeded."""
    calls, commands = result.calls + MORE, result.count("done") + MORE

    def enough() -> bool:
        return ended.is_set() or (result.calls >= calls and result.count("done") >= commands)

    await until(enough, LIMIT, f"the agent ({worker.state}) and commands go on: {result}")
    assert not ended.is_set() or result.row.ends, f"the agent ended: {result.ending}"


async def _settled(worker: Any, ended: asyncio.Event) -> None:
    actor = worker._record.ref._cell.actor
    await until(
        lambda: ended.is_set() or (worker.state == "idle" and not actor.delivery.undelivered), LIMIT, "it settles"
    )


async def _commands(there: Machine, name: str, result: Result, chosen: random.Random, stop: asyncio.Event) -> None:
    """One command after the other, each of which leaves a line when it begins and one when it ends."""
    number = 0
    while not stop.is_set():
        key = f"{name}-{number}"
        number += 1
        await _command(there, key, chosen.uniform(0.0, 1.5), None, result)
        if result.commands[key] == "down":
            return


async def _endless(there: Machine, result: Result, stop: asyncio.Event) -> None:
    """Commands that never come to their second line, for their time is up before."""
    number = 0
    while not stop.is_set():
        key = f"t-{number}"
        number += 1
        await _command(there, key, 10.0, 1.0, result)
        if result.commands[key] == "down":
            return


async def _command(there: Machine, key: str, seconds: float, timeout: float | None, result: Result) -> None:
    command = f"echo {key} >>begun; sleep {seconds:.2f}; echo {key} >>ended"
    try:
        done = await there.exec(command, timeout=timeout)
        result.commands[key] = "done" if done.ok else f"status {done.exit_code}: {done.stderr.strip()}"
    except LinkLost:
        result.commands[key] = "lost"
        if result.began:
            result.noticings.append(time.time())
    except (MachineDown, MachineStopped):  # the agent's owner stops it when it has seen that it is down
        result.commands[key] = "down"
    except ExecTimeout:
        result.commands[key] = "timed out"


async def _files(there: Machine, result: Result, stop: asyncio.Event) -> None:
    """Files are written, each with a size of its own."""
    number = 0
    while not stop.is_set():
        name, size = f"file-{number}", 100_000 + number
        number += 1
        try:
            await there.write_file(name, b"x" * size)
            result.files[name] = size
        except LinkLost:
            result.noticings.append(time.time())
        except (MachineDown, MachineStopped):
            return
        await asyncio.sleep(0.3)


async def _messages(worker: Any, result: Result, stop: asyncio.Event, ended: asyncio.Event) -> None:
    while not (stop.is_set() or ended.is_set()):
        await worker.send(f"message {result.messages}")
        result.messages += 1
        await asyncio.sleep(0.5)


async def _nothing_there(result: Result, host: Host) -> None:
    """What is left on the host when the program has ended. One that could not be reached has to see to it itself."""
    began = time.monotonic()
    try:
        await until(lambda: not host.processes(), LIMIT, "nothing of the run goes on there")
    except AssertionError as error:
        raise AssertionError(f"{error}: {host.processes()}") from None
    if result.row.ends:
        await until(lambda: not host.files(), LIMIT, "nothing of the run is left there")
        result.left_after = time.monotonic() - began
    if files := host.files():
        result.wrong.append(f"left in the host's TMPDIR: {files}")


def _measure(result: Result, stage: Stage, run_id: str, patience: float) -> None:
    row, wrong = result.row, result.wrong
    log = list(entries(stage.logs(run_id) / "worker.jsonl"))
    for entry in log:
        if entry["type"] == "connection" and entry["ts"] > result.began:
            if entry["data"]["state"] == "lost":
                if entry["data"]["reason"].startswith("the run ended"):
                    continue
                result.lost += 1
                result.noticings.append(entry["ts"])
            else:
                result.back = entry["ts"]
    _check_noticing(result, patience)
    _check_effects(result, stage.work)
    session = (stage.logs(run_id) / "sessions" / "worker.jsonl").read_text(encoding="utf-8")
    sent, there = [entry["seq"] for entry in log if entry["type"] == "message"], seqs_in(session)
    if len(set(there)) < len(there):
        wrong.append(f"messages twice in the conversation: {[s for s, n in Counter(there).items() if n > 1]}")
    if there != sent and not row.ends:  # the copy of a conversation on a host that is gone is of some moment
        wrong.append(f"of messages {sent}, the conversation has {there}")
    effects = Counter(entry["data"]["call_id"] for entry in log if entry["type"] == "tool_call")
    called = set(_calls_of(session, "note"))
    if twice := [call for call, count in effects.items() if count != 1]:
        wrong.append(f"calls that took effect twice: {twice}")
    if not row.ends and (lacking := called - set(effects)):
        wrong.append(f"calls in the conversation without effect: {lacking}")
    if not row.forgets and (lacking := set(effects) - called):
        wrong.append(f"calls with effect that the conversation does not have: {lacking}")


def _calls_of(session: str, tool: str) -> Iterator[str]:
    """The ids of the calls of a tool in a session file, as the log has them."""
    for line in session.splitlines():
        entry = json.loads(line)
        message = entry.get("message") or {}
        if message.get("role") == "assistant" and message.get("stopReason") not in ("aborted", "error"):
            for block in message["content"]:
                if block["type"] == "toolCall" and block["name"] == tool:
                    yield f"{entry['id']}/{block['id']}"


def _check_noticing(result: Result, patience: float) -> None:
    row, wrong = result.row, result.wrong
    if row.noticed_within is None and (result.noticings or result.downs):
        wrong.append(f"it was noticed, after {result.noticed:.1f} s")
    if row.noticed_within is not None and (result.noticed is None or result.noticed > row.noticed_within * patience):
        wrong.append(f"noticed after {result.noticed} s, not within {row.noticed_within:g} s")
    if row.ends and "MachineDown" not in result.machine_down:
        wrong.append(f"a monitor of the machine got {result.machine_down!r}")
    if len(result.downs) != row.agent_downs:
        wrong.append(f"{len(result.downs)} agent_down, not {row.agent_downs}: {result.downs}")
    if bool(result.ending) != row.ends:
        wrong.append(f"the agent {'ended: ' + result.ending if result.ending else 'did not end'}")
    for reason in [*result.downs, *([result.ending] if row.ends else [])]:
        if row.reason not in reason:
            wrong.append(f"the reason is {reason!r}")


def _check_effects(result: Result, work: Path) -> None:
    """Compare what commands and files were said to be with what they are."""
    wrong = result.wrong
    begun, ended = (Counter((work / name).read_text().split()) for name in ("begun", "ended"))
    if twice := [key for counts in (begun, ended) for key, count in counts.items() if count > 1]:
        wrong.append(f"commands that ran twice: {twice}")
    for key, outcome in result.commands.items():
        if outcome not in ("done", "timed out", "lost", "down"):
            wrong.append(f"command {key}: {outcome}")
        if outcome == "done" and not (begun[key] and ended[key]):
            wrong.append(f"{key} was reported as done, and was not")
        if outcome == "timed out" and ended[key]:
            wrong.append(f"{key} was reported as killed, and came to its end")
    if result.count("lost") and not result.row.loses_commands:
        wrong.append(f"{result.count('lost')} commands were lost")
    for name, size in result.files.items():
        if os.path.getsize(work / name) != size:
            wrong.append(f"{name} was reported as written, and has {os.path.getsize(work / name)} bytes of {size}")
