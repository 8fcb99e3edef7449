"""Floods: of an agent that was turned, and of clients without a token. The program's memory stays within 200 MB."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from ramure.agents.wire import SUBPROTOCOL, TOKEN_PREFIX
from tests.agents.test_gateway import HELLO
from tests.hostile.victim import MEMORY, Victim

LARGE = 15 << 20

pytestmark = pytest.mark.timeout(180)


def dial(port: int, token: str, **options: Any) -> connect:
    protocols = [Subprotocol(SUBPROTOCOL), Subprotocol(TOKEN_PREFIX + token)]
    return connect(
        f"ws://127.0.0.1:{port}", subprotocols=protocols, proxy=None, compression=None, ping_interval=None, **options
    )


@contextlib.asynccontextmanager
async def in_its_place(victim: Victim, **options: Any) -> AsyncIterator[ClientConnection]:
    """Connected as the turned agent's extension."""
    config = await victim.launch()
    async with dial(victim.port, config["token"], **options) as client:
        await client.send(json.dumps({**HELLO, "launch": config["launch"], "agent": "turned"}))
        async for text in client:  # until it has its tool
            frame = json.loads(text)
            if frame["type"] in ("welcome", "entry"):
                await client.send(json.dumps({"type": "ack", "applied": frame.get("entry", {}).get("seq", 0)}))
            if frame.get("entry", {}).get("type") == "tool":
                break
        yield client


def report(n: int, kind: str, **data: Any) -> str:
    return json.dumps({"type": "report", "n": n, "kind": kind, "data": data})


async def drain(client: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in client:
            pass


async def send(client: ClientConnection, frames: list[str]) -> None:
    """All of them, or as many as are taken."""
    reading = asyncio.create_task(drain(client))
    with contextlib.suppress(ConnectionClosed):
        for frame in frames:
            await client.send(frame)
        await client.send('{"type":"ping"}')
    await asyncio.sleep(1)
    reading.cancel()
    await asyncio.wait([reading])


async def large_reports(victim: Victim, kind: str, field: str, **more: Any) -> None:
    async with in_its_place(victim) as client:
        text = "x" * LARGE
        value = {"text": text} if field == "arguments" else text
        await send(client, [report(n, kind, **{**more, field: value}) for n in range(1, 21)])


async def many_calls(victim: Victim) -> None:
    async with in_its_place(victim) as client:
        frames = [report(n, "tool_call", call_id=f"c{n}", name="work", arguments={}) for n in range(1, 30_001)]
        await send(client, frames)


async def replies_that_nobody_reads(victim: Victim) -> None:
    async with in_its_place(victim, max_queue=1) as client:
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(20):
                for n in range(1, 1001):
                    await client.send(report(n, "tool_call", call_id=f"c{n}", name="work", arguments={}))
                await asyncio.sleep(3)


async def everything_sent_again(victim: Victim) -> None:
    async with in_its_place(victim, max_queue=1) as client:
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    await client.send('{"type":"resend","after":0}')


async def usage_that_is_none(victim: Victim) -> None:
    async with in_its_place(victim) as client:
        numbers = ("1e999", "-1e999", '"many"', "1e308", "NaN", "[1]", "99999999999999999999999999")
        frames = [report(n, "assistant", text="", usage="?") for n in range(1, 31)]
        await send(client, [frame.replace('"?"', f'{{"input":{numbers[n % 7]},"cost":{{"total":{numbers[n % 7]}}}}}') for n, frame in enumerate(frames)])  # fmt: skip


async def ids_that_are_remembered(victim: Victim) -> None:
    """Each call's id is remembered, to begin none twice; each call under way, to tell what was cut."""
    async with in_its_place(victim) as client:
        calls = [report(n, "tool_call", call_id=f"{n:04096}", name=f"{n:0100}", arguments={}) for n in range(1, 20_001)]
        await send(client, calls)
        started = [report(n, "tool_start", tool_call_id=f"{n:04096}", name="x" * 5000) for n in range(20_001, 40_001)]
        await send(client, started)


async def marks_that_are_guessed(victim: Victim) -> None:
    async with in_its_place(victim) as client:
        frames = [
            json.dumps({"type": "delivered", "seqs": [*range(n * 80_000, (n + 1) * 80_000)], "marks": ["aaaaaaaa"] * 80_000})
            for n in range(60)
        ]  # fmt: skip
        await send(client, frames)


async def without_a_token(victim: Victim) -> None:
    """300 at once, each of whom is refused, and sends 15 MiB while the connection closes."""

    async def one() -> None:
        with contextlib.suppress(ConnectionClosed, OSError, InvalidHandshake, TimeoutError):
            async with asyncio.timeout(10), dial(victim.port, "nobody's", max_queue=1) as client:
                await client.send("x" * LARGE)

    await asyncio.gather(*(one() for _ in range(300)))


async def frames_in_pieces(victim: Victim) -> None:
    """A message of many fragments, without its end."""
    async with in_its_place(victim) as client:

        async def pieces() -> AsyncIterator[str]:
            while True:
                yield "x" * 65536

        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(10):
                await client.send(pieces())


Flood = Callable[[Victim], Awaitable[None]]

FLOODS: dict[str, Flood] = {
    "20 replies of 15 MiB": lambda victim: large_reports(victim, "assistant", "text"),
    "20 messages of 15 MiB": lambda victim: large_reports(victim, "user", "text"),
    "20 results of 15 MiB": lambda victim: large_reports(victim, "tool_end", "text", tool_call_id="t"),
    "20 calls of 15 MiB": lambda victim: large_reports(victim, "tool_call", "arguments", call_id="c", name="work"),
    "20 problems of 15 MiB": lambda victim: large_reports(victim, "problem", "message", code="x"),
    "20 ends of 15 MiB": lambda victim: large_reports(victim, "run_end", "text", seqs=[]),
    "20 failures of 15 MiB": lambda victim: large_reports(victim, "run_failed", "error", seqs=[], run="r"),
    "replies that nobody reads": replies_that_nobody_reads,
    "everything sent again": everything_sent_again,
    "30,000 calls at once": many_calls,
    "ids that are remembered": ids_that_are_remembered,
    "marks that are guessed": marks_that_are_guessed,
    "usage that is none": usage_that_is_none,
    "300 x 15 MiB without a token": without_a_token,
    "frames in pieces": frames_in_pieces,
}
QUICK = ("usage that is none",)


@pytest.mark.parametrize(
    "flood", [pytest.param(name, marks=() if name in QUICK else pytest.mark.edges) for name in FLOODS]
)
async def test_a_flood_takes_no_more_than_200_mb_and_disturbs_nobody(flood: str, tmp_path: Path) -> None:
    async with Victim(tmp_path) as victim:
        await asyncio.sleep(1)
        await victim.begin()
        await FLOODS[flood](victim)
        await asyncio.sleep(1)
        figures = await victim.figures()
        errors = await victim.end()
    print(f"{flood}: {figures}")
    assert figures["peak"] - figures["start"] < MEMORY, figures
    assert figures["turns"] > 5, figures
    assert figures["restarts"] == 0, figures
    assert "Traceback" not in errors, errors
