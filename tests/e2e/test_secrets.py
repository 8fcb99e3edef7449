"""Where a secret of the user's environment is found while an agent works, and that a stranger gets nowhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ramure.agents.wire import CLOSE_REFUSED, SUBPROTOCOL, TOKEN_PREFIX
from ramure.testing import Hang, ScriptedModel, ToolCall
from tests.e2e.kit import Stage, until

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(90)]

CANARY = "sk-canary-5b1f0e2c77"

PROGRAM = """
import asyncio
from ramure import agent, agent_process, current_runtime, done, wait

@agent_process(on_idle="report")
async def main():
    worker = await agent("worker", system_prompt="You work.")

    @worker.on("note")
    async def note(text: str) -> str:
        \"\"\"Notes.\"\"\"
        print("tool runs", flush=True)
        await worker.exec("sleep 600 & true")
        return "noted"

    run = current_runtime()
    print("run", run.execution_id, flush=True)
    print("gateway", run.gateway.port, flush=True)
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""


def files_with(text: str, directory: Path) -> list[Path]:
    """Regular files below ``directory`` that contain ``text``."""
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def processes_with_canary() -> tuple[list[str], dict[int, str]]:
    """Command lines with the secret; and what has it in its environment, by pid."""
    arguments, environments = [], {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            command = (directory / "cmdline").read_bytes()
            environ = (directory / "environ").read_bytes()
            name = (directory / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        if CANARY.encode() in command:
            arguments.append(command.decode())
        if CANARY.encode() in environ:
            environments[int(directory.name)] = f"{name}: {command.decode(errors='replace')}"
    return arguments, environments


async def test_no_file_holds_a_key_while_pi_works_and_only_processes_that_need_it_have_it(any_stage: Stage) -> None:
    stage = any_stage
    seen = stage.run.directory / "requests.jsonl"
    async with ScriptedModel([ToolCall("note", {"text": "x"}), Hang()], record=seen) as model:
        stage.serve(model)
        async with stage.python(PROGRAM, env={"ANTHROPIC_API_KEY": CANARY}) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(2, timeout=20)
            [pi] = stage.panes(run_id)
            arguments, environments = processes_with_canary()
            assert arguments == []
            assert pi in environments, "pi does not have its key"
            assert not [name for name in environments.values() if name.startswith("tmux")]
            # What only starts and ends other processes does not show it for as long as it lives.
            assert not [name for name in environments.values() if "_program.p" in name]
            for question in (
                ("show-environment", "-g"),
                ("show-environment", "-t", "=worker:"),
                ("show-options", "-A", "-g"),
                ("show-options", "-A", "-t", "=worker:"),
                ("show-options", "-s"),
                ("show-options", "-A", "-w", "-g"),
                ("show-hooks", "-g"),
                ("list-panes", "-a", "-F", "#{pane_start_command} #{pane_current_command} #{pane_title}"),
                ("capture-pane", "-p", "-t", "=worker:", "-S", "-"),
                ("list-buffers",),
            ):
                assert CANARY not in stage.tmux(run_id, *question), question
            assert stage.tmux(run_id, "list-panes", "-a", "-F", "#{pane_start_command}").strip()
            # The launch's environment file is removed once pi's shell has read it, so no file is left that has the key.
            assert files_with(CANARY, stage.run.directory) == []
            # The same search finds the launch's token, in the run's private directory: it looks at the right place.
            [config] = stage.scratch(run_id).glob("*.json")
            assert files_with(json.loads(config.read_text())["token"], stage.run.directory) == [config]
            assert stat.S_IMODE(config.stat().st_mode) == 0o600
            assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
            program.signal(2)
            await program.ends(5)
    assert seen.read_text().count('"event": "request"') == 2
    assert CANARY not in program.said
    assert files_with(CANARY, stage.run.directory) == []


INSPECTED = """
import asyncio
from ramure import agent, agent_process, current_runtime, wait

@agent_process(on_idle="report")
async def main():
    worker = await agent("worker", system_prompt="You work.")
    print("run", current_runtime().execution_id, flush=True)
    await worker.send("Begin.")
    await wait()

asyncio.run(main())
"""


def listening(pid: int) -> list[str]:
    """The addresses at which a process listens for TCP connections."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


async def test_nothing_opens_the_inspector_of_an_agents_node(any_stage: Stage) -> None:
    stage = any_stage
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        options = "--inspect=127.0.0.1:0 --max-old-space-size=3000"
        async with stage.python(INSPECTED, env={"NODE_OPTIONS": options}) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            [pi] = stage.panes(run_id)
            assert b"--max-old-space-size=3000" in Path(f"/proc/{pi}/environ").read_bytes()
            assert listening(pi) == []
            os.kill(pi, signal.SIGUSR1)
            await asyncio.sleep(1)  # Node opens it within some milliseconds
            assert listening(pi) == []
            program.signal(2)
            await program.ends(5)
    assert "Debugger listening" not in program.said


SHOWN = {
    "DATABASE_URL": "postgres://app:Tr0ub4dor-3-horses@db.internal/x",
    "MY_PW": "hunter2hunter2",
    "SIGNING_SEED": "a1b2c3d4e5f60718",
    "CODENAME": "bluebirdfour",
    "RAMURE_SECRETS": "CODENAME",
    "ORDINARY": "plain-to-see",
}


async def test_the_last_screen_of_a_pi_that_died_shows_no_secret(any_stage: Stage) -> None:
    stage = any_stage
    command = "echo $DATABASE_URL $MY_PW; echo $SIGNING_SEED $CODENAME $ORDINARY; sleep 2; kill -9 $PPID"
    async with ScriptedModel([ToolCall("bash", {"command": command}), Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM, env=SHOWN) as program:
            run_id = await program.run_id()
            log = stage.logs(run_id) / "_runtime.jsonl"
            await until(lambda: log.exists() and "crash_report" in log.read_text(), 30, "a crash report")
            program.signal(2)
            await program.ends(5)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    screen = next(entry["screen"] for entry in entries if entry["type"] == "crash_report")
    assert "plain-to-see" in screen
    assert "postgres://app:[secret]@db.internal/x" in screen
    for secret in ("Tr0ub4dor-3-horses", "hunter2hunter2", "a1b2c3d4e5f60718", "bluebirdfour"):
        assert secret not in log.read_text()
        assert secret not in program.said


def parts(directory: Path) -> list[tuple[str, int]]:
    return [(str(path), stat.S_IMODE(path.lstat().st_mode)) for path in directory.rglob("*") if not path.is_symlink()]


async def test_everything_of_a_run_is_private_whatever_the_umask(stage: Stage) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python("import os\nos.umask(0)\n" + PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            listed = [
                *parts(stage.scratch(run_id)),
                *parts(stage.logs(run_id)),
                *parts(stage.run.home / "runtimes"),
                (str(stage.scratch(run_id)), stat.S_IMODE(stage.scratch(run_id).stat().st_mode)),
            ]
            program.signal(2)
            await program.ends(5)
    # pi itself makes its session file readable to all: its directory is private.
    too_open = [(path, oct(mode)) for path, mode in listed if mode & 0o077 and "/sessions/" not in path]
    assert len(listed) > 8
    assert too_open == []


CLIENTS: dict[str, list[str]] = {
    "no subprotocol": [],
    "right subprotocol, no token": [SUBPROTOCOL],
    "wrong token": [SUBPROTOCOL, TOKEN_PREFIX + "x" * 43],
    "empty token": [SUBPROTOCOL, TOKEN_PREFIX],
    "token of another protocol": ["chat", TOKEN_PREFIX + "x" * 43],
}


async def stranger(port: int, offered: list[str]) -> tuple[str, list[str]]:
    """How the gateway ended the connection of a client that begins at once, and what it told it before."""
    told = []
    try:
        async with connect(
            f"ws://127.0.0.1:{port}", subprotocols=[Subprotocol(name) for name in offered] or None, open_timeout=20
        ) as socket:
            try:
                await socket.send(json.dumps({"type": "hello", "protocol": 1, "applied": 0}))
                await socket.send(json.dumps({"type": "report", "kind": "tool_call", "data": {"name": "note"}}))
                async with asyncio.timeout(20):
                    while True:
                        told.append(str(await socket.recv()))
            except ConnectionClosed as closed:
                return str(closed.rcvd.code if closed.rcvd else None), told
    except InvalidStatus as refused:
        return str(refused.response.status_code), [bytes(refused.response.body or b"").decode()]


async def test_a_client_without_the_token_is_closed_before_it_learns_or_calls_anything(stage: Stage) -> None:
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            port = int((await program.says(r"gateway (\d+)"))[1])
            for who, offered in CLIENTS.items():
                how, told = await stranger(port, offered)
                assert how in ("401", str(CLOSE_REFUSED)), (who, how)
                assert told in ([], [""]), (who, told)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x00garbage\r\n\r\n" * 100)
            answer = await asyncio.wait_for(_rest(reader), 15)
            writer.close()
            assert b"ramure" not in answer
            assert b"worker" not in answer
            await model.wait_for_requests(1, timeout=20)  # the agent goes on
            program.signal(2)
            await program.ends(5)
    assert "tool runs" not in program.said
    assert "Traceback" not in program.said, program.said
    log = (stage.logs(run_id) / "worker.jsonl").read_text()
    assert "tool_call" not in log


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_the_token_is_used_up_by_its_launch(stage: Stage) -> None:
    """Who reads the launch's file after the agent's end gets nowhere; while it lives, only its own user can read it."""
    async with ScriptedModel([Hang()]) as model:
        stage.serve(model)
        async with stage.python(PROGRAM) as program:
            run_id = await program.run_id()
            await model.wait_for_requests(1, timeout=20)
            [config] = stage.scratch(run_id).glob("*.json")
            assert (config.stat().st_uid, stat.S_IMODE(config.stat().st_mode)) == (os.getuid(), 0o600)
            assert json.loads(config.read_text())["token"] not in (stage.logs(run_id) / "worker.jsonl").read_text()
            program.signal(2)
            await program.ends(5)
    await until(lambda: not config.exists(), 5, "the launch's file removed")
