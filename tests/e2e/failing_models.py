"""Ways in which a model fails or stops, each played to the README's program on real pi, all at once."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ramure.testing import Conversation, DropConnection, HTTPError, ScriptedModel, Text, ToolCall
from tests.e2e.kit import Stage

PROGRAM = """
import asyncio, json, logging, sys, time

from ramure import agent, agent_process, current_runtime, done, spawn, wait

logging.basicConfig(level=logging.WARNING, format="warning: %(message)s", stream=sys.stdout)


@agent_process
async def haikus(topic: str, count: int = 1, retry_for: float = 900) -> list[str]:
    poet = await agent("poet", system_prompt="You are a poet of few words.", retry_for=retry_for)
    written: list[str] = []
    states.setdefault(topic, [])
    poet.events.subscribe(lambda event: states[topic].append((time.time(), event.type, event.data)))

    @poet.on("submit_haiku")
    async def on_haiku(text: str) -> str:
        \"\"\"Hand in one haiku: three lines, separated by newlines.\"\"\"
        written.append(text)
        if len(written) == count:
            done(written)
        return f"Taken. {count - len(written)} to go."

    await poet.send(f"Write {count} haikus about {topic}. Hand in each with a call of submit_haiku.")
    return await wait()


states = {}


async def one(topic, retry_for):
    try:
        result, error, cause = await spawn(haikus, topic, retry_for=retry_for), None, None
    except Exception as failure:
        result, error, cause = None, f"{type(failure).__name__}: {failure}", type(failure.__cause__).__name__
    # What ramure itself did (to give up, to end the agent) is no sign of the model's life.
    signs = [at for at, type, data in states[topic] if type in ("assistant", "tool_call", "user")]
    print("ended", json.dumps({
        "topic": topic, "result": result, "error": error, "cause": cause,
        "silent": time.time() - max(signs, default=time.time()),
        "states": [data["state"] for at, type, data in states[topic] if type == "state"],
        "problems": [data["answer"] for at, type, data in states[topic] if type == "model_error"],
        "downs": sum(type == "agent_down" for at, type, data in states[topic]),
    }), flush=True)


@agent_process
async def main():
    print("run", current_runtime().execution_id, flush=True)
    await asyncio.gather(*(one(*each) for each in json.loads(sys.argv[1])))


asyncio.run(main())
"""


@dataclass(frozen=True)
class Way:
    """How a model fails, and what is to come of it. ``seconds``: for so long (None: for good)."""

    step: Any
    seconds: float | None = None
    completes: bool = False
    words: str = ""
    remedy: str = ""
    retry_for: float = 8.0


WAYS = {
    "401": Way(HTTPError(401, "invalid x-api-key"), words="401 invalid x-api-key", remedy="/login"),
    "402": Way(HTTPError(402, "Insufficient credits"), words="402 Insufficient credits", remedy="add credit"),
    "404": Way(HTTPError(404, "no such model"), words="404 no such model", remedy="model="),
    "429-for-5-s": Way(HTTPError(429, "slow down"), 5, completes=True, retry_for=300),
    "429-for-good": Way(HTTPError(429, "slow down"), words="429 slow down", remedy="retry_for="),
    "429-no-quota": Way(
        HTTPError(429, "You exceeded your current quota, please check your plan and billing details"),
        words="429 You exceeded your current quota",
        remedy="add credit",
    ),
    "500-for-5-s": Way(HTTPError(500, "oops"), 5, completes=True, retry_for=300),
    "500-for-30-s": Way(HTTPError(500, "oops"), 30, completes=True, retry_for=300),
    "500-for-good": Way(HTTPError(500, "oops"), words="500 oops", remedy="retry_for="),
    "overflow": Way(
        HTTPError(400, "prompt is too long: 213462 tokens > 200000 maximum"),
        words="prompt is too long",
        remedy="larger context",
    ),
    "cut-stream": Way(["Half a hai", DropConnection()], 5, completes=True, retry_for=300),
}
"""Those that are a failure of the model."""


async def too_large(
    stage: Stage, summary: Callable[[], Any], within: float, retry_for: float = 8
) -> tuple[dict[str, Any], str]:
    """What comes of a conversation that is too large until pi has compacted it; ``summary()``: what pi's compaction gets."""

    def script(conversation: Conversation) -> Any:
        if "<conversation>" in conversation.last_user_text:
            return summary()
        if "<summary>" not in json.dumps(conversation.messages):
            return WAYS["overflow"].step
        return "Done." if conversation.tool_results else ToolCall("submit_haiku", {"text": "Rebase in the night"})

    ends, said = await _play(stage, script, [["overflow", retry_for]], within)
    return ends["overflow"], said


def corrected(conversation: Conversation) -> Any:
    """Calls a tool that does not exist, and the right one when it is told so."""
    if not conversation.tool_results:
        return ToolCall("hand_in", {"text": "Rebase in the night"})
    assert "not found" in conversation.tool_results[0].text
    if len(conversation.tool_results) == 1:
        return ToolCall("submit_haiku", {"text": "Rebase in the night"})
    return "Done."


def gives_up(conversation: Conversation) -> Any:
    """Calls a tool that does not exist, and stops when it is told so."""
    return "There is no such tool." if conversation.tool_results else ToolCall("hand_in", {"text": "x"})


STOPS = {
    "empty-reply": Way(Text(""), words="its last reply was empty"),
    "text-without-a-tool": Way("submit_haiku('autumn')", words="its last words: \"submit_haiku('autumn')\""),
    "unknown-tool": Way(gives_up, words="its last words: 'There is no such tool.'"),
    "unknown-tool-corrected": Way(corrected, completes=True),
    "I-am-done": Way("I am done.", words="its last words: 'I am done.'"),
    "question": Way("Shall I write it in English?", words="its last words: 'Shall I write it in English?'"),
    "refusal": Way("I cannot help with that.", words="its last words: 'I cannot help with that.'"),
}
"""Those of a model that works, and stops short of what it is to do."""


class FailingModel:
    """A script that fails in the way that the conversation is about, then hands a haiku in."""

    def __init__(self, ways: dict[str, Way]) -> None:
        self.ways = ways
        self.began: dict[str, float] = {}

    def __call__(self, conversation: Conversation) -> Any:
        text = conversation.first_user_text
        name = text.partition(" haikus about ")[2].partition(". ")[0]
        way = self.ways.get(name, self.ways["overflow"])  # pi's compaction asks in a conversation of its own
        began = self.began.setdefault(f"{name} {conversation.id}", time.monotonic())
        if way.seconds is None or time.monotonic() - began < way.seconds:
            return way.step(conversation) if callable(way.step) else way.step
        return "Done." if conversation.tool_results else ToolCall("submit_haiku", {"text": "Rebase in the night"})


async def fanned_out(stage: Stage, agents: int, seconds: float, within: float) -> None:
    """That many agents ask a provider that answers 429 for ``seconds`` after the first request: all complete."""
    began: list[float] = []

    def script(conversation: Conversation) -> Any:
        began.append(time.monotonic())
        if time.monotonic() - began[0] < seconds:
            return HTTPError(429, "slow down")
        return "Done." if conversation.tool_results else ToolCall("submit_haiku", {"text": "Rebase in the night"})

    ends, said = await _play(stage, script, [[f"topic {number}", 900] for number in range(agents)], within)
    assert len(ends) == agents, said
    for name, end in ends.items():
        assert end["result"] == ["Rebase in the night"], (name, end)
        assert end["downs"] == 0, (name, end)
    assert any("waiting_for_model" in end["states"] for end in ends.values()), said


async def played(stage: Stage, names: list[str], within: float) -> tuple[dict[str, dict[str, Any]], str]:
    """What came of each, by name; and all that the program said."""
    ways = {**WAYS, **STOPS}
    return await _play(stage, FailingModel(ways), [[name, ways[name].retry_for] for name in names], within)


async def _play(
    stage: Stage, script: Any, runs: list[list[Any]], within: float
) -> tuple[dict[str, dict[str, Any]], str]:
    async with ScriptedModel(script) as model:
        stage.serve(model)
        file = stage.work / "program.py"
        file.write_text(PROGRAM, encoding="utf-8")
        async with stage.start(sys.executable, str(file), json.dumps(runs)) as program:
            assert await program.ends(within) == 0, program.said
            said = program.said
    ends = [json.loads(line.partition(" ")[2]) for line in said.splitlines() if line.startswith("ended ")]
    return {end["topic"]: end for end in ends}, said


def check(name: str, end: dict[str, Any], said: str, limit: float = 45.0) -> None:
    """Assert that ``name`` came to what it is to."""
    way = WAYS[name] if name in WAYS else STOPS[name]
    assert end["downs"] == 0, end
    if name in STOPS:
        assert end["problems"] == [], end
        assert "waiting_for_model" not in end["states"], end
    elif way.completes or "for-good" in name:
        assert "waiting_for_model" in end["states"], end
    if way.completes:
        assert end["result"] == ["Rebase in the night"], end
        return
    assert way.words in end["error"], end
    assert way.remedy in end["error"], end
    assert end["silent"] < limit, end
    if name in STOPS:
        assert end["error"].startswith("Stalled: "), end
        assert re.search(r"agent 'poet(~\d+)?' ended its turn without calling submit_haiku", end["error"]), end
    else:
        assert end["error"].startswith("AgentDied: agent 'poet' died: "), end
        assert end["cause"] == "ModelError", end
        assert end["problems"][-1] == "end", end
    assert any(line.startswith("warning: ") and way.words in line for line in said.splitlines()), said
