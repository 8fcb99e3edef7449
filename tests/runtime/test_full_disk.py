"""A disk that is full: what is written all the same, how long a run waits, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ramure import DiskFull, RunFailed, agent, agent_process, current_runtime, emit
from ramure.machines.base import Machine
from ramure.runtime.log.files import entries
from ramure.runtime.log.writer import Logs
from ramure.runtime.run.alarms import Alarms, Room
from ramure.runtime.run.reserve import PIECE, Reserve
from ramure.runtime.views.status import run_status
from ramure.runtime.views.story_log import read_story
from ramure.testing import InProcessHarness, ToolCall, run_virtual
from tests.disk import FullDisk


def line(number: int, size: int = 10) -> bytes:
    return b'{"seq": %d, "x": "%s"}\n' % (number, b"x" * size)


def seqs(path: Path) -> list[int]:
    return [entry["seq"] for entry in entries(path)]


def reserves(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.reserve*"))


# -- the log writer --------------------------------------------------------------------------------------------------


async def test_what_is_urgent_is_written_from_the_reserve_and_the_rest_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alarms = tmp_path / "a.jsonl", asyncio.Queue[Room]()
    logs = Logs(reserve=Reserve(tmp_path), on_room=alarms.put_nowait, on_failure=lambda error: None)
    logs.take_reserve()
    assert sum(each.stat().st_size for each in reserves(tmp_path)) == 4 * PIECE
    disk = FullDisk(monkeypatch)
    disk.full = True
    logs.append(path, line(1))
    alarm = await asyncio.wait_for(alarms.get(), 30)
    assert alarm.needed >= PIECE + len(line(1))
    logs.append_urgent(path, line(2))
    async with asyncio.timeout(30):
        while not path.exists() or seqs(path) != [2]:
            await asyncio.sleep(0.01)
    assert disk.room == PIECE - len(line(2)), "more was given back than was needed"
    disk.full = False
    assert not (await asyncio.wait_for(alarms.get(), 30)).full
    assert sum(each.stat().st_size for each in reserves(tmp_path)) == 4 * PIECE
    await logs.close()
    assert seqs(path) == [2, 1]
    assert reserves(tmp_path) == []
    assert logs.lost == 0


async def test_what_is_urgent_has_its_place_where_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    logs = Logs(on_failure=lambda error: None)
    for number in range(0, 400, 2):
        logs.append(path, line(number), lambda: None)
        logs.append(tmp_path / "b.jsonl", line(number, size=PIECE), lambda: None)
        logs.append_urgent(path, line(number + 1))
    await logs.close()
    assert seqs(path) == list(range(400))


async def test_lines_wait_until_the_reserve_is_whole_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, alarms = tmp_path / "a.jsonl", asyncio.Queue[Room]()
    logs = Logs(reserve=Reserve(tmp_path), on_room=alarms.put_nowait, on_failure=lambda error: None)
    logs.take_reserve()
    disk = FullDisk(monkeypatch)
    disk.full = True
    logs.append(path, line(1))
    await asyncio.wait_for(alarms.get(), 30)
    logs.append_urgent(path, line(2, size=3 * PIECE))  # all four pieces are given back for it
    async with asyncio.timeout(30):
        while not path.exists() or seqs(path) != [2]:
            await asyncio.sleep(0.01)
        disk.room, refused = PIECE, disk.refused  # enough for the line that waits
        while disk.refused < refused + 2:
            await asyncio.sleep(0.01)
    assert seqs(path) == [2]
    disk.full = False
    await asyncio.wait_for(alarms.get(), 30)
    await logs.close()
    assert seqs(path) == [2, 1]


async def test_at_the_end_what_waits_is_written_from_the_reserve_without_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    alarms: list[Room] = []
    logs = Logs(reserve=Reserve(tmp_path), on_room=alarms.append, on_failure=lambda error: None)
    logs.take_reserve()
    disk = FullDisk(monkeypatch)
    disk.full = True
    for number in range(8):
        logs.append(path, line(number, size=PIECE // 2))
    logs.append(other, line(1))
    await asyncio.sleep(0.1)
    logs.append_urgent(other, line(2))
    logs.give_up()
    await logs.close()
    written = seqs(path)
    assert written == list(range(len(written)))
    assert 0 < len(written) < 8
    assert 2 in seqs(other), "what is urgent had no room"
    assert logs.lost == 8 - len(written) + 2 - len(seqs(other))


async def test_an_urgent_line_that_has_needed_the_reserve_raises_the_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alarms = tmp_path / "a.jsonl", asyncio.Queue[Room]()
    logs = Logs(reserve=Reserve(tmp_path), on_room=alarms.put_nowait, on_failure=lambda error: None)
    logs.take_reserve()
    disk = FullDisk(monkeypatch)
    disk.full = True
    logs.append_urgent(path, line(1))
    alarm = await asyncio.wait_for(alarms.get(), 30)
    assert (alarm.full, alarm.path, alarm.reason) == (True, str(tmp_path), "no space left on device")
    disk.full = False
    assert not (await asyncio.wait_for(alarms.get(), 30)).full
    await logs.close()


async def test_the_limit_holds_where_only_urgent_lines_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    logs = Logs(reserve=Reserve(tmp_path), patience=0.1, on_failure=failed.set_result)
    logs.take_reserve()
    FullDisk(monkeypatch).full = True
    logs.append_urgent(tmp_path / "a.jsonl", line(1))
    assert isinstance(await asyncio.wait_for(failed, 30), DiskFull)
    logs.append_urgent(tmp_path / "a.jsonl", line(2))
    await logs.close()
    assert seqs(tmp_path / "a.jsonl") == [1, 2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
async def test_no_room_is_no_room_whatever_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk, alarms = FullDisk(monkeypatch), asyncio.Queue[Room]()
    disk.full, disk.errno = True, number
    logs = Logs(on_room=alarms.put_nowait, on_failure=lambda error: None)
    logs.append(tmp_path / "a.jsonl", line(1))
    assert (await asyncio.wait_for(alarms.get(), 30)).full
    disk.full = False
    assert not (await asyncio.wait_for(alarms.get(), 30)).full
    await logs.close()
    assert seqs(tmp_path / "a.jsonl") == [1]


# -- a run -----------------------------------------------------------------------------------------------------------


async def test_a_run_says_so_while_its_disk_is_full_and_how_it_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = InProcessHarness(["One."])

    @agent_process(image=harness.image, disk_full_timeout=1.0)
    async def main() -> None:
        worker = await agent("worker")
        FullDisk(monkeypatch).full = True
        emit("tick", None)
        async for event in worker.events:
            if event.type == "alarm":
                break
        run = current_runtime()
        assert event.data["path"] == str(run.paths.logs)
        assert event.data["needed"] > PIECE
        [alarm] = run_status(run)["alarms"]
        assert alarm.startswith(f"disk full: {run.paths.logs}: no room for the logs (no space left on device)")
        async with asyncio.timeout(30):
            while not any(entry["type"] == "alarm" for entry in entries(run.paths.run_log)):
                await asyncio.sleep(0.01)
        story, _ = await asyncio.to_thread(read_story, run.paths.logs, "worker")
        assert story.headline.startswith(f"worker is held up by a full disk: disk full: {run.paths.logs}: no room")
        await worker.ask("Anything?")

    with pytest.raises(RunFailed, match="could not go on: crashed.*no space left on device") as failed:
        await asyncio.wait_for(main(), 30)
    assert "its log ended" not in str(failed.value)
    [run_log] = home.glob("logs/*/_runtime.jsonl")
    types = [entry["type"] for entry in entries(run_log)]
    assert types.count("run_ended") == types.count("alarm") == 1
    assert reserves(home) == []


async def test_a_run_does_not_begin_on_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @agent_process
    async def main() -> None:
        raise AssertionError("it has begun")

    FullDisk(monkeypatch).full = True
    with pytest.raises(DiskFull, match=r"no room for a run in .*/logs/.* 262,144 bytes.*make room.*log_dir="):
        await main()
    assert list(home.glob("runtimes/*")) == []
    assert reserves(home) == []


FULL = {"full": True, "path": "/sessions", "reason": "ENOSPC: no space left on device, write", "needed": 196_608}
ROOM = {**FULL, "full": False}


async def test_a_conversation_that_cannot_be_written_ends_the_run_at_the_limit_and_no_question_hangs(
    home: Path,
) -> None:
    harness = InProcessHarness([[ToolCall("hold")]])

    @agent_process(image=harness.image, disk_full_timeout=0.5)
    async def main() -> None:
        worker = await agent("worker")
        run = current_runtime()

        @worker.on("hold")
        async def hold() -> str:
            """Holds."""
            run.services.disk("worker", FULL, None)
            await asyncio.Event().wait()
            return ""

        await worker.ask("Hold.")

    with pytest.raises(
        RunFailed, match="conversation of agent 'worker' could not be written for 0.5 s .ENOSPC.*/sessions"
    ):
        await asyncio.wait_for(main(), 20)
    [run_log] = home.glob("logs/*/_runtime.jsonl")
    types = [entry["type"] for entry in entries(run_log)]
    assert (types.count("alarm"), types.count("alarm_over"), types.count("run_ended")) == (1, 0, 1)


async def test_the_alarm_of_an_agent_that_has_ended_is_over(home: Path) -> None:
    harness = InProcessHarness(["One."])

    @agent_process(image=harness.image)
    async def part() -> None:
        await agent("worker")
        current_runtime().services.disk("worker", FULL, None)

    @agent_process(image=harness.image)
    async def main() -> list[str]:
        await part()
        return list(run_status(current_runtime())["alarms"])

    assert await main() == []


@pytest.mark.parametrize(("here", "where"), [(True, "/sessions"), (False, "/sessions on the host far")])
async def test_an_alarm_says_on_which_machine_the_disk_is(here: bool, where: str) -> None:
    told: list[dict[str, Any]] = []
    alarms = Alarms(60.0, lambda kind, data: told.append(data), lambda error: None)
    alarms.on_session("worker", FULL, cast(Machine, SimpleNamespace(here=here, describe=lambda: "the host far")))
    alarms.close()
    assert [data["path"] for data in told] == [where]


def test_an_alarm_that_comes_again_at_once_has_what_is_left_of_the_limit() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        told: list[tuple[float, str]] = []

        def tell(type: str, data: dict[str, Any]) -> None:
            told.append((loop.time() - began, type))

        began = loop.time()
        alarms = Alarms(60.0, tell, lambda error: told.append((loop.time() - began, str(error))))
        for pause, report in [
            (0, FULL),
            (40, ROOM),
            (2, FULL),
            (0, FULL),
            (10, ROOM),
            (15, FULL),
            (59, ROOM),
            (1, FULL),
        ]:
            await asyncio.sleep(pause)
            alarms.on_session("worker", report, None)
        await asyncio.sleep(1.5)
        alarms.on_session("worker", ROOM, None)
        alarms.close()
        return told

    told = run_virtual(main())
    times = [round(at) for at, _ in told]
    assert times == [0, 40, 42, 52, 67, 126, 127, 128]
    assert "could not be written for 60 s" in told[-1][1]
