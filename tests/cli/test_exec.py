"""``ramure exec`` streams: all bytes, in time, in bounded memory; and the command ends with whoever asked for it."""

from __future__ import annotations

import hashlib
import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import ramure
from tests.cli.live import LIMIT, Shell, live_run

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

SIZE: Final = 20_000_000
BINARY: Final = (
    f"{sys.executable} -c 'import sys; piece = bytes(range(256)) * 250\n"
    f"for _ in range({SIZE} // 64000): sys.stdout.buffer.write(piece)\n'"
)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("exec") / "home")


@pytest.fixture(scope="module")
def run(shell: Shell) -> Iterator[str]:
    with live_run(shell, program=Path(__file__).with_name("exec_program.py")) as run:
        yield run


@pytest.fixture(autouse=True)
def _only_with_the_run(run: str) -> None:
    """The module has one run."""


@pytest.fixture
def begin(shell: Shell) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start ``ramure exec worker …`` with pipes; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ramure.cli", "exec", *words]
        process = subprocess.Popen(
            command,
            env=shell.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def memory(pid: int, kind: str) -> int:
    """Bytes: ``VmHWM`` is the most that it ever had, ``VmRSS`` what it has now."""
    [kilobytes] = re.findall(rf"{kind}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


def program_of(shell: Shell) -> int:
    return int(shell("status", "--json").json["pid"])


def test_twenty_megabytes_of_binary_come_unharmed_and_in_bounded_memory(
    shell: Shell, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    program = program_of(shell)
    assert shell("exec", "machine 1", "--", "true").code == 0  # what the first of its life loads is not counted
    before = memory(program, "VmRSS")
    Path(f"/proc/{program}/clear_refs").write_text("5")  # VmHWM begins anew
    command = begin("machine 1", "--", "sh", "-c", BINARY + "; exit 3")
    assert command.stdout is not None
    seen, size, most = hashlib.sha256(), 0, 0
    while data := command.stdout.read(1 << 20):
        seen.update(data)
        size += len(data)
        if size < SIZE * 0.9:
            most = max(most, memory(command.pid, "VmHWM"))
    assert command.wait(LIMIT) == 3
    assert size == SIZE // 64000 * 64000
    assert seen.digest() == hashlib.sha256((bytes(range(256)) * 250) * (SIZE // 64000)).digest()
    alone = begin("machine 1", "--", "sh", "-c", "echo $$; sleep 60")
    assert alone.stdout is not None
    alone.stdout.readline()
    assert most - memory(alone.pid, "VmHWM") < 8_000_000
    assert memory(program, "VmHWM") - before < 16_000_000


def test_a_reader_that_rests_holds_the_command_up_and_loses_nothing(
    shell: Shell, begin: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    count = tmp_path / "count"
    writes = (
        "import sys\n"
        "for n in range(400):\n"
        "    sys.stdout.buffer.write(bytes([n % 256]) * 100_000)\n"
        f"    open({str(count)!r}, 'w').write(str(n))\n"
    )
    program = program_of(shell)
    before = memory(program, "VmRSS")
    command = begin("machine 1", "--", sys.executable, "-c", writes)
    until(count.exists, "it has begun")
    time.sleep(12)  # longer than a client of the control socket may leave its answers unread
    held = int(count.read_text())
    time.sleep(0.5)
    assert (int(count.read_text()), command.poll()) == (held, None)
    assert held < 120
    assert memory(program, "VmRSS") - before < 16_000_000
    assert command.stdout is not None
    assert command.stdout.read(0) == b""
    out, err = command.communicate(timeout=LIMIT)
    assert (command.returncode, err) == (0, b"")
    assert out == b"".join(bytes([n % 256]) * 100_000 for n in range(400))


def test_output_comes_while_the_command_runs_in_the_order_of_both_streams(
    begin: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    steps = "; ".join(f"echo {n} >&{1 + n % 2}; while [ ! -e {tmp_path}/{n} ]; do sleep 0.02; done" for n in range(8))
    command = begin("machine 1", "--", "sh", "-c", steps)
    for n in range(8):
        ready, _, _ = select.select([command.stdout, command.stderr], [], [], 30)
        expected = command.stderr if n % 2 else command.stdout
        assert ready == [expected]
        assert expected is not None
        assert expected.read(100) == b"%d\n" % n
        (tmp_path / str(n)).touch()
    assert command.wait(LIMIT) == 0


def test_both_streams_into_one_file_keep_their_order(shell: Shell) -> None:
    lines = "; ".join(f"echo {n} >&{1 + n % 2}; sleep 0.05" for n in range(10))
    done = subprocess.run(
        [sys.executable, "-m", "ramure.cli", "exec", "machine 1", "--", "sh", "-c", lines],
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout.split() == [b"%d" % n for n in range(10)]


@pytest.mark.parametrize("status", [0, 1, 7, 77, 255])
def test_the_status_is_the_commands(shell: Shell, status: int) -> None:
    said = shell("exec", "machine 1", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
    assert (said.code, said.out, said.err) == (status, "out\n", "err\n")


def test_a_reader_that_leaves_ends_the_command_quietly(begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    command = begin("machine 1", "--", "sh", "-c", "echo $$; while :; do echo line; done")
    assert command.stdout is not None
    assert command.stderr is not None
    pid = int(command.stdout.readline())
    command.stdout.close()
    assert command.wait(LIMIT) == 128 + signal.SIGPIPE
    assert command.stderr.read() == b""
    until(lambda: not lives(pid), "the command has ended")


def test_a_reader_that_leaves_ends_a_command_that_says_no_more(begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    command = begin("machine 1", "--", "sh", "-c", "echo $$; sleep 1000")
    assert command.stdout is not None
    assert command.stderr is not None
    pid = int(command.stdout.readline())
    command.stdout.close()
    assert command.wait(LIMIT) == 128 + signal.SIGPIPE
    assert command.stderr.read() == b""
    until(lambda: not lives(pid), "the command has ended")


def test_head_gets_its_line_and_the_pipeline_ends(shell: Shell) -> None:
    line = f"{sys.executable} -m ramure.cli exec 'machine 1' -- yes | head -1"
    done = subprocess.run(["sh", "-c", line], env=shell.environ, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"y\n", b"")


@pytest.mark.parametrize("busy", ["sleep 1000", "while :; do echo line; done"])
def test_ctrl_c_ends_the_command_and_what_it_started(begin: Callable[..., subprocess.Popen[bytes]], busy: str) -> None:
    command = begin("machine 1", "--", "sh", "-c", f"sleep 1000 & echo $! $$; {busy}")
    assert command.stdout is not None
    started, pid = map(int, command.stdout.readline().split())
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=LIMIT)
    assert (command.returncode, err) == (130, b"")
    until(lambda: not lives(pid) and not lives(started), "the command has ended")


def test_a_limit_kills_it_after_its_output_was_shown(shell: Shell) -> None:
    said = shell("exec", "--timeout", "1", "machine 1", "--", "sh", "-c", "echo begun; sleep 1000")
    assert (said.code, said.out) == (1, "begun\n")
    assert "1" in said.err
    assert "Traceback" not in said.err


def test_json_is_one_document_also_of_much_output_and_of_bytes_that_are_no_text(shell: Shell) -> None:
    much = shell("exec", "--json", "machine 1", "head -c 20000000 /dev/zero | tr '\\0' x; exit 5").json
    assert (len(much["stdout"]), set(much["stdout"]), much["exit_code"]) == (20_000_000, {"x"}, 5)
    said = shell("exec", "--json", "machine 1", "printf 'a\\377\\303\\251'; printf 'e\\200' >&2")
    assert said.code == 0
    document = json.loads(said.out)
    assert document["stdout"].encode("utf-8", "surrogateescape") == b"a\xff\xc3\xa9"
    assert document["stderr"].encode("utf-8", "surrogateescape") == b"e\x80"


def test_a_closed_output_and_a_full_one_are_told_apart(shell: Shell) -> None:
    def sh(line: str) -> subprocess.CompletedProcess[bytes]:
        whole = line.replace("EXEC", f"{sys.executable} -m ramure.cli exec 'machine 1' --")
        return subprocess.run(["sh", "-c", whole], env=shell.environ, capture_output=True, timeout=LIMIT, check=False)

    closed = sh("EXEC sh -c 'echo lost; echo kept >&2; exit 4' >&-")
    assert (closed.returncode, closed.stderr) == (4, b"kept\n")
    full = sh("EXEC yes >/dev/full")
    assert full.returncode == 1
    assert b"the output cannot be written: No space left on device" in full.stderr


def test_a_machine_that_is_gone_and_an_agent_that_is_not_there_are_told(shell: Shell) -> None:
    said = shell("exec", "nobody", "--", "true")
    assert (said.code, said.out) == (4, "")
    assert "nobody" in said.err


async def test_an_attached_program_reads_the_output_as_it_comes(
    shell: Shell, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(shell.home))
    async with ramure.attach(run) as there:
        async with there.exec_stream("machine 1", "head -c 3000000 /dev/urandom | tee /dev/stderr; exit 6") as stream:
            seen = {"stdout": b"", "stderr": b""}
            async for chunk in stream:
                seen[chunk.source] += chunk.data
        assert (len(seen["stdout"]), seen["stdout"] == seen["stderr"], stream.exit_code) == (3_000_000, True, 6)
        async with there.exec_stream("machine 1", "echo $$; exec yes") as stream:
            pid = int((await anext(stream)).data.split()[0])
        until(lambda: not lives(pid), "leaving ends the command")


def test_a_command_that_writes_byte_by_byte_loses_none(shell: Shell) -> None:
    writes = "import os\nfor n in range(30000): os.write(1 + n % 2, bytes([65 + n % 26]))"
    said = shell("exec", "machine 1", "--", sys.executable, "-c", writes)
    letters = bytes(65 + n % 26 for n in range(30000)).decode()
    assert (said.code, said.out, said.err) == (0, letters[::2], letters[1::2])
