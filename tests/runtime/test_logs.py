"""The run's logs: what is in the file when, parts by size, and a disk that is full."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramure import agent, agent_process, done, wait
from ramure.runtime.log.files import LogFiles, cut_torn_line, entries, parts
from ramure.runtime.log.writer import Logs
from ramure.runtime.run.alarms import DiskFull, Room
from ramure.runtime.run.run import RunFailed
from ramure.testing import InProcessHarness, ToolCall
from tests.disk import FullDisk
from tests.scale import examples


def line(number: int) -> bytes:
    return json.dumps({"seq": number}).encode() + b"\n"


def seqs(path: Path) -> list[int]:
    return [entry["seq"] for entry in entries(path)]


@asynccontextmanager
async def writer(**options: Any) -> AsyncIterator[Logs]:
    failures: list[Exception] = []
    logs = Logs(on_failure=failures.append, **options)
    try:
        yield logs
    finally:
        await logs.close()
    assert not failures


async def written(logs: Logs, path: Path, text: bytes) -> None:
    """Return when it is."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if not logs.append(path, text, lambda: future.set_result(None)):
        await asyncio.wait_for(future, 30)


async def test_what_is_waited_for_is_in_the_file_then_with_all_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    async with writer() as logs:
        for number in range(100):
            logs.append(path, line(number))
        await written(logs, path, line(100))
        assert seqs(path) == list(range(101))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_nobody_waits_for_is_in_the_file_at_the_end(tmp_path: Path) -> None:
    async with writer() as logs:
        for number in range(1000):
            logs.append(tmp_path / f"{number % 100}.jsonl", line(number))
    assert sorted(n for each in range(100) for n in seqs(tmp_path / f"{each}.jsonl")) == list(range(1000))


async def test_with_fsync_a_line_is_synced_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    path = tmp_path / "a.jsonl"
    async with writer(fsync=True) as logs:
        for number in range(5):
            await written(logs, path, line(number))
            assert synced[-1] == path.stat().st_size


async def test_a_log_goes_on_in_parts_of_a_size_and_is_read_as_one(tmp_path: Path) -> None:
    path, size = tmp_path / "a.jsonl", len(line(10)) * 10
    for begin in (0, 50):  # the second writer goes on where the first one ended
        async with writer(rotate=size) as logs:
            for number in range(begin, begin + 50):
                logs.append(path, line(number))
                if number % 7 == 0:
                    await written(logs, path, json.dumps({"seq": -1}).encode() + b"\n")
    assert [n for n in seqs(path) if n >= 0] == list(range(100))
    assert len(parts(path)) > 9
    assert all(part.stat().st_size <= size for part in parts(path))
    assert [part.name for part in parts(path)][:2] == ["a.jsonl.1", "a.jsonl.2"]


async def test_a_line_longer_than_a_part_has_one_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = json.dumps({"seq": 2, "text": "x" * 500}).encode() + b"\n"
    async with writer(rotate=100) as logs:
        for text in (line(1), long, line(3)):
            logs.append(path, text)
    assert [part.stat().st_size for part in parts(path)] == [len(line(1)), len(long), len(line(3))]
    assert seqs(path) == [1, 2, 3]


@pytest.mark.parametrize("room", [0, 5, 40])
async def test_on_a_full_disk_lines_wait_and_go_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    disk = FullDisk(monkeypatch, room)
    alarms: asyncio.Queue[Room] = asyncio.Queue()
    path = tmp_path / "a.jsonl"
    async with writer(on_room=alarms.put_nowait) as logs:
        await written(logs, path, line(0))
        disk.full = True
        told: list[int] = []
        for number in range(1, 20):
            if logs.append(path, line(number), functools.partial(told.append, number)):
                told.append(number)
        alarm = await asyncio.wait_for(alarms.get(), 30)
        assert alarm.full
        assert alarm.reason == "no space left on device"
        assert path.read_bytes().endswith(b"\n"), "half a line was left for readers to stumble over"
        assert len(seqs(path)) - 1 == room // len(line(1)) >= len(told)
        disk.full = False
        over = await asyncio.wait_for(alarms.get(), 30)
        assert not over.full
    assert seqs(path) == list(range(20))
    assert told == list(range(1, 20))
    assert logs.lost == 0


async def test_a_disk_that_stays_full_ends_the_writer_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(monkeypatch)
    disk.full = True
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    logs = Logs(patience=0.1, on_failure=failed.set_result)
    logs.append(tmp_path / "a.jsonl", line(1), lambda: None)
    error = await asyncio.wait_for(failed, 30)
    assert isinstance(error, DiskFull)
    assert "no space left on device" in str(error)
    logs.append(tmp_path / "a.jsonl", line(2))
    await logs.close()
    assert logs.lost == 2
    assert "1 lines of the logs" in caplog.text


@given(
    lines=st.lists(st.integers(1, 60), min_size=1, max_size=20),
    budget=st.lists(st.integers(0, 90), max_size=12),
    rotate=st.sampled_from([None, 50, 200]),
)
@settings(max_examples=examples(500))
def test_however_a_disk_gives_out_every_line_is_whole_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[int], budget: list[int], rotate: int | None
) -> None:
    path = tmp_path_factory.mktemp("logs") / "a.jsonl"
    texts = [json.dumps({"seq": number, "x": "y" * size}).encode() + b"\n" for number, size in enumerate(lines)]
    files, left = LogFiles(rotate=rotate), list(texts)
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = FullDisk(monkeypatch)
        for room in budget:
            disk.full, disk.room = True, room
            try:
                files.append(path, left)
            except OSError:
                found = b"".join(part.read_bytes() for part in parts(path))
                assert found == b"".join(texts[: len(texts) - len(left)])
        disk.full = False
        files.append(path, left)
    files.close()
    assert seqs(path) == list(range(len(lines)))


@pytest.mark.parametrize("torn", [b"", b'{"seq": 9', b"\0" * 100_000])
def test_a_torn_last_line_is_left_out_by_readers_and_can_be_cut(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    whole = b"".join(map(line, range(3)))
    path.write_bytes(whole + torn)
    assert seqs(path) == [0, 1, 2]
    assert cut_torn_line(path) == bool(torn)
    assert path.read_bytes() == whole


def test_a_log_whose_name_has_a_glob_in_it_is_no_other_log(tmp_path: Path) -> None:
    for name in ("w[1]*.jsonl", "w1x.jsonl", "w1x.jsonl.1", "w[1]*.jsonl.old"):
        (tmp_path / name).write_bytes(line(1))
    assert [part.name for part in parts(tmp_path / "w[1]*.jsonl")] == ["w[1]*.jsonl"]


# -- through a run -------------------------------------------------------------------------------------------------


def agent_log(home: Path) -> Path:
    [path] = home.glob("logs/*/worker.jsonl")
    return path


async def test_a_tool_call_is_in_the_file_before_the_tool_runs(home: Path) -> None:
    harness = InProcessHarness([[ToolCall("look")], "Done."])

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("look")
        async def look() -> str:
            """Looks."""
            done([entry["data"]["name"] for entry in entries(agent_log(home)) if entry["type"] == "tool_call"])
            return "seen"

        await worker.send("Look.")
        return await wait()  # type: ignore[no-any-return]

    assert await main() == ["look"]


async def test_on_a_full_disk_delivery_waits_with_an_alarm_and_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = InProcessHarness(["One.", "Two."])

    @agent_process(image=harness.image)
    async def main() -> list[int]:
        worker = await agent("worker")
        assert await worker.ask("First.") == "One."
        disk = FullDisk(monkeypatch)
        disk.full = True
        sending = asyncio.create_task(worker.ask("Second."))
        async for event in worker.events:
            if event.type == "alarm":
                break
        assert event.data["alarm"] == "disk_full"
        assert len(harness.requests) == 1
        assert not sending.done()
        disk.full = False
        assert await asyncio.wait_for(sending, 30) == "Two."
        return [len(harness.requests)]

    assert await main() == [2]
    assert [entry["seq"] for entry in entries(agent_log(home))] == list(
        range(1, len(list(entries(agent_log(home)))) + 1)
    )
    [run_log] = home.glob("logs/*/_runtime.jsonl")
    alarms = [entry["type"] for entry in entries(run_log) if entry["type"].startswith("alarm")]
    assert alarms == ["alarm", "alarm_over"]


async def test_a_run_whose_disk_stays_full_fails_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = InProcessHarness(["One."])

    @agent_process(image=harness.image, disk_full_timeout=0.1)
    async def main() -> None:
        worker = await agent("worker")
        FullDisk(monkeypatch).full = True
        await worker.send("Never written.")
        await wait()

    with pytest.raises(RunFailed, match="no space left on device"):
        await asyncio.wait_for(main(), 30)
