"""Mutated frames of an extension, of all kinds and at every leaf: no traceback, no hang, no crash, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import random
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from ramure import agent, agent_process, current_runtime, spawn, wait
from ramure.runtime.errors import AgentDied, ProcessCancelled
from ramure.supervisors import Backoff
from ramure.testing import InProcessHarness, Text
from tests.agents.test_gateway import HELLO
from tests.hostile.test_floods import dial
from tests.hostile.victim import Handing
from tests.scale import SOAK, examples, long_in_a_soak

FRAMES = 100_000
BATCH = 40
"""Frames of one connection: fewer than those after which one that sends none is closed."""

VECTORS = Path(__file__).parents[1] / "agents" / "vectors" / "frames.json"
SOUND: list[dict[str, Any]] = [each for each in json.loads(VECTORS.read_text())["sound"] if each["type"] != "hello"] + [
    {"type": "report", "n": 1, "kind": kind, "data": data}
    for kind, data in {
        "state": {"state": "busy"},
        "user": {"seq": None, "text": "hi"},
        "assistant": {
            "text": "a", "tool_calls": [{"id": "1", "name": "x"}], "stop_reason": "stop", "error": None, "model": "m",
            "provider": "p", "usage": {"input": 1, "output": 2, "cost": {"total": 0.1}},
        },
        "run_end": {"seqs": [1], "text": "a", "stop_reason": "stop", "error": None},
        "run_failed": {"seqs": [1], "text": "", "stop_reason": "error", "error": "529 overloaded", "run": "l/1", "model": "p/m"},
        "tool_call": {"call_id": "e/c", "tool_call_id": "c", "name": "work", "arguments": {"text": "x"}},
        "tool_cancel": {"call_id": "e/c"},
        "tool_start": {"tool_call_id": "c", "name": "bash", "arguments": {}},
        "tool_end": {"tool_call_id": "c", "name": "bash", "ok": True, "text": "x"},
        "problem": {"code": "not_started", "message": "m", "seq": 1, "given_up": False},
    }.items()
]  # fmt: skip

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**64, 10**400, 0.5, -0.0, 1e308, "", "x", "\x00", "\ud800", "\u2028", "é" * 50,
    "x" * 5000, "__proto__", "../../etc/passwd", "\x1b]0;x\x07", [], {}, [[]], [None] * 50, {"": ""}, {"__class__": "x"}, [1, "1", None],
    ["x" * 4097], "busy", "idle", "401 Unauthorized", "e/c", "l+2", "[ramure 1] x", "1e999",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each part of a frame, as its container and its key."""
    found, ahead = [], [value]
    while ahead:
        part = ahead.pop()
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            found.append((part, key))
            if isinstance(part[key], dict | list):
                ahead.append(part[key])
    return found


def mutated(chosen: random.Random, frame: dict[str, Any]) -> str | bytes:
    """A frame with some changes: mostly one that is JSON still."""
    frame = copy.deepcopy(frame)
    for _ in range(chosen.choice((0, 1, 1, 1, 2, 3))):
        spots = places(frame)
        if not spots:
            break
        part, key = chosen.choice(spots)
        match chosen.randrange(6):
            case 0 | 1 | 2:
                part[key] = copy.deepcopy(chosen.choice(ODD))
            case 3:
                del part[key]
            case 4:
                part[key] = [part[key]]
            case _:
                other, name = chosen.choice(places(copy.deepcopy(chosen.choice(SOUND))))
                part[key] = other[name]
    text = json.dumps(frame)
    match chosen.randrange(40):
        case 0:
            return text[: chosen.randrange(len(text))]
        case 1:
            at = chosen.randrange(len(text))
            return text[:at] + chosen.choice('{}[]",:\\0x\x00é') + text[at + 1 :]
        case 2:
            return text.encode()
        case 3:
            return text.replace("1", chosen.choice(("1e999", "NaN", "-Infinity", "01", "1" * 5000)))
        case 4:
            return text + text
        case 5:
            return "[" * chosen.randrange(2000) + text
    return text


class Fuzz:
    """One agent after another whose extension lies. ``seed`` repeats it."""

    def __init__(self, harness: InProcessHarness, seed: int) -> None:
        self.chosen = random.Random(seed)
        self.launches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.image = Handing(harness, self.launches.put_nowait)
        self.frames = 0
        self.ends: list[object] = []

    async def batch(self, port: int, config: dict[str, Any]) -> None:
        """One connection: a hello, which may be mutated, and mutated frames."""
        hello = {**HELLO, "launch": config["launch"], "agent": "turned", "marks": []}
        frames = [mutated(self.chosen, hello) if self.chosen.random() < 0.1 else json.dumps(hello)]
        n = 0
        for _ in range(BATCH):
            frame = self.chosen.choice(SOUND)
            if frame["type"] == "report" and self.chosen.random() < 0.8:
                n += 1
                frame = {**frame, "n": n}
            frames.append(mutated(self.chosen, frame))
        async with dial(port, config["token"], max_queue=None, close_timeout=1) as client:
            with contextlib.suppress(ConnectionClosed):
                for text in frames:
                    await client.send(text)
                await client.send('{"type":"ping"}')
                while json.loads(await asyncio.wait_for(client.recv(), 30)) != {"type": "pong"}:
                    pass
                self.frames += len(frames) - 1
        self.frames += 1  # of a connection that was closed: how many more were read is not known

    async def agents(self, wanted: int) -> None:
        """Each until it ends, which a report may bring about, or enough was sent."""
        port = current_runtime().gateway.port

        @agent_process(image=self.image)
        async def life() -> None:
            turned = await agent("turned", max_restarts=1000, backoff=Backoff(first=0), retry_for=1)

            @turned.on("work")
            async def work(text: str) -> str:
                """Works."""
                return text

            await wait()

        while self.frames < wanted:
            handle = spawn(life)
            config = await asyncio.wait_for(self.launches.get(), 30)
            while self.frames < wanted and not handle.ended:
                config = config if self.launches.empty() else self.launches.get_nowait()
                await self.batch(port, config)
            handle.cancel()
            try:
                await handle
            except Exception as error:
                self.ends.append(error)
            except asyncio.CancelledError:
                continue
            while not self.launches.empty():
                self.launches.get_nowait()


@long_in_a_soak
async def test_no_frame_of_an_extension_stops_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path))
    wanted = examples(FRAMES) if SOAK else 2000
    harness = InProcessHarness(lambda _: Text("Yes."))
    fuzz = Fuzz(harness, int(time.time()) if SOAK else 1)
    loose: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loose.append(context))

    @agent_process(image=harness.image)
    async def main() -> None:
        other = await agent("other")
        await fuzz.agents(wanted)
        assert await other.ask("Are you there?") == "Yes."
        assert other.restarts == 0

    with caplog.at_level(logging.WARNING):
        await main()
    print(f"{fuzz.frames} frames, {len(fuzz.ends)} agents ended")
    assert not loose
    assert [repr(end) for end in fuzz.ends if not isinstance(end, AgentDied | ProcessCancelled)] == []
    [log] = tmp_path.glob("logs/*/_runtime.jsonl")
    crashes = [entry for entry in map(json.loads, log.read_text().splitlines()) if entry["type"] == "crash_report"]
    assert {entry["reason"].split(":")[1].strip() for entry in crashes} <= {"ModelError", "AgentDied", "PiExited"}
