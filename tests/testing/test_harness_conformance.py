"""The simulated pi and real pi with ramure's extension say the same to a run: one suite over both."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from ramure.agents.delivery import BeginCall, Delivery, Effect, Reported, Send
from ramure.agents.message_marks import MessageMarks
from ramure.agents.pi.launch import CONFIG_VARIABLE, extension_path
from ramure.agents.pi.session_file import seed
from ramure.agents.wire import Ack, Bye, Delivered, Frame, Hello, Report, Resend
from ramure.runtime.run.gateway import AgentConnection, Gateway
from ramure.testing import Conversation, Delay, Finish, Hang, HTTPError, ScriptedModel, Text, Thinking, ToolCall, Usage
from ramure.testing.scripts import ScriptPlayer
from ramure.testing.sim_memory import Memory
from ramure.testing.sim_model import SimulatedModel
from ramure.testing.sim_pi import SimulatedPi
from tests.subprocesses import started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramure.agents.pi.toolchain import Toolchain
    from ramure.testing.scripts import Script

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(60)]

MARKS = MessageMarks(b"a key of the tests")
ECHO = {
    "name": "echo",
    "description": "Echoes.",
    "parameters": {"type": "object", "properties": {"n": {"type": "number"}}},
}


class Recorder:
    """A run's side without a run: delivers a log, answers calls of ``echo``, writes down what is reported."""

    def __init__(self) -> None:
        self.delivery = Delivery(MARKS)
        self.connection: AgentConnection | None = None
        self.hello: Hello | None = None
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.changed = asyncio.Condition()

    def connected(self, connection: AgentConnection, hello: Hello) -> None:
        self.connection, self.hello = connection, hello
        self.carry_out(self.delivery.on_hello(hello))

    def disconnected(self, connection: AgentConnection, reason: str) -> None:
        self.connection = None
        self.delivery.on_disconnected()

    def frame(self, connection: AgentConnection, frame: Frame) -> None:
        match frame:
            case Report():
                self.carry_out(self.delivery.on_report(frame))
            case Ack(applied=applied):
                self.carry_out(self.delivery.on_ack(applied))
            case Delivered(seqs=seqs, marks=marks):
                self.carry_out(self.delivery.on_delivered(seqs, marks))
            case Resend(after=after):
                self.carry_out(self.delivery.on_resend(after))
            case Bye(reason=reason):
                self.reports.append(("bye", {"reason": reason}))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame=frame) if self.connection is not None:
                    self.connection.send(frame)
                case Reported(kind=kind, data=data):
                    self.reports.append((kind, data))
                case BeginCall(call_id=call_id, arguments=arguments):
                    n = arguments.get("n")
                    if n != 99:  # 99 is never answered
                        self.carry_out(self.delivery.call_done(call_id, n != 13, f"echo {n}"))

    def say(self, type: str, data: dict[str, Any]) -> None:
        seq = self.delivery.append(type, data, "test", 0.0)
        self.carry_out(self.delivery.written(seq))

    async def until(self, kind: str, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while [name for name, _ in self.reports].count(kind) < count:
                await asyncio.sleep(0.02)

    async def failed(self, count: int = 1) -> str:
        """Until the model has failed in that many runs; the name of the last of them."""
        await self.until("run_failed", count)
        runs = [data["run"] for kind, data in self.reports if kind == "run_failed"]
        return str(runs[-1])

    async def until_idle(self, runs: int = 1) -> None:
        """Until that many runs of the model are over, and said to be: the end of a run is two reports."""
        async with asyncio.timeout(30):
            while self.reports.count(("state", {"state": "idle"})) < runs:
                await asyncio.sleep(0.02)


class Starter(Protocol):
    async def __call__(self, config: dict[str, Any], session: Path, script: Script) -> None: ...


def config(gateway: Gateway, token: str) -> dict[str, Any]:
    timings = {"grace": 5, "heartbeat": 1, "silence": 8}
    return {"url": gateway.url, "token": token, "agent": "worker", "launch": uuid.uuid4().hex, **timings}


async def simulated(settings: dict[str, Any], session: Path, script: Script, scenario: Any) -> None:
    def write(line: str) -> None:
        with session.open("a") as file:
            file.write(line)

    errors: list[Exception] = []
    model = SimulatedModel(ScriptPlayer(script), "scripted/scripted-1", [], errors.append)
    memory = Memory(session.read_text(), write)
    pi = SimulatedPi(settings, memory, model, str(session), asyncio.Semaphore(1))
    life = asyncio.create_task(pi.run())
    try:
        await scenario
    finally:
        life.cancel()
        await asyncio.wait({life})
    assert errors == []


async def real(
    settings: dict[str, Any], session: Path, script: Script, scenario: Any, command: tuple[str, ...]
) -> None:
    (session.parent / "config.json").write_text(json.dumps(settings))
    async with ScriptedModel(script) as model:
        environment = {**os.environ, **model.write_config(session.parent / "agent")}
        environment[CONFIG_VARIABLE] = str(session.parent / "config.json")
        words = ["--mode", "rpc", "-ne", "-e", str(extension_path()), "--session", str(session), "--model", model.model]
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.DEVNULL}
        async with started(*command, *words, cwd=session.parent, env=environment, **pipes):
            await scenario


def each_pi(tmp_path: Path, command: tuple[str, ...]) -> Iterator[tuple[Any, tuple[Any, ...], Path]]:
    """How each of the two is started, what that takes besides, and a new session for it."""
    for start, more in ((simulated, ()), (real, (command,))):
        session = tmp_path / start.__name__ / "session.jsonl"
        session.parent.mkdir()
        session.write_text(seed(str(uuid.uuid4()), str(session.parent), "2026-01-31T12:00:00.000Z"))
        yield start, more, session


async def both(tmp_path: Path, command: tuple[str, ...], script: Any, scenario: Any) -> tuple[list[Any], list[Any]]:
    """What the simulated and the real one reported in the same scenario."""
    seen: list[list[Any]] = []
    for start, more, session in each_pi(tmp_path, command):
        recorder = Recorder()
        async with Gateway() as gateway:
            gateway.expect("secret", recorder)
            await start(config(gateway, "secret"), session, script, scenario(recorder), *more)
        assert recorder.delivery.undelivered == ()
        seen.append([_comparable(kind, data) for kind, data in recorder.reports])
    return seen[0], seen[1]


def _comparable(kind: str, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Without what is new each time (ids), the rounding errors of prices, and what each version of pi words its way."""
    data = {key: value for key, value in data.items() if key not in ("tool_call_id", "call_id", "run")}
    if kind == "assistant":
        data["tool_calls"] = [call["name"] for call in data["tool_calls"]]
        tokens = {name: data["usage"][name] for name in ("input", "output", "cacheRead", "cacheWrite", "totalTokens")}
        data["usage"] = {**tokens, "cost": round(data["usage"]["cost"]["total"], 9)}
    if data.get("stop_reason") == "error" and "operation was aborted" in data["error"]:
        # What pi 0.87 makes of an interrupt between a tool call and the model's next answer; others say "aborted".
        data.update(stop_reason="aborted", error="aborted" if kind == "assistant" else None)
    if data.get("error"):
        data["error"] = "bad" if "bad" in data["error"] else "other"
    return kind, data


async def test_messages_tools_and_usage(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    script = [
        [Thinking("hm"), ToolCall("echo", {"n": 1})],
        [ToolCall("echo", {"n": 13})],
        [ToolCall("nonsense", {})],
        [Text("Done."), Usage(1000, 20, cache_read=500)],
        ["Cut off", Finish("length")],
    ]

    async def scenario(run: Recorder) -> None:
        run.say("system_prompt", {"text": "You are a worker."})
        run.say("tool", ECHO)
        run.say("message", {"text": "go", "how": "steer"})
        await run.until_idle()
        run.say("message", {"text": "once more", "how": "queue"})
        await run.until_idle(2)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real


async def on_two_connections(run: Recorder) -> None:
    """A run of the model, after which all reports that are not acknowledged are sent again; and another run."""
    run.say("tool", ECHO)
    run.say("message", {"text": "go", "how": "steer"})
    await run.until_idle()
    assert run.connection is not None
    run.connection.socket.transport.abort()
    run.say("message", {"text": "once more", "how": "queue"})
    await run.until_idle(2)


async def test_a_report_that_no_frame_can_hold_is_cut_and_the_agent_goes_on(
    tmp_path: Path, pi_argv: tuple[str, ...]
) -> None:
    deep: list[Any] = []
    for _ in range(120):
        deep = [deep]
    script = [[ToolCall("echo", {"n": 1, "more": deep})], "done", "again"]
    simulated, real = await both(tmp_path, pi_argv, script, on_two_connections)
    assert simulated == real
    (started,) = [data for kind, data in real if kind == "tool_start"]
    assert started["arguments"] == {"left_out": "more than 98 levels of nesting"}
    (ended,) = [data for kind, data in real if kind == "tool_end"]
    why = "the call of echo is too large: more than 98 levels of nesting. Pass less, or a file."
    assert (ended["ok"], ended["text"]) == (False, why)
    assert [data["text"] for kind, data in real if kind == "run_end"] == ["done", "again"]


async def test_six_million_characters_of_three_bytes_are_too_many_for_a_report(
    tmp_path: Path, toolchain: Toolchain
) -> None:
    """They are fewer UTF-16 units than a frame has bytes. (pi 0.74 takes minutes for such a reply.)"""
    text = "語" * 6_000_000
    script = [Text(text, chunk=len(text)), "again"]
    simulated, real = await both(tmp_path, toolchain.pi_argv, script, on_two_connections)
    assert simulated == real
    texts = [data["text"] for kind, data in real if kind == "run_end"]
    assert texts == ["語" * 524_288 + "… (5475712 characters left out)", "again"]


async def test_steering_and_queueing(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    script = [[Delay(0.5), "one"], [Delay(0.5), "two"], "three"]

    async def scenario(run: Recorder) -> None:
        run.say("message", {"text": "first", "how": "steer"})
        await run.until("user")
        run.say("message", {"text": "second", "how": "steer"})
        run.say("message", {"text": "third", "how": "queue"})
        await run.until_idle(2)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real


async def test_an_interrupt_in_a_tool_call(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    script = [[ToolCall("echo", {"n": 99})], "again"]

    async def scenario(run: Recorder) -> None:
        run.say("tool", ECHO)
        run.say("message", {"text": "first", "how": "steer"})
        await run.until("tool_start")
        run.say("interrupt", {})
        await run.until_idle()
        run.say("message", {"text": "second", "how": "steer"})
        await run.until_idle(2)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real


async def test_an_error_that_is_given_up(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    async def scenario(run: Recorder) -> None:
        run.say("message", {"text": "first", "how": "steer"})
        failed = await run.failed()
        await asyncio.sleep(0.3)
        run.say("retry", {"run": failed, "retry": False})
        await run.until_idle()
        run.say("retry", {"run": failed, "retry": True})  # too late: it is over
        run.say("message", {"text": "second", "how": "steer"})
        await run.until_idle(2)

    simulated, real = await both(tmp_path, pi_argv, [HTTPError(400, "bad"), "again"], scenario)
    assert simulated == real
    kinds = [kind for kind, _ in real]
    assert kinds.index("run_failed") < kinds.index("run_end")
    assert [data["seqs"] for kind, data in real if kind in ("run_failed", "run_end")] == [[1], [1], [4]]


async def test_an_error_that_is_tried_again(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    """The run goes on where it was, without what it took in being said twice; what waits for its end waits on."""
    asked: list[list[str]] = []
    answers = [[ToolCall("echo", {"n": 1})], HTTPError(400, "bad"), HTTPError(400, "bad"), "went on", "to the second"]

    def script(conversation: Conversation) -> Any:
        asked.append([*conversation.user_texts, *(result.text for result in conversation.tool_results)])
        return answers[len(asked) - 1]

    async def scenario(run: Recorder) -> None:
        asked.clear()
        run.say("tool", ECHO)
        run.say("message", {"text": "first", "how": "steer"})
        failed = await run.failed()
        run.say("message", {"text": "second", "how": "queue"})
        run.say("retry", {"run": "another", "retry": True})
        await asyncio.sleep(1)
        assert len(asked) == 2
        run.say("retry", {"run": failed, "retry": True})
        run.say("retry", {"run": await run.failed(2), "retry": True})
        await run.until("run_end", 2)
        await asyncio.sleep(0.3)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real
    assert asked[1] == asked[2] == asked[3] == [f"[ramure 2 {MARKS.of(2)}] first", "echo 1"]
    ends = [(data["seqs"], data["text"]) for kind, data in real if kind == "run_end"]
    assert ends == [([2], "went on"), ([3], "to the second")]


@pytest.mark.parametrize("means", ["interrupt", "pause", "steer"])
async def test_what_comes_while_a_run_that_failed_is_held_up(
    tmp_path: Path, pi_argv: tuple[str, ...], means: str
) -> None:
    """An interrupt ends it; a pause holds it up until its end; a message waits, and goes along with the next try."""
    asked: list[Asked] = []

    def script(conversation: Conversation) -> Any:
        return asked[-1](conversation)

    async def scenario(run: Recorder) -> None:
        asked.append(Asked([HTTPError(400, "bad"), "to the second" if means == "interrupt" else "went on", "more"]))
        run.say("message", {"text": "first", "how": "steer"})
        failed = await run.failed()
        if means == "interrupt":
            run.say("interrupt", {})
            await run.until("run_end")
        elif means == "pause":
            run.say("pause", {"paused": True})
            run.say("retry", {"run": failed, "retry": True})
            await asyncio.sleep(0.5)
            assert len(asked[-1].requests) == 1
            run.say("pause", {"paused": False})
            await run.until("run_end")
        run.say("message", {"text": "second", "how": "steer"})
        await asyncio.sleep(0.5)
        if means == "steer":
            assert len(asked[-1].requests) == 1
            run.say("retry", {"run": failed, "retry": True})
        await run.until("run_end", 1 if means == "steer" else 2)
        await asyncio.sleep(0.3)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real
    ends = [(data["seqs"], data["stop_reason"], data["text"]) for kind, data in real if kind == "run_end"]
    assert (
        ends
        == {
            "interrupt": [([1], "aborted", ""), ([3], "stop", "to the second")],
            "pause": [([1], "stop", "went on"), ([5], "stop", "more")],
            "steer": [([1, 2], "stop", "went on")],
        }[means]
    )


async def test_a_run_that_failed_is_gone_on_with_by_the_next_life(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    told: list[list[Any]] = []
    for start, more, session in each_pi(tmp_path, pi_argv):
        recorder = Recorder()
        asked = Asked([HTTPError(400, "bad"), "went on"])

        async def first(run: Recorder) -> None:
            run.say("message", {"text": "first", "how": "steer"})
            await run.failed()

        async def second(run: Recorder) -> None:
            run.reports.append(("killed", {}))
            await run.until("run_end")
            await asyncio.sleep(0.3)

        async with Gateway() as gateway:
            for token, scenario in (("one", first), ("two", second)):
                gateway.expect(token, recorder)
                await start(config(gateway, token), session, asked, scenario(recorder), *more)
                if token == "one":
                    recorder.say("retry", {"run": "of another life", "retry": False})
        told.append([_comparable(kind, data) for kind, data in recorder.reports])
        assert asked.requests[0] == asked.requests[1] == [f"[ramure 1 {MARKS.of(1)}] first"]
    assert told[0] == told[1]


async def test_an_interrupt_of_the_model(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    asked: list[str] = []

    def script(conversation: Conversation) -> Any:
        asked.append(conversation.last_user_text)
        return ["Half", Hang()] if conversation.last_user_text == "first" else "again"

    async def scenario(run: Recorder) -> None:
        asked.clear()
        run.say("message", {"text": "first", "how": "steer"})
        async with asyncio.timeout(30):
            while not asked:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.5)  # pi shows no event when a stream has begun
        run.say("interrupt", {})
        await run.until_idle()
        run.say("message", {"text": "second", "how": "steer"})
        await run.until_idle(2)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real


async def test_a_second_life_goes_on_where_the_first_was_killed(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    """Killed in a tool call, with a message waiting: the outcome of the call is asked for, and the message follows."""
    told: list[list[Any]] = []
    for start, more, session in each_pi(tmp_path, pi_argv):
        recorder = Recorder()

        async def first(run: Recorder) -> None:
            run.say("tool", ECHO)
            run.say("message", {"text": "go", "how": "steer"})
            await run.until("tool_start")
            run.say("message", {"text": "and this", "how": "queue"})
            await asyncio.sleep(0.3)  # until the call is under way

        async def second(run: Recorder) -> None:
            run.reports.append(("killed", {}))
            [call] = run.delivery.running
            await asyncio.sleep(0.5)
            run.carry_out(run.delivery.call_done(call, True, "the true outcome"))
            await run.until_idle()

        async with Gateway() as gateway:
            for token, scenario, script in (
                ("one", first, [[ToolCall("echo", {"n": 99})]]),
                ("two", second, ["Done.", "And that."]),
            ):
                gateway.expect(token, recorder)
                await start(config(gateway, token), session, script, scenario(recorder), *more)
        told.append([_comparable(kind, data) for kind, data in recorder.reports])
    assert told[0] == told[1]


class Asked:
    """A script as a function of the conversation, and what it was asked."""

    def __init__(self, answers: Script) -> None:
        self.answers = list(answers)
        self.requests: list[list[str]] = []

    def __call__(self, conversation: Conversation) -> Any:
        self.requests.append([*conversation.user_texts, *(result.text for result in conversation.tool_results)])
        return self.answers[len(self.requests) - 1]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.requests) < count:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("busy", ["model", "tool"])
async def test_a_pause_holds_everything_up(tmp_path: Path, pi_argv: tuple[str, ...], busy: str) -> None:
    """What is going on, a message that waits, and one that comes: all that goes on after the pause, with the true result."""
    first = ["Half", Hang()] if busy == "model" else [ToolCall("echo", {"n": 99})]
    asked: list[Asked] = []

    def script(conversation: Conversation) -> Any:
        return asked[-1](conversation)

    async def scenario(run: Recorder) -> None:
        asked.append(Asked([first, "went on", "to the third"]))
        run.say("tool", ECHO)
        run.say("message", {"text": "first", "how": "steer"})
        await asked[-1].until(1)
        if busy == "tool":
            await run.until("tool_start")
        else:
            await asyncio.sleep(1.5)  # pi shows no event when a stream has begun
        run.say("message", {"text": "second", "how": "queue"})
        run.say("pause", {"paused": True})
        await run.until_idle()
        run.say("message", {"text": "third", "how": "queue"})
        for call in run.delivery.running:
            run.carry_out(run.delivery.call_done(call, True, "the true outcome"))
        await asyncio.sleep(1)
        assert len(asked[-1].requests) == 1
        assert ("run_end" in [kind for kind, _ in run.reports], run.reports[-1]) == (
            False,
            ("state", {"state": "idle"}),
        )
        run.say("pause", {"paused": False})
        await run.until_idle(3)

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real
    for one in asked:
        assert "the true outcome" in one.requests[1] or busy == "model"
    ends = [data for kind, data in real if kind == "run_end"]
    assert [(end["seqs"], end["text"]) for end in ends] == [([2, 3], "went on"), ([5], "to the third")]


async def test_a_short_pause_and_one_of_a_message_that_is_on_its_way(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    async def scenario(run: Recorder) -> None:
        run.say("message", {"text": "first", "how": "steer"})
        await run.until("user")
        for paused in (True, False, True, False):
            run.say("pause", {"paused": paused})
        await run.until("run_end")
        run.say("pause", {"paused": True})
        run.say("message", {"text": "second", "how": "steer"})
        run.say("pause", {"paused": False})
        run.say("pause", {"paused": True})
        await asyncio.sleep(0.5)
        run.say("pause", {"paused": False})
        await run.until("run_end", 2)
        await asyncio.sleep(0.3)
        run.reports[:] = [report for report in run.reports if report[0] == "run_end"]

    def script(conversation: Conversation) -> Any:
        return [Delay(0.3), "to second" if any("second" in text for text in conversation.user_texts) else "to first"]

    simulated, real = await both(tmp_path, pi_argv, script, scenario)
    assert simulated == real
    assert [data["text"] for _, data in real] == ["to first", "to second"]


async def test_an_interrupt_ends_what_a_pause_has_held_up(tmp_path: Path, pi_argv: tuple[str, ...]) -> None:
    async def scenario(run: Recorder) -> None:
        run.say("tool", ECHO)
        run.say("message", {"text": "first", "how": "steer"})
        await run.until("tool_start")
        run.say("pause", {"paused": True})
        await run.until_idle()
        run.say("interrupt", {})
        await run.until("run_end")
        assert run.reports[-2][1]["stop_reason"] == "aborted" or run.reports[-1][1]["stop_reason"] == "aborted"
        run.say("message", {"text": "second", "how": "steer"})
        await asyncio.sleep(0.5)
        run.say("pause", {"paused": False})
        await run.until("run_end", 2)
        await run.until_idle(3)

    simulated, real = await both(tmp_path, pi_argv, [[ToolCall("echo", {"n": 99})], "again"], scenario)
    assert simulated == real


@pytest.mark.parametrize("means", ["pause", "interrupt", "late interrupt"])
async def test_what_comes_while_pi_is_down_holds_for_its_next_life(
    tmp_path: Path, pi_argv: tuple[str, ...], means: str
) -> None:
    """Killed in a tool call. Paused meanwhile, it goes on after the pause; interrupted, it does not go on with that."""
    told: list[list[Any]] = []
    for start, more, session in each_pi(tmp_path, pi_argv):
        recorder = Recorder()
        asked = Asked([[ToolCall("echo", {"n": 99})], "went on", "to the second"])

        async def first(run: Recorder) -> None:
            run.say("tool", ECHO)
            run.say("message", {"text": "go", "how": "steer"})
            await run.until("tool_start")
            await asyncio.sleep(0.3)  # until the call is under way

        async def second(run: Recorder, asked: Asked = asked) -> None:
            run.reports.append(("killed", {}))
            [call] = run.delivery.running
            if means == "late interrupt":
                await run.until("state", 2)  # busy, as it was before: it waits for the call
                await asyncio.sleep(0.3)
                assert run.reports[-1] == ("state", {"state": "busy"})
                run.say("interrupt", {})
            if "interrupt" in means:
                await run.until("run_end")
                assert dict(run.reports)["run_end"]["stop_reason"] == "aborted"
                await asyncio.sleep(0.5)
                assert len(asked.requests) == 1
                run.say("message", {"text": "second", "how": "steer"})
            else:
                run.carry_out(run.delivery.call_done(call, True, "the true outcome"))
                await asyncio.sleep(1)
                assert len(asked.requests) == 1
                run.say("pause", {"paused": False})
            await run.until("run_end", 2 if "interrupt" in means else 1)
            await asyncio.sleep(0.3)
            run.reports[:] = [report for report in run.reports if report[0] != "state"]

        async with Gateway() as gateway:
            for token, scenario in (("one", first), ("two", second)):
                gateway.expect(token, recorder)
                await start(config(gateway, token), session, asked, scenario(recorder), *more)
                if token == "one":
                    note = {"text": "You were killed. Go on.", "how": "note"}
                    recorder.say("message", note)
                    if means != "late interrupt":
                        recorder.say(means, {"paused": True} if means == "pause" else {})
        told.append([_comparable(kind, data) for kind, data in recorder.reports])
        assert ("the true outcome" in asked.requests[1]) == (means == "pause")
        assert any("You were killed. Go on." in text for text in asked.requests[1])
    assert told[0] == told[1]
