"""An independent reference for the stall rule, random snapshots, and random trees of real processes to try it on.

The reference is written from the table in ``docs/semantics.md``, by brute force: it follows every way, without a memory,
on which something that may happen by itself reaches a process. It shares no code with ``ramure.runtime.stalls.rule``.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import strategies as st

import ramure
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.process.scope import current_process
from ramure.runtime.stalls.rule import AgentView, ProcessView, Snapshot, WaitView
from ramure.testing import Conversation, Delay, InProcessHarness

__all__ = ["Node", "no_strangers", "play", "reference", "snapshots", "trees"]


def no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of other tests' (a fixture's server) could decide a ``receive()``: they are passed over."""
    theirs, enumerate_threads = set(threading.enumerate()), threading.enumerate
    monkeypatch.setattr(threading, "enumerate", lambda: [each for each in enumerate_threads() if each not in theirs])


# -- the reference ------------------------------------------------------------------------------------------------


def reference(snapshot: Snapshot) -> set[int]:
    """The stalled processes."""
    alone = {p.number for p in snapshot.processes if _waits(p) and not _looks_elsewhere(snapshot, p)}
    first = {n for n in alone if not _may_be_decided(snapshot, n, set())}
    ended_for_it = {p.number for p in snapshot.processes if p.number in first and p.ends}
    rest = {p.number for p in snapshot.processes if _waits(p)} - alone
    return first | {n for n in rest if not _may_be_decided(snapshot, n, ended_for_it)}


def _waits(process: ProcessView) -> bool:
    return any(place.kind != "handle" for place in process.waits or ())


def _places(process: ProcessView) -> list[WaitView]:
    return [*(process.waits or ()), *process.beside]


def _mine(snapshot: Snapshot, number: int) -> list[AgentView]:
    return [agent for agent in snapshot.agents if number in {agent.owner, *agent.tools_of}]


def _takes_from_anybody(snapshot: Snapshot, process: ProcessView) -> bool:
    mine = _mine(snapshot, process.number)
    return "receive" in [place.kind for place in _places(process)] or (
        len(mine) > 0 and not [agent for agent in mine if agent.prompted]
    )


def _read(snapshot: Snapshot, process: ProcessView) -> list[ProcessView]:
    """The processes, other than itself and its children, that it reads or awaits."""
    read = [place.of for place in _places(process)]
    return [
        other
        for other in snapshot.processes
        if other.number in read and other.parent != process.number and other.number != process.number
    ]


def _looks_elsewhere(snapshot: Snapshot, process: ProcessView) -> bool:
    return _takes_from_anybody(snapshot, process) or len(_read(snapshot, process)) > 0


def _agent_may(snapshot: Snapshot, address: str, way: tuple[str, ...] = ()) -> bool:
    """Some way leads from an agent that works, or is set to work, to this one."""
    agent = next((each for each in snapshot.agents if each.address == address), None)
    if agent is None:
        return False
    if agent.outstanding or agent.person or not agent.idle:
        return True
    senders = [each.address for each in snapshot.agents if address in each.reaches]
    return any(_agent_may(snapshot, sender, (*way, address)) for sender in senders if sender not in (*way, address))


def _by_itself(snapshot: Snapshot, process: ProcessView) -> bool:
    """Something of its own may set it going."""
    watched = [place.of for place in _places(process) if isinstance(place.of, str)]
    near = [agent.address for agent in _mine(snapshot, process.number)] + watched
    return bool(
        process.wakers
        or process.deciding
        or process.endpoints
        or snapshot.outside
        or any(_agent_may(snapshot, address) for address in near)
    )


def _may_act(snapshot: Snapshot, number: int, ended: set[int], way: tuple[int, ...] = ()) -> bool:
    """Some way leads to a step of this process."""
    process = next(each for each in snapshot.processes if each.number == number)
    if process.waits is None or number in ended or _by_itself(snapshot, process):
        return True
    before = [child.number for child in snapshot.processes if child.parent == number and not child.idle]
    before += [other.number for other in _read(snapshot, process)]
    if _takes_from_anybody(snapshot, process):
        if snapshot.strangers:
            return True
        before += [other.number for other in snapshot.processes if other.number != number]
    return any(_may_act(snapshot, each, ended, (*way, number)) for each in before if each not in (*way, number))


def _may_be_decided(snapshot: Snapshot, number: int, ended: set[int]) -> bool:
    process = next(each for each in snapshot.processes if each.number == number)
    others = [each for each in snapshot.processes if each.number != number]
    if _by_itself(snapshot, process):
        return True
    if any((other.parent == number and not other.idle) or other.waits is None for other in others):
        return True
    if any(_may_act(snapshot, other.number, ended) for other in _read(snapshot, process)):
        return True
    if not _takes_from_anybody(snapshot, process):
        return False
    return bool(snapshot.strangers) or any(_may_act(snapshot, other.number, ended) for other in others)


# -- random snapshots -----------------------------------------------------------------------------------------------


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any run of up to six processes and four agents; most things are quiet, so that many stand still."""
    rarely = st.sampled_from([False] * 9 + [True])
    often = st.sampled_from([True] * 5 + [False])
    count = draw(st.integers(1, 6))
    names = [f"a{n}" for n in range(draw(st.integers(0, 4)))]

    def place(number: int) -> WaitView:
        kind = draw(st.sampled_from(["wait", "wait", "wait", "events", "agent_events", "receive", "each", "handle"]))
        if kind in ("events", "each", "handle"):
            return WaitView(kind, draw(st.integers(1, count)))
        if kind == "agent_events":
            return WaitView(kind, draw(st.sampled_from(names)) if names else None)
        return WaitView(kind)

    processes = []
    for number in range(1, count + 1):
        parent = draw(st.integers(1, number - 1)) if number > 1 and draw(often) else None
        outside = draw(rarely)
        processes.append(
            ProcessView(
                number,
                parent,
                None if outside else tuple(place(number) for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2])))),
                tuple(place(number) for _ in range(draw(st.sampled_from([0, 0, 0, 1])))),
                ("task t",) if draw(rarely) else (),
                ("e",) if draw(rarely) else (),
                draw(rarely),
                draw(often),
                draw(rarely),
            )
        )
    agents = tuple(
        AgentView(
            name,
            draw(st.integers(1, count)),
            draw(often),
            draw(rarely),
            draw(rarely),
            draw(often),
            frozenset(draw(st.sets(st.integers(1, count), max_size=2))),
            frozenset(draw(st.sets(st.sampled_from(names), max_size=2))) - {name},
        )
        for name in names
    )
    return Snapshot(
        tuple(processes), agents, ("task x",) if draw(rarely) else (), ("thread y",) if draw(rarely) else ()
    )


# -- random trees of real processes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worker:
    """An agent: whether it is at work, was sent anything, has a tool, is paused."""

    busy: bool = False
    prompted: bool = True
    tool: bool = True
    person: bool = False


@dataclass(frozen=True)
class Node:
    """A process."""

    kind: str = "wait"
    """How its function waits: wait, receive, events (of its first child), agent_events, await (each child in turn), gather,
    tasks (a TaskGroup of its children), sleep."""
    children: tuple[Node, ...] = ()
    bubbled: bool = False
    workers: tuple[Worker, ...] = ()
    endpoint: bool = False
    task: str | None = None
    """A task beside: ``sleep``, ``events`` (of its first child), ``receive``; ``own`` tasks end with it."""
    timer: bool = False
    thread: bool = False
    socket: bool = False
    attached: bool = False
    """Its first agent has the endpoints of its first child, if there are."""
    on_idle: str = "report"
    timeout: float | None = None


@dataclass(frozen=True)
class Tree:
    """A root, and which agents are connected, by their numbers in the order of the tree: (one, other, both)."""

    root: Node
    connections: tuple[tuple[int, int, bool], ...] = ()


def _nodes(node: Node) -> list[Node]:
    return [node, *(inner for child in node.children for inner in _nodes(child))]


@st.composite
def _node(draw: st.DrawFn, depth: int) -> Node:
    rarely = st.sampled_from([False] * 11 + [True])
    children = tuple(draw(st.lists(_node(depth - 1), max_size=3))) if depth else ()
    workers = tuple(
        draw(
            st.lists(
                st.builds(Worker, rarely, st.sampled_from([True, True, True, False]), st.booleans(), rarely), max_size=2
            )
        )
    )
    kinds = ["wait", "wait", "wait", "receive"]
    if children:
        kinds += ["events", "await", "gather", "tasks"]
    if workers:
        kinds += ["agent_events"]
    kind = "sleep" if draw(rarely) and draw(rarely) else draw(st.sampled_from(kinds))
    tasks = [None] * 6 + ["sleep"] + (["events", "events"] if children and kind not in ("gather", "tasks") else [])
    return Node(
        kind,
        children,
        draw(st.booleans()),
        workers,
        draw(rarely),
        draw(st.sampled_from(tasks)),
        draw(rarely),
        draw(rarely),
        draw(rarely),
        draw(st.booleans()),
        draw(st.sampled_from(["report", "report", "remind"])),
        draw(st.sampled_from([None, None, 500.0])),
    )


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any tree, three levels deep."""
    root = draw(_node(2))
    agents = sum(len(node.workers) for node in _nodes(root))
    pairs = st.tuples(st.integers(0, max(agents - 1, 0)), st.integers(0, max(agents - 1, 0)), st.booleans())
    return Tree(root, tuple(pair for pair in draw(st.lists(pairs, max_size=3)) if pair[0] != pair[1]))


def expected(tree: Tree) -> set[int]:
    """Which nodes (by their number in the order of the tree) are stalled, as the reference says of what was drawn."""
    nodes, parents = _nodes(tree.root), {}
    numbers = {id(node): number for number, node in enumerate(nodes)}
    for node in nodes:
        for child in node.children:
            parents[numbers[id(child)]] = numbers[id(node)]
    processes, agents = [], []
    for number, node in enumerate(nodes):
        child = numbers[id(node.children[0])] if node.children else None
        first = f"{number}.0"
        inner = [numbers[id(each)] for each in node.children]
        waits: dict[str, tuple[WaitView, ...] | None] = {
            "wait": (WaitView("wait"),),
            "receive": (WaitView("receive"),),
            "events": (WaitView("events", child),),
            "agent_events": (WaitView("agent_events", first),),
            "await": tuple(WaitView("handle", each) for each in inner[:1]),
            "gather": tuple(WaitView("handle", each) for each in inner),
            "tasks": tuple(WaitView("handle", each) for each in inner),
            "sleep": None,
        }
        wakers = [each for each in ("timer", "thread", "socket") if getattr(node, each)]
        wakers += ["task"] if node.task == "sleep" else []
        beside = (WaitView("events", child),) if node.task == "events" else ()
        endpoints = ("e",) if node.endpoint else ()
        ends = node.on_idle != "report"
        processes.append(
            ProcessView(number, parents.get(number), waits[node.kind], beside, tuple(wakers), endpoints, False, ends)
        )
        for at, worker in enumerate(node.workers):
            given = node.attached and at == 0 and child is not None and node.children[0].endpoint
            has = (
                {number} if worker.tool or given else set()
            )  # an attached endpoint's tool is a tool of who attached it
            idle, outstanding = not (worker.busy and worker.prompted), False
            address = f"{number}.{at}"
            person = worker.person and worker.prompted
            agents.append(
                AgentView(address, number, idle, outstanding, person, worker.prompted, frozenset(has), frozenset())
            )
    for one, other, both in tree.connections:
        for a, b in ((one, other), (other, one)) if both else ((one, other),):
            agents[a] = replace(agents[a], reaches=agents[a].reaches | {agents[b].address})
    return reference(Snapshot(tuple(processes), tuple(agents)))


@dataclass
class World:
    """What was made of a tree."""

    harness: InProcessHarness
    numbers: dict[int, int] = field(default_factory=dict)
    """By ``id`` of the node."""
    records: dict[int, ProcessRecord] = field(default_factory=dict)
    agents: dict[tuple[int, int], Any] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    closing: list[Callable[[], Any]] = field(default_factory=list)


def model(conversation: Conversation) -> Any:
    """Works for ever, or ends its turn."""
    return [Delay(100_000.0), "late"] if "work" in conversation.last_user_text else "I am done."


async def play(tree: Tree) -> set[int]:
    """Run it; the nodes that got the event ``stalled`` before anybody was reminded."""
    nodes = _nodes(tree.root)
    world = World(InProcessHarness(model))
    world.numbers = {id(node): number for number, node in enumerate(nodes)}
    root = asyncio.create_task(_process(world, tree.root, world.harness.image)(), name="root")
    try:
        async with asyncio.timeout(300.0):
            while len(world.agents) < sum(len(node.workers) for node in nodes) or len(world.records) < len(nodes):
                await asyncio.sleep(0.5)
        await asyncio.sleep(1.0)
        await _connect(world, nodes, tree.connections)
        await asyncio.sleep(1.0)
    finally:
        # From here on this task is no longer one that could decide something: it waits for the run.
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(8.0, root.cancel)]
        timers += [loop.call_later(0.1, record.run.stalls.look) for record in list(world.records.values())[:1]]
        await asyncio.wait([root])
        for timer in timers:
            timer.cancel()
        world.release.set()
        for close in world.closing:
            close()
    if not root.cancelled() and root.exception() is not None:
        raise root.exception()  # type: ignore[misc]
    world.harness.check()
    found = set()
    for number, record in world.records.items():
        own = [event for event in record.stream.snapshot() if event.source is None]
        assert sum(event.type == "stalled" for event in own) <= 1
        if any(event.type == "stalled" for event in own):
            found.add(number)
    return found


async def _connect(world: World, nodes: list[Node], connections: tuple[tuple[int, int, bool], ...]) -> None:
    keys = [(number, at) for number, node in enumerate(nodes) for at in range(len(node.workers))]
    for one, other, both in connections:
        first, second = world.agents[keys[one]], world.agents[keys[other]]
        record = world.records[keys[one][0]]
        context = record.ref._cell.context.copy()  # type: ignore[union-attr]
        there = _connect_two(first, second, "both" if both else "forward")
        await asyncio.get_running_loop().create_task(there, context=context)
    for (number, at), made in world.agents.items():
        worker = nodes[number].workers[at]
        if worker.person and worker.prompted:
            made._actor().turns.on_message("person", made._actor().system.clock)


async def _connect_two(one: Any, other: Any, direction: Any) -> None:
    await ramure.connect(one, other, direction)


def _process(world: World, node: Node, image: Any = None) -> Any:
    @ramure.agent_process(image=image, on_idle=node.on_idle, timeout=node.timeout)  # type: ignore[arg-type]
    async def body() -> None:
        await _body(world, node)

    return body


async def _body(world: World, node: Node) -> None:
    number = world.numbers[id(node)]
    record = current_process()
    assert record is not None
    world.records[number] = record
    if node.endpoint:

        @ramure.expose
        async def e() -> str:
            """Of a tree."""
            return "ok"

    nested = node.kind in ("gather", "tasks")
    handles = [] if nested else [ramure.spawn(_process(world, child)) for child in node.children]
    for handle in handles:
        if node.bubbled:
            ramure.bubble(handle)
    workers = [await _worker(world, number, at, worker) for at, worker in enumerate(node.workers)]
    if node.attached and workers and handles and node.children[0].endpoint:
        await handles[0].attach(workers[0], prefix="child_")
    _carry(world, node, handles)
    await _wait(world, node, handles, workers)


async def _worker(world: World, number: int, at: int, worker: Worker) -> Any:
    made = world.agents[number, at] = await ramure.agent(f"w{number}.{at}")
    if worker.tool:

        @made.on("finish")
        async def finish() -> str:
            """Of a tree."""
            return "ok"

    if worker.prompted:
        await made.send("work" if worker.busy else "say something")
    return made


def _carry(world: World, node: Node, handles: list[Any]) -> None:
    """What carries the process's context beside its function."""
    loop = asyncio.get_running_loop()
    if node.task == "sleep":
        ramure.start_task(asyncio.sleep(100_000.0))
    elif node.task == "events":
        ramure.start_task(_read_all(handles[0].events))
    if node.timer:
        world.closing.append(loop.call_later(100_000.0, int).cancel)
    if node.thread:
        target = contextvars.copy_context().run
        threading.Thread(target=target, args=(world.release.wait,), name="of a tree", daemon=True).start()
    if node.socket:
        import socket

        one, other = socket.socketpair()
        loop.add_reader(one, int)

        def close() -> None:
            loop.remove_reader(one)
            one.close()
            other.close()

        world.closing.append(close)


async def _read_all(events: Any) -> None:
    async for _ in events:
        pass


async def _wait(world: World, node: Node, handles: list[Any], workers: list[Any]) -> None:
    match node.kind:
        case "wait":
            await ramure.wait()
        case "receive":
            await ramure.receive()
        case "events":
            await _read_all(handles[0].events)
        case "agent_events":
            await _read_all(workers[0].events)
        case "await":
            for handle in handles:
                await handle
        case "gather":
            await asyncio.gather(*(_process(world, child)() for child in node.children))
        case "tasks":
            async with asyncio.TaskGroup() as group:
                for child in node.children:
                    group.create_task(_process(world, child)())
        case "sleep":
            await asyncio.sleep(100_000.0)
