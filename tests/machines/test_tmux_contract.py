"""What every tmux driver promises; each test runs over each driver."""

import asyncio
import contextlib
import os
import random
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ramure.machines.local import LocalImage
from ramure.machines.tmux import local as tmux_local
from ramure.machines.tmux.driver import (
    NoSuchSession,
    SessionExists,
    Tmux,
    TmuxMissing,
    TmuxServerGone,
    decode,
    encode,
    env_file,
    wrapped,
)
from ramure.machines.tmux.local import LocalTmux
from ramure.machines.tmux.remote import ExecTmux
from tests.machines.processes import alive
from tests.subprocesses import started

pytestmark = pytest.mark.real

NOTICE = 30  # seconds: a death that is not noticed by then, on a busy host, is not noticed at all
FOREVER = ["sleep", "1000"]
LOOKALIKES = ["w1", "w10", "w", "w.1", "w_1", "w:1", "w_d1", "w~2", "W1", "-w", "wörk"]


@pytest.fixture(params=["libtmux", "exec", "exec-polling"])
async def tmux(request, tmp_path):
    machine = await LocalImage(workdir=tmp_path).spawn()
    driver: Tmux
    if request.param == "libtmux":
        driver = LocalTmux()
    else:
        driver = ExecTmux(machine, poll=0.1 if request.param == "exec-polling" else None)
    await driver.start()
    try:
        yield driver
    finally:
        await driver.kill_server()
        assert not Path(driver.socket).parent.exists()
        await machine.stop()


async def server_pid(tmux: Tmux) -> int:
    return int(await tmux._command("display-message", "-p", "#{pid}"))


async def screen_with(tmux: Tmux, name: str, text: str) -> str:
    async with asyncio.timeout(NOTICE):
        while text not in (screen := await tmux.capture(name, history=1000)):
            await asyncio.sleep(0.02)
    return screen


async def gone(pid: int, within: float) -> None:
    deadline = time.monotonic() + within
    while alive(pid):
        assert time.monotonic() < deadline, f"still there: {Path(f'/proc/{pid}/stat').read_text()}"
        await asyncio.sleep(0.01)


async def test_a_new_server_has_no_session(tmux):
    assert await tmux.panes() == []
    assert not await tmux.has_session("w1")


async def test_lookalike_names_are_different_sessions(tmux):
    for name in LOOKALIKES:
        assert not await tmux.has_session(name)
        await tmux.new_session(name, FOREVER, cwd="/")
    assert sorted(pane.session for pane in await tmux.panes()) == sorted(LOOKALIKES)
    for i, name in enumerate(LOOKALIKES):
        await tmux.kill_session(name)
        assert not await tmux.has_session(name)
        assert {pane.session for pane in await tmux.panes()} == set(LOOKALIKES[i + 1 :])


@pytest.mark.parametrize("name", [*LOOKALIKES, "_x41_", "__", "a b"])
def test_encoding_is_reversible(name):
    assert decode(encode(name)) == name


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="empty"):
        encode("")


async def test_a_name_in_use_is_refused(tmux):
    await tmux.new_session("w1", FOREVER, cwd="/")
    with pytest.raises(SessionExists):
        await tmux.new_session("w1", FOREVER, cwd="/")


@pytest.mark.parametrize("operation", ["pane", "capture", "kill_session"])
async def test_an_unknown_session_is_an_error(tmux, operation):
    await tmux.new_session("w10", FOREVER, cwd="/")
    with pytest.raises(NoSuchSession):
        await getattr(tmux, operation)("w1")
    with pytest.raises(NoSuchSession):
        await tmux.resize("w1", 80, 24)


async def test_arguments_arrive_as_they_are(tmux, tmp_path):
    words = ["a b", "$HOME", "semi;", ";", "#{pid}", "'", '"', "", "ünï", "\\", "-n"]
    script = 'printf "%s\\0" "$@" > args'
    cwd = tmp_path / "odd #{pid} 'dir"
    cwd.mkdir()
    await tmux.new_session("w1", ["sh", "-c", script, "sh", *words], cwd=str(cwd))
    assert (await tmux.wait_end("w1")).exit_code == 0
    assert (cwd / "args").read_text().split("\0")[:-1] == words


@pytest.mark.parametrize("status", [0, 3])
async def test_an_exit_status_and_last_screen_can_be_read(tmux, tmp_path, status):
    script = f"echo last words; while [ ! -e go ]; do sleep 0.02; done; exit {status}"
    await tmux.new_session("w1", ["sh", "-c", script], cwd=str(tmp_path))
    await screen_with(tmux, "w1", "last words")
    (tmp_path / "go").touch()
    ending = await tmux.wait_end("w1")
    assert (ending.how, ending.exit_code, ending.screen) == ("exited", status, "last words")
    pane = await tmux.pane("w1")
    assert pane.dead
    assert pane.exit_code == status


async def test_a_busy_server_loses_no_last_words(tmux, tmp_path):
    script = "while [ ! -e go$0 ]; do sleep 0.02; done; echo last words $0"
    server = await server_pid(tmux)
    panes = [await tmux.new_session(f"w{i}", ["sh", "-c", script, str(i)], cwd=str(tmp_path)) for i in range(5)]
    os.kill(server, signal.SIGSTOP)  # so that it learns of words and end at once
    try:
        for i, pane in enumerate(panes):
            (tmp_path / f"go{i}").touch()
            await gone(pane.pid, within=NOTICE)
    finally:
        os.kill(server, signal.SIGCONT)
    endings = await asyncio.gather(*(tmux.wait_end(f"w{i}") for i in range(5)))
    assert [ending.screen for ending in endings] == [f"last words {i}" for i in range(5)]


async def test_a_killed_command_is_noticed(tmux):
    pane = await tmux.new_session("w1", FOREVER, cwd="/")
    waiting = asyncio.create_task(tmux.wait_end("w1"))
    await asyncio.sleep(0.2)
    os.kill(pane.pid, signal.SIGKILL)
    began = time.monotonic()
    ending = await waiting
    assert time.monotonic() - began < NOTICE
    assert (ending.how, ending.exit_code) == ("exited", 128 + 9)
    assert str(ending) == "its command was killed by signal 9"


async def test_a_closed_session_is_noticed(tmux):
    await tmux.new_session("w1", FOREVER, cwd="/")
    await tmux.new_session("w10", FOREVER, cwd="/")
    waiting = asyncio.create_task(tmux.wait_end("w1"))
    other = asyncio.create_task(tmux.wait_end("w10"))
    await asyncio.sleep(0.2)
    await tmux._command("kill-session", "-t", "=w1")
    began = time.monotonic()
    assert (await waiting).how == "closed"
    assert time.monotonic() - began < NOTICE
    assert not other.done()
    await tmux.kill_session("w10")
    assert (await other).session == "w10"


async def test_a_killed_server_is_noticed_by_all(tmux):
    for name in ("a", "b"):
        await tmux.new_session(name, FOREVER, cwd="/")
    waiting = [asyncio.create_task(tmux.wait_end(name)) for name in ("a", "b")]
    await asyncio.sleep(0.2)
    panes = await tmux.panes()
    os.kill(await server_pid(tmux), signal.SIGKILL)
    began = time.monotonic()
    assert [(await one).how for one in waiting] == ["server_gone", "server_gone"]
    assert time.monotonic() - began < NOTICE
    for pane in panes:
        await gone(pane.pid, 2)


async def test_a_process_that_outlives_its_server_is_ended_by_its_mark(tmux):
    script = 'trap "" HUP TERM; sleep 1000 & echo running; wait'
    await tmux.new_session("w1", ["env", "MARK=m-123", "sh", "-c", script], cwd="/")
    await screen_with(tmux, "w1", "running")
    pid = (await tmux.pane("w1")).pid
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(await server_pid(tmux), signal.SIGKILL)
    await tmux.end_orphan(pid, "m-124", grace=0)
    assert alive(pid)
    await tmux.end_orphan(pid, "m-123", grace=0.1)
    await gone(pid, 2)
    await gone(int(child), 2)
    await tmux.end_orphan(pid, "m-123")  # harmless when it is gone


async def test_a_server_that_hangs_is_killed_and_all_are_told():
    tmux = LocalTmux(timeout=1.0)
    await tmux.start()
    await tmux.new_session("w1", FOREVER, cwd="/")
    waiting = asyncio.create_task(tmux.wait_end("w1"))
    await asyncio.sleep(0.2)
    server = await server_pid(tmux)
    os.kill(server, signal.SIGSTOP)
    with pytest.raises(TmuxServerGone):
        await tmux.capture("w1")
    assert (await waiting).how == "server_gone"
    await gone(server, 2)
    await tmux.kill_server()


async def test_what_ended_before_one_waits_is_told_at_once(tmux):
    await tmux.new_session("w1", ["true"], cwd="/")
    await tmux.wait_end("w1")
    assert (await tmux.wait_end("w1")).exit_code == 0
    assert (await tmux.wait_end("never-was")).how == "closed"


async def test_twenty_endings_are_each_noticed(tmux):
    names = [f"w{i}" for i in range(20)]
    for i, name in enumerate(names):
        await tmux.new_session(name, ["sh", "-c", f"exit {i}"], cwd="/")
    endings = await asyncio.gather(*(tmux.wait_end(name) for name in names))
    assert [ending.exit_code for ending in endings] == list(range(20))


@pytest.mark.parametrize("ends", [1, 2, 3, 4])
async def test_sessions_that_end_between_two_looks_are_noticed(tmux, monkeypatch, ends):
    names = [f"w{i}" for i in range(4)]
    for name in names:
        await tmux.new_session(name, FOREVER, cwd="/")
    listen = tmux._listen

    async def late():
        monkeypatch.setattr(tmux, "_listen", listen)
        for name in names[:ends]:
            await tmux._command("kill-session", "-t", f"={name}")
        return await listen()

    monkeypatch.setattr(tmux, "_listen", late)
    async with asyncio.timeout(NOTICE):
        endings = await asyncio.gather(*(tmux.wait_end(name) for name in names[:ends]))
    assert {ending.how for ending in endings} == {"closed"}


async def test_commands_that_end_within_milliseconds_are_each_noticed(tmux):
    drawn = random.Random(7)
    for turn in range(4):
        names = [f"w{turn}-{i}" for i in range(12)]
        panes = [await tmux.new_session(name, FOREVER, cwd="/") for name in names]
        waiting = [asyncio.create_task(tmux.wait_end(name)) for name in names]
        await asyncio.sleep(0.1)
        for pane in panes:
            os.kill(pane.pid, signal.SIGTERM)
            await asyncio.sleep(drawn.random() * 0.008)
        async with asyncio.timeout(NOTICE):
            assert {(ending.how, ending.exit_code) for ending in await asyncio.gather(*waiting)} == {("exited", 143)}


async def test_no_command_of_ours_waits_for_a_child_of_the_server(tmux, monkeypatch):
    """The end of that child may be lost to the server: its client would wait for ever."""
    said, run = [], tmux._tmux

    async def heard(*args):
        said.append(args)
        return await run(*args)

    monkeypatch.setattr(tmux, "_tmux", heard)
    waiting = []
    for i in range(8):
        await tmux.new_session(f"w{i}", ["true"], cwd="/")
        waiting.append(asyncio.create_task(tmux.wait_end(f"w{i}")))
    await asyncio.gather(*waiting)
    await tmux._reap()
    started = [args for args in said if args[0] in ("run-shell", "if-shell")]
    assert started
    assert all("-b" in args for args in started)


async def test_a_dead_server_is_an_error_not_an_empty_answer(tmux):
    await tmux.new_session("w1", FOREVER, cwd="/")
    os.kill(await server_pid(tmux), signal.SIGKILL)
    await asyncio.sleep(0.05)
    for call in (tmux.panes, lambda: tmux.capture("w1"), lambda: tmux.pane("w1"), lambda: tmux.has_session("w1")):
        with pytest.raises(TmuxServerGone):
            await call()


async def test_unicode_on_the_screen(tmux):
    text = "grüße 日本語 🌳 ▁▂▃"
    await tmux.new_session("w1", ["sh", "-c", f"printf '%s\\n' '{text}'; exec sleep 1000"], cwd="/")
    assert await screen_with(tmux, "w1", "🌳") == text


async def test_sizes(tmux):
    pane = await tmux.new_session("w1", FOREVER, cwd="/", width=100, height=30)
    assert (pane.width, pane.height) == (100, 30)
    await tmux.resize("w1", 200, 50)
    pane = await tmux.pane("w1")
    assert (pane.width, pane.height) == (200, 50)


async def test_history_is_kept(tmux):
    await tmux.new_session("w1", ["sh", "-c", "seq 1000; exec sleep 1000"], cwd="/", height=20)
    screen = await screen_with(tmux, "w1", "1000")
    assert screen.splitlines() == [str(i) for i in range(1, 1001)]
    assert len((await tmux.capture("w1")).splitlines()) <= 20


async def test_ending_a_session_ends_all_that_it_started(tmux, tmp_path):
    script = "trap '' HUP TERM; (setsid sleep 1001 & echo $! > child); setsid sleep 1002 & sleep 1003; true"
    await tmux.new_session("w1", ["sh", "-c", script], cwd=str(tmp_path))
    pane = await tmux.pane("w1")
    async with asyncio.timeout(15):
        while len(children(pane.pid)) < 2:
            await asyncio.sleep(0.02)
    started = [pane.pid, *children(pane.pid)]
    began = time.monotonic()
    await tmux.kill_session("w1", grace=0.3)
    assert time.monotonic() - began < 15
    for pid in started:
        await gone(pid, 15)
    orphan = int(
        (tmp_path / "child").read_text()
    )  # tmux does not know it any more: that is for a process tree's parent
    with contextlib.suppress(ProcessLookupError):
        os.kill(orphan, signal.SIGKILL)


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


async def test_an_orderly_command_is_given_its_time(tmux, tmp_path):
    script = "trap 'echo bye > said; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    await tmux.new_session("w1", ["sh", "-c", script], cwd=str(tmp_path))
    await screen_with(tmux, "w1", "ready")
    await tmux.kill_session("w1", grace=5)
    assert (tmp_path / "said").read_text() == "bye\n"


async def test_secrets_in_an_env_file_are_seen_nowhere_else(tmux, tmp_path, monkeypatch):
    canary = f"canary-{os.getpid()}-ü'\"$x\n2nd line"
    file = tmp_path / "env"
    file.touch(0o600)
    file.write_bytes(env_file({"API_KEY": canary}))
    await tmux.new_session(
        "w1", wrapped(["sh", "-c", 'printf %s "$API_KEY" > got; exec sleep 1000'], str(file)), cwd=str(tmp_path)
    )
    async with asyncio.timeout(NOTICE):
        while not (tmp_path / "got").exists() or (tmp_path / "got").read_text() != canary:
            await asyncio.sleep(0.02)
    needle = f"canary-{os.getpid()}"
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert needle.encode() not in cmdline.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    for question in (
        ("show-environment", "-g"),
        ("show-environment", "-t", "=w1"),
        ("show-options", "-g"),
        ("show-options", "-s"),
        ("list-panes", "-a", "-F", "#{pane_start_command} #{pane_current_command} #{pane_title}"),
    ):
        assert needle not in await tmux._command(*question)


async def test_the_servers_environment_is_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", "sing")
    machine = await LocalImage(workdir=tmp_path).spawn()
    for tmux in (LocalTmux(), ExecTmux(machine)):
        await tmux.start()
        try:
            await tmux.new_session("w1", FOREVER, cwd="/")
            assert "CANARY_KEY" not in await tmux._command("show-environment", "-g")
            assert "CANARY_KEY" not in await tmux._command("show-environment", "-t", "=w1")
            for pid in (await server_pid(tmux), (await tmux.pane("w1")).pid):
                assert b"CANARY_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()
        finally:
            await tmux.kill_server()
    await machine.stop()


async def test_the_socket_is_in_a_private_directory(tmux):
    directory = Path(tmux.socket).parent
    assert directory.stat().st_mode & 0o777 == 0o700


async def test_the_attach_command_names_exactly_one_session(tmux):
    await tmux.new_session("w.1", FOREVER, cwd="/")
    command = tmux.attach_command("w.1")
    assert shlex.join(command).startswith(f"tmux -u -S {tmux.socket} ")
    assert command[-1] == "=w_d1:"


async def test_the_terminals_that_show_a_session_are_counted(tmux):
    await tmux.new_session("w.1", FOREVER, cwd="/")
    await tmux.new_session("w", FOREVER, cwd="/")
    assert await tmux.clients("w.1") == 0
    first, second = os.openpty()
    terminal = {"stdin": second, "stdout": second, "stderr": second, "env": {**os.environ, "TERM": "xterm"}}
    async with started(*tmux.attach_command("w.1"), **terminal):
        os.close(second)
        async with asyncio.timeout(NOTICE):
            while await tmux.clients("w.1") != 1:
                await asyncio.sleep(0.05)
        assert await tmux.clients("w") == 0
    os.close(first)
    async with asyncio.timeout(NOTICE):
        while await tmux.clients("w.1"):
            await asyncio.sleep(0.05)
    with pytest.raises(NoSuchSession):
        await tmux.clients("nobody")


async def test_a_client_of_tmux_that_is_started_while_its_wait_is_cancelled_ends(tmp_path, monkeypatch):
    started, begins, may_begin = [], threading.Event(), threading.Event()

    def start(socket):
        begins.set()
        may_begin.wait(NOTICE)
        started.append(subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE))
        return started[0]

    monkeypatch.setattr(tmux_local, "_start_listening", start)
    waiting = asyncio.create_task(LocalTmux(str(tmp_path / "tmux"))._listen())
    await asyncio.to_thread(begins.wait, NOTICE)
    waiting.cancel()
    await asyncio.sleep(0)
    may_begin.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert started[0].returncode is not None
    assert started[0].stdout.closed


async def test_missing_tmux_says_so(tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    for tool in ("sh", "bash", "rm", "rmdir", "dirname"):
        (empty / tool).symlink_to(f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}")
    machine = await LocalImage(workdir=tmp_path / "work", env={"PATH": str(empty)}).spawn()
    tmux = ExecTmux(machine)
    with pytest.raises(TmuxMissing, match="install"):
        await tmux.start()
    await machine.stop()


def test_a_bad_variable_name_is_refused():
    with pytest.raises(ValueError, match="A-B"):
        env_file({"A-B": "x"})
