"""Ctrl-C and SIGTERM end a program in order, without a traceback, and soon, whatever it is doing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from ramure.testing import Hang, ScriptedModel, Text
from tests.e2e.kill_program import gc_removes_the_rest, nothing_runs
from tests.e2e.kit import Program, Stage, nothing_left, until

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    try:
        worker = await agent("worker")
        print("agent ready", flush=True)
        await worker.send("Begin.")
        await wait()
    finally:
        print("cleaned up", flush=True)

asyncio.run(main())
"""

STATUS = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (128 + signal.SIGTERM,)}


async def come_to(stage: Stage, program: Program, model: ScriptedModel, moment: str) -> str:
    """Wait until the program is at this moment; its run's id."""
    run_id = await program.run_id()
    if moment == "launch":
        socket = stage.scratch(run_id) / "tmux" / "server"
        await until(lambda: socket.exists() and stage.panes(run_id), 10, "a pane of the run")
    else:
        await model.wait_for_requests(1, timeout=40)
    return run_id


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["start", "launch", "busy"])
async def test_a_signal_ends_it_in_order(stage: Stage, number: signal.Signals, moment: str) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await (program.run_id() if moment == "start" else come_to(stage, program, model, moment))
            sent = time.monotonic()
            program.signal(number)
            assert await program.ends(40) in STATUS[number], program.said
            took = time.monotonic() - sent
            await nothing_left(stage, run_id)
    assert took < 20  # under 1 on a quiet host: on a busy one, not hanging is what is asked
    assert program.said.count("cleaned up") == 1
    assert "Traceback" not in program.said, program.said
    assert "Error" not in program.said, program.said


async def test_ctrl_c_at_a_terminal(oldest_stage: Stage) -> None:
    """The whole foreground group gets it, so also what the program started in its own group."""
    stage = oldest_stage
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM, terminal=True) as program:
            run_id = await come_to(stage, program, model, "busy")
            program.type(b"\x03")
            assert await program.ends(40) in STATUS[signal.SIGINT], program.said
            await nothing_left(stage, run_id)
    assert "cleaned up" in program.said
    assert "Traceback" not in program.said, program.said


async def test_ctrl_c_to_the_whole_group(stage: Stage) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await come_to(stage, program, model, "busy")
            program.interrupt_group()
            assert await program.ends(40) in STATUS[signal.SIGINT], program.said
            await nothing_left(stage, run_id)
    assert "Traceback" not in program.said, program.said


async def test_a_signal_during_the_shutdown_does_not_break_it(stage: Stage) -> None:
    """The program is done and its agent is being ended when the signal comes."""
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        source = PROGRAM.replace("await wait()", "await worker.exec('true'); return")
        async with stage.python(source) as program:
            run_id = await program.run_id()
            await program.says("cleaned up")
            program.signal(signal.SIGTERM)
            status = await program.ends(40)
            await nothing_left(stage, run_id)
    assert status in (0, *STATUS[signal.SIGTERM])
    assert "Traceback" not in program.said, program.said


async def test_a_second_ctrl_c_leaves_at_once(stage: Stage) -> None:
    """Its cleanup hangs; who asks twice does not wait for it: nothing runs on, and gc removes the rest."""
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        source = PROGRAM.replace(
            'print("cleaned up", flush=True)', 'print("hangs", flush=True); await asyncio.sleep(60)'
        )
        async with stage.python(source) as program:
            run_id = await come_to(stage, program, model, "busy")
            program.signal(signal.SIGINT)
            await program.says("hangs")
            sent = time.monotonic()
            program.signal(signal.SIGINT)
            assert await program.ends(40) == 130
            assert time.monotonic() - sent < 20  # its cleanup would take 60
            await nothing_runs(stage, run_id)
            await gc_removes_the_rest(stage, run_id)
    assert "interrupted again; leaving at once" in program.said


async def test_a_cleanup_that_hangs_is_abandoned(stage: Stage) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        source = PROGRAM.replace(
            'print("cleaned up", flush=True)', 'print("hangs", flush=True); await asyncio.sleep(60)'
        )
        async with stage.python(source) as program:
            run_id = await come_to(stage, program, model, "busy")
            program.signal(signal.SIGTERM)
            assert await program.ends(40) == 143, program.said
            await nothing_left(stage, run_id)


CAUGHT = """
import asyncio, signal
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    await wait()

before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
try:
    asyncio.run(main())
except KeyboardInterrupt as error:
    print("caught", isinstance(error, KeyboardInterrupt), flush=True)
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
print("restored", flush=True)
"""


async def test_the_user_can_catch_it_and_the_handlers_are_restored(stage: Stage) -> None:
    async with stage.python(CAUGHT) as program:
        await program.run_id()
        program.signal(signal.SIGINT)
        assert await program.ends(40) == 0, program.said
    assert "caught True" in program.said
    assert "restored" in program.said


OWN = """
import asyncio, os, signal
from ramure import agent_process, current_runtime, done, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    return await wait()

async def program():
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    signal.signal(signal.SIGINT, lambda *_: os.write(1, b"mine\\n"))  # print is not reentrant
    task = asyncio.create_task(main())
    await heard.wait()
    print("term is mine", task.done(), flush=True)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled", flush=True)

asyncio.run(program())
"""


async def test_the_users_own_handlers_are_left_alone(stage: Stage) -> None:
    async with stage.python(OWN) as program:
        await program.run_id()
        program.signal(signal.SIGINT)
        await program.says("mine")
        program.signal(signal.SIGTERM)
        assert await program.ends(40) == 0, program.said
    assert "term is mine False" in program.said
    assert "cancelled" in program.said


OTHER_THREAD = """
import asyncio, signal, threading, time
from ramure.runtime.run.signals import interruptible

started = threading.Event()

def get_it():
    started.wait()
    time.sleep(1)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

async def main():
    async with interruptible():  # nothing else of a run, whose timers would wake the loop some time
        started.set()
        await asyncio.Event().wait()

threading.Thread(target=get_it, daemon=True).start()
asyncio.run(main())
"""


async def test_a_signal_that_another_thread_gets_wakes_a_loop_that_sleeps(stage: Stage) -> None:
    async with stage.python(OTHER_THREAD) as program:
        assert await program.ends(40) in STATUS[signal.SIGINT], program.said


async def test_ctrl_c_in_the_demo(stage: Stage) -> None:
    async with stage.ramure("demo") as program:
        await program.says("calls submit_haiku")
        program.signal(signal.SIGINT)
        assert await program.ends(40) in (1, *STATUS[signal.SIGINT])
    assert "Traceback" not in program.said, program.said
    assert [path for path in stage.run.temporary.iterdir() if path.name.startswith("ramure-demo")] == []


async def test_a_model_that_answers_is_interrupted_too(stage: Stage) -> None:
    async with ScriptedModel([[Text("word " * 2000, chunk=5, pause=0.02)]]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await come_to(stage, program, model, "busy")
            [pi] = stage.panes(run_id)
            program.signal(signal.SIGINT)
            assert await program.ends(40) in STATUS[signal.SIGINT], program.said
            with pytest.raises(ProcessLookupError):
                os.kill(pi, 0)
