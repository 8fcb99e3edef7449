"""A process that nothing can decide any more: what is said, whom it reminds, how it ends, what takes it back."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ramure import (
    Event,
    Stalled,
    UsageError,
    agent,
    agent_process,
    bubble,
    connect,
    current_runtime,
    done,
    emit,
    expose,
    receive,
    self_ref,
    spawn,
    start_task,
    wait,
)
from ramure.agents.requests import Say
from ramure.runtime.views.story import tell
from ramure.testing import Conversation, Delay, Finish, HTTPError, InProcessHarness, Text, ToolCall, virtual_time
from ramure.testing.sim_pi import SimulatedPi


def now() -> float:
    return asyncio.get_running_loop().time()


def texts(harness: InProcessHarness) -> list[str]:
    """What the model was told, in order."""
    return [request.conversation.last_user_text for request in harness.requests]


def readme(harness: InProcessHarness, **options: Any) -> Any:
    """The README's program."""

    @agent_process(image=harness.image, **options)
    async def run_task(spec: str) -> Any:
        worker = await agent("worker")

        @worker.on("finish")
        async def on_finish(summary: str) -> str:
            """Call with your result when the task is done."""
            done(summary)
            return "Recorded."

        await worker.send(f"Task: {spec}")
        return await wait()

    return run_task


def stalls(events: Any) -> list[Event]:
    return [event for event in events.snapshot() if event.type == "stalled"]


ENDS: dict[str, tuple[Any, str]] = {
    "says that it is done": ("I am done.", "its last words: 'I am done.'"),
    "asks the user": ("Which file do you mean?", "its last words: 'Which file do you mean?'"),
    "says nothing": ("", "its last reply was empty"),
    "refuses": ([Text("I cannot help with that."), Finish("stop")], "its last words: 'I cannot help with that.'"),
    "says much": ("word " * 500, "word word…"),
}


@pytest.mark.parametrize("how", ENDS)
@virtual_time()
async def test_a_model_that_ends_its_turn_without_calling_the_tool_is_reminded_twice_and_then_its_process_ends(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, words = ENDS[how]
    harness = InProcessHarness(lambda _: answer)
    began = now()
    with pytest.raises(Stalled, match="without calling finish") as raised:
        await readme(harness)("a haiku")
    assert 20 < now() - began < 25
    assert words in str(raised.value)
    first, *reminders = texts(harness)
    assert "Task: a haiku" in first
    assert len(reminders) == 2
    for each in reminders:
        assert "You ended your turn" in each
        assert "- finish: Call with your result when the task is done." in each
    warnings = [record.getMessage() for record in caplog.records if "is stalled" in record.getMessage()]
    assert len(warnings) == 1
    assert "agent 'worker' ended its turn without calling finish" in warnings[0]


@virtual_time()
async def test_the_event_comes_at_once_with_who_what_and_the_tools_that_were_not_called() -> None:
    harness = InProcessHarness(lambda _: "I am done.")

    @agent_process
    async def main() -> tuple[float, Event, Any]:
        handle = spawn(readme(harness), "x")
        began = now()
        event = await handle.events.listen_for("stalled")
        took = now() - began
        (process,) = [p for p in current_runtime().processes.values() if p.name == "run_task"]
        said = process.stalled
        assert [event.type async for event in handle.events][-1] == "failed"
        return took, event, said

    took, event, said = await main()
    assert took < 1
    assert event.data["agents"] == [{"agent": "worker", "last_words": "I am done.", "not_called": ["finish"]}]
    assert event.data["text"] == said
    assert "run_task#2 waits in wait()" in said


@virtual_time()
async def test_a_reminder_that_helps_is_all_it_took() -> None:
    def model(conversation: Conversation) -> Any:
        if "You ended your turn" in conversation.last_user_text and not conversation.new_tool_results:
            return ToolCall("finish", {"summary": "autumn wind"})
        return "I am done."

    harness = InProcessHarness(model)
    assert await readme(harness)("x") == "autumn wind"
    assert sum("You ended your turn" in text for text in texts(harness)[:2]) == 1


@virtual_time()
async def test_reminders_count_anew_after_real_progress_only() -> None:
    """Each second reminder is answered with a step of the work; text alone is none."""
    steps = []

    def model(conversation: Conversation) -> Any:
        reminded = sum("You ended your turn" in text for text in conversation.user_texts)
        if conversation.new_tool_results:
            return "One more step."
        if reminded and reminded % 2 == 0 and reminded < 7:
            return ToolCall("step", {"n": reminded})
        return "Hm."

    harness = InProcessHarness(model)

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("step")
        async def step(n: int) -> str:
            """Make a step."""
            steps.append(n)
            return "ok"

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "never"

        await worker.send("Begin.")
        await wait()

    with pytest.raises(Stalled, match="without calling finish"):
        await main()
    assert steps == [2, 4, 6]
    assert sum("You ended your turn" in text for text in harness.requests[-1].conversation.user_texts) == 8


@virtual_time()
async def test_fail_ends_it_at_once_and_reminds_nobody() -> None:
    harness = InProcessHarness(lambda _: "I am done.")
    began = now()
    with pytest.raises(Stalled):
        await readme(harness, on_idle="fail")("x")
    assert now() - began < 2
    assert len(harness.requests) == 1


@virtual_time()
async def test_report_says_it_and_does_nothing_else() -> None:
    harness = InProcessHarness(lambda _: "I am done.")

    @agent_process
    async def main() -> Any:
        handle = spawn(readme(harness, on_idle="report"), "x")
        with pytest.raises(TimeoutError):
            await handle.events.listen_for("failed", timeout=500)
        return len(stalls(handle.events))

    assert await main() == 1
    assert len(harness.requests) == 1


@virtual_time()
async def test_a_function_is_called_with_the_error_in_the_process() -> None:
    harness = InProcessHarness(lambda _: "I am done.")
    heard: list[Stalled] = []

    def decide(stalled: Stalled) -> None:
        heard.append(stalled)
        done("decided")

    assert await readme(harness, on_idle=decide)("x") == "decided"

    async def decide_later(stalled: Stalled) -> None:
        await asyncio.sleep(30)
        decide(stalled)

    assert await readme(harness, on_idle=decide_later)("x") == "decided"

    def broken(stalled: Stalled) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        await readme(harness, on_idle=broken)("x")
    assert ["without calling finish" in str(each) for each in heard] == [True, True]


@virtual_time()
async def test_an_agent_s_own_choice_comes_before_its_process_s() -> None:
    harness = InProcessHarness(lambda _: "I am done.")

    @agent_process(image=harness.image, on_idle="report")
    async def main() -> None:
        worker = await agent("worker", on_idle="fail")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await worker.send("Begin.")
        await wait()

    with pytest.raises(Stalled):
        await main()


@pytest.mark.parametrize("value", ["never", 3, True, None, ValueError])
def test_on_idle_is_checked(value: Any) -> None:
    with pytest.raises(UsageError, match="on_idle=.*'remind', 'fail', 'report', or give a function"):

        @agent_process(on_idle=value)
        async def main() -> None: ...


@virtual_time()
async def test_on_idle_of_an_agent_is_checked() -> None:
    @agent_process
    async def main() -> None:
        with pytest.raises(UsageError, match=r"agent\('w'\): on_idle='never': choose one of"):
            await agent("w", on_idle="never")  # type: ignore[arg-type]

    await main()


WAYS: dict[str, Callable[[Any], Any]] = {}


def way(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    WAYS[function.__name__] = function
    return function


@way
async def a_loop_over_agent_events(worker: Any) -> None:
    async for event in worker.events:
        assert event.type != "finished"


@way
async def receive_(worker: Any) -> None:
    await receive("finished")


@way
async def gathered_waits(worker: Any) -> None:
    await asyncio.gather(wait(), receive())


@way
async def a_task_group(worker: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        group.create_task(a_loop_over_agent_events(worker))


@way
async def asyncio_wait(worker: Any) -> None:
    for task in (await asyncio.wait([asyncio.create_task(wait())]))[0]:
        task.result()


@way
async def a_shield(worker: Any) -> None:
    await asyncio.shield(wait())


@way
async def a_task_of_its_own(worker: Any) -> None:
    await start_task(wait())


@pytest.mark.parametrize("how", WAYS)
@virtual_time()
async def test_whichever_wait_it_is_in_raises(how: str) -> None:
    harness = InProcessHarness(lambda _: "I am done.")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await worker.send("Begin.")
        await WAYS[how](worker)

    with pytest.raises((Stalled, ExceptionGroup)) as raised:
        await main()
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Stalled)
    assert "without calling finish" in str(error)
    assert len(harness.requests) == 3


DECIDERS: dict[str, Callable[[], Any]] = {}


def decider(function: Callable[[], Any]) -> Callable[[], Any]:
    DECIDERS[function.__name__] = function
    return function


@decider
def a_timer() -> None:
    context = contextvars.copy_context()
    asyncio.get_running_loop().call_later(100, context.run, done, "late")


@decider
def a_task() -> None:
    async def later() -> None:
        await asyncio.sleep(100)
        done("late")

    a_task.kept = asyncio.create_task(later())  # type: ignore[attr-defined]


@decider
def a_started_task() -> None:
    async def later() -> None:
        await asyncio.sleep(100)
        done("late")

    start_task(later())


@decider
def a_message_of_its_own_in_time() -> None:
    current_runtime().system.send_after(100, self_ref(), "late")
    start_task(receive_and_decide())


async def receive_and_decide() -> None:
    done(await receive(str))


@decider
def a_child() -> None:
    @agent_process
    async def child() -> str:
        await asyncio.sleep(100)
        return "late"

    bubble(spawn(child))
    start_task(child_decides())


async def child_decides() -> None:
    async for event in self_events():
        if event.type == "done" and event.source:
            done(event.data)


def self_events() -> Any:
    from ramure.runtime.process.scope import current_process

    record = current_process()
    assert record is not None
    return record.stream


@pytest.mark.parametrize("what", DECIDERS)
@virtual_time()
async def test_what_can_still_decide_it_keeps_it_from_being_stalled(what: str) -> None:
    harness = InProcessHarness(lambda _: "I am done.")
    stalled_events: list[Event] = []

    @agent_process(image=harness.image)
    async def main() -> Any:
        self_events().subscribe(lambda event: stalled_events.append(event) if event.type == "stalled" else None)
        worker = await agent("worker")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await worker.send("Begin.")
        DECIDERS[what]()
        return await wait()

    assert await main() == "late"
    assert stalled_events == []
    assert len(harness.requests) == 1


@virtual_time()
async def test_when_the_last_that_could_decide_it_has_ended_it_is_stalled() -> None:
    harness = InProcessHarness(lambda _: "I am done.")

    @agent_process(image=harness.image, on_idle="fail")
    async def main() -> None:
        start_task(asyncio.sleep(50))
        asyncio.get_running_loop().call_later(80, int)
        await wait()

    began = now()
    with pytest.raises(Stalled, match="it has no agent, child, task, timer, thread or endpoint"):
        await main()
    assert 80 <= now() - began < 81


@virtual_time(thread_grace=0.05)
async def test_a_thread_that_carries_its_context_can_decide_it() -> None:
    release = threading.Event()

    def work() -> None:
        release.wait(20)
        done("by a thread")

    @agent_process(on_idle="fail")
    async def main() -> Any:
        threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
        watch.append(asyncio.get_running_loop().call_later(100, release.set, context=contextvars.Context()))
        return await wait()

    watch: list[Any] = []
    assert await main() == "by a thread"


@virtual_time(thread_grace=0.05)
async def test_a_job_of_a_thread_pool_can_decide_it() -> None:
    release = threading.Event()

    def work() -> None:
        release.wait(20)
        done("by a job")

    @agent_process(on_idle="fail")
    async def main() -> Any:
        context = contextvars.copy_context()
        job = asyncio.get_running_loop().run_in_executor(None, context.run, work)
        watch.append(asyncio.get_running_loop().call_later(100, release.set, context=contextvars.Context()))
        try:
            return await wait()
        finally:
            await job

    watch: list[Any] = []
    assert await main() == "by a job"


@virtual_time()
async def test_a_person_who_wrote_is_expected_for_an_hour() -> None:
    harness = InProcessHarness(lambda _: "What shall I do?")

    @agent_process(image=harness.image, on_idle="fail")
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await worker.ref.ask(Say("Hello, it is me.", origin="person"))
        await wait()

    began = now()
    with pytest.raises(Stalled):
        await main()
    assert 3600 <= now() - began < 3610


@virtual_time()
async def test_a_person_at_the_terminal_is_expected_as_long_as_the_terminal_is_open() -> None:
    harness = InProcessHarness(lambda _: "What shall I do?")

    @agent_process(image=harness.image, on_idle="fail")
    async def main() -> None:
        worker = await agent("worker")
        life = harness.machines[0].tmux.lives["worker"]
        life.people = 1
        asyncio.get_running_loop().call_later(300, setattr, life, "people", 0, context=contextvars.Context())
        await worker.send("Begin.")
        await wait()

    began = now()
    with pytest.raises(Stalled):
        await main()
    assert 300 <= now() - began < 340


@virtual_time()
async def test_a_paused_agent_is_not_one_that_stopped_short() -> None:
    from ramure.agents.requests import Pause, Unpause

    harness = InProcessHarness(lambda _: "What shall I do?")

    @agent_process(image=harness.image, on_idle="fail")
    async def main() -> None:
        worker = await agent("worker")
        await worker.ref.ask(Pause())
        await worker.send("Begin.")
        asyncio.get_running_loop().call_later(200, worker.ref.tell, "nothing", context=contextvars.Context())
        unpause = contextvars.Context().run(asyncio.get_running_loop().create_task, resume(worker.ref))
        kept.append(unpause)
        await wait()

    async def resume(ref: Any) -> None:
        await asyncio.sleep(500)
        await ref.ask(Unpause())

    kept: list[Any] = []
    began = now()
    with pytest.raises(Stalled):
        await main()
    assert now() - began > 500


@virtual_time()
async def test_a_connected_agent_that_works_decides_and_one_that_is_idle_does_not() -> None:
    def model(conversation: Conversation) -> Any:
        return [Delay(300), "late"] if "boss" in conversation.first_user_text else "I am done."

    harness = InProcessHarness(model)

    @agent_process(image=harness.image, on_idle="fail")
    async def main() -> None:
        worker, boss = await agent("worker"), await agent("boss")
        await connect(boss, worker, "forward")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await worker.send("Begin.")
        await boss.send("You are the boss.")
        await wait()

    began = now()
    with pytest.raises(Stalled, match="without calling finish"):
        await main()
    assert 300 <= now() - began < 302


@virtual_time()
async def test_one_of_several_is_accused_while_the_others_work_on() -> None:
    def model(conversation: Conversation) -> Any:
        if conversation.new_tool_results:
            return "Done."
        if "slow" in conversation.first_user_text:
            return [Delay(400), ToolCall("finish", {"summary": "slow"})]
        return "I am done."

    harness = InProcessHarness(model)
    run_task = readme(harness)

    @agent_process
    async def main() -> Any:
        return await asyncio.gather(run_task("slow"), run_task("short"), return_exceptions=True)

    slow, short = await main()
    assert slow == "slow"
    assert isinstance(short, Stalled)
    assert sum("You ended your turn" in text for text in texts(harness)) == 2


@virtual_time()
async def test_a_server_that_receives_is_not_stalled_while_its_parent_awaits_something_else() -> None:
    @agent_process(on_idle="fail")
    async def server() -> int:
        count = 0
        while await receive() != "stop":
            count += 1
        return count

    @agent_process(on_idle="fail")
    async def work() -> None:
        await asyncio.sleep(1000)

    @agent_process(on_idle="fail")
    async def main() -> int:
        handle = spawn(server)
        await work()
        (await handle.ref()).tell("stop")
        return await handle

    assert await main() == 0


@virtual_time()
async def test_the_pool_and_the_monitor_are_not_accused_and_a_worker_that_stops_short_is() -> None:
    def model(conversation: Conversation) -> Any:
        if conversation.new_tool_results:
            return "Added."
        if "Add a task" in conversation.last_user_text:
            return ToolCall("pool_add_task", {"spec": "a haiku"})
        return "I am done."

    harness = InProcessHarness(model)
    run_task = readme(harness)

    @agent_process(image=harness.image)
    async def pool() -> None:
        @expose
        async def add_task(spec: str) -> str:
            """Add a task."""
            bubble(spawn(run_task, spec), source=spec)
            return spec

        emit("ready", None)
        await wait()

    @agent_process(image=harness.image)
    async def main() -> list[tuple[str, str | None]]:
        handle = spawn(pool)
        await handle.events.listen_for("ready")
        monitor = await agent("monitor")
        await handle.attach(monitor, prefix="pool_")
        await asyncio.sleep(100)  # nothing has been added, and nobody is accused
        await monitor.send("Add a task: a haiku.")
        seen = []
        async for event in handle.events:
            seen.append((event.type, event.source))
            if event.type == "failed":
                break
        mine = self_events().snapshot()
        assert [event for event in mine if event.type == "stalled"] == []
        return seen

    assert await main() == [("ready", None), ("stalled", "a haiku"), ("failed", "a haiku")]


@virtual_time()
async def test_who_catches_it_and_waits_again_is_accused_anew() -> None:
    caught = []

    @agent_process
    async def main() -> int:
        while len(caught) < 3:
            try:
                await wait()
            except Stalled as stalled:
                caught.append((now(), stalled))
        return len(stalls(self_events()))

    began = now()
    assert await main() == 3
    times = [began, *(at for at, _ in caught)]
    assert all(10 <= later - earlier < 11 for earlier, later in itertools.pairwise(times))


@virtual_time()
async def test_code_outside_of_all_processes_can_decide_one() -> None:
    """A web server on the same loop, say, that has the agent in a variable."""
    harness = InProcessHarness(lambda c: ToolCall("finish", {"summary": "x"}) if "web" in c.last_user_text else "Hm.")
    made: list[Any] = []

    @agent_process(image=harness.image)
    async def main() -> Any:
        worker = await agent("worker")

        @worker.on("finish")
        async def finish(summary: str) -> str:
            """End."""
            done(summary)
            return "ok"

        await worker.send("Begin.")
        made.append(worker)
        return await wait()

    async def web() -> None:
        await asyncio.sleep(2000)
        await made[0].send("from the web")

    result, _ = await asyncio.gather(main(), web())
    assert result == "x"
    assert [text for text in texts(harness) if "You ended" in text] == []


@virtual_time()
async def test_an_agent_that_was_never_sent_anything_is_named_and_not_reminded() -> None:
    harness = InProcessHarness(lambda _: "Hm.")

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("finish")
        async def finish() -> str:
            """End."""
            return "ok"

        await wait()

    with pytest.raises(Stalled, match="agent 'worker' was never sent anything"):
        await main()
    assert harness.requests == []


@virtual_time()
async def test_why_and_status_say_it_and_say_when_it_is_over() -> None:
    from ramure.runtime.views.status import run_status

    harness = InProcessHarness(
        lambda c: ToolCall("finish", {"summary": "x"}) if "You ended" in c.last_user_text else "Hm."
    )

    @agent_process
    async def main() -> tuple[Any, Any, Any]:
        handle = spawn(readme(harness), "x")
        await handle.events.listen_for("stalled")
        run = current_runtime()
        status = next(each for each in run_status(run)["processes"] if each["name"] == "run_task")
        stories = [
            tell(subject, list(run.statistics.recent)).headline
            for subject in ("worker", "run_task", "main#1/run_task#2")
        ]
        await handle
        after = tell("worker", list(run.statistics.recent)).headline
        return status, stories, after

    status, stories, after = await main()
    assert status["state"] == "running"
    assert "without calling finish" in status["stalled"]
    for story in stories:
        assert story.startswith("stalled: run_task#2 waits in wait()"), story
    assert "stalled:" not in after


@virtual_time()
async def test_a_model_s_error_is_no_end_of_a_turn_that_is_reminded_of_for_ever() -> None:
    harness = InProcessHarness(lambda _: HTTPError(400, "bad request"))
    with pytest.raises(Exception, match="(?s)bad request|400"):
        await readme(harness)("x")


# -- a pi that dies ---------------------------------------------------------------------------------------------------


@virtual_time()
async def test_an_agent_whose_pi_died_at_work_is_not_accused_before_the_next_one_says_whether_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = SimulatedPi._go_on

    async def later(pi: SimulatedPi) -> None:
        await asyncio.sleep(5)  # a real one takes a moment from its connection to its first turn
        await goes_on(pi)

    def script(conversation: Conversation) -> Any:
        if conversation.turn == 1:
            return [Delay(20), "Never said."]
        return ToolCall("finish", {"summary": "after all"}) if not conversation.tool_results else "Done."

    harness = InProcessHarness(script)

    @agent_process
    async def main() -> tuple[Any, list[Event]]:
        handle = spawn(readme(harness), "x")
        while not harness.requests:
            await asyncio.sleep(1)
        monkeypatch.setattr(SimulatedPi, "_go_on", later)
        harness.kill("worker")
        return await handle, stalls(handle.events)

    assert await main() == ("after all", [])
    assert not [record for record in caplog.records if "is stalled" in record.getMessage()]


@virtual_time()
async def test_an_agent_whose_pi_died_as_its_turn_ended_is_accused_when_the_next_one_says_that_it_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle = SimulatedPi._settle
    killed = []

    def dies(pi: SimulatedPi, seqs: list[int], last: dict[str, Any] | None, *, cut: bool = False) -> None:
        if killed:
            settle(pi, seqs, last, cut=cut)
            return
        pi._memory.add_run(seqs)  # it is written down, and not reported any more
        killed.append(harness.kill("worker"))

    harness = InProcessHarness(lambda _: "I am done.")
    monkeypatch.setattr(SimulatedPi, "_settle", dies)
    with pytest.raises(Stalled, match="without calling finish; its last words: 'I am done.'"):
        await readme(harness)("a haiku")
    assert killed


@virtual_time()
async def test_a_first_message_that_was_refused_is_the_reason() -> None:
    """The program keeps what send() returned, and does not await it."""
    harness = InProcessHarness([])

    @agent_process(image=harness.image)
    async def main() -> Any:
        worker = await agent("worker")
        kept = worker.send("x" * 17_000_000)
        await wait()
        return kept

    with pytest.raises(
        Stalled, match=r"agent 'worker' got no message: .*too large.*\(from worker.send\(\), called at .*\.py:\d+\)"
    ):
        await main()
