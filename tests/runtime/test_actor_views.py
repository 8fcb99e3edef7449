"""What ``tree`` and ``inspect`` show is what the kernel knows, whatever the tree."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramure.actors import Actor, ActorSystem, Exit, Ref
from ramure.actors.observe.inspection import record, recorded
from ramure.errors import ActorDied
from ramure.runtime.views.actor_data import ActorRow
from ramure.runtime.views.actor_views import actor_details, actor_rows, shown
from ramure.supervisors import Backoff, ChildSpec, DynamicSupervisor, Supervisor
from tests import scale


class Node(Actor):
    """Does as it is told, and outlives those that it is linked to."""

    async def init(self) -> None:
        self.trap_exit = True
        self.secret_of_life = 42
        self.gate = asyncio.Event()

    async def child(self, label: str) -> Ref[Any]:
        return await self.system.options(link=True, label=label).start(Node)

    async def supervisor(self, strategy: str, children: int) -> Ref[Any]:
        specs = [ChildSpec(f"w{n}", Worker, restart="permanent") for n in range(children)]
        options = self.system.options(link=True, label=f"{strategy} of {self.ref.id}")
        if strategy != "dynamic":
            return await options.start(Supervisor, specs, strategy=strategy, intensity=1000)
        ref = await options.start(DynamicSupervisor, intensity=1000)
        for spec in specs:
            await ref.proxy().start_child(spec)
        return ref

    async def tie(self, other: Ref[Any]) -> None:
        self.link(other)

    async def untie(self, other: Ref[Any]) -> None:
        self.unlink(other)

    async def watch(self, other: Ref[Any]) -> None:
        self.monitor(other)

    async def block(self) -> None:
        await self.gate.wait()

    def handle_info(self, message: object) -> None:
        """EXITs and DOWNs of the others."""


class Worker(Actor):
    """A supervised child."""


class World:
    """What was done, told apart from the kernel: who lives, whose child, linked to whom, monitoring whom."""

    def __init__(self) -> None:
        self.nodes: dict[int, Ref[Any]] = {}
        self.parent: dict[int, int | None] = {}
        self.links: set[frozenset[int]] = set()
        self.monitors: list[tuple[int, int]] = []
        self.supervised: dict[int, tuple[str, int]] = {}

    def gone(self, number: int) -> None:
        """One ends, and with it the children that are still linked to it."""
        if self.nodes.pop(number, None) is None:
            del self.supervised[number]
        fallen = [
            child
            for child in (*self.nodes, *self.supervised)
            if self.parent[child] == number and frozenset((child, number)) in self.links
        ]
        self.links = {pair for pair in self.links if number not in pair}
        self.monitors = [pair for pair in self.monitors if number not in pair]
        for child in fallen:
            if child in self.nodes or child in self.supervised:
                self.gone(child)


async def settle(system: ActorSystem) -> None:
    for _ in range(50):
        await asyncio.sleep(0)
        if not system.ready and not system.dispatching:
            return


async def grow(system: ActorSystem, world: World, rng: random.Random, steps: int) -> None:
    def pick() -> Ref[Any]:
        return rng.choice(list(world.nodes.values()))

    root = await system.options(label="root").start(Node)
    world.nodes[root.id], world.parent[root.id] = root, None
    for step in range(steps):
        one, other = pick(), pick()
        match rng.choice(["child", "child", "child", "tie", "untie", "watch", "watch", "kill", "supervisor", "fall"]):
            case "child":
                made = await one.proxy().child(f"n{step}")
                world.nodes[made.id], world.parent[made.id] = made, one.id
                world.links.add(frozenset((one.id, made.id)))
            case "tie" if one is not other:
                await one.proxy().tie(other)
                world.links.add(frozenset((one.id, other.id)))
            case "untie" if one is not other:
                await one.proxy().untie(other)
                world.links.discard(frozenset((one.id, other.id)))
            case "watch" if one is not other:
                await one.proxy().watch(other)
                world.monitors.append((one.id, other.id))
            case "kill" if one is not root:
                one.exit("kill")
                world.gone(one.id)
            case "supervisor":
                strategy = rng.choice(["one_for_one", "one_for_all", "rest_for_one", "dynamic"])
                children = rng.randrange(4)
                made = await one.proxy().supervisor(strategy, children)
                world.parent[made.id] = one.id
                world.supervised[made.id] = (strategy, children)
                world.links.add(frozenset((one.id, made.id)))
            case "fall" if world.supervised:
                number = rng.choice(list(world.supervised))
                living = [row for row in actor_rows(system) if row.parent == number]
                if living:
                    truth(system)[rng.choice(living).id].ref.exit("fell")
        await settle(system)


def truth(system: ActorSystem) -> dict[int, Any]:
    return {cell.number: cell for cell in system.cells.values()}


def check_tree(rows: list[ActorRow], system: ActorSystem, world: World) -> None:
    cells = truth(system)
    assert {row.id for row in rows} == set(cells)
    assert len(rows) == len(cells)
    above: list[ActorRow] = []
    for row in rows:
        cell = cells[row.id]
        del above[row.depth :]
        assert len(above) == row.depth
        if row.parent is not None:
            assert above[-1].id == row.parent == cell.parent.number
            assert row.path == f"{above[-1].path}/{row.label}"
        else:
            assert row.depth == 0
            assert cell.parent is None or cell.parent.dead
        above.append(row)
        assert (row.kind, row.state, row.mailbox) == (cell.kind, cell.state, len(cell.queue))
    by_id = {row.id: row for row in rows}
    for number in world.nodes:
        parent = world.parent[number]
        assert by_id[number].parent == (parent if parent in cells else None)
    for number, (_, children) in world.supervised.items():
        assert sum(row.parent == number for row in rows) == children


async def check_relations(system: ActorSystem, world: World) -> None:
    for number, ref in world.nodes.items():
        details = await actor_details(system, ref)
        links = {other for pair in world.links if number in pair for other in pair if other != number}
        assert {n.id for n in details.links} == links
        assert sorted(n.id for n in details.monitors) == sorted(b for a, b in world.monitors if a == number)
        assert sorted(n.id for n in details.monitored_by) == sorted(a for a, b in world.monitors if b == number)
        assert details.attributes is not None
        assert details.attributes["secret_of_life"] == "42"
    for ref in system.actors():
        details = await actor_details(system, ref)
        cell = ref._cell
        assert [n.id for n in details.links] == [other.number for other in cell.links or ()]
        assert [n.id for n in details.monitors] == [m._target.number for m in cell.monitoring or ()]
        if details.supervision is not None:
            strategy, children = world.supervised[ref.id]
            expected = "simple_one_for_one" if strategy == "dynamic" else strategy
            assert (details.supervision.strategy, len(details.supervision.children)) == (expected, children)
        if ref.id not in world.nodes and ref.id not in world.supervised:
            assert details.specification is not None
            assert (details.specification.restart, details.specification.status) == ("permanent", "running")
            assert details.specification.supervisor.id == details.actor.parent


@scale.long_in_a_soak
@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(max_examples=scale.examples(2000))
def test_tree_and_inspect_equal_the_kernels_truth(seed: int, steps: int) -> None:
    async def main() -> None:
        async with ActorSystem(report=lambda report: None) as system:
            world = World()
            await grow(system, world, random.Random(seed), steps)
            check_tree(actor_rows(system), system, world)
            await check_relations(system, world)

    asyncio.run(main())


async def test_a_chain_of_any_depth_is_shown() -> None:
    async with ActorSystem() as system:
        ref = await system.options(label="n0").start(Node)
        for number in range(1, 3000):
            ref = await ref.proxy().child(f"n{number}")
        rows = actor_rows(system)
        assert [row.depth for row in rows] == list(range(3000))


async def test_who_lost_its_parent_stands_alone() -> None:
    async with ActorSystem() as system:
        root = await system.start(Node)
        child = await root.proxy().child("orphan")
        await root.proxy().untie(child)
        root.exit("kill")
        await settle(system)
        [row] = actor_rows(system)
        assert (row.id, row.label, row.depth) == (child.id, "orphan", 0)


async def test_inspecting_a_busy_actor_does_not_wait_for_it() -> None:
    async with ActorSystem() as system:
        node = await system.options(label="node").start(Node)
        blocked = asyncio.ensure_future(node.proxy(timeout=None).block())
        await settle(system)
        node.tell({"to": "do"})
        details = await actor_details(system, node, patience=0.01)
        assert (details.actor.state, details.actor.mailbox) == ("busy", 1)
        assert details.actor.doing == "ask block()"
        assert details.waiting[0] == "{'to': 'do'}"
        assert details.attributes is None
        assert details.not_shown is not None
        assert "block()" in details.not_shown
        node._cell.actor.gate.set()  # type: ignore[attr-defined]
        await blocked
        assert (await actor_details(system, node)).attributes is not None


async def test_recording_keeps_the_last_messages_and_counts() -> None:
    async with ActorSystem() as system:
        node = await system.options(label="node").start(Node)
        assert (await actor_details(system, node)).messages is None
        record(node)
        record(node)  # a second time changes nothing
        for number in range(30):
            node.tell(number)
        node.exit(Exit(None, "odd"))
        await settle(system)
        details = await actor_details(system, node)
        assert details.messages is not None
        assert len(details.messages) == 20
        assert details.messages[-1].value is not None
        assert "odd" in details.messages[-1].value
        assert details.statistics is not None
        assert details.statistics["messages_in"] == 31
        record(node, on=False)
        assert recorded(node) is None
        assert node._cell.probe is None
        assert (await actor_details(system, node)).statistics is None


async def test_the_dead_are_not_inspected() -> None:
    async with ActorSystem() as system:
        node = await system.start(Node)
        node.exit("kill")
        with pytest.raises(ActorDied, match="killed"):
            await actor_details(system, node)


async def test_restarts_are_counted_where_they_happen() -> None:
    async with ActorSystem(report=lambda report: None) as system:
        reaper = await system.start(Supervisor, [ChildSpec("one", Worker), ChildSpec("two", Worker)], intensity=9)
        for _ in range(3):
            next(row.ref for row in await reaper.proxy().which_children() if row.id == "two").exit("fell")
            await settle(system)
        rows = {row.label: row for row in actor_rows(system)}
        assert (rows["one"].restarts, rows["two"].restarts, rows["Supervisor"].restarts) == (0, 3, 0)
        two = truth(system)[rows["two"].id].ref
        assert (await actor_details(system, two)).actor.restarts == 3


async def test_a_supervisor_shows_its_children_while_one_waits_to_be_restarted() -> None:
    async with ActorSystem() as system:
        specs = [ChildSpec("calm", Worker), ChildSpec(("odd", 1), Worker, restart="transient")]
        reaper = await system.start(Supervisor, specs, intensity=5, backoff=Backoff(first=100, factor=1, limit=100))
        odd = next(child.ref for child in await reaper.proxy().which_children() if child.id == ("odd", 1))
        assert odd is not None
        odd.exit("fell")
        await settle(system)
        view = (await actor_details(system, reaper)).supervision
        assert view is not None
        assert [(c.id, c.status) for c in view.children] == [("calm", "running"), ("('odd', 1)", "restarting")]
        assert (view.restarts, view.intensity) == (1, 5)


def test_where_an_object_is_in_memory_is_not_shown() -> None:
    class Thing:
        pass

    text = shown({"thing": Thing(), "call": Thing.__init__, "size": "0x10"}, 200)
    assert " at 0x" not in text
    assert "Thing>" in text
    assert "0x10" in text
