"""A client of the gateway without a token, which sends what it likes: it learns nothing, and the agents go on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import struct
from collections.abc import Iterable

import pytest

from ramure.agents.wire import SUBPROTOCOL, TOKEN_PREFIX
from ramure.runtime.run.gateway import Gateway
from tests.agents.test_gateway import Recorder, close_code, dial, greet, hear

KEY = base64.b64encode(b"0123456789abcdef").decode()


def upgrade(*headers: str, path: str = "/", method: str = "GET") -> bytes:
    """The opening of a WebSocket."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def offer(*protocols: str) -> str:
    return f"Sec-WebSocket-Protocol: {', '.join(protocols)}"


def frame(first: int, payload: bytes, *, masked: bool = True, length: int | None = None) -> bytes:
    """A WebSocket frame, sound or not. ``length``: what it says of itself."""
    size = len(payload) if length is None else length
    head = bytes([first]) + (
        bytes([0x80 * masked | size]) if size < 126
        else bytes([0x80 * masked | 126]) + struct.pack("!H", size) if size < 1 << 16
        else bytes([0x80 * masked | 127]) + struct.pack("!Q", size)
    )  # fmt: skip
    return head + (bytes(4) if masked else b"") + payload


KNOWN = offer(SUBPROTOCOL)
WRONG = upgrade(offer(SUBPROTOCOL, f"{TOKEN_PREFIX}guessed"))

ATTACKS: dict[str, bytes] = {
    "bytes at random": bytes(range(256)) * 40,
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + os.urandom(192),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    "a request that is none": b"GET\r\n\r\n",
    "a line without end": b"GET /" + b"x" * 1_000_000,
    "a header without end": b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000,
    "10,000 headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "a post with a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
    "two requests in one": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2,
    "another path": upgrade(KNOWN, path="/../../etc/passwd"),
    "a token in the path": upgrade(KNOWN, path="/?token=t0ken"),
    "a token in another header": upgrade(KNOWN, "Authorization: Bearer t0ken", "Cookie: token=t0ken"),
    "a web page of elsewhere": upgrade("Origin: https://evil.example"),
    "no protocol": upgrade(),
    "the protocol alone": upgrade(KNOWN),
    "an empty token": upgrade(offer(SUBPROTOCOL, TOKEN_PREFIX)),
    "a part of the token": upgrade(offer(SUBPROTOCOL, f"{TOKEN_PREFIX}t0ke")),
    "the token in capitals": upgrade(offer(SUBPROTOCOL, f"{TOKEN_PREFIX}T0KEN")),
    "1,000 tokens at once": upgrade(offer(SUBPROTOCOL, *(f"{TOKEN_PREFIX}{n}" for n in range(300)))),
    "a token that is no text": upgrade(offer(SUBPROTOCOL, TOKEN_PREFIX + "\udcff\udcfe")),
    "a hello behind a wrong token": WRONG + frame(0x81, b'{"type":"hello"}'),
    "a frame that says it is huge": WRONG + frame(0x81, b"", length=1 << 62),
    "an unmasked frame": WRONG + frame(0x81, b"x", masked=False),
    "reserved bits": WRONG + frame(0xF1, b"x"),
    "a ping that is too large": WRONG + frame(0x89, b"x" * 200),
    "a close with a wrong code": WRONG + frame(0x88, b"\x00\x01"),
    "text that is no UTF-8": WRONG + frame(0x81, b"\xff\xfe"),
    "fragments without a beginning": WRONG + frame(0x80, b"x"),
}  # fmt: skip


async def answer(port: int, sent: Iterable[bytes]) -> bytes:
    """What the gateway says to it, until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 30)
    except OSError:
        return b""  # closed while it was still sending
    finally:
        writer.close()


@pytest.mark.parametrize("attack", ATTACKS)
async def test_who_has_no_token_learns_nothing_and_disturbs_nobody(
    attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken") as client:
            await greet(client)
            said = await answer(gateway.port, [ATTACKS[attack]])
            await client.send('{"type":"ping"}')
            assert await hear(client) == {"type": "pong"}
        assert await sink.next() == ("connected", "l1")
        assert (await sink.next())[0] == "disconnected"
        assert sink.told.empty()
    assert b"t0ken" not in said
    assert b"welcome" not in said
    assert b"Traceback" not in said
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_token_whose_launch_is_over_lets_nobody_in() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken") as client:
            await greet(client)
            gateway.forget("t0ken")
            assert await close_code(client) == 4401
        async with dial(gateway, "t0ken") as client:
            assert await close_code(client) == 4401


async def test_a_token_that_is_used_twice_leaves_one_connection() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken") as first, dial(gateway, "t0ken") as second:
            await greet(first)
            await greet(second)
            assert await close_code(first) == 4409
            await second.send(json.dumps({"type": "ping"}))
            assert await hear(second) == {"type": "pong"}
