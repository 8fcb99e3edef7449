"""Roots: each is a run of its own, under any loop; and a loop that is blocked is noticed."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ramure import agent_process, current_runtime, emit, self_ref, spawn, wait
from ramure.runtime.run.paths import RunPaths
from ramure.runtime.run.watchdog import Watchdog
from ramure.testing import virtual_time


@agent_process
async def root(n: int, seconds: float = 1) -> tuple[int, str]:
    await asyncio.sleep(seconds)
    return n, current_runtime().execution_id


@virtual_time()
async def test_two_roots_in_one_program_are_two_runs() -> None:
    (first, one), (second, other) = await asyncio.gather(root(1), root(2))
    assert (first, second) == (1, 2)
    assert one != other


@virtual_time()
async def test_the_failure_of_one_root_leaves_the_other_alone() -> None:
    @agent_process
    async def breaks() -> None:
        raise ValueError("broken")

    lasting = asyncio.create_task(root(1, 100))
    with pytest.raises(ValueError, match="broken"):
        await breaks()
    assert (await lasting)[0] == 1


def test_one_root_after_the_other_in_two_loops() -> None:
    assert [asyncio.run(root(n, 0))[0] for n in (1, 2)] == [1, 2]


def test_roots_in_two_threads() -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(asyncio.run(root(n, 0))[0])) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == [1, 2]


async def test_a_root_runs_under_a_loop_that_is_there_already() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert (await root(1, 0))[0] == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_name() for task in left] == []


async def test_a_user_s_signal_handler_is_left_alone() -> None:
    def mine(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)

    @agent_process
    async def main() -> object:
        return signal.getsignal(signal.SIGTERM)

    try:
        assert await main() is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@virtual_time()
async def test_the_names_of_one_run_are_not_those_of_another() -> None:
    @agent_process
    async def main() -> Any:
        run, ref = current_runtime(), self_ref()
        run.system.register("me", ref)
        await asyncio.sleep(1)
        return run.system.whereis("me") == ref

    assert await asyncio.gather(main(), main()) == [True, True]


def run_log(home: Path) -> list[dict[str, Any]]:
    [file] = home.glob("logs/*/_runtime.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


@virtual_time()
async def test_the_run_s_log_has_its_events() -> None:
    from ramure.home import ramure_home

    @agent_process
    async def main() -> None:
        emit("n", {"a": 1})

    await main()
    lines = run_log(ramure_home())
    assert lines[0]["type"] == "run_started"
    events = [(line["process"], line["event"], line["data"]) for line in lines if line["type"] == "event"]
    assert events == [("main#1", "n", {"a": 1}), ("main#1", "done", None)]


@virtual_time()
async def test_log_dir_is_where_the_logs_go(tmp_path: Path) -> None:
    @agent_process(log_dir=tmp_path / "mine")
    async def main() -> str:
        return current_runtime().execution_id

    id = await main()
    assert (tmp_path / "mine" / id / "_runtime.jsonl").exists()


@virtual_time()
async def test_a_run_whose_logs_are_removed_meanwhile_has_its_result_and_leaves_nothing(tmp_path: Path) -> None:
    paths: list[RunPaths] = []

    @agent_process(log_dir=tmp_path / "mine")
    async def main() -> str:
        paths.append(current_runtime().paths)
        shutil.rmtree(tmp_path / "mine")
        return "the result"

    assert await main() == "the result"
    assert not any(path.exists() for path in (paths[0].scratch, paths[0].socket, paths[0].lease, paths[0].record))


# -- the watchdog -----------------------------------------------------------------------------------------------------


async def test_code_that_blocks_the_loop_is_shown_with_its_stack_once(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchdog.__init__, "__defaults__", (0.1,))

    @agent_process
    async def blocks() -> None:
        def hog_the_loop() -> None:
            ends = time.monotonic() + 20
            while not caplog.records and time.monotonic() < ends:
                time.sleep(0.01)
            time.sleep(0.2)

        hog_the_loop()

    @agent_process
    async def main() -> None:
        await spawn(blocks)

    with caplog.at_level(logging.WARNING, "ramure.runtime"):
        await main()
    [text] = [record.getMessage() for record in caplog.records]
    assert text.startswith("the event loop has been blocked for 0.")
    assert "in hog_the_loop" in text
    [entry] = [line for line in run_log(home) if line["type"] == "blocked"]
    assert "hog_the_loop" in entry["stack"]


async def test_a_loop_that_waits_or_turns_is_not_blocked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchdog.__init__, "__defaults__", (0.05,))

    @agent_process
    async def main() -> None:
        await asyncio.sleep(0.2)
        ends = time.monotonic() + 0.2
        while time.monotonic() < ends:
            await asyncio.sleep(0)

    await main()
    assert not caplog.records
    watchdogs = [thread for thread in threading.enumerate() if thread.name == "ramure watchdog"]
    assert all(_ends_soon(thread) for thread in watchdogs)


def _ends_soon(thread: threading.Thread) -> bool:
    thread.join(5)
    return not thread.is_alive()


@virtual_time()
async def test_a_root_that_is_awaited_in_a_process_is_its_child() -> None:
    @agent_process
    async def main() -> bool:
        mine = current_runtime().execution_id
        return (await root(1))[1] == mine

    assert await main()


@virtual_time()
async def test_nothing_is_left_of_a_run_that_failed() -> None:
    @agent_process
    async def child() -> None:
        await wait()

    @agent_process
    async def main() -> None:
        for _ in range(5):
            spawn(child)
        await asyncio.sleep(1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await main()
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_name() for task in left] == []


@virtual_time()
async def test_a_run_that_is_cancelled_while_it_closes_removes_all_the_same() -> None:
    paths: list[RunPaths] = []

    @agent_process
    async def main() -> None:
        paths.append(current_runtime().paths)

    task = asyncio.create_task(main())
    while not paths:
        await asyncio.sleep(0)
    assert paths[0].socket.exists()
    while not task.done():  # the process itself, and every step of the run's end
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    assert not any(path.exists() for path in (paths[0].scratch, paths[0].socket, paths[0].lease, paths[0].record))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [each.get_name() for each in left] == []
