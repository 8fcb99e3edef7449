"""How people name actors: exactly, by the end of a place, by a pattern; and what they are told when that does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ramure.actors import Actor, ActorSystem, Ref
from ramure.actors.observe.addresses import AmbiguousActor, NoSuchActor, find, find_one, forest, path_of, selector


class Node(Actor):
    async def init(self) -> None:
        self.trap_exit = True

    async def child(self, label: str) -> Ref[Any]:
        return await self.system.options(link=True, label=label).start(Node)

    def handle_info(self, message: object) -> None:
        """EXITs of children."""


class Leaf(Actor):
    pass


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    """run (1) / pool (2) / worker (3), worker~2 (4), a[1] (5);  run / other (6) / worker (7);  Leaf named leaf (8)."""
    async with ActorSystem() as system:
        run = await system.options(label="run").start(Node)
        pool = await run.proxy().child("pool")
        for label in ("worker", "worker~2", "a[1]"):
            await pool.proxy().child(label)
        other = await run.proxy().child("other")
        await other.proxy().child("worker")
        await system.options(name="leaf").start(Leaf)
        yield system


@pytest.mark.parametrize(
    ("address", "ids"),
    [
        ("3", [3]),
        ("#3", [3]),
        ("#99", []),
        ("run", [1]),
        ("worker", [3, 7]),
        ("pool/worker", [3]),
        ("run/other/worker", [7]),
        ("run / other / worker", [7]),
        ("ool/worker", []),
        ("run/worker", [3, 7]),
        ("run/worker~2", [4]),
        ("worker~2/run", []),
        ("worker~2", [4]),
        ("a[1]", [5]),
        ("a[12]", []),
        ("work*", [3, 4, 7]),
        ("*/worker", [3, 7]),
        ("run/other*", [6, 7]),
        ("?ool", [2]),
        ("*", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("leaf", [8]),
        ("Leaf", [8]),
        ("Node", [1, 2, 3, 4, 5, 6, 7]),
        ("", []),
        ("٣", []),
        ("#", []),
        ("[", []),
    ],
)
def test_what_an_address_fits(system: ActorSystem, address: str, ids: list[int]) -> None:
    assert [ref.id for ref in find(system, address)] == ids


def test_places_are_in_the_order_of_the_tree(system: ActorSystem) -> None:
    assert [(path_of(ref), depth) for ref, depth in forest(system)] == [
        ("run", 0),
        ("run/pool", 1),
        ("run/pool/worker", 2),
        ("run/pool/worker~2", 2),
        ("run/pool/a[1]", 2),
        ("run/other", 1),
        ("run/other/worker", 2),
        ("leaf", 0),
    ]


def test_several_are_refused_with_numbers_to_choose_by(system: ActorSystem) -> None:
    with pytest.raises(AmbiguousActor, match=r"#3 run/pool/worker, #7 run/other/worker$") as error:
        find_one(system, "worker")
    assert "'worker' fits 2 actors" in str(error.value)


async def test_of_very_many_only_the_first_are_listed(system: ActorSystem) -> None:
    for _ in range(50):
        await system.start(Leaf)
    with pytest.raises(AmbiguousActor, match="and 40 more") as error:
        find_one(system, "Leaf")
    assert len(str(error.value)) < 500


def test_none_is_refused_with_what_is_near(system: ActorSystem) -> None:
    with pytest.raises(NoSuchActor, match="did you mean worker or worker~2"):
        find_one(system, "wroker")
    with pytest.raises(NoSuchActor, match="no live actor 'zzz'; `ramure tree` shows all"):
        find_one(system, "zzz")


async def test_a_selector_takes_those_that_come_into_the_place(system: ActorSystem) -> None:
    fits = selector(system, "pool/worker")
    [old] = find(system, "pool/worker")
    old.exit("kill")
    new = await find_one(system, "pool").proxy().child("worker")
    assert [ref.id for ref in system.actors() if fits(ref)] == [new.id]
    assert fits(old)


async def test_a_pattern_may_fit_none_yet(system: ActorSystem) -> None:
    fits = selector(system, "later*")
    assert not any(map(fits, system.actors()))
    assert fits(await system.options(label="later 1").start(Leaf))
    with pytest.raises(NoSuchActor):
        selector(system, "later 2")
    with pytest.raises(NoSuchActor):
        selector(system, "#99")
