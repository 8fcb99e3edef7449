"""Every command of ``ramure``, as a process, against a live run on real pi: in a pipe, in a pseudo-terminal, and as JSON that
fits its documented schema. A command that is not in the table fails the test."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from ramure.cli.commands.demo import HAIKUS
from ramure.cli.main import COMMANDS
from ramure.testing import Conversation, Hang, ScriptedModel, Step, Text
from tests.cli.live import checked
from tests.e2e.kit import START, Program, Stage, nothing_left
from tests.e2e.screen import Screen

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, expose, spawn, wait
from ramure.actors import Actor

class Ticker(Actor):
    async def init(self):
        self.label_of_mine = "tick"
        self.send_after(0.02, "tick 1")

    def handle_info(self, message):
        self.send_after(0.02, "tick %d" % (int(message.split()[1]) + 1))

@agent_process
async def pool():
    @expose
    def add(spec: str, tries: int = 1):
        return {"spec": spec, "tries": tries}

    @expose
    async def slow():
        await asyncio.sleep(1000)

    await wait()

@agent_process
async def main():
    spawn(pool)
    spawn(pool)
    worker = await agent("worker")
    run = current_runtime()
    await run.system.options(label="ticker").start(Ticker)
    for number in range(3):
        await run.system.options(label=f"spare {number}").start(Actor)
    await run.system.options(label="odd \\x1b[31m\\nname").start(Actor)
    await worker.send("Begin.")
    print("run", run.execution_id, flush=True)
    await wait()

@agent_process(on_idle="report")
async def other():
    print("other", current_runtime().execution_id, flush=True)
    await wait()

async def all_of_them():
    await asyncio.gather(other(), other(), other(), main(), return_exceptions=True)

asyncio.run(all_of_them())
"""


def model_script(conversation: Conversation) -> Step:
    return Hang() if "Begin." in conversation.last_user_text else Text("I have heard you, person.")


class At:
    """The commands of one run, of several that are live."""

    def __init__(self, stage: Stage, model: ScriptedModel, program: Program, run_id: str) -> None:
        self.stage = stage
        self.model = model
        self.program = program
        self.run_id = run_id
        self.slug = run_id.rpartition("-")[0]

    def argv(self, *words: str) -> list[str]:
        """With ``--id`` where it belongs, and the run's slug for it."""
        command, *rest = words
        return [command, *rest] if command in EVERYWHERE or "--id" in rest else [command, "--id", self.slug, *rest]

    async def says(self, *words: str, status: int = 0, terminal: bool = False, keys: bytes = b"") -> str:
        """What a command prints, both its outputs."""
        argv = self.argv(*words)
        async with self.stage.ramure(*argv, terminal=terminal, env=TERMINAL) as program:
            if keys:
                program.type(keys)
            ended = await program.ends(START)
        assert ended == status, (argv, program.said)
        assert "Traceback" not in program.said
        if not terminal:
            assert "\x1b" not in program.said, argv
        return program.said

    async def document(self, *words: str, schema: str | None = None, status: int = 0) -> Any:
        """Its document with ``--json``, checked against the schema that it names."""
        command, *rest = words
        said = await self.says(command, "--json", *rest, status=status)
        found = checked(said.splitlines()[-1])
        assert found["schema"] == f"ramure.{schema or command}.v1"
        return found

    async def each_way(self, *words: str, status: int = 0, schema: str | None = None) -> tuple[str, str, Any]:
        """In a pipe, in a pseudo-terminal, and as JSON, at once."""
        plain, shown, document = await asyncio.gather(
            self.says(*words, status=status),
            self.says(*words, status=status, terminal=True),
            self.document(*words, schema=schema, status=status),
        )
        return plain, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown), document

    @asynccontextmanager
    async def live(self, *words: str, terminal: bool) -> AsyncIterator[Program]:
        """A command that goes on until Ctrl-C, and then ends as such commands do, with a sane terminal."""
        argv = self.argv(*words)
        async with self.stage.ramure(*argv, terminal=terminal, env=TERMINAL) as program:
            yield program
            program.type(b"\x03") if terminal else program.signal(signal.SIGINT)
            assert await program.ends(START) == 130
            assert "Traceback" not in program.said
            assert "\x1b[?25l" not in program.said  # the cursor was never hidden, so it need not be shown again
            assert "\x1b[?1049h" not in program.said

    @asynccontextmanager
    async def screen(self, *words: str, columns: int = 120) -> AsyncIterator[Screen]:
        """In a real terminal."""
        screen = Screen(self.stage.run.directory, self.stage.environ)
        try:
            screen.start(sys.executable, "-m", "ramure.cli", *self.argv(*words), columns=columns)
            yield screen
        finally:
            screen.close()


TERMINAL: Final = {"TERM": "xterm-256color", "COLUMNS": "160"}
"""Also where the tests themselves are run at a terminal of 80."""

EVERYWHERE: Final = ("ls", "gc", "demo", "run", "setup", "doctor")
"""Commands that are not about one run."""


# -- runs and agents ------------------------------------------------------------------------------------------------


async def ls(at: At) -> None:
    plain, shown, document = await at.each_way("ls")
    for said in (plain, shown):
        assert said.splitlines()[0].split() == "RUN PROGRAM AGE PID TOKENS AGENT STATE FOR DOING".split()
        assert re.search(rf"{at.run_id} +main", said)
        assert re.search(r"worker +busy +\w+  thinking", said)
    assert len(document["runs"]) == 4
    async with at.screen("ls", columns=60) as screen:
        await screen.shows("status 0")
        lines = screen.text.strip().splitlines()
        assert lines[0].split()[-1] == "…"
        assert len(lines) == 1 + 4 + 1  # no run takes two lines


async def status(at: At) -> None:
    plain, shown, document = await at.each_way("status")
    for said in (plain, shown):
        assert said.startswith(f"{at.run_id}  main running for ")
        assert f"ramure connect worker --id {at.slug}" in said  # other runs are live
        assert "ramure call add --as main#1/pool#2" in said  # another process has it too
    assert document["agents"][0]["state"] == "busy"
    assert "several runs are live" in await at.says("status", "--id", "", status=2)
    assert "no live run's id begins with 'nope'" in await at.says("status", "--id", "nope", status=3)


async def send(at: At) -> None:
    plain, shown, document = await at.each_way("send", "worker", "--queue", "Typed by hand.")
    assert "sent to worker (entry " in plain
    assert "sent to worker (entry " in shown
    assert document["seq"] > 1


async def logs(at: At) -> None:
    plain = await at.says("logs", "worker", "--since", "1h", "--type", "message")
    assert plain.count("Typed by hand.") == 3
    assert "\x1b[32m" in await at.says("logs", "worker", "--type", "message", terminal=True)
    for line in (await at.says("logs", "--json")).splitlines():
        assert checked(line)["schema"] == "ramure.log.v1"
    for terminal in (False, True):
        async with at.live("logs", "-f", "--type", "message", terminal=terminal) as following:
            await following.says("Typed by hand.")


async def call(at: At) -> None:
    plain, shown, document = await at.each_way("call", "add", "--as", "pool#2", "spec=a haiku", "tries=3")
    assert json.loads(plain) == json.loads(shown) == document["value"] == {"spec": "a haiku", "tries": 3}
    refused = await at.says("call", "add", "spec=x", status=2)
    assert refused == (
        "ramure: several processes have an endpoint 'add': main#1/pool#2, main#1/pool#3; say which with --as\n"
    )
    late = await at.says("call", "slow", "--as", "pool#3", "--timeout", "0.1", status=1)
    assert late == ("ramure: endpoint 'slow' of main#1/pool#3 has not answered within 0.1 s; it goes on there\n")


async def connect(at: At) -> None:
    assert "needs a terminal" in await at.says("connect", "worker", status=2)
    assert "tmux" in (await at.document("connect", "worker"))["argv"][0]
    async with at.screen("connect", "worker") as screen:
        await screen.shows("Begin.")
        screen.keys("half a word")
        await screen.shows("half a word")
        screen.keys("C-b", "d")
        await screen.shows("status 0")
    async with at.screen("connect", "--read-only", "worker") as screen:
        await screen.shows("half a word")
        screen.keys("BSpace", "BSpace")
        screen.keys("C-b", "d")
        await screen.shows("status 0")
    async with at.screen("connect", "worker") as screen:
        await screen.shows("half a word")  # nothing of it was taken away
        screen.keys(*["BSpace"] * len("half a word"))
        screen.keys("C-b", "d")
        await screen.shows("status 0")


async def ssh(at: At) -> None:
    assert "needs a terminal" in await at.says("ssh", "worker", status=2)
    document = await at.document("ssh", "worker")
    assert await at.document("ssh", "machine 1") == {**document, "agent": "machine 1"}
    said = await at.says("ssh", "worker", terminal=True, keys=b"echo in $PWD with $((40 + 2)); exit 5\n", status=5)
    assert f"in {document['cwd']} with 42" in said


async def exec_(at: At) -> None:
    line = ("worker", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert sorted((await at.says("exec", *line, status=7)).split()) == ["err", "out"]
    assert sorted((await at.says("exec", *line, status=7, terminal=True)).split()) == ["err", "out"]
    document = await at.document("exec", *line)
    assert (document["exit_code"], document["stdout"], document["stderr"]) == (7, "out\n", "err\n")
    assert "did not end within 0.2 s and was killed" in await at.says(
        "exec", "--timeout", "0.2", "worker", "sleep 300", status=1
    )
    async with at.live("exec", "machine 1", "--", "sh", "-c", "echo begun >begun; exec sleep 4321", terminal=True):
        await until_said(at, "exec", "worker", "cat begun 2>&1; true", text="begun\n")
    await until_said(at, "exec", "worker", "pgrep -fx 'sleep 4321' || echo none", text="none\n")


async def pause(at: At) -> None:
    for words, text in ((("worker",), "paused: worker"), ((), "no agent is to be paused; new ones begin paused")):
        plain = await at.says("pause", *words)
        assert plain == f"{text}\n"
    assert (await at.says("pause", "worker", terminal=True)).strip() == "nothing was to be paused"
    assert (await at.document("pause"))["paused"] == []
    assert (await at.document("status"))["paused"]


async def resume(at: At) -> None:
    assert await at.says("resume") == "resumed: worker\n"
    assert (await at.says("resume", terminal=True)).strip() == "nothing was paused"
    assert (await at.document("resume"))["resumed"] == []
    await at.says("suspend", "ticker")
    assert (await at.document("resume", "ticker"))["resumed"] == ["ticker"]


async def stop(at: At) -> None:
    others = re.findall(r"other (\S+)", at.program.said)
    assert await at.says("stop", "--id", others[0]) == f"{others[0]} has ended\n"
    assert (await at.says("stop", "--id", others[1], terminal=True)).strip() == f"{others[1]} has ended"
    assert not (await at.document("stop", "--id", others[2]))["killed"]
    document = await at.document("stop", "--kill")
    assert document["killed"]
    assert await at.program.ends(START) == -signal.SIGKILL


# -- actors -----------------------------------------------------------------------------------------------------------


async def tree(at: At) -> None:
    assert re.search(r"[├└] worker +#\d+ +AgentActor +busy +thinking", await at.says("tree"))
    plain, shown, document = await at.each_way("tree", "--all")
    for said in (plain, shown):
        assert said.splitlines()[0].split() == ["NAME", "ID", "KIND", "STATE", "MAILBOX", "RESTARTS", "DOING"]
        assert re.search(r"└ pi of worker +#\d+ +Session", said)
    assert {row["label"]: row["doing"] for row in document["actors"]}["worker"] == "thinking"
    async with at.live("tree", "--all", "--watch", "--every", "0.2", terminal=True) as watching:
        await watching.says(r"pi of worker")
    async with at.screen("tree", "--all", columns=60) as screen:
        await screen.shows("status 0")
        rows = [line for line in screen.text.splitlines() if line and not line.startswith(("NAME", "status"))]
        assert all("#" in row for row in rows), rows  # none takes two lines


async def inspect(at: At) -> None:
    plain, shown, document = await at.each_way("inspect", "worker")
    for said in (plain, shown):
        for expected in ("supervisor", "agents of main#1", "temporary supervisor", "agent", "busy for", "last events"):
            assert expected in said
    assert document["agent"]["state"] == "busy"
    assert (await at.document("inspect", "ticker", "--record"))["attributes"] == {"label_of_mine": "'tick'"}
    assert "tick" in await at.says("inspect", "ticker", terminal=True)
    assert (await at.document("inspect", "ticker", "--no-record"))["messages"] is None
    for said in (await at.says("inspect", "odd*"), await at.says("tree"), await at.says("kill", "[ot]*", status=4)):
        assert "odd �[31m" in said  # nothing that a terminal would act on


async def trace(at: At) -> None:
    plain, shown = await asyncio.gather(
        *(at.says("trace", "ticker", "--messages", "-n", "5", terminal=way) for way in (False, True))
    )
    for said in (plain, shown):
        numbers = [int(number) for number in re.findall(r"'tick (\d+)'", said)]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
    for line in (await at.says("trace", "tick*", "-n", "2", "--json")).splitlines():
        assert checked(line)["kind"] == "sent"
    for terminal in (False, True):
        async with at.live("trace", "ticker", terminal=terminal) as watching:
            await watching.says(r"tick \d+")


async def top(at: At) -> None:
    plain, shown, document = await at.each_way("top", "-n", "1", "--every", "0.2")
    for said in (plain, shown):
        assert "MOST TOKENS" in said
    assert document["agents"][0]["address"] == "worker"
    async with at.live("top", "--every", "0.2", terminal=True) as watching:
        await watching.says(r"ticker")


async def why(at: At) -> None:
    assert await at.says("why", "worker") == "worker has not died, and nothing has gone wrong\n"
    assert "pool has not died" in await at.says("why", "pool")
    killed = await at.document("kill", "pi of worker", "--reason", "to see what happens")
    assert (killed["ended"], killed["reason"]) == (True, "to see what happens")
    await until_said(at, "status", text="idle")
    plain, shown, document = await at.each_way("why", "worker")
    for said in (plain, shown, document["headline"]):
        assert said.splitlines()[0].startswith("worker died (")
        assert "to see what happens" in said.splitlines()[0]
    assert document["restarts"] == 1


async def kill(at: At) -> None:
    assert re.match(r"ended spare 0 #\d+: killed; it has no supervisor", await at.says("kill", "spare 0"))
    assert "ended spare 1" in await at.says("kill", "spare 1", "--reason", "not needed", terminal=True)
    assert (await at.document("kill", "spare 2", "--reason", "shutdown"))["reason"] == "shutdown"
    assert "fits" in await at.says("kill", "*", status=4)


async def suspend(at: At) -> None:
    assert "suspended ticker" in await at.says("suspend", "ticker")
    assert (await at.document("inspect", "ticker"))["actor"]["state"] == "suspended"
    assert "suspended ticker" in await at.says("suspend", "ticker", terminal=True)
    assert (await at.document("suspend", "ticker"))["actor"] == "ticker"
    assert await at.says("resume", "ticker") == "resumed: ticker\n"


async def refusing(at: At) -> None:
    """Of an actor that there is none of: one line, with the remedy."""
    commands = ("inspect", "trace", "kill", "suspend", "resume", "restart", "why")
    for said in await asyncio.gather(*(at.says(command, "nobody-at-all", status=4) for command in commands)):
        assert (said.count("\n"), said[:8]) == (1, "ramure: ")
        assert "`ramure tree` shows" in said


async def restart(at: At) -> None:
    document = await at.document("restart", "worker")
    assert document["old"] != document["new"]
    for terminal in (False, True):
        assert "restarted worker" in await at.says("restart", "worker", terminal=terminal)
    assert "part of the run" in await at.says("restart", "log", status=1)


# -- of no run --------------------------------------------------------------------------------------------------------


async def demo(at: At) -> None:
    shown, document = await asyncio.gather(
        at.says("demo", "--scripted", terminal=True), at.document("demo", "--scripted")
    )
    assert document["haikus"] == list(HAIKUS)
    assert not any("haikus" in request.conversation.last_user_text for request in at.model.requests)
    assert shown.count("calls submit_haiku") == 10
    assert HAIKUS[-1].replace("\n", "\r\n") in shown


ASKING: Final = """
import asyncio, sys
from ramure import agent, agent_process

@agent_process
async def main():
    asker = await agent("asker")
    print("It says:", await asker.ask("How many files are here?"), *sys.argv[1:])

asyncio.run(main())
"""


async def run(at: At) -> None:
    """On a scripted model of its own, beside the runs that are live."""
    program, script = (at.stage.run.directory / name for name in ("asking.py", "answers.json"))
    program.write_text(ASKING)
    ls = {"tool": "bash", "arguments": {"command": "ls | wc -l; sleep 2"}}
    script.write_text(json.dumps([ls, "None so far."]))
    words = ("run", "--script", str(script), str(program))
    plain, shown, document = await asyncio.gather(
        at.says(*words, "--all"), at.says(*words, terminal=True), at.document(*words)
    )
    assert "It says: None so far. --all\n" in plain
    for said in (plain, shown):
        assert "bash: ls | wc -l; sleep 2" in said
        assert re.search(r"main done after \d+s \(1 agent, ", said)
    assert "worker" not in plain  # an agent of another run
    assert "\x1b[?25h" in shown
    assert [each["outcome"] for each in document["runs"]] == ["done"]
    assert not any("How many files" in request.conversation.last_user_text for request in at.model.requests)


async def setup(at: At) -> None:
    plain, shown, document = await at.each_way("setup")
    for said in (plain, shown):
        # Before it may stand that another setup, of a test beside this one, is waited for.
        assert f"agents run pi {at.stage.toolchain.pi_version} on Node" in said
    assert document["pi_version"] == str(at.stage.toolchain.pi_version)
    assert not (await at.document("setup", "--dry-run", schema="setup_plan"))["installs"]


async def doctor(at: At) -> None:
    plain, shown, document = await at.each_way("doctor")
    assert [check["name"] for check in document["checks"]] == ["python", "tmux", "node", "pi", "model", "home"]
    for said in (plain, shown):
        assert [line.split()[0] for line in said.splitlines()] == ["ok"] * 6


async def gc(at: At) -> None:
    """After ``stop --kill``."""
    plain, shown, document = await at.each_way("gc", "--dry-run")
    for said in (plain, shown):
        assert at.run_id in said
    assert {found["run"] for found in document["found"]} == {at.run_id}
    await at.says("gc")
    assert await at.says("gc") == "nothing is left of killed runs\n"
    await nothing_left(at.stage, at.run_id)


USES: Final[dict[str, Callable[[At], Awaitable[None]]]] = {
    "ls": ls,
    "status": status,
    "tree": tree,
    "inspect": inspect,
    "trace": trace,
    "top": top,
    "send": send,
    "logs": logs,
    "call": call,
    "connect": connect,
    "ssh": ssh,
    "exec": exec_,
    "why": why,
    "suspend": suspend,
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "kill": kill,
    "setup": setup,
    "doctor": doctor,
    "demo": demo,
    "run": run,
    "stop": stop,
    "gc": gc,
}
"""In this order."""


async def until_said(at: At, *words: str, text: str) -> None:
    """Ask again and again until it is so; the test's timeout bounds it."""
    while text not in await at.says(*words):
        await asyncio.sleep(0.1)


def test_every_command_is_used() -> None:
    assert set(USES) == set(COMMANDS)


@pytest.mark.real_pi
@pytest.mark.timeout(300)
async def test_every_command_in_a_pipe_in_a_terminal_and_as_json(stage: Stage) -> None:
    async with ScriptedModel(model_script) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            at = At(stage, model, program, await program.run_id())
            await model.wait_for_requests(1, timeout=START)
            await refusing(at)
            for use in USES.values():
                await use(at)
    assert "died" in (await at.says("ls", "--all"))
    assert "to see what happens" in await at.says("why", "worker")  # from the logs, now that it has ended
    assert await at.says("why", "nobody-at-all", status=4)
    assert "Typed by hand." in await at.says("logs")
