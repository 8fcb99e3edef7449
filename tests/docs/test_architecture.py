"""docs/architecture.md says where things are and how they travel: what it names exists, and each trip is taken as it says."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ramure import agent, agent_process, spawn
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
HOP = re.compile(r"^\| `(?P<file>ramure/[^`]+)` \| `(?P<function>[^`]+)` \| [^|]+ \|$", re.MULTILINE)
ELSEWHERE = ("ramure/agents/pi/extension/", "ramure/machines/reaper/reaper_program.py")


def trip(title: str) -> list[tuple[str, str]]:
    """The hops of one of the page's trips: file and function."""
    section = PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0]
    return [(hop["file"], hop["function"]) for hop in HOP.finditer(section)]


TRIPS = ("A message to pi", "A tool call", "A spawn, to its result", "pi is killed", "The program is killed")


@pytest.mark.parametrize("title", TRIPS)
def test_what_a_trip_names_exists(title: str) -> None:
    hops = trip(title)
    assert len(hops) >= 5
    for file, function in hops:
        source = (ROOT / file).read_text(encoding="utf-8")
        name = function.rpartition(".")[2]
        assert re.search(rf"\b(def )?{name}\(", source), f"{file} has no {function}"


def test_every_path_on_the_page_exists() -> None:
    named = set(re.findall(r"`((?:ramure|tests|docs)/[\w./-]+)`", PAGE))
    assert len(named) > 40
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@contextlib.contextmanager
def followed(calls: list[tuple[str, str]]) -> Iterator[None]:
    """Note each function of ramure's that is called."""

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(f"{ROOT}/ramure/"):
                calls.append((code.co_filename[len(str(ROOT)) + 1 :], code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def taken(title: str, calls: list[tuple[str, str]]) -> None:
    """Assert that the trip's hops on this host were called in their order."""
    at = 0
    for hop in trip(title):
        if hop[0].startswith(ELSEWHERE):
            continue
        assert hop in calls[at:], f"{title}: {hop} was not called after {calls[at - 1] if at else 'the beginning'}"
        at = calls.index(hop, at) + 1


@agent_process
async def seven() -> int:
    return 7


def test_each_trip_is_taken_as_the_page_says() -> None:
    said: dict[str, list[tuple[str, str]]] = {title: [] for title in TRIPS}
    harness = InProcessHarness(
        lambda c: (
            ToolCall("note", {"text": "a"}) if "note it" in c.last_user_text and not c.tool_results else Text("ok")
        )
    )

    @agent_process(image=harness.image)
    async def main() -> int:
        worker = await agent("worker")

        @worker.on("note")
        async def note(text: str) -> str:
            """Note it."""
            return text

        events = aiter(worker.events)

        async def until(type: str) -> None:
            while (await anext(events)).type != type:
                pass

        with followed(said["A message to pi"]):
            await worker.send("hello")
            await until("run_end")
        with followed(said["A tool call"]):
            await worker.send("note it")
            await until("run_end")
        with followed(said["A spawn, to its result"]):
            result = await spawn(seven)
        with followed(said["pi is killed"]):
            harness.kill("worker")
            await until("agent_restarted")
            await asyncio.sleep(1)  # what it lacks is sent as soon as it has connected
        return result

    assert run_virtual(main()) == 7
    for title in TRIPS[:-1]:
        taken(title, said[title])


def test_a_trip_in_another_order_is_noticed() -> None:
    hops = [hop for hop in trip("A tool call") if not hop[0].startswith(ELSEWHERE)]
    taken("A tool call", hops)
    with pytest.raises(AssertionError, match="was not called after"):
        taken("A tool call", [*hops[1:], hops[0]])
