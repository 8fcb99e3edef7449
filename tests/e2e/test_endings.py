"""What is missing or breaks at the start of an agent is said at once, with the remedy; nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from ramure.testing import Hang, HTTPError, ScriptedModel
from tests.agents.toolchain import stubs
from tests.e2e.kit import Stage, nothing_left

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(60)]

SOON = 20  # seconds: it takes about 1 on a quiet host; no wait of ours is as long as this

PROGRAM = """
import asyncio, time
from ramure import agent, agent_process, current_runtime, wait

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    began = time.monotonic()
    try:
        worker = await agent("worker"{arguments})
        began = time.monotonic()
        await worker.send("Begin.")
        await wait()
    finally:
        print(f"after {{time.monotonic() - began:.1f}} s", flush=True)

asyncio.run(main())
"""


async def fails(stage: Stage, *, arguments: str = "", env: dict[str, str] | None = None) -> str:
    """Run a program whose agent cannot work; what it said when it ended, which was soon after the call."""
    async with stage.python(PROGRAM.format(arguments=arguments), env=env) as program:
        run_id = await program.run_id()
        status = await program.ends(30)
        await nothing_left(stage, run_id)
    assert status == 1, program.said
    after = re.search(r"after ([\d.]+) s", program.said)
    assert after is not None, program.said
    assert float(after[1]) < SOON, program.said
    return program.said


def bare_path(stage: Stage, *names: str) -> str:
    """A ``PATH`` with the shell's own tools and of these programs; none of tmux, Node and pi else."""
    directory = stage.run.directory / "bin"
    directory.mkdir()
    usual = (
        "sh bash env cat sed awk id ps rm rmdir mkdir dirname sleep kill true sort uname setsid tr chmod test".split()
    )
    for name in (*usual, *names):
        found = shutil.which(name)
        if found:
            (directory / name).symlink_to(found)
    return str(directory)


async def test_pi_is_missing(stage: Stage) -> None:
    (stage.run.home / "toolchain").unlink()
    said = await fails(stage, env={"PATH": bare_path(stage, "tmux")})
    assert re.search(r"ToolMissing: .*pi was not found on PATH.*ramure setup", said, re.DOTALL), said


async def test_pi_is_too_old(stage: Stage) -> None:
    (stage.run.home / "toolchain").unlink()
    path = bare_path(stage, "tmux")
    stubs.node(Path(path), "24.0.0")
    stubs.pi(Path(path), "0.40.0")
    said = await fails(stage, env={"PATH": path})
    assert re.search(
        r"ToolTooOld: .*pi 0\.40\.0 .* is too old \(0\.74 or newer is needed\).*ramure setup", said, re.DOTALL
    )


async def test_node_is_missing_for_the_users_pi(stage: Stage) -> None:
    (stage.run.home / "toolchain").unlink()
    path = bare_path(stage, "tmux")
    stubs.pi(Path(path), "0.87.1", engines=">=22.19.0")
    said = await fails(stage, env={"PATH": path})
    assert re.search(r"ToolMissing: .*needs Node 22\.19.* no node was found.*ramure setup", said, re.DOTALL), said


async def test_node_is_too_old_for_the_users_pi(stage: Stage) -> None:
    (stage.run.home / "toolchain").unlink()
    path = bare_path(stage, "tmux")
    stubs.node(Path(path), "18.0.0")
    stubs.pi(Path(path), "0.87.1", engines=">=22.19.0")
    said = await fails(stage, env={"PATH": path})
    assert re.search(r"ToolTooOld: .*needs Node 22\.19.* is 18\.0\.0.*ramure setup", said, re.DOTALL), said


async def test_tmux_is_missing(stage: Stage) -> None:
    said = await fails(stage, env={"PATH": bare_path(stage)})
    assert re.search(r"ToolMissing: .*tmux was not found on PATH.*install tmux", said, re.DOTALL), said


async def test_tmux_is_too_old(stage: Stage) -> None:
    path = bare_path(stage)
    stubs.tmux(Path(path), "2.6")
    said = await fails(stage, env={"PATH": path})
    assert re.search(r"ToolTooOld: .*tmux 2\.6 .* is too old.*install tmux", said, re.DOTALL), said


async def test_no_model_is_configured(any_stage: Stage) -> None:
    said = await fails(any_stage, env={"PI_OFFLINE": "1"})
    assert "NoModel: agent 'worker'" in said, said
    assert "/login" in said or "API_KEY" in said, said


async def test_pi_exits_at_once(stage: Stage) -> None:
    """A pi that says why and exits 3: its status and its last screen are in the error."""
    (stage.run.home / "toolchain").unlink()
    path = bare_path(stage, "tmux")
    shutil.copy(stage.toolchain.harness.node or "", Path(path) / "node")
    cli = stubs.pi(Path(path), "0.87.1")
    cli.write_text(
        "#!/usr/bin/env node\n"
        "if (process.argv.includes('--version')) { console.log('0.87.1'); process.exit(0); }\n"
        "console.log('Cannot read my settings: line 3'); process.exit(3);\n"
    )
    said = await fails(stage, env={"PATH": path})
    assert "LaunchFailed" in said, said
    assert "pi exited by itself, with status 3" in said, said
    assert "Cannot read my settings: line 3" in said, said


async def test_an_unknown_model_is_said_with_what_pi_shows(stage: Stage) -> None:
    async with ScriptedModel([]) as model:
        stage.serve(model)
        said = await fails(stage, arguments=', model="nobody/nothing"')
        model.errors.clear()
    assert "worker" in said
    assert "nobody/nothing" in said or "nobody" in said, said


async def test_an_unknown_model_of_a_known_provider_is_named_before_its_404(any_stage: Stage) -> None:
    async with ScriptedModel([HTTPError(404, "no such model")] * 5, models=("scripted-1", "other")) as model:
        any_stage.serve(model)
        said = await fails(any_stage, arguments=', model="scripted/scriptd-1"')
    warning = "pi does not know the model 'scripted/scriptd-1' of the provider 'scripted'"
    assert said.count(warning) == 1, said
    assert "the nearest that it knows: 'scripted/scripted-1', 'scripted/other'" in said
    assert said.index(warning) < said.index("404 no such model")


SLOW_TO_LOAD = """
export default async function slow() {
    await new Promise((resolve) => setTimeout(resolve, 12_000));
}
"""

ASKS = """
import asyncio
from ramure import agent, agent_process, current_runtime

@agent_process(on_idle="report")
async def main():
    print("run", current_runtime().execution_id, flush=True)
    worker = await agent("worker")
    print("it says", await worker.ask("Are you there?"), flush=True)

asyncio.run(main())
"""


@pytest.mark.timeout(150)
async def test_an_extension_of_the_users_may_take_longer_to_load_than_a_run_may_be_away(any_stage: Stage) -> None:
    """Its seconds are none in which the run cannot be reached: pi says so by being connected."""
    async with ScriptedModel(["Here."]) as model:
        any_stage.serve(model)
        extensions = any_stage.run.directory / "agent" / "extensions"
        extensions.mkdir(mode=0o700)
        (extensions / "slow.ts").write_text(SLOW_TO_LOAD)
        async with any_stage.python(ASKS) as program:
            run_id = await program.run_id()
            assert await program.ends(100) == 0, program.said
            await nothing_left(any_stage, run_id)
    assert "it says Here." in program.said


PORT_IN_USE = """
import asyncio
from ramure import agent_process

@agent_process(port={port})
async def main():
    print("not reached")

asyncio.run(main())
"""


async def test_the_gateways_port_is_in_use(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        async with stage.python(PORT_IN_USE.format(port=port)) as program:
            assert await program.ends(40) == 1
        assert time.monotonic() - began < SOON
    assert f"cannot listen for agents on 127.0.0.1:{port}" in program.said, program.said
    assert "pass another host= or port=" in program.said
    assert "not reached" not in program.said
    assert list((stage.run.home / "runtimes").iterdir()) == []
    assert list(stage.sockets.glob("*/*")) == []


async def test_a_home_that_cannot_be_used_is_said(stage: Stage) -> None:
    """A file where the home should be: no user, root neither, can make directories below it."""
    file = stage.run.directory / "file"
    file.write_text("")
    async with stage.python(PORT_IN_USE.format(port=0), env={"RAMURE_HOME": str(file / "home")}) as program:
        assert await program.ends(40) == 1
    assert re.search(
        r"UsageError: ramure's home .*cannot be used: .*set RAMURE_HOME to a directory of yours", program.said
    )
    assert os.path.isfile(file)


async def test_the_log_of_a_failed_launch_says_so(stage: Stage) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        (stage.run.home / "toolchain").unlink()
        await fails(stage, env={"PATH": bare_path(stage, "tmux")})
    [log] = stage.run.home.glob("logs/*/_runtime.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[0]["type"] == "run_started"
    assert any("pi was not found" in json.dumps(entry) for entry in entries), entries
