"""An agent on real pi does a task, on each kind of machine: it is launched with ``exec`` and ``write_file`` alone."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from ramure import agent, agent_process, current_runtime, done, wait
from ramure.machines import remote_home as remote_home
from ramure.machines.docker.image import DockerImage
from ramure.machines.local import LocalImage
from ramure.machines.morph.image import MorphImage
from ramure.machines.sandbox.image import SandboxImage
from ramure.testing import ScriptedModel, Text, ToolCall
from tests.e2e.kit import until
from tests.edges.deaths import KINDS, sleepers
from tests.machines.conftest import documented, sshd
from tests.machines.engine import IMAGE, docker_engine
from tests.machines.morph_fake import MorphFake

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(120)]


def container(directory, env):
    """A container that is shown the working directory, and the Node and pi of this host."""
    toolchain = Path(os.environ["RAMURE_HOME"], "toolchain")
    volumes = {str(directory): str(directory), os.path.realpath(toolchain): f"{toolchain}:ro"}
    env = {**env, "RAMURE_HOME": os.environ["RAMURE_HOME"]}
    engine = docker_engine().command
    return DockerImage(IMAGE, workdir=str(directory), env=env, volumes=volumes, pull="never", engine=engine)


IMAGES = {
    "local": lambda directory, env: LocalImage(workdir=directory, env=env),
    "sandbox": lambda directory, env: SandboxImage(workdir=directory, env=env),
    "ssh": lambda directory, env: sshd().image(workdir=str(directory), env=env),
    "docker": container,
    "morph": lambda directory, env: MorphImage(workdir=str(directory), env=env),
    "documented": lambda directory, env: documented(directory),
}


@pytest.fixture(params=IMAGES)
def kind(request):
    return request.param


@contextlib.asynccontextmanager
async def stage(kind, script, home, monkeypatch):
    """An image of this kind on which pi asks a model that follows the script."""
    work = home.parent / "work"
    work.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        model = await stack.enter_async_context(ScriptedModel(script))
        env = model.write_config(work / "pi-agent")  # pi writes there too
        if kind == "morph":
            fake = stack.enter_context(MorphFake.running())
            fake.shares.append(work)
            for name, value in fake.environment().items():
                monkeypatch.setenv(name, value)
        if kind == "documented":  # its tool runs with our own environment
            for name, value in env.items():
                monkeypatch.setenv(name, value)
        yield IMAGES[kind](work, env), work, model


def others_than(threads: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that have come since, apart from those of the event loop's own executor, and those that start what must end
    with this program: these stay."""
    lasting = ("asyncio_", "ramure-launch")
    return [each for each in threading.enumerate() if each not in threads and not each.name.startswith(lasting)]


async def test_an_agent_works_with_its_machine_and_calls_a_tool(kind, ramure_home, monkeypatch):
    script = [
        ToolCall("bash", {"command": "echo was here >made-by-pi; cat question"}),
        ToolCall("finish", {"summary": "42"}),
        Text("Done."),
    ]
    async with stage(kind, script, ramure_home, monkeypatch) as (image, work, model):
        (work / "question").write_text("what is six times seven?")
        threads = set(threading.enumerate())

        @agent_process(image=image)
        async def main():
            worker = await agent("worker")

            @worker.on("finish")
            async def finish(summary: str) -> str:
                done(summary)
                return "Recorded."

            await worker.send("Read the question, and call finish(summary).")
            result = await wait()
            return result, current_runtime().execution_id

        result, run_id = await main()
        assert result == "42"
        # The threaded actors of transports and tmux servers, and paramiko's own threads, have ended with the run.
        await until(lambda: not others_than(threads), 30, f"no thread of the run lives: {others_than(threads)}")
        assert (work / "made-by-pi").read_text() == "was here\n"
        assert "six times seven" in str(model.requests[-1].conversation.tool_results)
    session = (ramure_home / "logs" / run_id / "sessions" / "worker.jsonl").read_text()
    assert "six times seven" in session


@pytest.mark.parametrize("kind", ["ssh", "documented"])
async def test_a_restarted_pi_remembers_there_too(kind, ramure_home, monkeypatch):
    script = [
        ToolCall("bash", {"command": "kill -9 $PPID"}),
        ToolCall("finish", {"summary": "back"}),
        Text("Done."),
    ]
    async with stage(kind, script, ramure_home, monkeypatch) as (image, _, model):

        @agent_process(image=image)
        async def main():
            worker = await agent("worker")

            @worker.on("finish")
            async def finish(summary: str) -> str:
                done(summary)
                return "Recorded."

            await worker.send("Remember the word heron.")
            return await wait()

        assert await main() == "back"
        assert "heron" in str(model.requests[1].conversation.user_texts)


@pytest.mark.parametrize(
    ("kind", "there"),
    [("ssh", "python"), ("ssh", "perl"), ("ssh", "neither"), ("sandbox", "python"), ("documented", "python")],
)
async def test_what_pi_has_started_there_is_gone_before_the_next_one_begins_and_it_is_told(
    kind, there, ramure_home, monkeypatch
):
    if there != "python":
        monkeypatch.setattr(remote_home, "TRY_PYTHON", "raise SystemExit(1)")
    if there == "neither":
        monkeypatch.setattr(
            remote_home, "PREPARE", remote_home.PREPARE.replace("command -v perl", "command -v no-such-perl")
        )
    kinds = [each for each in KINDS if there != "neither" or each not in ("no environment", "double fork")]
    number = 60_000_000 + 100 * (os.getpid() % 10_000)
    command = "".join(KINDS[each].replace("{}", str(number + place)) for place, each in enumerate(kinds))
    left = []

    asked = []

    def turn(conversation):
        asked.append(conversation)
        if len(asked) == 1:
            return ToolCall("bash", {"command": f"{command} sleep 1; kill -9 $PPID; sleep {number + 99}; :"})
        if len(asked) == 2:
            left.append(sleepers(number, number + 100))
            return ToolCall("bash", {"command": "true"})  # a second notice comes with the next request
        return ToolCall("finish", {"summary": "back"}) if len(asked) == 3 else Text("Done.")

    async with stage(kind, turn, ramure_home, monkeypatch) as (image, _, _):

        @agent_process(image=image)
        async def main():
            worker = await agent("worker")

            @worker.on("finish")
            async def finish(summary: str) -> str:
                done(summary)
                return "Recorded."

            await worker.send("Remember the word heron.")
            return await wait()

        assert await main() == "back"
        told = "\n".join(asked[2].user_texts)
    assert left == [{}]
    assert "ended with your process" in told
    assert f"sleep {number + kinds.index('setsid fork')}" in told
    assert not sleepers(number, number + 100)
    for directory in (ramure_home.parent / "tmp").glob("tmux-*"):
        shutil.rmtree(directory)  # of the agent's own tmux: who is killed leaves its socket


async def test_a_run_that_cannot_be_reached_is_an_error_before_the_launch(ramure_home, monkeypatch):
    async with stage("documented", [], ramure_home, monkeypatch) as (image, _, model):

        @agent_process(image=image, base_url="ws://127.0.0.1:1")
        async def main():
            await agent("worker")

        with pytest.raises(Exception, match=r"cannot reach this program at ws://127\.0\.0\.1:1 .*base_url="):
            await main()
        assert model.requests == []


async def test_a_machine_without_pi_says_what_to_do(leak_check):
    image = sshd().image(env={"RAMURE_HOME": "/nowhere", "PATH": "/usr/bin:/bin"})

    @agent_process(image=image)
    async def main():
        await agent("worker")

    with pytest.raises(Exception, match=r"there is no pi on .*ramure setup"):
        await main()
