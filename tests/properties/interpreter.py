"""Runs a program of :mod:`tests.properties.programs` with the public API, and notes what was done."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import ramure
from ramure.actors import Down, Exit
from ramure.runtime.process.record import ProcessRecord
from ramure.runtime.process.scope import current_process
from ramure.testing import Conversation, InProcessHarness, ToolCall
from tests.properties import programs as p

__all__ = ["Boom", "World", "play"]

EXPECTED = (ramure.OperationalError, ramure.UsageError, TimeoutError, ExceptionGroup)
"""What a program may meet that nobody made a mistake in."""

PATIENCE = 20.0
"""Virtual seconds for waits that may be for each other: two processes that await each other would wait for ever."""


class Boom(ramure.OperationalError):
    """What programs raise."""


def use_the_tool(conversation: Conversation) -> Any:
    wanted = conversation.last_user_text.split()[-1]
    if not conversation.new_tool_results and wanted in conversation.tools:
        return ToolCall(wanted, {})
    return "ok"


@dataclass
class World:
    """What one program did: what the invariants are about."""

    harness: InProcessHarness
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    handles: list[Any] = field(default_factory=list)
    owners: list[ProcessRecord] = field(default_factory=list)
    """Of each handle, the process that spawned it."""
    emitted: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By process number: what each of its tasks emitted, in order."""
    bubbles: list[tuple[ProcessRecord, Any, str]] = field(default_factory=list)
    """(parent, the child's handle, tag)."""
    endings: list[tuple[ProcessRecord, bool]] = field(default_factory=list)
    results: list[tuple[Any, str, Any]] = field(default_factory=list)
    """(handle, "value" or "error", what): what each await of a handle gave."""
    run: Any = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def number(self) -> int:
        return next(self.numbers)


def play(program: p.Program, world: World) -> Coroutine[Any, Any, Any]:
    """The root process: run it to its end."""
    return _process(world, program, world.harness.image)()


def _process(world: World, program: p.Program, image: Any = None) -> Any:
    @ramure.agent_process(image=image, timeout=program.timeout)
    async def body() -> Any:
        world.run = ramure.current_runtime()
        await _steps(world, program.steps)
        return world.number() if program.returns else None

    return body


def _me() -> ProcessRecord:
    record = current_process()
    assert record is not None
    return record


async def _steps(world: World, steps: tuple[p.Step, ...]) -> None:
    for step in steps:
        await _STEPS[type(step)](world, step)


def _emit(world: World) -> None:
    with world.lock:  # a thread and the loop note what they emitted in the order in which they did
        number = world.number()
        ramure.emit("e", number)
        world.emitted[_me().number].append(number)


async def _in_time(work: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await work


async def _tolerant(work: Any) -> Any:
    try:
        return await work
    except EXPECTED:
        return None


def _handle(world: World, which: int) -> Any:
    return world.handles[which % len(world.handles)] if world.handles else None


def _made(world: World, handle: Any, bubbled: bool) -> None:
    world.handles.append(handle)
    world.owners.append(_me())
    if bubbled:
        tag = f"b{world.number()}"
        ramure.bubble(handle, source=tag)
        world.bubbles.append((_me(), handle, tag))


# -- the steps ------------------------------------------------------------------------------------------------


async def _sleep(world: World, step: p.Sleep) -> None:
    await asyncio.sleep(step.seconds)


async def _do_emit(world: World, step: p.Emit) -> None:
    if step.thread:
        await asyncio.to_thread(_emit, world)
    else:
        _emit(world)


async def _done(world: World, step: p.Done) -> None:
    ramure.done(world.number())


async def _fail(world: World, step: p.Fail) -> None:
    ramure.fail(f"failure {world.number()}")


async def _raise(world: World, step: p.Raise) -> None:
    raise Boom(f"boom {world.number()}")


async def _wait(world: World, step: p.Wait) -> None:
    try:
        async with asyncio.timeout(step.seconds):
            await ramure.wait()
    except TimeoutError:
        return


async def _spawn(world: World, step: p.Spawn) -> None:
    _made(world, ramure.spawn(_process(world, step.program)), step.bubbled)


async def _nest(world: World, step: p.Nest) -> None:
    work = _process(world, step.program)()
    await (_tolerant(work) if step.caught else work)


async def _gather(world: World, step: p.Gather) -> None:
    work = asyncio.gather(*(_process(world, each)() for each in step.programs))
    await (_tolerant(work) if step.caught else work)


async def _supervise(world: World, step: p.Supervise) -> None:
    children = [
        ramure.child(_process(world, program), id=f"c{world.number()}", restart=restart)
        for program, restart in step.children
    ]
    tree = await ramure.supervise(*children, strategy=step.strategy, max_restarts=step.max_restarts, within=600)
    _made(world, tree, step.bubbled)


async def _await(world: World, step: p.Await) -> None:
    handle = _handle(world, step.which)
    if handle is not None:
        try:
            world.results.append((handle, "value", await _in_time(handle)))
        except EXPECTED as error:
            world.results.append((handle, "error", error))


async def _cancel(world: World, step: p.Cancel) -> None:
    handle = _handle(world, step.which)
    if handle is not None:
        await handle.cancel()


async def _exit(world: World, step: p.Exit) -> None:
    handle = _handle(world, step.which)
    if handle is not None:
        try:
            ref = await handle.ref()
        except ramure.ProcessEnded:
            return
        ref.exit(step.reason)


async def _exit_self(world: World, step: p.ExitSelf) -> None:
    ramure.self_ref().exit(step.reason)


async def _link(world: World, step: p.Link) -> None:
    handle = _handle(world, step.which)
    if handle is not None:
        await _tolerant(handle.link())


async def _expose(world: World, step: p.Expose) -> None:
    async def endpoint() -> int:
        """Of a program."""
        await _steps(world, step.steps)
        return world.number()

    endpoint.__name__ = step.name
    ramure.expose(endpoint)


async def _call(world: World, step: p.Call) -> None:
    handle = _handle(world, step.which)
    if handle is not None:
        await _tolerant(_in_time(handle.call(step.name)))


async def _tell(world: World, step: p.Tell) -> None:
    handle = _handle(world, step.which)
    if handle is not None and handle._record.ref is not None:
        handle._record.ref.tell(("told", world.number()))


async def _receive(world: World, step: p.Receive) -> None:
    try:
        message = await ramure.receive(lambda m: not isinstance(m, Down | Exit), timeout=step.seconds)
    except TimeoutError:
        return
    assert message[0] == "told", message


async def _task(world: World, step: p.Task) -> None:
    ramure.start_task(_steps(world, step.steps))


async def _within(world: World, step: p.Within) -> None:
    try:
        async with asyncio.timeout(step.seconds):
            await _steps(world, step.steps)
    except TimeoutError:
        return


async def _cleanup(world: World, step: p.Cleanup) -> None:
    try:
        await _steps(world, step.steps)
    except asyncio.CancelledError:
        if not step.swallow:
            raise
    finally:
        _emit(world)
        await asyncio.sleep(step.seconds)
        _emit(world)


async def _agent(world: World, step: p.Agent) -> None:
    worker = await ramure.agent(f"worker{world.number()}")

    @worker.on("tool")
    async def tool() -> str:
        """Of a program."""
        await _steps(world, step.steps)
        return "done"

    if step.kill:
        asyncio.get_running_loop().call_later(0.5, _kill_pi, world, worker.address)
        await _tolerant(_in_time(worker.ask("tool")))
        await asyncio.sleep(1.0)
    else:
        await _tolerant(_in_time(worker.ask("tool")))


def _kill_pi(world: World, address: str) -> None:
    if any(address in machine.tmux.lives for machine in world.harness.machines):
        world.harness.pi(address)
        world.harness.kill(address)


async def _attach(world: World, step: p.Attach) -> None:
    handle = _handle(world, step.which)
    if handle is None:
        return
    worker = await ramure.agent(f"worker{world.number()}")
    await _in_time(handle.attach(worker, prefix="pool_"))
    await _tolerant(_in_time(worker.ask(f"pool_{step.name}")))


_STEPS: dict[type, Callable[[World, Any], Coroutine[Any, Any, None]]] = {
    p.Sleep: _sleep,
    p.Emit: _do_emit,
    p.Done: _done,
    p.Fail: _fail,
    p.Raise: _raise,
    p.Wait: _wait,
    p.Spawn: _spawn,
    p.Nest: _nest,
    p.Gather: _gather,
    p.Supervise: _supervise,
    p.Await: _await,
    p.Cancel: _cancel,
    p.Exit: _exit,
    p.ExitSelf: _exit_self,
    p.Link: _link,
    p.Expose: _expose,
    p.Call: _call,
    p.Tell: _tell,
    p.Receive: _receive,
    p.Task: _task,
    p.Within: _within,
    p.Cleanup: _cleanup,
    p.Agent: _agent,
    p.Attach: _attach,
}
