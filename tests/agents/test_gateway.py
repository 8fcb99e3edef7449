"""The gateway over real sockets on this host: who gets in, what is passed on, how connections end."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ramure.agents.wire import (
    CLOSE_PROTOCOL,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    MAX_FRAME,
    SUBPROTOCOL,
    TOKEN_PREFIX,
    Ack,
    Frame,
    FrameTooLarge,
    Hello,
    Report,
    Shutdown,
    ToolResult,
    Welcome,
)
from ramure.errors import UsageError
from ramure.runtime.run.gateway import AgentConnection, Gateway, GatewayUnavailable

HELLO = {
    "type": "hello", "protocol": 1, "launch": "l1", "agent": "w", "pi": "1.5.2", "node": "v24", "pid": 1,
    "session_file": None, "model": None, "state": "idle", "applied": 0, "delivered": [], "calls": [],
}  # fmt: skip


class Recorder:
    """A sink that remembers what it was told, and welcomes."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.connection: AgentConnection | None = None

    def connected(self, connection: AgentConnection, hello: Hello) -> None:
        self.connection = connection
        connection.send(Welcome(0, 0))
        self.told.put_nowait(("connected", hello.launch))

    def frame(self, connection: AgentConnection, frame: Frame) -> None:
        self.told.put_nowait(("frame", frame))

    def disconnected(self, connection: AgentConnection, reason: str) -> None:
        self.told.put_nowait(("disconnected", reason))

    async def next(self) -> tuple[str, Any]:
        return await asyncio.wait_for(self.told.get(), 30)


def dial(gateway: Gateway, token: str, **options: Any) -> connect:
    protocols = [Subprotocol(SUBPROTOCOL), Subprotocol(TOKEN_PREFIX + token)]
    return connect(gateway.url, subprotocols=protocols, proxy=None, **options)


async def hear(client: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(client.recv(), 30))


async def close_code(client: ClientConnection) -> int | None:
    await asyncio.wait_for(client.wait_closed(), 30)
    return client.close_code


async def greet(client: ClientConnection) -> None:
    await client.send(json.dumps(HELLO))
    assert (await hear(client))["type"] == "welcome"


async def test_an_expected_client_is_passed_on_to_its_sink_in_order() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken") as client:
            await greet(client)
            for n in range(1, 4):
                await client.send(json.dumps({"type": "report", "n": n, "kind": "state", "data": {"state": "busy"}}))
            assert await sink.next() == ("connected", "l1")
            assert [await sink.next() for _ in range(3)] == [
                ("frame", Report(n, "state", {"state": "busy"})) for n in (1, 2, 3)
            ]
            assert sink.connection is not None and sink.connection.send(Shutdown("over"))
            assert await hear(client) == {"type": "shutdown", "reason": "over"}
        assert (await sink.next())[0] == "disconnected"
        assert not sink.connection.send(Shutdown("late"))


async def test_small_large_and_fragmented_frames_come_in_their_order() -> None:
    def report(n: int, size: int) -> str:
        data = {"seq": None, "text": "x" * size}
        return json.dumps({"type": "report", "n": n, "kind": "user", "data": data})

    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken", compression=None) as client:
            await greet(client)
            assert await sink.next() == ("connected", "l1")
            for n in range(0, 40, 4):
                await client.send(report(n, 1))
                await client.send([report(n + 1, 300)[:100], report(n + 1, 300)[100:]])
                await client.send(report(n + 2, 2 << 20 if n % 8 == 0 else 10))
                await client.send(report(n + 3, 1))
            numbers = []
            while len(numbers) < 40:
                _, frame = await sink.next()
                numbers.append(frame.n)
                assert sink.connection is not None
                sink.connection.taken()
            assert numbers == list(range(40))


async def test_a_text_that_is_no_utf8_ends_the_connection() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, "t0ken") as client:
            await greet(client)
            await client.send(b'{"type": "ping\xff"}', text=True)
            assert await close_code(client) == 1007
        assert [(await sink.next())[0] for _ in range(2)] == ["connected", "disconnected"]


@pytest.mark.parametrize("token", ["wrong", "t0ke", "t0ken0", ""])
async def test_a_client_with_another_token_is_closed_before_it_is_told_anything(token: str) -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t0ken", sink)
        async with dial(gateway, token) as client:
            assert await close_code(client) == CLOSE_REFUSED
        assert gateway.refused == 1
        assert sink.told.empty()


async def test_a_client_that_does_not_know_the_protocol_gets_a_bare_401() -> None:
    async with Gateway() as gateway:
        with pytest.raises(InvalidStatus) as raised:
            await connect(gateway.url, proxy=None)
        assert raised.value.response.status_code == 401
        assert not raised.value.response.body
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert b"ramure" not in answer


async def test_malformed_frames_are_answered_and_counted_and_end_nothing() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await client.send("rubbish before the hello")
            assert (await hear(client))["code"] == "json"
            await greet(client)
            for rubbish in ("{", "[]", '{"type":"nope"}', '{"type":"ack"}', b"\x00\xff"):
                await client.send(rubbish)
                assert (await hear(client))["type"] == "error"
            await client.send('{"type":"ack","applied":1}')
            assert await sink.next() == ("connected", "l1")
            assert await sink.next() == ("frame", Ack(1))
            assert sink.connection is not None and sink.connection.malformed == 6


async def test_frames_go_out_at_once() -> None:
    """Nagle's algorithm would hold the second of two small ones back for 40 ms."""
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            assert sink.connection is not None
            accepted = sink.connection.socket.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_pings_are_answered_by_the_gateway_alone() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            await client.send('{"type":"ping"}')
            assert await hear(client) == {"type": "pong"}
            assert await sink.next() == ("connected", "l1")
            assert sink.told.empty()


@pytest.mark.parametrize("first", ['{"type":"ack","applied":0}', json.dumps({**HELLO, "protocol": 2})])
async def test_the_first_frame_must_be_a_hello_of_this_protocol(first: str) -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await client.send(first)
            assert await close_code(client) == CLOSE_PROTOCOL
        assert sink.told.empty()


async def test_a_new_connection_of_a_launch_replaces_the_old_one() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as old, dial(gateway, "t") as new:
            await greet(old)
            await greet(new)
            assert await close_code(old) == CLOSE_REPLACED
            await new.send('{"type":"ack","applied":1}')
            assert [(await sink.next())[0] for _ in range(3)] == ["connected", "connected", "frame"]


async def test_a_forgotten_token_closes_its_connection_and_is_refused_from_then_on() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            gateway.forget("t")
            assert await close_code(client) == CLOSE_REFUSED
        assert await sink.next() == ("connected", "l1")
        assert await sink.next() == ("disconnected", "this launch is over")
        async with dial(gateway, "t") as client:
            assert await close_code(client) == CLOSE_REFUSED


async def test_a_lost_connection_is_told_with_its_reason() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            client.transport.abort()
            assert await sink.next() == ("connected", "l1")
            assert await sink.next() == ("disconnected", "connection lost")


async def test_a_silent_connection_counts_as_dead_after_the_set_time() -> None:
    sink = Recorder()
    async with Gateway(stale_after=0.2) as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            assert await sink.next() == ("connected", "l1")
            assert await sink.next() == ("disconnected", "no sign of life for 0.2 s")
            with pytest.raises(ConnectionClosed):
                await hear(client)


async def test_a_time_in_which_this_program_could_not_hear_is_no_silence_of_the_clients() -> None:
    sink = Recorder()
    async with Gateway(stale_after=0.5) as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t") as client:
            await greet(client)
            await client.send('{"type": "ping"}')
            time.sleep(0.8)
            assert (await hear(client))["type"] == "pong"
            assert sink.connection is not None
            assert sink.connection.ended is None


async def test_a_frame_over_the_limit_ends_the_connection_with_that_reason() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        client = await dial(gateway, "t")
        await greet(client)
        await client.send(json.dumps({"type": "report", "n": 1, "kind": "x", "data": {"x": "y" * MAX_FRAME}}))
        await asyncio.wait_for(client.wait_closed(), 30)
        assert await sink.next() == ("connected", "l1")
        kind, reason = await sink.next()
        assert kind == "disconnected" and "1009" in reason


async def test_large_frames_pass_both_ways_and_too_large_ones_are_refused_to_the_sender() -> None:
    sink = Recorder()
    async with Gateway() as gateway:
        gateway.expect("t", sink)
        async with dial(gateway, "t", max_size=None) as client:
            await greet(client)
            assert await sink.next() == ("connected", "l1")
            big = "y" * (MAX_FRAME - 100)
            await client.send(json.dumps({"type": "bye", "reason": big}))
            assert (await sink.next())[1].reason == big
            assert sink.connection is not None
            sink.connection.send(ToolResult("c", True, big))
            assert (await hear(client))["text"] == big
            with pytest.raises(FrameTooLarge):
                sink.connection.send(ToolResult("c", True, "y" * MAX_FRAME))


async def test_closing_the_gateway_tells_clients_and_sinks() -> None:
    sink = Recorder()
    gateway = Gateway()
    await gateway.start()
    gateway.expect("t", sink)
    async with dial(gateway, "t") as client:
        await greet(client)
        await gateway.close()
        assert await close_code(client) == 1001
    assert await sink.next() == ("connected", "l1")
    assert await sink.next() == ("disconnected", "the run has ended")


async def test_a_port_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    async with Gateway() as gateway:
        with pytest.raises(GatewayUnavailable, match="pass another host= or port="):
            await Gateway(port=gateway.port).start()


def test_there_is_no_port_before_the_start() -> None:
    with pytest.raises(UsageError, match="await gateway.start"):
        _ = Gateway().port
