"""Each verb of the facade is a message to an actor, as docs/facade.md says; and the tree that they go to."""

from __future__ import annotations

import re
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
from ramure.actors.tracing import TraceEvent
from ramure.runtime.tree import run_tree
from ramure.testing import InProcessHarness, ToolCall, virtual_time

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


async def use_every_verb() -> None:
    """One program that uses all there is."""
    trap_exit()
    handle = spawn(serves)
    bubble(handle)
    await handle.events.listen_for("ready")
    await handle.monitor()
    await handle.link()
    assert await handle.call("ping") == "pong"
    assert await part(3) == 3
    workers = await supervise(child(part, id="a"), child(part, 2, id="b"))
    assert await workers == {"a": 1, "b": 2}
    one, two = await agent("one"), await agent("two")
    await connect(one, two)
    await handle.attach(one, prefix="pool_")

    @two.on("note")
    def note(text: str) -> None:
        """Take a note."""

    await two.send("hello")
    assert await one.ask("ping?") == "answered"
    await two.interrupt()
    await two.exec("true")
    host = await machine()
    await host.exec("true")
    await host.write_file("/a", b"a")
    assert await host.read_file("/a") == b"a"
    async for _ in host.stream("true"):
        pass
    await host.stop()
    failed = spawn(fails)
    assert (await failed.events.listen_for("failed")).data
    self_ref().tell("a message")
    assert await receive(str) == "a message"
    await start_task(handle.cancel())
    await receive(Down)
    await receive(Exit)
    done()
    await wait()


def traced() -> list[TraceEvent]:
    """What was sent in a run that uses every verb."""
    harness = InProcessHarness(lambda c: "answered" if c.tool_results or "ping" not in c.last_user_text else PING)
    events: list[TraceEvent] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        current_runtime().system.trace(kinds=("sent",), callback=events.append)
        await use_every_verb()

    @virtual_time()
    async def go() -> None:
        await main()

    go()
    harness.check()
    return events


PING = ToolCall("pool_ping", {})


def test_the_page_has_every_public_verb() -> None:
    verbs = {name for name in ramure.__all__ if name[0].islower() and callable(getattr(ramure, name))}
    assert verbs - set(table()) == set()


def test_each_verb_s_message_is_in_the_trace_of_a_run_that_uses_them_all() -> None:
    seen = {message_name(event.value) for event in traced()}
    missing = {verb: message for verb, message in table().items() if message is not None and message not in seen}
    assert missing == {}


def test_the_verbs_without_a_message_only_read_or_declare() -> None:
    silent = {verb for verb, message in table().items() if message is None}
    assert silent == {"attach", "child", "current_runtime", "receive", "self_ref", "start_task"}


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
    return node(
        label,
        "Process",
        node(f"machines of {label}", "DynamicSupervisor", *machines),
        node(f"agents of {label}", "DynamicSupervisor", *agents),
        node(f"children of {label}", "DynamicSupervisor", *children),
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
    node(
        "recorders",
        "DynamicSupervisor",
        *(node(f"recorder of {label}", "Recorder") for label in ("main#1", "pool#2", "run_task#3", "run_task#4")),
    ),
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
