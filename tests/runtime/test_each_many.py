"""``each`` over many items, with random failures, restarts, kills and cancellations: nothing lost, nothing twice, nothing left.

The full size (10,000 items) is part of `make soak`.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from ramure import (
    AgentProcess,
    Backoff,
    ChildrenFailed,
    ProcessCancelled,
    agent_process,
    current_runtime,
    each,
    self_ref,
)
from ramure.testing import run_virtual
from tests.scale import SOAK, long_in_a_soak

LIMIT = 50
SEEDS = range(3)


class Chaos:
    """Work of which each try returns, fails, or is killed or cancelled at a random moment, as ``seed`` says."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.at_once = self.most = 0
        self.tries: Counter[int] = Counter()
        self.ends: dict[int, str] = {}
        """How the last try of each item was to end."""

        @agent_process(retain=5)
        async def work(number: int) -> int:
            self.tries[number] += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                how = self.random.choices(("done", "failed", "kill", "shutdown"), (75, 15, 7, 3))[0]
                self.ends[number] = how
                await asyncio.sleep(self.random.choice((0.0, 0.1, 0.2, 0.5)))
                if how == "failed":
                    raise ValueError(number)
                if how in ("kill", "shutdown"):
                    self_ref().exit(how)
                    await asyncio.sleep(1000)
                return number * 2
            finally:
                self.at_once -= 1

        self.work = work

    def fits(self, number: int, value: int | None, error: BaseException | None, tries: int) -> bool:
        """Whether that is what has to come of the item."""
        match self.ends[number]:
            case "done":
                return error is None and value == number * 2
            case "shutdown":
                return isinstance(error, ProcessCancelled)
        return error is not None and self.tries[number] == tries


def virtual(main: Any) -> Any:
    return run_virtual(main, socket_grace=0.0005)


def left() -> list[str]:
    """What there is of processes and their actors, but for the root."""
    run = current_runtime()
    cells = [cell.given_label or "" for cell in run.system.cells.values()]
    cells = [label for label in cells if "#" in label and "main#1" not in label]
    return [*cells, *(record.label for record in run.processes.values() if record.parent and not record.of_tree)]


@pytest.mark.parametrize("seed", SEEDS)
@long_in_a_soak
def test_every_item_has_one_result_and_no_more_than_the_limit_run(seed: int) -> None:
    chaos, count = Chaos(seed), 10_000 if SOAK else 300

    async def numbers() -> AsyncIterator[int]:
        for number in range(count):
            if chaos.random.random() < 0.05:
                await asyncio.sleep(0.3)
            yield number

    @agent_process(retain=5)
    async def main() -> Counter[int]:
        seen: Counter[int] = Counter()
        items = numbers() if seed % 2 else range(count)
        backoff = Backoff(first=0.1, limit=1) if seed % 3 else None
        async for result in each(chaos.work, items, limit=LIMIT, max_restarts=2, backoff=backoff):
            seen[result.item] += 1
            assert result.number == result.key == result.item
            value = None if result.error is not None else result.value
            assert chaos.fits(result.item, value, result.error, 3), (result, chaos.ends[result.item])
            if chaos.random.random() < 0.02:
                await asyncio.sleep(1)
        assert left() == []
        return seen

    assert virtual(main()) == Counter(range(count))
    assert chaos.most <= LIMIT


@pytest.mark.parametrize("seed", SEEDS)
@long_in_a_soak
def test_awaited_they_are_in_order_and_the_failed_ones_are_named(seed: int) -> None:
    chaos, count = Chaos(1000 + seed), 10_000 if SOAK else 200

    @agent_process(retain=5)
    async def main() -> list[int]:
        with pytest.raises(ChildrenFailed) as caught:
            await each(chaos.work, range(count), limit=LIMIT, max_restarts=1)
        failures, results = caught.value.failures, caught.value.results
        assert failures.keys() | results.keys() == set(range(count))
        assert len(failures) + len(results) == count
        assert all(chaos.fits(number, value, None, 2) for number, value in results.items())
        assert all(chaos.fits(number, None, error, 2) for number, error in failures.items())
        return await each(whole, range(count), limit=LIMIT, max_restarts=1000)

    @agent_process(retain=5)
    async def whole(number: int) -> int:
        await asyncio.sleep(chaos.random.choice((0.0, 0.1, 0.2, 0.5)))
        if chaos.random.random() < 0.2:
            raise ValueError(number)
        return number * 2

    assert virtual(main()) == [number * 2 for number in range(count)]
    assert chaos.most == LIMIT


@pytest.mark.parametrize("seed", SEEDS)
@long_in_a_soak
def test_left_at_any_moment_nothing_of_it_stays(seed: int) -> None:
    chaos = Chaos(2000 + seed)
    reading = 0

    def endless() -> Iterator[int]:
        nonlocal reading
        reading += 1
        try:
            number = 0
            while True:
                number += 1
                yield number
        finally:
            reading -= 1

    @agent_process(retain=5)
    async def main() -> None:
        for _ in range(30 if SOAK else 5):
            how, after = chaos.random.choice(("break", "timeout", "close", "error")), chaos.random.randrange(120)
            results = aiter(each(chaos.work, endless(), limit=LIMIT, max_restarts=2))
            try:
                async with asyncio.timeout(after / 30 if how == "timeout" else None):
                    count = 0
                    async for _result in results:
                        count += 1
                        if count > after and how != "timeout":
                            break
                    if how == "error":
                        raise ZeroDivisionError
            except (TimeoutError, ZeroDivisionError):
                pass
            if how == "close":
                await results.aclose()
            del results
            await asyncio.sleep(3)
            assert (left(), chaos.at_once, reading) == ([], 0, 0), how

    virtual(main())


class Sheet:
    """A result: large, but not in the log."""

    def __init__(self) -> None:
        self.data = bytes(20_000)


def sized(chaos: Chaos) -> AgentProcess[[int], Sheet]:
    """Work that has a process of its own below it, and a large result."""

    @agent_process(retain=5)
    async def sized(number: int) -> Sheet:
        await chaos.work(number)
        return Sheet()

    return sized


def test_neither_results_nor_processes_are_kept() -> None:
    most: Counter[str] = Counter()
    gc.collect()
    before = Counter(type(thing).__name__ for thing in gc.get_objects())  # of tests that ran in this process

    @agent_process(retain=5)
    async def main() -> None:
        count = 0
        async for _result in each(sized(Chaos(7)), range(150), limit=5, max_restarts=2, retain=20):
            count += 1
            if count % 25 == 0:
                gc.collect()
                kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
                for kind in ("Sheet", "ProcessRecord", "ItemSlot", "ItemResult"):
                    most[kind] = max(most[kind], kinds[kind] - before[kind])

    virtual(main())
    # The newest 20 events, the newest 50 entries of the log, and what is under way.
    assert 0 < most["Sheet"] < 60, most
    assert 0 < most["ProcessRecord"] < 60, most
    assert 0 < most["ItemSlot"] <= 15, most
    assert 0 < most["ItemResult"] <= 15, most


@pytest.mark.edges  # at full size only: what is bounded has to be full before
@long_in_a_soak
def test_peak_memory_does_not_grow_with_the_number_of_items() -> None:
    def peak(count: int) -> int:
        @agent_process(retain=5)
        async def main() -> int:
            seen = 0
            async for _result in each(sized(Chaos(7)), range(count), limit=LIMIT, max_restarts=2):
                seen += 1
                if seen % 100 == 0:  # else it depends on the size of the whole heap when cycles go
                    gc.collect()
            return seen

        gc.collect()
        tracemalloc.start()
        try:
            assert virtual(main()) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is loaded and cached the first time
    few, many = peak(1_000), peak(10_000)
    print(f"peak memory of 1,000 items: {few:,} bytes; of 10,000: {many:,} bytes, {many / few:.2f} as much")
    assert many < 1.15 * few
