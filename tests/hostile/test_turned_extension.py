"""An extension whose agent was turned: it has its token, and says what it likes. Other agents go on, and so does the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from ramure import Agent, agent, agent_process, current_runtime, spawn, wait
from ramure.agents.delivery import MOST_CALLS
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, Text, ToolCall
from tests.agents.test_gateway import HELLO
from tests.hostile.test_floods import dial
from tests.hostile.victim import Handing

Frames = list[dict[str, Any] | str | bytes]


def report(n: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"type": "report", "n": n, "kind": kind, "data": data}


def call(n: int, call_id: str = "", name: str = "work", arguments: Any = None) -> dict[str, Any]:
    made = {"text": "x"} if arguments is None else arguments
    return report(n, "tool_call", call_id=call_id or f"c{n}", name=name, arguments=made)


OUTCOME: dict[str, Any] = {"text": "Yes!", "stop_reason": "stop", "error": None}
ENTRY = {"seq": 1, "ts": 0, "type": "message", "data": {"text": "evil"}, "origin": "run"}

SAYS: dict[str, Callable[[], Frames]] = {
    "a second hello": lambda: [HELLO],
    "the hello of another agent": lambda: [{**HELLO, "agent": "other"}],
    "frames of the run": lambda: [
        {"type": "welcome", "reports": 9, "upto": 9}, {"type": "entry", "prev": 0, "entry": ENTRY},
        {"type": "tool_result", "call_id": "c", "ok": True, "text": ""}, {"type": "reports_ack", "n": 9},
        {"type": "shutdown", "reason": "evil"},
    ],
    "a report far ahead": lambda: [report(2**53 - 1, "state", state="busy")],
    "a report again and again": lambda: [report(1, "state", state="busy")] * 300,
    "an acknowledgement of what was never sent": lambda: [{"type": "ack", "applied": 2**53 - 1}],
    "messages that it never got": lambda: [{"type": "delivered", "seqs": [*range(1, 50_000)], "marks": []}],
    "marks for messages that it never got": lambda: [{"type": "delivered", "seqs": [1, 2, 3], "marks": ["aaaaaaaa"] * 9}],
    "a gap again and again": lambda: [{"type": "resend", "after": 0}] * 300,
    "a gap behind the end": lambda: [{"type": "resend", "after": 2**53 - 1}],
    "a tool that nobody has": lambda: [call(n, name=f"evil{n}") for n in range(1, 50)],
    "a tool of another agent": lambda: [call(1, name="mine")],
    "a tool named as a path": lambda: [call(1, name="../../work")],
    "arguments of another kind": lambda: [call(1, arguments={"text": [1, {"a": None}]})],
    "arguments that are no object": lambda: [call(1, arguments=[1])],
    "arguments with the names of Python's own": lambda: [call(1, arguments={"__class__": "x", "self": 1, "text": "x"})],
    "a call under the same id, at once": lambda: [call(n, "same") for n in range(1, 30)],
    "the cancelling of calls that are not its own": lambda: [
        report(n, "tool_cancel", call_id=f"{n}/call_1") for n in range(1, 100)
    ],
    "the ends of runs that never were": lambda: [report(1, "run_end", seqs=[*range(10_000)], **OUTCOME)],
    "busy and idle in turn": lambda: [report(n, "state", state=("busy", "idle")[n % 2]) for n in range(1, 301)],
    "tools that never end": lambda: [report(n, "tool_start", tool_call_id=f"{n}", name="x") for n in range(1, 3000)],
    "terminal escapes": lambda: [report(1, "user", seq=None, text="\x1b]0;evil\x07\x1b[2J\x00\ud800")],
    "a failure that no retry helps": lambda: [
        report(1, "run_failed", seqs=[1], run="r", text="", stop_reason="error", error="401 Unauthorized")
    ],
    "failures that never were": lambda: [
        report(n, "run_failed", seqs=[1], run=f"r{n}", text="", stop_reason="error", error="529 overloaded")
        for n in range(1, 30)
    ],
    "a goodbye, and more": lambda: [{"type": "bye", "reason": "quit"}, report(1, "state", state="busy")],
    "a goodbye of a million letters": lambda: [{"type": "bye", "reason": "x" * 1_000_000}],
    "errors": lambda: [{"type": "error", "code": "x" * 10_000, "message": "y" * 100_000}] * 20,
    "kinds that the run alone makes": lambda: [report(n, "agent_gave_up") for n in range(1, 100)],
    "50 frames that are none": lambda: ["{"] * 50,
    "binary frames": lambda: [b"\x00" * 100] * 50,
}  # fmt: skip


class Scene:
    """``other`` works beside, ``turned`` is in the attacker's hands."""

    def __init__(self) -> None:
        self.harness = InProcessHarness(lambda c: ToolCall("mine") if c.turn == 1 else Text("Yes."))
        self.launches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.image = Handing(self.harness, self.launches.put_nowait)
        self.done: list[str] = []
        self.loose: list[Any] = []

    async def play(self, frames: Frames, hello: dict[str, Any]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.loose.append(context))

        @agent_process(image=self.image)
        async def life() -> None:
            turned = await agent("turned", max_restarts=1000, backoff=Backoff(first=0))

            @turned.on("work")
            async def work(text: str) -> str:
                """Works."""
                self.done.append(text)
                return text

            await wait()

        @agent_process(image=self.harness.image)
        async def main() -> None:
            other = await agent("other")
            under_way = asyncio.Event()
            go_on = asyncio.Event()

            @other.on("mine")
            async def mine() -> str:
                """Works for the other."""
                under_way.set()
                await go_on.wait()
                return "done"

            asked = asyncio.ensure_future(other.ask("Work."))
            await under_way.wait()
            handle = spawn(life)
            await self.attack(frames, hello)
            go_on.set()
            assert await asyncio.wait_for(asked, 30) == "Yes."
            await self.check(other)
            handle.cancel()
            with contextlib.suppress(Exception):
                await handle

        await main()

    async def attack(self, frames: Frames, hello: dict[str, Any]) -> None:
        config = await asyncio.wait_for(self.launches.get(), 30)
        async with dial(current_runtime().gateway.port, config["token"], max_queue=None, close_timeout=1) as client:
            with contextlib.suppress(ConnectionClosed):
                await client.send(json.dumps({**HELLO, "launch": config["launch"], "agent": "turned", **hello}))
                await client.send('{"type":"ack","applied":0}')
                while not hello and json.loads(await client.recv()).get("entry", {}).get("type") != "tool":
                    pass
                for frame in frames:
                    await client.send(json.dumps(frame) if isinstance(frame, dict) else frame)
                await client.send('{"type":"ping"}')
                while json.loads(await asyncio.wait_for(client.recv(), 30)) != {"type": "pong"}:
                    pass

    async def check(self, other: Agent) -> None:
        assert await other.ask("Are you there?") == "Yes."
        assert (other.restarts, other.state) == (0, "idle")
        assert self.loose == []


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))
    return Scene()


def crashes(home: Path) -> set[str]:
    """Why what died did."""
    [log] = home.glob("logs/*/_runtime.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return {
        entry["reason"].partition(": ")[2].partition(":")[0] for entry in entries if entry["type"] == "crash_report"
    }


@pytest.mark.parametrize("what", SAYS)
async def test_whatever_it_says_others_go_on(
    what: str, scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.play(SAYS[what](), {})
    assert crashes(tmp_path) <= {"ModelError", "AgentDied", "PiExited"}
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR and "turned" not in r.getMessage()]
    if what == "a call under the same id, at once":
        assert scene.done == ["x"]


@pytest.mark.parametrize(
    "hello",
    [
        {"protocol": 99}, {"applied": 10**9}, {"delivered": [10**9], "marks": ["aaaaaaaa"]}, {"delivered": [1, 2], "marks": []},
        {"launch": "of nobody"}, {"launch": "+2"}, {"agent": "other"}, {"calls": [f"c{n}" for n in range(5000)]}, {"pid": 1},
        {"session_file": "/etc/passwd"}, {"pi": "9" * 10_000, "model": "\x00"}, {"state": "evil"},
    ],
    ids=lambda hello: " and ".join(hello),
)  # fmt: skip
async def test_whatever_its_hello_says_others_go_on(hello: dict[str, Any], scene: Scene, tmp_path: Path) -> None:
    await scene.play([], hello)
    assert crashes(tmp_path) <= {"ModelError", "AgentDied", "PiExited"}


async def test_calls_beyond_those_that_may_be_under_way_are_answered_so(scene: Scene) -> None:
    started = asyncio.Event()
    answers: list[dict[str, Any]] = []

    @agent_process(image=scene.image)
    async def main() -> None:
        starting = asyncio.ensure_future(agent("turned"))
        config = await asyncio.wait_for(scene.launches.get(), 30)
        async with dial(current_runtime().gateway.port, config["token"], max_queue=None, close_timeout=1) as client:
            await client.send(json.dumps({**HELLO, "launch": config["launch"], "agent": "turned"}))
            await client.send('{"type":"ack","applied":0}')
            turned = await starting

            @turned.on("work")
            async def work(text: str) -> str:
                """Works."""
                await started.wait()
                return text

            for n in range(1, MOST_CALLS + 6):
                await client.send(json.dumps(call(n)))
            while len(answers) < 5:
                frame = json.loads(await asyncio.wait_for(client.recv(), 30))
                if frame["type"] == "tool_result":
                    answers.append(frame)
            started.set()

    await main()
    assert {answer["text"] for answer in answers} == {f"{MOST_CALLS:,} calls are under way: wait for some of them"}
