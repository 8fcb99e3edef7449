"""The control socket's server: what it answers, what it refuses, and that no client disturbs the run."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ramure.runtime.control import server
from ramure.runtime.control.methods import Feed, method, stream
from ramure.runtime.control.values import pack
from ramure.runtime.run.run import Run
from tests.control.kit import in_run, raw


class Probes:
    """Methods of the test's own, beside the run's."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    @method
    def echo(self, value: Any, times: int = 1) -> Any:
        return [value] * times

    @method
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @method
    def broken(self) -> None:
        raise ZeroDivisionError("no")

    @method
    def too_slow(self) -> None:
        raise TimeoutError("an OSError, as a broken connection is one")

    @stream
    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
        finally:
            self.closed.set()

    @stream
    async def blocks(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1_000_000
        finally:
            self.closed.set()

    @stream
    async def flooded(self, limit: int, items: int) -> AsyncIterator[Any]:
        feed: Feed[int] = Feed(limit)
        for number in range(items):
            feed.put(number)
        feed.close()
        async for item in feed:
            yield item

    @stream
    async def fails(self) -> AsyncIterator[int]:
        yield 1
        raise ValueError("in the middle")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Probes:
    probes = Probes()
    known = server.methods_of
    monkeypatch.setattr(server, "methods_of", lambda *objects: known(*objects, probes))
    return probes


def error(frame: Any) -> tuple[Any, str, str]:
    number, ok, told = frame
    assert ok is False
    return number, told["error"], told["text"]


async def test_requests_are_answered_each_by_its_id(probes: Probes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client:
            await client.send([1, "hang", {}], ["two", "echo", {"value": (1, 2**70), "times": 2}])
            assert await client.receive() == ["two", True, [(1, 2**70)] * 2]
            _, ok, hello = await client.ask("hello", number=3)
            assert (ok, hello["protocol"], hello["execution_id"]) == (True, 1, run.execution_id)
            assert await client.ask("cancel", {"id": 9}, 4) == [4, True, False]
            await client.send([5, "cancel", {"id": 1}])
            frames = [await client.receive(), await client.receive()]
            assert [5, True, True] in frames
            assert error(next(frame for frame in frames if frame[0] == 1))[1] == "Cancelled"

    await in_run(test)


async def test_what_is_wrong_with_a_request_is_said_by_field(probes: Probes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client:
            for request, field, reason in [
                ([1, "echo", {}], "value", "is missing"),
                ([1, "echo", {"value": 1, "times": "2"}], "times", "must be a whole number, not a text ('2')"),
                ([1, "echo", {"value": 1, "x": 2}], "x", "there is no such argument (there are: value, times)"),
                ([1, "nothing", {}], "method", "there is no 'nothing'"),
                ([1, 2, {}], "method", "must be a text"),
                ([1, "hello", []], "arguments", "must be a map from texts"),
                ([None, "hello", {}], "id", "must be a number or a text"),
                ({"id": 1}, "frame", "must be a list of three: [id, method, arguments]"),
                ([1, "cancel", {}], "id", "cancel takes the id of the request to cancel"),
            ]:
                await client.send(request)
                _, ok, told = await client.receive()
                assert (ok, told["error"], told["field"]) == (False, "BadRequest", field)
                assert told["reason"].startswith(reason)
                assert told["text"] == f"{field}: {told['reason']}"
            await client.send([1, "hang", {}], [1, "hang", {}])
            assert error(await client.receive())[1:] == (
                "BadRequest",
                "id: 1 is the id of a request that is under way",
            )

    await in_run(test)


async def test_a_defect_in_a_method_is_told_and_logged_and_ends_nothing(probes: Probes) -> None:
    async def test(run: Run) -> Path:
        async with raw(run) as client:
            assert error(await client.ask("broken")) == (1, "ZeroDivisionError", "no")
            assert error(await client.ask("too_slow"))[1] == "TimeoutError"
            assert (await client.ask("hello"))[1] is True
        return run.paths.run_log

    log: Path = await in_run(test)
    assert "the control method broken raised" in log.read_text()


async def test_streams_end_drop_fail_and_are_cancelled(probes: Probes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client:
            await client.send([1, "count", {"to": 2}])
            assert [await client.receive() for _ in range(3)] == [
                [1, "item", 0],
                [1, "item", 1],
                [1, "end", {"dropped": 0, "cancelled": False}],
            ]
            await client.send([2, "flooded", {"limit": 2, "items": 7}])
            assert [await client.receive() for _ in range(4)] == [
                [2, "item", 0],
                [2, "item", 1],
                [2, "dropped", 5],
                [2, "end", {"dropped": 5, "cancelled": False}],
            ]
            await client.send([3, "fails", {}])
            assert await client.receive() == [3, "item", 1]
            assert error(await client.receive()) == (3, "ValueError", "in the middle")
            probes.closed.clear()
            await client.send([4, "count", {"to": 10**9}])
            assert await client.receive() == [4, "item", 0]
            await client.send([5, "cancel", {"id": 4}])
            while (frame := await client.receive())[1] == "item":
                pass
            rest = [frame, await client.receive()]
            while rest[-1][1] == "item":
                rest[-1] = await client.receive()
            assert [5, True, True] in rest
            assert [4, "end", {"dropped": 0, "cancelled": True}] in rest
            assert probes.closed.is_set()

    await in_run(test)


async def test_a_stream_ends_when_its_client_leaves(probes: Probes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client:
            await client.send([1, "count", {"to": 10**9}])
            await client.receive()
        await probes.closed.wait()

    await in_run(test)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x93\x01",
        b"\x81\x90\x01" * 3,
        pack("x" * (1 << 20)),
        b"\x93\x01\xa5h\xff\xff\xff\xff\x80",
        b"\x07" * 40,
    ],
    ids=["reserved", "cut off", "unhashable key", "too large", "no utf-8", "40 numbers"],
)
async def test_rubbish_gets_typed_answers_and_loses_its_connection(data: bytes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client, raw(run) as other:
            await client.bytes(data)
            client.writer.write_eof()
            for number, kind, _ in map(error, await client.all()):
                assert number is None or isinstance(number, int)
                assert kind in ("BadRequest", "MalformedFrame")
            assert (await other.ask("hello"))[1] is True

    await in_run(test)


async def test_one_client_has_so_many_requests_under_way_and_others_none_the_fewer(probes: Probes) -> None:
    async def test(run: Run) -> None:
        async with raw(run) as client, raw(run) as other:
            await client.send(*([number, "hang", {}] for number in range(server.MAX_UNDER_WAY + 1)))
            number, kind, text = error(await client.receive())
            assert (number, kind) == (server.MAX_UNDER_WAY, "TooMuch")
            assert "64 requests are under way" in text
            assert (await other.ask("hello"))[1] is True

    await in_run(test)


async def test_a_client_that_never_reads_is_dropped(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED", 0.2)

    async def test(run: Run) -> None:
        async with raw(run) as client, raw(run) as other:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send([1, "blocks", {}])
            await probes.closed.wait()
            assert (await other.ask("hello"))[1] is True

    await in_run(test)


async def test_a_new_client_takes_the_place_of_the_one_idle_longest(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)

    async def test(run: Run) -> None:
        async with raw(run) as busy:
            await busy.send([1, "hang", {}])
            assert (await busy.ask("hello", number=2))[1] is True
            async with raw(run) as idle:
                assert (await idle.ask("hello"))[1] is True
                async with raw(run) as new:
                    assert (await new.ask("hello"))[1] is True
                    assert error(await idle.receive())[1] == "ConnectionRefused"
                    await new.send([1, "hang", {}])
                    assert (await new.ask("hello", number=2))[1] is True
                    async with raw(run) as one_more:
                        assert error(await one_more.receive())[1] == "ConnectionRefused"

    await in_run(test)


async def test_what_cannot_be_sent_is_refused_and_the_connection_goes_on(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_ANSWER", 1000)

    async def test(run: Run) -> None:
        async with raw(run) as client:
            assert error(await client.ask("echo", {"value": "x" * 1001}))[1] == "NotSendable"
            assert (await client.ask("echo", {"value": 1}))[2] == [1]

    await in_run(test)


async def test_only_the_user_s_own_programs_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(socket, "SO_PEERCRED"):
        pytest.skip("this system does not tell the peer's uid")

    async def test(run: Run) -> None:
        assert run.paths.socket.stat().st_mode & 0o777 == 0o600
        assert run.paths.socket.parent.stat().st_mode & 0o777 == 0o700
        monkeypatch.setattr(server.os, "getuid", lambda: 4711)  # type: ignore[attr-defined]
        async with raw(run) as client:
            try:
                await client.send([1, "hello", {}])
                assert await client.receive() is None
            except OSError:
                pass  # closed before it was written
        monkeypatch.undo()

    await in_run(test)
