"""At the gateway: clients without a token, and an extension whose agent was turned, which has one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ramure.agents.reports import KINDS, LONGEST_ERROR, checked
from ramure.agents.requests import Usage
from ramure.agents.wire import CLOSE_PROTOCOL, MAX_DEPTH, MAX_VALUES, Frame, MalformedFrame, Report, Shutdown, decode
from ramure.runtime.run import gateway as module
from ramure.runtime.run.gateway import AgentConnection, Gateway
from tests.agents.test_gateway import Recorder, close_code, dial, greet, hear


class Taking(Recorder):
    """A sink that deals with each frame at once."""

    def frame(self, connection: AgentConnection, frame: Frame) -> None:
        super().frame(connection, frame)
        connection.taken()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as made:
        yield made


def report(n: int, kind: str, **data: Any) -> str:
    return json.dumps({"type": "report", "n": n, "kind": kind, "data": data})


# -- what an extension says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_no_frame(number: str) -> None:
    with pytest.raises(MalformedFrame):
        decode(report(1, "assistant", usage="?").replace('"?"', number))


@pytest.mark.parametrize(
    "usage",
    [
        "many", 7, [], {"input": "many"}, {"input": -1}, {"input": True}, {"input": 10**400}, {"cost": "x"},
        {"cost": {"total": "x"}}, {"cost": {"total": 1e300}}, {"cost": []}, {"input": None}, {"input": {}},
    ],
)  # fmt: skip
def test_a_usage_that_is_none_counts_as_none(usage: object) -> None:
    used = Usage()
    used.add(checked("assistant", {"text": "", "usage": usage})["usage"] or {}, "p/m")
    assert used.totals() == Usage().totals()


def test_a_usage_that_is_one_counts() -> None:
    used = Usage()
    used.add(
        checked("assistant", {"usage": {"input": 3, "output": 2.0, "cost": {"total": 0.5, "odd": "x"}}})["usage"], "p/m"
    )
    assert (used.input, used.output, used.cost) == (3, 2, 0.5)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("agent_down", {}), ("state", {}), ("state", {"state": "ended"}), ("state", {"state": ["busy"]}),
        ("assistant", {"text": 7}), ("assistant", {"tool_calls": [{"id": 1, "name": "x"}]}), ("assistant", {"tool_calls": 1}),
        ("run_end", {"seqs": "1"}), ("run_end", {"seqs": [-1]}), ("run_end", {"seqs": [2**60]}), ("run_end", {}),
        ("tool_call", {"call_id": 1}), ("tool_call", {"call_id": "x" * 5000}), ("tool_cancel", {}),
        ("tool_start", {"tool_call_id": []}), ("tool_start", {"tool_call_id": "t", "name": "x" * 5000}), ("tool_end", {"ok": "yes"}), ("problem", {"code": "x"}),
        ("problem", {"code": {}, "message": ""}), ("user", {"seq": 1.5, "text": ""}), ("run_failed", {"seqs": [], "run": 7}),
    ],
)  # fmt: skip
def test_a_report_that_is_none_is_refused(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(MalformedFrame):
        checked(kind, data)


@pytest.mark.parametrize(
    ("kind", "field"),
    [("assistant", "error"), ("run_end", "error"), ("run_failed", "error"), ("run_failed", "compaction"), ("problem", "message")],
)  # fmt: skip
def test_the_words_of_an_error_are_no_longer_than_an_error_is(kind: str, field: str) -> None:
    """They are searched for secrets and for what went wrong: 15 MiB of them would stop all agents for seconds."""
    data: dict[str, Any] = {"seqs": [], "code": "c", "message": "m", "text": "t", field: "x" * 15_000_000}
    assert len(checked(kind, data)[field]) == LONGEST_ERROR + 1
    short = {**data, field: "x" * LONGEST_ERROR}
    assert checked(kind, short) == short


def test_every_kind_of_report_passes_as_the_extension_makes_it() -> None:
    outcome = {"text": "", "stop_reason": "stop", "error": None, "seqs": [1]}
    made: dict[str, dict[str, Any]] = {
        "state": {"state": "busy"},
        "user": {"seq": None, "text": "hi"},
        "assistant": {
            "text": "",
            "tool_calls": [{"id": "1", "name": "x"}],
            "model": None,
            "provider": "p",
            "usage": None,
        },
        "run_failed": {**outcome, "run": "r", "model": None},
        "run_end": outcome,
        "tool_call": {"call_id": "c", "tool_call_id": "t", "name": "x", "arguments": {"a": [1]}, "newer": 1},
        "tool_cancel": {"call_id": "c"},
        "tool_start": {"tool_call_id": "t", "name": "bash", "arguments": {}},
        "tool_end": {"tool_call_id": "t", "name": "bash", "ok": True, "text": ""},
        "disk": {"full": True, "path": "/s", "reason": "ENOSPC", "needed": 196_608},
        "problem": {"code": "no_model", "message": "…", "seq": 3, "given_up": True},
    }
    assert made.keys() == KINDS.keys()
    for kind, data in made.items():
        assert checked(kind, data) == data


@pytest.mark.parametrize(
    "bomb",
    ["[" * 900 + "]" * 900, "[" + "[]," * MAX_VALUES + "[]]", '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)],
    ids=["deep", "many", "deep objects"],
)
def test_what_would_take_far_more_than_its_text_is_no_frame(bomb: str) -> None:
    with pytest.raises(MalformedFrame):
        decode(report(1, "tool_call", call_id="c", arguments="?").replace('"?"', f'{{"x":{bomb}}}'))


def test_a_text_full_of_commas_and_brackets_is_one_value() -> None:
    text = ',[{"\\' * 400_000
    frame = decode(report(1, "tool_end", tool_call_id="t", text=text))
    assert isinstance(frame, Report)
    assert frame.data["text"] == text


async def test_a_connection_that_sends_no_frames_is_closed_and_told(gateway: Gateway) -> None:
    sink = Taking()
    gateway.expect("t", sink)
    async with dial(gateway, "t") as client:
        await greet(client)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(module.MALFORMED_LIMIT + 100):
                await client.send(report(1, "agent_gave_up"))
                await hear(client)
    assert client.close_code == CLOSE_PROTOCOL
    assert await sink.next() == ("connected", "l1")
    kind, reason = await sink.next()
    assert kind == "disconnected"
    assert "agent_gave_up" in reason


# -- how much of it --------------------------------------------------------------------------------------------------


async def test_no_more_is_read_than_the_agent_deals_with(gateway: Gateway) -> None:
    sink = Recorder()  # it takes nothing
    gateway.expect("t", sink)
    async with dial(gateway, "t") as client:
        await greet(client)
        for n in range(1, 1001):
            await client.send(report(n, "state", state="busy"))
        assert await sink.next() == ("connected", "l1")
        seen = [await sink.next() for _ in range(module.UNTAKEN + 1)]
        await asyncio.sleep(0.2)
        assert sink.told.empty()
        assert sink.connection is not None
        for _ in range(1000):
            sink.connection.taken()
            seen += [await sink.next()] if len(seen) < 1000 else []
        assert [frame.n for _, frame in seen] == list(range(1, 1001))


async def test_a_client_that_does_not_read_is_ended_before_much_waits_for_it(gateway: Gateway) -> None:
    sink = Taking()
    gateway.expect("t", sink)
    async with dial(gateway, "t", max_queue=1) as client:
        await greet(client)
        assert await sink.next() == ("connected", "l1")
        connection = sink.connection
        assert connection is not None
        sent = 0
        while connection.send(Shutdown("x" * 1_000_000)):
            sent += 1
            assert sent < 200
        assert connection.ended is not None
        assert "does not read" in connection.ended
        kind, reason = await sink.next()
        assert (kind, reason) == ("disconnected", connection.ended)


async def test_an_extension_gets_its_share_of_the_loop_and_no_more(gateway: Gateway) -> None:
    class Slow(Taking):
        def frame(self, connection: AgentConnection, frame: Frame) -> None:
            until = time.perf_counter() + 0.01
            while time.perf_counter() < until:
                pass
            super().frame(connection, frame)

    sink = Slow()
    gateway.expect("t", sink)
    async with dial(gateway, "t") as client:
        await greet(client)
        began = time.monotonic()
        for n in range(1, 61):
            await client.send(report(n, "state", state="busy"))
        for _ in range(61):
            await sink.next()
        assert time.monotonic() - began > 0.6 / module.SHARE - 3 * module.PATIENCE / module.SHARE - 0.1


# -- without a token -------------------------------------------------------------------------------------------------


async def send_much(client: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.send("x" * (1 << 20))


async def test_what_a_refused_client_sends_is_not_read(gateway: Gateway) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with dial(gateway, "nobody's", max_queue=1) as client:
        await asyncio.wait_for(send_much(client), 30)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


async def test_a_refused_client_is_told_so(gateway: Gateway) -> None:
    async with dial(gateway, "nobody's") as client:
        assert await close_code(client) == 4401


FLOODED = """
    import asyncio, json, logging, resource, socket, sys
    from websockets.exceptions import WebSocketException
    from ramure.descriptors import raise_limit
    from ramure.runtime.run.gateway import Gateway
    from tests.hostile.test_gateway import Taking, dial, greet, hear

    logging.basicConfig(level=logging.WARNING)

    async def main():
        assert raise_limit() == 128
        sink = Taking()
        async with Gateway() as gateway:
            gateway.expect("t", sink)
            async with dial(gateway, "t") as client:
                await greet(client)
                print(gateway.port, flush=True)
                await asyncio.to_thread(sys.stdin.readline)
                for n in range(200):
                    await client.send('{"type":"ping"}')
                    assert await hear(client) == {"type": "pong"}
                assert sink.told.qsize() == 1  # it is connected still
            for attempt in range(100):  # one who comes now is let in
                try:
                    async with dial(gateway, "t") as client:
                        await greet(client)
                    break
                except (OSError, WebSocketException):
                    await asyncio.sleep(0.1)
            else:
                raise AssertionError("nobody is let in any more")
        print("done", flush=True)

    asyncio.run(main())
"""


def test_half_open_connections_stop_neither_the_agents_there_are_nor_new_ones() -> None:
    """Also where the hard limit of descriptors is low: with 128, 1,000 connections of a stranger."""
    limit = (128, 128)
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FLOODED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )  # fmt: skip
    assert program.stdout is not None
    port = int(program.stdout.readline())
    strangers = []
    for _ in range(1000):
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.connect_ex(("127.0.0.1", port))
        strangers.append(stranger)
    said, errors = program.communicate("go\n", timeout=50)
    for stranger in strangers:
        stranger.close()
    assert (said, errors, program.returncode) == ("done\n", "", 0)
