"""What user code raises, `sys.exit` and its like included, ends that part of the program and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramure import (
    ExecutionFailed,
    ExitRaised,
    agent,
    agent_process,
    child,
    current_runtime,
    done,
    emit,
    expose,
    machine,
    spawn,
    start_task,
    supervise,
    wait,
)
from ramure.actors import Actor, ActorSystem, Ask, receive
from ramure.errors import ActorDied, StartFailed
from ramure.exits import Crashed, format_exit
from ramure.machines.base import Image, Machine
from ramure.runtime.errors import EndpointError
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual


def by_argparse() -> None:
    argparse.ArgumentParser(exit_on_error=True).parse_args(["--unknown"])


async def by_an_awaited_task_that_was_cancelled() -> None:
    task = asyncio.ensure_future(asyncio.sleep(50))
    task.cancel()
    await task


def raises(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


class OutOfBand(BaseException):
    """A user's own, as test frameworks have."""


RAISERS: dict[str, tuple[Callable[[], Any], str]] = {
    "sys.exit": (lambda: sys.exit(3), "SystemExit: 3"),
    "sys.exit with a text": (lambda: sys.exit("no such file"), "SystemExit: no such file"),
    "argparse": (by_argparse, "SystemExit: 2"),
    "exit(0)": (lambda: sys.exit(0), "SystemExit: 0"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt("by hand")), "KeyboardInterrupt: by hand"),
    "GeneratorExit": (raises(GeneratorExit("over")), "GeneratorExit: over"),
    "CancelledError": (raises(asyncio.CancelledError("enough")), "CancelledError: enough"),
    "a cancelled task": (by_an_awaited_task_that_was_cancelled, "CancelledError"),
    "a BaseException of the user's": (raises(OutOfBand("odd")), "OutOfBand: odd"),
    "an exception group": (raises(BaseExceptionGroup("two", [SystemExit(1), ValueError("v")])), "SystemExit: 1"),
}

each_way = pytest.mark.parametrize(("leave", "text"), RAISERS.values(), ids=RAISERS.keys())

each_way_but_cancelled = pytest.mark.parametrize(
    ("leave", "text"), [pytest.param(*way, id=name) for name, way in RAISERS.items() if way[1][:9] != "Cancelled"]
)
"""A task that raises CancelledError is a cancelled one, as in asyncio: no failure."""


async def left(leave: Callable[[], Any]) -> None:
    result = leave()
    if result is not None:
        await result


@each_way
def test_in_a_spawned_child_it_is_the_child_s_failure(leave: Callable[[], Any], text: str) -> None:
    @agent_process
    async def leaves() -> None:
        await left(leave)

    @agent_process
    async def main() -> str:
        handle = spawn(leaves)
        events = [event async for event in handle.events]
        assert events[-1].type == "failed" and text in events[-1].data
        with pytest.raises(ExecutionFailed, match=text) as caught:
            await handle
        assert isinstance(caught.value, ExitRaised)
        assert isinstance(caught.value.error, BaseException) and caught.value.__cause__ is caught.value.error
        return "the parent lives"

    assert run_virtual(main()) == "the parent lives"


@each_way
def test_in_a_nested_process_it_is_the_caller_s_exception(leave: Callable[[], Any], text: str) -> None:
    @agent_process
    async def leaves() -> None:
        await left(leave)

    @agent_process
    async def main() -> str:
        with pytest.raises(ExitRaised, match=text):
            await leaves()
        return "lives"

    assert run_virtual(main()) == "lives"


@each_way
def test_a_root_fails_with_the_failure_of_the_child_that_it_awaited(leave: Callable[[], Any], text: str) -> None:
    @agent_process
    async def leaves() -> None:
        await left(leave)

    @agent_process
    async def main() -> None:
        await spawn(leaves)

    with pytest.raises(ExitRaised, match=text):
        run_virtual(main())


@each_way
def test_in_an_endpoint_it_is_the_call_s_failure(leave: Callable[[], Any], text: str) -> None:
    @agent_process
    async def serves() -> None:
        @expose
        async def leaving() -> None:
            await left(leave)

        @expose
        def alive() -> bool:
            return True

        emit("ready")
        await wait()

    @agent_process
    async def main() -> bool:
        handle = spawn(serves)
        async for event in handle.events:
            if event.type == "ready":
                break
        for _ in range(2):
            with pytest.raises(EndpointError, match=text):
                await handle.call("leaving")
        result: bool = await handle.call("alive")
        return result

    assert run_virtual(main())


@each_way
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_in_a_tool_the_model_is_told_and_all_else_goes_on(
    leave: Callable[[], Any], text: str, timeout: float | None
) -> None:
    harness = InProcessHarness([[ToolCall("leaving")], [ToolCall("finish")], Text("Done.")])

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")

        @worker.on("leaving", timeout=timeout)
        async def leaving() -> None:
            """Leave."""
            await left(leave)

        @worker.on("finish")
        async def finish() -> None:
            """Finish."""
            done("finished")

        await worker.send("Go.")
        result: str = await wait()
        return result

    assert run_virtual(main()) == "finished"
    harness.check()
    told = [str(result) for request in harness.requests for result in request.conversation.tool_results]
    assert any(text in each for each in told), told


@each_way_but_cancelled
def test_in_a_task_of_the_process_s_it_is_the_process_s_failure(leave: Callable[[], Any], text: str) -> None:
    @agent_process
    async def works() -> None:
        start_task(left(leave))
        await wait()

    @agent_process
    async def main() -> str:
        with pytest.raises(ExitRaised, match=text):
            await works()
        return "lives"

    assert run_virtual(main()) == "lives"


@each_way
def test_a_supervised_child_is_restarted_after_it(leave: Callable[[], Any], text: str) -> None:
    tries: list[int] = []

    @agent_process
    async def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            await left(leave)
        return "third"

    @agent_process
    async def main() -> dict[str, str]:
        tree = await supervise(child(flaky, id="flaky"), max_restarts=5, within=60)
        return await tree

    assert run_virtual(main()) == {"flaky": "third"}


@each_way
@pytest.mark.parametrize("where", ["init", "call", "cast", "info", "terminate", "body"])
def test_in_an_actor_it_is_the_actor_s_end(leave: Callable[[], Any], text: str, where: str) -> None:
    class Leaving(Actor):
        async def init(self) -> None:
            if where == "init":
                await left(leave)

        async def handle_call(self, request: object, caller: Ask) -> Any:
            if where == "call":
                await left(leave)
            return "answer"

        async def handle_cast(self, message: object) -> None:
            await left(leave)

        async def handle_info(self, message: object) -> None:
            await left(leave)

        async def terminate(self, reason: object) -> None:
            if where == "terminate":
                await left(leave)

    async def body() -> None:
        await receive()
        await left(leave)

    async def main() -> None:
        async with ActorSystem() as system:
            if where == "init":
                with pytest.raises(StartFailed, match=text):
                    await system.start(Leaving)
                return
            ref = system.spawn(body) if where == "body" else await system.start(Leaving)
            if where == "call":
                with pytest.raises(ActorDied, match=text):
                    await ref.ask("anything")
            elif where == "cast":
                ref.cast("anything")
            elif where == "terminate":
                with pytest.raises(ActorDied, match=text):
                    await ref.stop()
            else:
                ref.tell("anything")
            reason = await ref.wait()
            assert isinstance(reason, Crashed)
            assert await (await system.start(Answers)).ask("anything") == "answer"

    run_virtual(main())


@each_way_but_cancelled
def test_in_a_task_of_an_actor_it_is_the_actor_s_end(leave: Callable[[], Any], text: str) -> None:
    class Works(Actor):
        def init(self) -> None:
            self.start_task(left(leave))

    async def main() -> None:
        async with ActorSystem() as system:
            reason = await (await system.start(Works)).wait()
            assert isinstance(reason, Crashed) and text in format_exit(reason)

    run_virtual(main())


class Answers(Actor):
    async def handle_call(self, request: object, caller: Ask) -> Any:
        return "answer"


@each_way
def test_in_the_handler_of_an_agent_s_exit_it_is_the_process_s_failure(leave: Callable[[], Any], text: str) -> None:
    harness = InProcessHarness([Text("Hello.")])

    @agent_process(image=harness.image)
    async def owns() -> None:
        worker = await agent("worker", restart="temporary")

        @worker.on_exit
        async def gone(reason: object) -> None:
            await left(leave)

        harness.kill("worker")
        await wait()

    @agent_process
    async def main() -> str:
        with pytest.raises(ExitRaised, match=text):
            await owns()
        return "lives"

    assert run_virtual(main()) == "lives"


@each_way
def test_in_a_machine_of_the_user_s_it_is_the_call_s_failure(leave: Callable[[], Any], text: str) -> None:
    class Own(Machine):
        async def exec(self, command: str, *, user: str = "agent", timeout: float | None = None) -> Any:
            await left(leave)

        async def write_file(self, path: str, data: bytes, mode: int | None = None) -> None: ...

        async def read_file(self, path: str) -> bytes:
            return b""

        async def stop(self) -> None: ...

    class OwnImage(Image):
        async def spawn(self) -> Machine:
            return Own()

    @agent_process
    async def main() -> str:
        own = await machine(OwnImage())
        with pytest.raises((ExitRaised, ExecutionFailed), match=text):
            await own.exec("true")
        return "lives"

    assert run_virtual(main()) == "lives"


def test_subscribers_and_listeners_that_leave_cost_nobody_else() -> None:
    @agent_process
    async def main() -> str:
        run = current_runtime()
        run.system.on_end(lambda ref, reason: sys.exit(5))
        run.system.on_dead_letter(lambda ref, message: sys.exit(6))
        dead = await run.system.start(Answers)
        await dead.stop()
        dead.tell("letter")
        await asyncio.sleep(1)
        return "lives"

    assert run_virtual(main()) == "lives"


# -- the program's own exit ------------------------------------------------------------------------------------------


def run_program(body: str, tmp_path: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text("import asyncio, os, signal, sys, time\nfrom ramure import *\n" + textwrap.dedent(body))
    environment = {**os.environ, "RAMURE_HOME": str(tmp_path / "home")}
    return subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
        **options,
    )


@pytest.mark.parametrize(("code", "status", "stderr"), [("3", 3, ""), ("'why'", 1, "why\n"), ("", 0, ""), ("0", 0, "")])
def test_a_root_that_calls_sys_exit_ends_its_run_in_order_and_then_with_that_status(
    code: str, status: int, stderr: str, tmp_path: Path
) -> None:
    done = run_program(
        f"""
        @agent_process
        async def helper():
            try:
                await wait()
            finally:
                print("the child cleaned up")

        @agent_process
        async def main():
            here = await machine()
            print((await here.exec("echo started")).stdout.strip())
            spawn(helper)
            await asyncio.sleep(0.2)
            sys.exit({code})

        asyncio.run(main())
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "started\nthe child cleaned up\n", stderr)
    assert not list((tmp_path / "home" / "runtimes").iterdir())


def test_a_keyboard_interrupt_that_a_root_raises_ends_the_program_as_ever(tmp_path: Path) -> None:
    done = run_program(
        """
        @agent_process
        async def main():
            raise KeyboardInterrupt("by hand")

        try:
            asyncio.run(main())
        except KeyboardInterrupt as error:
            print("interrupted", error)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted by hand\n", "")


@pytest.mark.parametrize("handler", ["lambda *_: sys.exit(7)", "leave"])
def test_what_the_handler_of_a_signal_raises_ends_the_program(handler: str, tmp_path: Path) -> None:
    """A user's SIGTERM handler that exits is no failure of whatever code it interrupts."""
    done = run_program(
        f"""
        def leave(number, frame):
            raise SystemExit(7)

        @agent_process
        async def serves():
            @expose
            async def term():
                os.kill(os.getpid(), signal.SIGTERM)
                for _ in range(100):
                    pass
                return "went on"
            emit("ready")
            await wait()

        @agent_process
        async def main():
            signal.signal(signal.SIGTERM, {handler})
            handle = spawn(serves)
            async for event in handle.events:
                break
            print(await handle.call("term"))

        asyncio.run(main())
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (7, ""), done.stderr


def test_ctrl_c_in_an_actor_s_handler_outside_of_a_run_ends_the_program(tmp_path: Path) -> None:
    done = run_program(
        """
        from ramure.actors import Actor, ActorSystem

        class Loops(Actor):
            async def handle_info(self, message):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(20)

        async def main():
            async with ActorSystem() as system:
                (await system.start(Loops)).tell("go")
                await asyncio.sleep(20)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it would be ignored
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            os._exit(0)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
