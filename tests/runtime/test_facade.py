"""Each verb of the facade is a message to an actor, as docs/facade.md says; and the tree that they go to."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ramure
from ramure import (
    agent,
    agent_process,
    bubble,
    child,
    connect,
    current_runtime,
    done,
    each,
    emit,
    expose,
    fail,
    machine,
    receive,
    self_ref,
    spawn,
    start_task,
    supervise,
    trap_exit,
    wait,
)
from ramure.actors import Ask, Call, Down, Exit
from ramure.actors.observe.tracing import TraceEvent
from ramure.machines.errors import NotSupported
from ramure.runtime.process.handle import ProcessHandle
from ramure.runtime.trees.handles import ChildHandle, TreeHandle
from ramure.runtime.views.tree import run_tree
from ramure.testing import InProcessHarness, ToolCall, virtual_time

Uses = Callable[..., AbstractContextManager[None]]
"""``with uses("verb"):`` around the use of a verb."""

PAGE = Path(__file__).parent.parent.parent / "docs" / "facade.md"
ROW = re.compile(r"^\| `@?(?P<verb>[\w.]+)[^`]*` \| (?:`(?P<message>[^`]+)`|—) \|", re.MULTILINE)


def table() -> dict[str, str | None]:
    return {row["verb"]: row["message"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}


def message_name(value: object) -> str:
    if isinstance(value, Ask):
        value = value.request
    if isinstance(value, Call):
        return f"Call {value.method}"
    return type(value).__name__


@agent_process
async def part(n: int = 1) -> int:
    emit("ready")
    return n


@agent_process
async def serves() -> None:
    @expose
    def ping() -> str:
        """Say pong."""
        return "pong"

    emit("ready")
    await wait()


@agent_process
async def fails() -> None:
    fail("on purpose")
    await wait()


class Traced:
    """What was sent in a run while it used each verb, by verb: one that does not become its message has no other's to
    show for it."""

    def __init__(self) -> None:
        self.events: list[TraceEvent] = []
        self.by_verb: dict[str, set[str]] = {}

    @contextlib.contextmanager
    def uses(self, *verbs: str) -> Iterator[None]:
        began = len(self.events)
        yield
        seen = {message_name(event.value) for event in self.events[began:]}
        self.by_verb.update(dict.fromkeys(verbs, seen))


async def use_processes(uses: Uses) -> None:
    """The verbs of a process, and of its handle."""
    with uses("trap_exit"):
        trap_exit()
    with uses("spawn"):
        handle = spawn(serves)
        await handle.events.listen_for("ready")
    with uses("bubble"):
        bubble(handle)
    with uses("expose"):
        expose(print)
    with uses("emit"):
        emit("here")
    with uses("handle.call"):
        assert await handle.call("ping") == "pong"
    with uses("handle.ref", "self_ref", "receive", "current_runtime"):
        await handle.ref()
        self_ref().tell("a message")
        assert await receive(str) == "a message"
        assert current_runtime().agents == {}
    with uses("handle.monitor"):
        other = spawn(part)
        await other.monitor()
        await other
        await receive(Down)
    with uses("handle.link"):
        await handle.link()
        with uses("handle.cancel", "start_task"):
            await start_task(handle.cancel())
        await receive(Exit)
    with uses("each"):
        assert await each(part, [1, 2]) == [1, 2]
    with uses("agent_process"):
        assert await part(3) == 3
    with uses("supervise", "child"):
        workers = await supervise(child(part, id="a"), child(part, 2, id="b"), child(serves, id="s"))
    with uses("handle.restart"):
        await workers["s"].restart()
    with uses("handle.add"):
        await workers.add(child(serves, id="t"))
    with uses("handle.remove"):
        await workers.remove("t")
        await workers.remove("s")
        assert await workers == {"a": 1, "b": 2}
    with uses("fail"):
        assert (await spawn(fails).events.listen_for("failed")).data
    with uses("done"):
        done()
    with uses("wait"):
        await wait()


async def use_agents(uses: Uses) -> None:
    """The verbs of agents."""
    handle = spawn(serves)
    with uses("agent"):
        one = await agent("one")
    two = await agent("two", restart="temporary")
    with uses("connect"):
        await connect(one, two)
    with uses("handle.attach"):
        await handle.attach(one, prefix="pool_")
    with uses("agent.on"):

        @two.on("note")
        def note(text: str) -> None:
            """Take a note."""

    with uses("agent.send"):
        await two.send("hello")
    with uses("agent.ask"):
        assert await one.ask("ping?") == "answered"
    with uses("agent.interrupt"):
        await two.interrupt()
    with uses("agent.exec"):
        await two.exec("true")
    with uses("agent.on_exit", "agent.monitor"):
        two.on_exit(lambda reason: emit("gone"))
        two.monitor()
        with uses("agent.link"):
            two.link()
            two.ref.exit("kill")
            await receive(Exit)
        await receive(Down)


async def use_machines(uses: Uses) -> None:
    """The verbs of machines."""
    with uses("machine"):
        host = await machine()
    with uses("machine.exec"):
        await host.exec("true")
    with uses("machine.machine"):
        await host.machine()
    with uses("machine.write_file"):
        await host.write_file("/a", b"a")
    with uses("machine.read_file"):
        assert await host.read_file("/a") == b"a"
    with uses("machine.stream"):
        async for _ in host.stream("true"):
            pass
    with uses("machine.fork"), contextlib.suppress(NotSupported):  # it asks first, and is told then
        await host.fork()
    with uses("machine.snapshot"), contextlib.suppress(NotSupported):
        await host.snapshot()
    with uses("machine.monitor"):
        host.monitor()
        with uses("machine.link"):
            host.link()
            with uses("machine.stop"):
                await host.stop()
            await receive(Exit)
        await receive(Down)


def traced() -> Traced:
    """A run that uses every verb."""
    harness = InProcessHarness(lambda c: "answered" if c.tool_results or "ping" not in c.last_user_text else PING)
    found = Traced()

    @agent_process(image=harness.image)
    async def main() -> None:
        current_runtime().system.trace(kinds=("sent",), callback=found.events.append)
        await use_processes(found.uses)
        await use_agents(found.uses)
        await use_machines(found.uses)

    @virtual_time()
    async def go() -> None:
        await main()

    go()
    harness.check()
    return found


PING = ToolCall("pool_ping", {})

ELSEWHERE = {"attach", "progress"}
"""Verbs that are no part of a run: tests/control and tests/cli try them."""

HANDLES = {
    "handle": (ProcessHandle, ChildHandle, TreeHandle),
    "agent": (ramure.Agent,),
    "machine": (ramure.MachineHandle,),
}


def public_verbs() -> set[str]:
    """Every public function, and every public method of what they return."""
    verbs = {name for name in ramure.__all__ if name[0].islower() and callable(getattr(ramure, name))}
    for called, classes in HANDLES.items():
        for one in classes:
            verbs |= {
                f"{called}.{name}" for name in vars(one) if name[0] != "_" and inspect.isfunction(vars(one)[name])
            }
    return verbs


def test_the_page_has_every_public_verb() -> None:
    assert public_verbs() == set(table())


def test_each_verb_s_message_is_in_the_trace_of_its_use_in_a_run_that_uses_them_all() -> None:
    by_verb = traced().by_verb
    assert public_verbs() - set(by_verb) == ELSEWHERE
    missing = {verb: message for verb, message in table().items() if message and message not in by_verb[verb]}
    assert missing == {}


def test_the_verbs_without_a_message_only_read_write_events_or_declare() -> None:
    silent = {verb for verb, message in table().items() if message is None}
    assert silent == {
        "agent.on_exit", "attach", "bubble", "child", "current_runtime", "emit", "handle.ref", "progress", "receive",
        "self_ref", "start_task",
    }  # fmt: skip


@virtual_time()
async def test_the_trace_of_each_spawn_has_the_dynamic_supervisor_s_start_request() -> None:
    starts: list[str] = []

    def note(event: TraceEvent) -> None:
        if message_name(event.value) == "Call start_child" and "children of main#1" in event.actor.label:
            value: Any = event.value
            starts.append(value.request.args[0].id)

    @agent_process
    async def main() -> None:
        current_runtime().system.trace(kinds=("sent",), callback=note)
        handles = [spawn(part, n) for n in range(3)]
        for handle in handles:
            await handle
        await part()

    await main()
    assert starts == ["part#2", "part#3", "part#4", "part#5"]


# -- the tree -------------------------------------------------------------------------------------------------------


def node(label: str, kind: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "kind": kind, "children": list(children)}


def process(label: str, machines: list[Any], agents: list[Any], children: list[Any]) -> dict[str, Any]:
    """It has a supervisor of each kind only where there is something for it."""
    kinds = {"machines": machines, "agents": agents, "children": children}
    return node(
        label,
        "Process",
        *(node(f"{kind} of {label}", "DynamicSupervisor", *owned) for kind, owned in kinds.items() if owned),
    )


def task(number: int, address: str) -> dict[str, Any]:
    session = node(f"pi of {address}", "Session")
    return process(
        f"run_task#{number}",
        [node(f"machine {number - 2}", "MachineActor")],
        [node(address, "AgentActor", node(f"session of {address}", "Supervisor", session))],
        [],
    )


EXPECTED = node(
    "run",
    "Supervisor",
    node("log", "LogWriter"),
    node("gateway", "GatewayActor"),
    node("tmux", "TmuxActor", node("tmux client", "TmuxThread")),
    node("control", "ControlActor"),
    node(
        "processes",
        "DynamicSupervisor",
        process("main#1", [], [], [process("pool#2", [], [], [task(3, "worker"), task(4, "worker~2")])]),
    ),
)


@virtual_time()
async def test_the_tree_of_a_pool_with_two_tasks() -> None:
    harness = InProcessHarness([])

    @agent_process
    async def run_task(spec: str) -> None:
        await agent("worker")
        emit("working")
        await wait()

    @agent_process
    async def pool() -> None:
        @expose
        async def add_task(spec: str) -> None:
            handle = spawn(run_task, spec)
            bubble(handle, source=spec)
            await handle.events.listen_for("working")

        await wait()

    @agent_process(image=harness.image)
    async def main() -> dict[str, Any]:
        handle = spawn(pool)
        await handle.call("add_task", spec="a")
        await handle.call("add_task", spec="b")
        return run_tree(current_runtime())

    assert await main() == EXPECTED


@virtual_time()
async def test_a_process_that_owns_nothing_is_one_actor() -> None:
    @agent_process
    async def leaf() -> None:
        emit("ready")
        await wait()

    @agent_process
    async def main() -> list[str]:
        before = set(current_runtime().system.actors())
        handle = spawn(leaf)
        await handle.events.listen_for("ready")
        return [actor.label for actor in current_runtime().system.actors() if actor not in before]

    labels = await main()
    assert [label.partition(" #")[0] for label in labels] == [
        "<DynamicSupervisor 'children of main#1'",
        "<Process 'leaf#2'",
    ]
