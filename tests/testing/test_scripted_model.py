"""The scripted model over real loopback sockets, as any HTTP client sees it."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ramure.errors import UsageError
from ramure.testing import (
    Conversation,
    Delay,
    DropConnection,
    Hang,
    HTTPError,
    ScriptedModel,
    ScriptError,
    Text,
    Thinking,
    ToolCall,
    Usage,
)


class Client:
    """A bare streaming client: one request, its events one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def post(cls, model: ScriptedModel, user: str = "hi", **more: Any) -> Client:
        port = int(model.base_url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": user}], **more}).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return cls(reader, writer)

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def event(self) -> dict[str, Any]:
        while not (line := await self.reader.readuntil(b"\n")).startswith(b"data: {"):
            pass
        data: dict[str, Any] = json.loads(line[6:])
        return data

    async def rest(self) -> str:
        return (await self.reader.read()).decode()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def ask(model: ScriptedModel, user: str = "hi", **more: Any) -> str:
    client = await Client.post(model, user, **more)
    try:
        return await client.rest()
    finally:
        await client.close()


def events(answer: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]


def deltas(answer: str, key: str) -> str:
    return "".join(c["delta"].get(key, "") for e in events(answer) for c in e["choices"])


async def test_text_and_thinking_are_streamed_in_chunks() -> None:
    async with ScriptedModel([[Thinking("let me see", chunk=3), Text("hello", chunk=2)]]) as model:
        answer = await ask(model)
    assert answer.startswith("HTTP/1.1 200 OK")
    assert deltas(answer, "reasoning_content") == "let me see"
    assert deltas(answer, "content") == "hello"
    assert len(events(answer)) == 4 + 3 + 2  # the last two: the finish, and the usage
    assert answer.rstrip().endswith("0")
    assert "data: [DONE]" in answer


async def test_parallel_tool_calls_have_their_own_index_and_a_fresh_id() -> None:
    script = [[ToolCall("ls", {"path": "/"}), ToolCall("cat", '{"bad', id="mine")], [ToolCall("ls")]]
    async with ScriptedModel(script) as model:
        first, second = await ask(model), await ask(model)
    calls = [call for e in events(first) for c in e["choices"] for call in c["delta"].get("tool_calls", [])]
    assert [(c["index"], c["function"].get("name")) for c in calls] == [(0, "ls"), (0, None), (1, "cat"), (1, None)]
    assert "".join(c["function"]["arguments"] for c in calls if c["index"] == 1) == '{"bad'
    again = [call for e in events(second) for c in e["choices"] for call in c["delta"].get("tool_calls", [])]
    assert len({calls[0]["id"], calls[2]["id"], again[0]["id"]}) == 3
    assert calls[2]["id"] == "mine"
    assert "tool_calls" in [c["finish_reason"] for e in events(first) for c in e["choices"]]


async def test_usage_is_reported() -> None:
    async with ScriptedModel([["hi", Usage(10, 5, cache_read=3, cache_write=2)]]) as model:
        usage = events(await ask(model))[-1]["usage"]
    assert usage["prompt_tokens"] == 15
    assert usage["completion_tokens"] == 5
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 2}


async def test_a_request_without_stream_gets_one_whole_reply() -> None:
    async with ScriptedModel([[Thinking("hm"), Text("hello " * 20), ToolCall("ls", {"a": 1})]]) as model:
        answer = await ask(model, stream=False)
    message = json.loads(answer.partition("\r\n\r\n")[2])["choices"][0]["message"]
    assert message["content"] == "hello " * 20
    assert message["reasoning_content"] == "hm"
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"a": 1}


async def test_an_http_error_carries_retry_after() -> None:
    async with ScriptedModel([HTTPError(429, "slow down", retry_after=2), HTTPError(500, retry=False), "ok"]) as model:
        first, second, third = await ask(model), await ask(model), await ask(model)
    assert first.startswith("HTTP/1.1 429 ")
    assert "Retry-After: 2\r\n" in first
    assert "slow down" in first
    assert "x-should-retry: false" in second
    assert deltas(third, "content") == "ok"
    assert [request.outcome for request in model.requests] == ["refused", "refused", "served"]


async def test_a_dropped_stream_ends_without_its_last_chunk() -> None:
    async with ScriptedModel([["half an answer", DropConnection()]]) as model:
        client = await Client.post(model)
        assert (await client.event())["choices"][0]["delta"]["content"] == "half an answer"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.event()
        await client.close()
    assert model.requests[0].outcome == "cut"


async def test_a_hanging_stream_stays_open_until_the_client_goes() -> None:
    async with ScriptedModel([["half", Hang()]]) as model:
        client = await Client.post(model)
        await client.event()
        assert model.requests[0].outcome == "underway"
        await client.close()
        assert await model.requests[0].ended() == "client gone"


async def test_closing_the_model_ends_a_hanging_stream() -> None:
    async with ScriptedModel([Hang()]) as model:
        client = await Client.post(model)
        await client.head()
    assert "data" not in await client.rest()
    await client.close()
    assert model.requests[0].outcome == "server closed"


async def test_nothing_is_sent_during_a_delay() -> None:
    async with ScriptedModel([[Delay(0.2), Text("a")]]) as model:
        loop = asyncio.get_running_loop()
        started = loop.time()
        client = await Client.post(model)
        await client.head()
        assert loop.time() - started >= 0.2
        await client.close()


async def test_a_request_that_the_script_cannot_answer_is_raised_when_the_block_ends() -> None:
    model = ScriptedModel(["one"])

    async def run() -> None:
        async with model:
            await ask(model)
            answer = await ask(model)
            assert answer.startswith("HTTP/1.1 400 ")
            assert "used up" in answer

    with pytest.raises(ScriptError, match="used up: it has 1 turns"):
        await run()
    assert [request.outcome for request in model.requests] == ["served", "script failed"]


async def test_an_exception_of_the_test_itself_goes_first() -> None:
    async def run() -> None:
        async with ScriptedModel([]) as model:
            await ask(model)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run()


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"POST /v1/embeddings HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"404", "embeddings"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\n\r\n{", b"400", "no JSON object"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400", "-1 bytes"),
        (b"hello\r\n\r\n", b"400", "hello"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"400", "longer than"),
    ],
)
async def test_no_wrong_request_is_lost(sent: bytes, status: bytes, error: str) -> None:
    async with ScriptedModel([]) as model:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(model.base_url.split(":")[2].split("/")[0]))
        writer.write(sent)
        assert (await reader.read(64)).split(b" ")[1] == status
        writer.close()
        assert error in str(model.errors[0])
        model.errors.clear()


async def test_a_chunked_request_body_is_read() -> None:
    async with ScriptedModel(["ok"]) as model:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(model.base_url.split(":")[2].split("/")[0]))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b'{"model": ', b'"m"}'):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert model.requests[0].conversation.model == "m"


async def test_many_conversations_at_once_each_get_their_own_script() -> None:
    script = {f"worker {n:03}": [str(n), f"{n} again"] for n in range(100)}
    async with ScriptedModel(script) as model:
        firsts = await asyncio.gather(*(ask(model, text) for text in script))
        seconds = await asyncio.gather(*(ask(model, text) for text in script))
    assert [deltas(answer, "content") for answer in firsts] == [str(n) for n in range(100)]
    assert [deltas(answer, "content") for answer in seconds] == [f"{n} again" for n in range(100)]


async def test_a_test_can_wait_for_requests() -> None:
    async with ScriptedModel(["a", "b"]) as model:
        waiting = asyncio.create_task(model.wait_for_requests(2))
        await ask(model)
        assert not waiting.done()
        await ask(model)
        assert await waiting == model.requests
        with pytest.raises(TimeoutError, match="2 of 3 requests"):
            await model.wait_for_requests(3, timeout=0.01)


async def test_an_async_script_can_hold_a_reply_back() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> str:
        await gate.wait()
        return "now"

    async with ScriptedModel(script) as model:
        asking = asyncio.create_task(ask(model))
        await model.wait_for_requests(1)
        assert not asking.done()
        gate.set()
        assert deltas(await asking, "content") == "now"


async def test_nothing_is_left_when_it_is_closed() -> None:
    async with ScriptedModel(["a", Hang()]) as model:
        await ask(model)
        held = await Client.post(model)
        await held.head()
    assert [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}] == []
    with pytest.raises(UsageError, match="not up"):
        _ = model.base_url
    await held.close()


def test_serving_in_a_thread_from_blocking_code() -> None:
    with ScriptedModel(["a"], models=("m1", "m2")).serve_in_thread() as model:
        request = urllib.request.Request(f"{model.base_url}/chat/completions", b"{}")
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"] == "a"
        with urllib.request.urlopen(f"{model.base_url}/models", timeout=30) as reply:
            assert [entry["id"] for entry in json.load(reply)["data"]] == ["m1", "m2"]
        assert model.wait_for_requests_sync(1)[0].outcome == "served"
        with pytest.raises(TimeoutError):
            model.wait_for_requests_sync(2, timeout=0.01)


def test_a_thread_raises_script_errors_and_errors_of_starting() -> None:
    def run() -> None:
        with ScriptedModel([]).serve_in_thread() as model:
            request = urllib.request.Request(f"{model.base_url}/chat/completions", b"{}")
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=30)

    with pytest.raises(ScriptError):
        run()
    with ScriptedModel([]).serve_in_thread() as model:
        port = int(model.base_url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="address already in use"), ScriptedModel([], port=port).serve_in_thread():
            pass


async def test_the_configuration_is_private(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "agent"
    async with ScriptedModel([]) as model:
        environment = model.write_config(home, {"retry": {"enabled": False}})
        models = json.loads((home / "models.json").read_text())
        assert models == {"providers": {"scripted": model.provider()}}
    settings = json.loads((home / "settings.json").read_text())
    assert settings["defaultModel"] == "scripted-1"
    assert settings["retry"] == {"enabled": False}
    assert environment["PI_CODING_AGENT_DIR"] == str(home)
    assert [stat.S_IMODE((home / name).stat().st_mode) for name in (".", "models.json", "settings.json")] == [
        0o700,
        0o600,
        0o600,
    ]


def test_as_a_process_it_serves_a_json_script_and_records(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text('[["hi", {"usage": {"input": 1}}]]')
    record = tmp_path / "record.jsonl"
    command = [sys.executable, "-m", "ramure.testing.scripted_model", str(tmp_path / "script.json")]
    command += ["--record", str(record), "--write-config", str(tmp_path / "agent"), "--while-stdin-open"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        up = json.loads(process.stdout.readline())
        with urllib.request.urlopen(
            urllib.request.Request(f"{up['base_url']}/chat/completions", b"{}"), timeout=10
        ) as reply:
            assert json.load(reply)["usage"]["prompt_tokens"] == 1
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert [json.loads(line)["event"] for line in record.read_text().splitlines()] == ["request", "end"]
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert (tmp_path / "agent" / "models.json").exists()


def test_as_a_process_it_ends_on_sigterm_and_says_what_the_script_lacked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def script(conversation):\n    return conversation.nonsense\n")
    command = [sys.executable, "-m", "ramure.testing.scripted_model", "mine:script"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        up = json.loads(process.stdout.readline())
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(urllib.request.Request(f"{up['base_url']}/chat/completions", b"{}"), timeout=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
        text = process.stderr.read()
    assert "nonsense" in text
    assert "Traceback" not in text
