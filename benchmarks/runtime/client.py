"""Minimal agents, in a process of their own.

One line of JSON on stdin is one command, ``{"do": "agent" | "count", ...}``; what came of each is one line on stdout. An
agent says hello, takes its log in, and calls the tool ``echo`` as its command says. It ends when the run says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ramure.agents.wire import MAX_FRAME, PROTOCOL, SUBPROTOCOL, TOKEN_PREFIX, Ack, Bye, Hello, Ping, encode

CALM = 100
"""Round trips before those that count."""


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def opened(url: str, *protocols: str) -> ClientConnection:
    return await connect(
        url,
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        compression=None,
        ping_interval=None,
        open_timeout=60,
        max_size=MAX_FRAME,
        proxy=None,
    )


class Agent:
    """One agent. ``calls``: this many, timed, each followed by the same text to the bare websockets server at ``echo``,
    which sends it back. ``pause``: for ever, a call and such a pause; before that ``fill`` reports that are only events. None of
    these: it does what messages say."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.config = command["config"]
        self.calls = command.get("calls", 0)
        self.pause = command.get("pause")
        self.fill = command.get("fill", 0)
        self.echo = command.get("echo", "")
        self.text = command["text"]
        self.applied = self.made = self.n = 0
        self.read_at = 0.0
        self.answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.runs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.has_tool = asyncio.Event()

    async def live(self) -> None:
        config = self.config
        self.socket = await opened(config["url"], SUBPROTOCOL, TOKEN_PREFIX + config["token"])
        name = config["agent"]
        hello = Hello(PROTOCOL, config["launch"], name, "bench", "none", os.getpid(), None, None, "idle", 0, (), ())
        await self.socket.send(encode(hello))
        helpers = [asyncio.create_task(self.beat()), asyncio.create_task(self.work())]
        try:
            async for text in self.socket:
                frame = json.loads(text)
                self.read_at = time.perf_counter()
                if not await self.take(frame):
                    break
        except Exception as error:  # told, and counted by who reads it
            tell(failed=name, error=repr(error))
        finally:
            for helper in helpers:
                helper.cancel()
            await self.socket.close()
        tell(ended=name)

    async def take(self, frame: dict[str, Any]) -> bool:
        """A frame from the run; False when it is to end."""
        match frame["type"]:
            case "tool_result":
                self.answers.put_nowait(frame)
            case "entry":
                self.applied = frame["entry"]["seq"]
                if frame["entry"]["type"] == "tool":
                    self.has_tool.set()
                await self.socket.send(encode(Ack(self.applied)))
                if frame["entry"]["type"] == "message":
                    mark = frame["entry"]["data"].get("mark", "")
                    await self.socket.send(json.dumps({"type": "delivered", "seqs": [self.applied], "marks": [mark]}))
                    self.runs.put_nowait(frame["entry"])
            case "welcome":
                await self.socket.send(encode(Ack(self.applied)))
            case "shutdown":
                await self.socket.send(encode(Bye("quit")))
                return False
        return True

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(self.config["heartbeat"])
            await self.socket.send(encode(Ping()))

    async def call(self) -> None:
        self.made += 1
        await self.socket.send(self.calls_echo())
        answer = await self.answers.get()
        if not answer["ok"] or answer["call_id"] != str(self.made) or answer["text"] != self.text:
            tell(failed=self.config["agent"], error=f"the answer {answer}")

    async def converse(self) -> None:
        """Answers ``ask``, and ``trips N`` after so many calls, as pi would; other messages it only takes."""
        while True:
            entry = await self.runs.get()
            verb, _, count = entry["data"]["text"].partition(" ")
            if verb not in ("ask", "trips"):
                continue
            await self.tell("state", {"state": "busy"})
            await self.tell("user", {"seq": entry["seq"], "text": entry["data"]["text"]})
            for _ in range(int(count or 0)):
                await self.call()
            outcome = {"text": "Done.", "stop_reason": "stop", "error": None}
            more = {
                "tool_calls": [],
                "model": "m",
                "provider": "p",
                "usage": {"input": 10, "output": 5, "cost": {"total": 0.1}},
            }
            await self.tell("assistant", {**outcome, **more})
            await self.tell("run_end", {**outcome, "seqs": [entry["seq"]]})
            await self.tell("state", {"state": "idle"})

    async def tell(self, kind: str, data: dict[str, Any]) -> None:
        await self.socket.send(self.report(kind, **data))

    async def work(self) -> None:
        await self.has_tool.wait()
        for number in range(self.fill):
            await self.socket.send(self.report("tool_end", tool_call_id=str(number), text=self.text))
            await asyncio.sleep(0)
        if not self.echo and self.pause is None:
            await self.converse()
        if self.pause is not None:
            await asyncio.sleep(self.pause * (hash(self.config["launch"]) % 100) / 100)  # not all at once
            while True:
                await self.call()
                await asyncio.sleep(self.pause)
        times: tuple[list[float], list[float]] = ([], [])
        async with await opened(self.echo) as socket:
            for _ in range(self.calls + CALM):
                began = time.perf_counter()
                await self.call()
                times[0].append(self.read_at - began)  # both until the answer is read: what comes then is the client's
                began = time.perf_counter()
                await socket.send(self.calls_echo(again=True))
                json.loads(await socket.recv())
                times[1].append(time.perf_counter() - began)
        ours, bare = (statistics.median(each[CALM:]) for each in times)
        tell(done=self.config["agent"], ours=ours, bare=bare)

    def calls_echo(self, *, again: bool = False) -> str:
        self.n -= again  # that one goes elsewhere
        return self.report("tool_call", call_id=str(self.made), name="echo", arguments={"text": self.text})

    def report(self, kind: str, **data: Any) -> str:
        self.n += 1
        return json.dumps({"type": "report", "n": self.n, "kind": kind, "data": data})


async def main() -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    agents: list[Agent] = []
    tasks = set()
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "count":
            tell(count=sum(agent.made for agent in agents))
            continue
        agents.append(Agent(command))
        task = asyncio.create_task(agents[-1].live())
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main())
