"""A model that fails is a failure: what ends the agent, what it waits for, and whose error it is. On simulated pis."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ramure import agent, agent_process, current_runtime, done, wait
from ramure.agents.errors import Interrupted, ModelError
from ramure.agents.requests import Pause, Unpause
from ramure.errors import UsageError
from ramure.runtime.errors import AgentDied
from ramure.runtime.process.handle import Agent
from ramure.runtime.views.status import run_summary
from ramure.runtime.views.story_log import read_story
from ramure.testing import Conversation, DropConnection, Finish, HTTPError, InProcessHarness, ToolCall, run_virtual

FINISHES = [ToolCall("finish", {"summary": "all green"}), "Done."]


def run_log(home: Path) -> list[dict[str, Any]]:
    [path] = home.glob("logs/*/_runtime.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def why(home: Path, name: str = "worker") -> str:
    [path] = home.glob("logs/*/_runtime.jsonl")
    story, _ = read_story(path.parent, name)
    return "\n".join(
        [story.headline, *(f"{chapter.kind}: {chapter.text}; {chapter.did}" for chapter in story.chapters)]
    )


class Scene:
    """One agent with a tool ``finish``, whose model plays ``script``; ``body`` is the process's code."""

    def __init__(self, script: Any, body: Callable[[Scene], Awaitable[Any]] | None = None, **options: Any) -> None:
        self.harness = InProcessHarness(script)
        self.body = body or Scene.sent
        self.options = options
        self.events: list[tuple[str, Any]] = []
        self.seconds = 0.0

    @staticmethod
    async def sent(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        return await wait()

    def now(self) -> float:
        return current_runtime().system.clock.monotonic()

    def play(self) -> Any:
        scene = self

        @agent_process(image=self.harness.image)
        async def main() -> Any:
            scene.worker = await agent("worker", **scene.options)

            @scene.worker.on("finish")
            async def finish(summary: str) -> str:
                """Call when done."""
                done(summary)
                return "Recorded."

            began = scene.now()
            try:
                return await scene.body(scene)
            finally:
                scene.seconds = scene.now() - began
                scene.events = [(event.type, event.data) for event in scene.worker.events._events]

        return run_virtual(main())

    worker: Agent

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for type, data in self.events if type == kind]

    def states(self) -> list[str]:
        return [data["state"] for data in self.of("state")]


# -- permanent errors ---------------------------------------------------------------------------------------

PERMANENT = [
    (HTTPError(401, "invalid x-api-key"), "authentication", "401 invalid x-api-key", "check the key of scripted"),
    (HTTPError(402, "Insufficient credits"), "billing", "402 Insufficient credits", "add credit or raise the limit"),
    (HTTPError(403, "not for you"), "permission", "403 not for you", "ask for access"),
    (HTTPError(404, "no such model"), "not_found", "404 no such model", "choose a model that exists with model="),
    (HTTPError(400, "roles must alternate"), "invalid_request", "400 roles must alternate", "model="),
    (HTTPError(422, "field required"), "invalid_request", "422 field required", "model="),
    (HTTPError(400, "prompt is too long: 9 tokens > 8 maximum"), "overflow", "prompt is too long", "larger context"),
    (HTTPError(429, "You exceeded your current quota, see your billing details"), "billing", "429", "add credit"),
    ([Finish("content_filter")], "refused", "content_filter", "word the task in another way"),
]


@pytest.mark.parametrize(("step", "cause", "words", "remedy"), PERMANENT, ids=[each[2] for each in PERMANENT])
def test_a_permanent_error_ends_the_agent_with_the_provider_s_words_and_the_remedy(
    step: Any, cause: str, words: str, remedy: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene([step] * 5)
    with pytest.raises(AgentDied, match="agent 'worker' died") as caught:
        scene.play()
    error = caught.value.__cause__
    assert isinstance(error, ModelError)
    assert (error.kind, error.cause, error.attempt, error.asked) == ("permanent", cause, 1, False)
    for said in (str(caught.value), why(home)):
        assert words in said
        assert remedy in said
    [event] = scene.of("model_error")
    assert (event["kind"], event["cause"], event["answer"], event["did"]) == (
        "permanent",
        cause,
        "end",
        "the agent ends",
    )
    assert event["status"] == (step.status if isinstance(step, HTTPError) else None)
    assert [entry["cause"] for entry in run_log(home) if entry["type"] == "model_error"] == [cause]
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert words in warning.getMessage()
    assert remedy in warning.getMessage()
    assert scene.worker.state == "ended"
    assert len(scene.harness.requests) <= 3  # pi's client tries a 429 again by itself
    assert scene.seconds < 10


def test_an_agent_that_is_idle_when_a_message_fails_dies_in_its_wait_or_is_the_next_one_s() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        await asyncio.sleep(1)
        return await wait()

    with pytest.raises(AgentDied, match="402 no credit"):
        Scene([HTTPError(402, "no credit")], body).play()


def test_a_key_in_a_provider_s_words_is_in_no_log_and_no_error(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "hunter2-of-the-house")
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    words = f"wrong key {key} and hunter2-of-the-house"
    with pytest.raises(AgentDied) as caught:
        Scene([HTTPError(401, words)]).play()
    logs = "".join(path.read_text() for path in home.glob("logs/*/*.jsonl"))
    for said in (str(caught.value), caplog.text, logs):
        assert "wrong key [secret]" in said
        assert key not in said
        assert "hunter2" not in said


# -- transient errors ---------------------------------------------------------------------------------------

TRANSIENT = [
    HTTPError(429, "slow down"),
    HTTPError(500, "oops"),
    HTTPError(529, "overloaded"),
    HTTPError(503, "Loading model"),
    HTTPError(408, "timeout"),
    ["Half an ans", DropConnection()],
]


@pytest.mark.parametrize("step", TRANSIENT, ids=str)
@pytest.mark.parametrize("count", [1, 7, 40])
def test_after_a_transient_error_the_conversation_goes_on_when_the_provider_does(step: Any, count: int) -> None:
    scene = Scene([ToolCall("note", {}), *[step] * count, *FINISHES])
    assert scene.play() == "all green"
    scene.harness.check()
    first, *middle, last = [request.conversation for request in scene.harness.requests][: count + 2]
    assert {tuple(one.user_texts) for one in (first, *middle, last)} == {tuple(first.user_texts)}
    assert last.messages[-1]["role"] == "tool"  # what was done before is still there, and said once
    states = scene.states()
    assert states[-1] in ("busy", "idle")
    assert states.count("idle") == 1 or states[-1] == "idle"


def test_meanwhile_the_agent_waits_for_its_model_and_its_pi_is_not_restarted(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        for _ in range(3):
            await asyncio.sleep(20)
            seen.append(scene.worker.state)
        return await wait()

    scene = Scene([*[HTTPError(429, "slow down")] * 60, *FINISHES], body, max_restarts=0)
    assert scene.play() == "all green"
    assert set(seen) == {"waiting_for_model"} or set(seen) == {"waiting_for_model", "busy"}
    assert scene.states()[3:5] == ["busy", "waiting_for_model"]
    errors = scene.of("model_error")
    assert len(errors) >= 3
    assert [error["attempt"] for error in errors] == list(range(1, len(errors) + 1))
    assert all(error["answer"] == "retry" and error["kind"] == "transient" for error in errors)
    assert [error["elapsed"] for error in errors] == sorted(error["elapsed"] for error in errors)
    assert not scene.of("agent_down")
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == "agent 'worker' waits for its model, which failed: 429 slow down"
    assert "its model failed" in why(home)
    assert "tried again after" in why(home)


@pytest.mark.parametrize("retry_for", [0, 5, 60, 900])
def test_after_retry_for_seconds_it_ends_as_from_a_permanent_error(retry_for: float, home: Path) -> None:
    scene = Scene(lambda conversation: HTTPError(500, "oops"), retry_for=retry_for)
    with pytest.raises(AgentDied, match="500 oops") as caught:
        scene.play()
    assert retry_for <= scene.seconds <= max(retry_for, 19) + 41
    error = caught.value.__cause__
    assert isinstance(error, ModelError)
    assert (error.kind, error.status) == ("transient", 500)
    assert error.elapsed >= retry_for
    assert "retry_for=" in str(error)
    assert scene.of("model_error")[-1]["did"] == f"gave up (retry_for={retry_for:g}): the agent ends"
    assert "gave up" in why(home)


def test_progress_begins_the_time_anew() -> None:
    turn = [*[HTTPError(500, "oops")] * 15, ToolCall("note", {})]
    scene = Scene([*turn * 5, *FINISHES], retry_for=50)
    assert scene.play() == "all green"
    assert scene.seconds > 100


def test_what_the_provider_asks_to_wait_is_waited_and_not_begun_beyond_the_time() -> None:
    asks_to_wait = [HTTPError(429, "limit. Please try again in 2m.", retry=False)] * 4  # pi itself tries four times
    scene = Scene([*asks_to_wait, *FINISHES])
    assert scene.play() == "all green"
    assert scene.seconds >= 120
    late = Scene(asks_to_wait, retry_for=60)
    with pytest.raises(AgentDied, match="try again in 2m"):
        late.play()
    assert late.seconds < 30
    assert late.of("model_error")[-1]["did"].startswith("gave up (retry_for=60, and the provider asks to wait 120 s)")


def test_words_that_nobody_knows_are_tried_again_within_the_time() -> None:
    answers = iter([HTTPError(418, "the frobnicator is askew")] * 3)
    scene = Scene(lambda conversation: next(answers, None) or finishing(conversation))
    assert scene.play() == "all green"
    assert [error["cause"] for error in scene.of("model_error")] == ["unknown"] * 3


def finishing(conversation: Conversation) -> Any:
    return "Done." if conversation.tool_results else FINISHES[0]


def test_twenty_agents_at_a_provider_that_answers_429_for_a_minute_all_complete() -> None:
    calm_at: list[float] = []

    def script(conversation: Conversation) -> Any:
        now = asyncio.get_running_loop().time()
        if not calm_at:
            calm_at.append(now + 60)
        return HTTPError(429, "slow down") if now < calm_at[0] else finishing(conversation)

    harness = InProcessHarness(script)

    @agent_process(image=harness.image)
    async def one(number: int) -> str:
        worker = await agent(f"worker-{number}")

        @worker.on("finish")
        async def finish(summary: str) -> str:
            """Call when done."""
            done(summary)
            return "Recorded."

        await worker.send("Do it.")
        result: str = await wait()
        return result

    @agent_process(image=harness.image)
    async def main() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(20)))

    assert run_virtual(main()) == ["all green"] * 20


# -- who is told --------------------------------------------------------------------------------------------


def test_the_error_of_a_run_that_an_ask_waits_for_is_that_ask_s_alone(home: Path) -> None:
    async def body(scene: Scene) -> Any:
        with pytest.raises(ModelError, match="402 no credit; add credit") as caught:
            await scene.worker.ask("One?")
        assert (caught.value.kind, caught.value.asked, caught.value.status) == ("permanent", True, 402)
        assert scene.worker.state in ("busy", "idle")
        await scene.worker.events.listen_for("state", where=lambda event: event.data["state"] == "idle")
        return await scene.worker.ask("Two?")

    scene = Scene([HTTPError(402, "no credit"), "two"], body)
    assert scene.play() == "two"
    [event] = scene.of("model_error")
    assert (event["asked"], event["answer"], event["did"]) == (True, "end", "told to who asked")
    assert not [entry for entry in run_log(home) if entry["type"] == "agent_died"]


def test_a_transient_error_of_an_ask_s_run_is_tried_again_too() -> None:
    async def body(scene: Scene) -> Any:
        return await scene.worker.ask("One?")

    assert Scene([*[HTTPError(500, "oops")] * 30, "one"], body).play() == "one"


def test_an_ask_whose_time_is_up_raises_and_the_agent_lives() -> None:
    async def body(scene: Scene) -> Any:
        with pytest.raises(ModelError, match=r"tries in \d+ s\): 500 oops") as caught:
            await scene.worker.ask("One?")
        assert caught.value.kind == "transient"
        scene.harness.errors.clear()
        return await scene.worker.ask("Two?")

    def script(conversation: Conversation) -> Any:
        return "two" if conversation.last_user_text.endswith("Two?") else HTTPError(500, "oops")

    scene = Scene(script, body, retry_for=30)
    assert scene.play() == "two"
    assert 30 <= scene.seconds < 90


def test_an_error_that_nobody_waits_for_any_more_ends_the_agent() -> None:
    async def body(scene: Scene) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await scene.worker.ask("One?")
        return await wait()

    with pytest.raises(AgentDied, match="500 oops"):
        Scene(lambda conversation: HTTPError(500, "oops"), body, retry_for=30).play()


def test_after_an_ask_s_error_a_sent_message_s_error_ends_the_agent() -> None:
    async def body(scene: Scene) -> Any:
        with pytest.raises(ModelError):
            await scene.worker.ask("One?")
        await scene.worker.send("Two.")
        return await wait()

    with pytest.raises(AgentDied, match="402 no credit"):
        Scene([HTTPError(402, "no credit")] * 2, body).play()


def test_a_question_that_waits_its_turn_is_not_put_into_a_run_that_is_tried_again() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        return await scene.worker.ask("What was it?")

    scene = Scene([*[HTTPError(500, "oops")] * 12, "did it", "it"], body)
    assert scene.play() == "it"
    texts = [request.conversation.user_texts for request in scene.harness.requests]
    assert [len(one) for one in texts] == [1] * 13 + [2]


# -- what is no failure -------------------------------------------------------------------------------------


def test_an_interrupt_while_it_waits_for_its_model_ends_the_wait_and_not_the_agent() -> None:
    async def body(scene: Scene) -> Any:
        asked = asyncio.ensure_future(scene.worker.ask("One?"))
        await scene.worker.events.listen_for("model_error")
        await scene.worker.interrupt()
        with pytest.raises(Interrupted):
            await asked
        await scene.worker.send("Do it.")
        return await wait()

    def script(conversation: Conversation) -> Any:
        return finishing(conversation) if conversation.last_user_text.endswith("Do it.") else HTTPError(500, "oops")

    scene = Scene(script, body)
    assert scene.play() == "all green"


def test_a_pause_while_it_waits_for_its_model_holds_that_up_and_does_not_count() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        await scene.worker.ref.ask(Pause())
        asked = len(scene.harness.requests)
        await asyncio.sleep(300)
        assert len(scene.harness.requests) == asked
        await scene.worker.ref.ask(Unpause())
        return await wait()

    scene = Scene([*[HTTPError(500, "oops")] * 20, *FINISHES], body, retry_for=100)
    assert scene.play() == "all green"


def test_an_interrupt_of_a_model_at_work_is_no_error() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Wait.")
        await scene.worker.events.listen_for("state", where=lambda event: event.data["state"] == "busy")
        await asyncio.sleep(5)
        await scene.worker.interrupt()
        await asyncio.sleep(60)
        assert scene.worker.state == "idle"
        await scene.worker.send("Do it.")
        return await wait()

    async def script(conversation: Conversation) -> Any:
        if conversation.last_user_text.endswith("Wait."):
            await asyncio.sleep(100)
        return finishing(conversation)

    scene = Scene(script, body)
    assert scene.play() == "all green"
    assert not scene.of("model_error")


def test_a_pi_that_dies_while_it_waits_for_its_model_goes_on_in_its_next_life_within_the_same_time() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        scene.harness.kill("worker")
        await scene.worker.events.listen_for("agent_restarted")
        return await wait()

    scene = Scene([*[HTTPError(500, "oops")] * 30, *FINISHES], body)
    assert scene.play() == "all green"
    assert scene.worker.restarts == 0 or scene.of("agent_restarted")
    errors = scene.of("model_error")
    assert errors[-1]["attempt"] == len(errors) >= 2


# -- on_model_error -----------------------------------------------------------------------------------------


def test_a_handler_decides_and_gets_the_error() -> None:
    seen: list[ModelError] = []

    def decide(error: ModelError) -> str:
        seen.append(error)
        return "retry" if error.attempt < 3 else "end"

    scene = Scene(lambda conversation: HTTPError(402, "no credit"), on_model_error=decide)
    with pytest.raises(AgentDied, match="402 no credit") as caught:
        scene.play()
    assert [(error.kind, error.cause, error.status, error.attempt) for error in seen] == [
        ("permanent", "billing", 402, attempt) for attempt in (1, 2, 3)
    ]
    assert seen[0].text == "402 no credit"
    assert seen[0].elapsed == 0
    assert 0 < seen[1].elapsed < seen[2].elapsed
    assert caught.value.__cause__ is seen[-1]


def test_an_async_handler_may_take_its_time_and_top_up() -> None:
    topped_up: list[bool] = []

    async def decide(error: ModelError) -> str:
        await asyncio.sleep(600)
        topped_up.append(True)
        return "retry"

    def script(conversation: Conversation) -> Any:
        return finishing(conversation) if topped_up else HTTPError(402, "no credit")

    scene = Scene(script, on_model_error=decide)
    assert scene.play() == "all green"
    assert scene.seconds > 600
    assert "waiting_for_model" in scene.states()


def test_ignored_the_run_is_over_and_the_agent_lives() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("One.")
        await scene.worker.events.listen_for("run_end")
        await scene.worker.send("Do it.")
        return await wait()

    scene = Scene([HTTPError(401, "no"), *FINISHES], body, on_model_error=lambda error: "ignore")
    assert scene.play() == "all green"
    assert scene.of("run_end")[0]["error"] == "401 no"
    assert scene.of("model_error")[0]["did"] == "ignored: the agent lives on"


def test_of_an_ask_s_run_the_handler_is_asked_too_and_both_ends_are_the_ask_s() -> None:
    answers = iter(["retry", "end", "ignore"])

    async def body(scene: Scene) -> Any:
        for _ in range(2):
            with pytest.raises(ModelError, match="401 no"):
                await scene.worker.ask("One?")
        return scene.worker.state

    scene = Scene([HTTPError(401, "no")] * 3, body, on_model_error=lambda error: next(answers))
    assert scene.play() in ("busy", "idle")
    assert [error["asked"] for error in scene.of("model_error")] == [True] * 3


@pytest.mark.parametrize("answer", [None, "again", True, 3])
def test_any_other_answer_ends_the_agent_and_says_which_there_are(answer: Any) -> None:
    with pytest.raises(AgentDied, match="return 'retry', 'end' or 'ignore'") as caught:
        Scene([HTTPError(401, "no")], on_model_error=lambda error: answer).play()
    assert isinstance(caught.value.__cause__, UsageError)
    assert repr(answer) in str(caught.value)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_exception_in_the_handler_is_the_agent_s_end(is_async: bool, home: Path) -> None:
    def fails(error: ModelError) -> str:
        raise ValueError("broken handler")

    async def fails_later(error: ModelError) -> str:
        await asyncio.sleep(1)
        return fails(error)

    with pytest.raises(AgentDied, match="broken handler") as caught:
        Scene([HTTPError(401, "no")], on_model_error=fails_later if is_async else fails).play()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "on_model_error failed (ValueError: broken handler)" in why(home)
    assert "401 no" in why(home)


def test_a_handler_runs_in_the_scope_of_the_process_that_made_the_agent() -> None:
    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        return await wait()

    def decide(error: ModelError) -> str:
        done(f"gave up: {error.status}")
        return "ignore"

    assert Scene([HTTPError(401, "no")], body, on_model_error=decide).play() == "gave up: 401"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry_for": -1}, r"retry_for=-1: give seconds \(0 or more\)"),
        ({"retry_for": "long"}, "retry_for='long': give seconds"),
        ({"retry_for": float("nan")}, "retry_for=nan: give seconds"),
        ({"on_model_error": "retry"}, "on_model_error='retry': give a function"),
    ],
)
def test_wrong_options_are_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Scene([], **options).play()


# -- no model at all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "cause", "said"),
    [
        ({"code": "no_model", "message": "pi has no key for p/m: log in with pi's /login"}, "no_model", "/login"),
        (
            {"code": "not_started", "message": "pi took a message and did not begin to work", "given_up": True},
            "not_started",
            "did not begin to work; look at its screen with `ramure connect`",
        ),
    ],
)
def test_a_pi_without_a_model_and_one_that_does_not_begin_are_failures_too(
    problem: dict[str, Any], cause: str, said: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(scene: Scene) -> Any:
        scene.harness.pi("worker")._report("problem", {"seq": None, **problem})
        return await wait()

    scene = Scene([], body)
    with pytest.raises(AgentDied) as caught:
        scene.play()
    assert isinstance(caught.value.__cause__, ModelError)
    assert caught.value.__cause__.cause == cause
    for text in (str(caught.value), why(home), caplog.text):
        assert said in text
    assert [event["cause"] for event in scene.of("model_error")] == [cause]


def test_a_model_that_pi_does_not_know_is_named_before_it_is_asked(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene([HTTPError(404, "no such model")], model="scripted/scriptd-1")
    with pytest.raises(AgentDied, match="404 no such model"):
        scene.play()
    unknown, failed = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "agent 'worker' (made at " in unknown
    for said in (unknown, why(home)):
        assert "pi does not know the model 'scripted/scriptd-1' of the provider 'scripted'" in said
        assert "the nearest that it knows: 'scripted/scripted-1'" in said
        assert "Choose one with model=" in said
    assert "404 no such model" in failed
    [problem] = scene.of("problem")
    assert (problem["code"], problem["model"]) == ("unknown_model", "scripted/scriptd-1")
    kinds = [kind for kind, _ in scene.events]
    assert kinds.index("problem") < kinds.index("assistant")


@pytest.mark.parametrize("model", [None, "scripted/scripted-1", "elsewhere/m1"])
def test_a_model_that_pi_knows_and_one_of_a_provider_that_it_does_not_know_are_asked_without_a_word(
    model: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert Scene(FINISHES, **({} if model is None else {"model": model})).play() == "all green"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_unknown_model_is_told_once_in_all_lives_of_pi(caplog: pytest.LogCaptureFixture) -> None:
    async def body(scene: Scene) -> Any:
        assert await scene.worker.ask("First.") == "said"
        scene.harness.kill("worker")
        await scene.worker.events.listen_for("agent_restarted")
        assert await scene.worker.ask("Second.") == "said"

    Scene(lambda _: "said", body, model="scripted/scriptd-1").play()
    assert sum("pi does not know the model" in record.getMessage() for record in caplog.records) == 1


def test_a_message_that_pi_did_not_take_at_once_is_no_failure() -> None:
    async def body(scene: Scene) -> Any:
        scene.harness.pi("worker")._report("problem", {"code": "not_started", "message": "x", "given_up": False})
        return await Scene.sent(scene)

    assert Scene(FINISHES, body).play() == "all green"


def test_sys_exit_in_a_handler_ends_the_agent_and_no_more() -> None:
    with pytest.raises(AgentDied, match=r"sys.exit\(\) ends the part"):
        Scene([HTTPError(401, "no")], on_model_error=lambda error: sys.exit(3)).play()


def test_a_handler_that_asks_its_own_agent_is_told_that_this_would_never_end() -> None:
    scene: Scene

    async def decide(error: ModelError) -> str:
        await scene.worker.ask("What now?")
        return "retry"

    scene = Scene([HTTPError(401, "no")], on_model_error=decide)
    with pytest.raises(AgentDied, match="this would never end"):
        scene.play()


def test_a_conversation_that_is_too_large_is_tried_again_while_its_compaction_fails_for_a_while() -> None:
    async def body(scene: Scene) -> Any:
        pi = scene.harness.pi("worker")
        report = pi._report
        pi._report = lambda kind, data: report(  # as pi 1.6 says it
            kind, {**data, "compaction": "529 overloaded"} if kind == "run_failed" else data
        )
        return await Scene.sent(scene)

    scene = Scene([HTTPError(400, "prompt is too long")] * 3 + FINISHES, body)
    assert scene.play() == "all green"
    assert {error["cause"] for error in scene.of("model_error")} == {"overloaded"}


def test_what_waits_for_its_model_is_shown_as_that() -> None:
    shown: list[str] = []

    async def body(scene: Scene) -> Any:
        await scene.worker.send("Do it.")
        await scene.worker.events.listen_for("model_error")
        shown.extend(each["state"] for each in run_summary(current_runtime())["agents"])
        return await wait()

    assert Scene([*[HTTPError(500, "oops")] * 20, *FINISHES], body).play() == "all green"
    assert shown == ["waiting_for_model"]
