"""``ramure.attach``: what the command line does, as typed methods and async iterators."""

from __future__ import annotations

import asyncio
from typing import Any, get_type_hints

import pytest

import ramure
from ramure.runtime.control.errors import RequestFailed
from ramure.runtime.run.run import Run
from ramure.runtime.views import status_data
from tests.control.kit import in_run


def fits(value: Any, kind: Any) -> None:
    """A TypedDict has exactly the fields that its type has, down to the last."""
    if hasattr(kind, "__total__"):
        hints = get_type_hints(kind)
        assert set(value) == set(hints), kind
        for name, hint in hints.items():
            fits(value[name], hint)
    elif getattr(kind, "__origin__", None) is list:
        assert isinstance(value, list)
        for each in value:
            fits(each, kind.__args__[0])


async def test_the_status_has_the_fields_of_its_type() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            status = await there.status()
            fits(status, status_data.RunStatus)
            assert [agent["address"] for agent in status["agents"]] == ["worker"]
            fits(await there.request("summary"), status_data.RunSummary)

    await in_run(look, "worker")


async def test_logs_are_followed_and_filtered() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            seen: list[str] = []

            async def follow() -> None:
                async for entry in there.logs("worker", types=["message"], follow=True):
                    seen.append(entry["data"]["text"])
                    if len(seen) == 2:
                        return

            await there.send("worker", "One.")
            following = asyncio.create_task(follow())
            await there.send("worker", "Two.")
            async with asyncio.timeout(20):
                await following
            assert seen == ["One.", "Two."]
            async with asyncio.timeout(20):  # what nobody waits for is written a little later
                async for entry in there.logs(follow=True):
                    if entry["type"] == "run_started":
                        break
            whole = [entry async for entry in there.logs()]
            assert {entry["log"] for entry in whole} == {"_runtime", "worker"}
            assert [entry["ts"] for entry in whole] == sorted(entry["ts"] for entry in whole)
            assert [entry async for entry in there.logs("nobody")] == []

    await in_run(look, "worker")


async def test_an_endpoint_that_does_not_answer_in_time_goes_on() -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(0.3)
        ended.set()

    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            with pytest.raises(
                RequestFailed, match="'slow' of main#1 has not answered within 0.1 s; it goes on"
            ) as late:
                await there.request("call", endpoint="slow", limit=0.1)
            assert late.value.kind == "NoAnswer"
            assert begun.is_set()
            async with asyncio.timeout(20):
                await ended.wait()

    await in_run(look, expose_also=(slow,))


async def test_the_tree_over_the_socket_is_that_of_the_kernel() -> None:
    async def look(run: Run) -> None:
        async with ramure.attach() as there:
            rows = await there.tree()
            cells = {cell.number: cell for cell in run.system.cells.values()}
            assert {row.id for row in rows} == set(cells)
            for row in rows:
                details = await there.inspect(f"#{row.id}")
                cell = cells[row.id]
                assert (details.actor.label, details.actor.parent) == (row.label, row.parent)
                assert [other.id for other in details.links] == [other.number for other in cell.links or ()]
                assert [other.id for other in details.monitors] == [m._target.number for m in cell.monitoring or ()]

    await in_run(look, "worker", "other")
