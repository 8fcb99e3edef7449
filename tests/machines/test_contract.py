"""What every machine promises; each test runs over each backend (see conftest.py)."""

import asyncio
import contextlib
import os
import pwd
import signal
import time

import pytest

from ramure.machines.docker.image import DockerImage
from ramure.machines.errors import (
    CommandRefused,
    ExecTimeout,
    FileRefused,
    MachineStopped,
    NoSuchFile,
    NotSupported,
    OutsideFolder,
    SpawnFailed,
    UserRefused,
)
from ramure.machines.files import remote as files
from ramure.machines.local import LocalImage
from ramure.machines.morph.image import MorphImage
from ramure.machines.sandbox.image import SandboxImage
from ramure.machines.ssh import files as ssh_files
from ramure.machines.ssh import machine as ssh_machine
from ramure.machines.ssh.image import SSHImage
from ramure.types import CommandFailed, ExecResult
from tests import scale
from tests.machines.processes import still_there

MEGA = 1_000_000

real_commands = pytest.mark.needs("processes")


@pytest.fixture
async def machine(row, tmp_path, monkeypatch):
    monkeypatch.setenv("RAMURE_TEST", "42")
    machine = await row.image(tmp_path).spawn()
    try:
        yield machine
    finally:
        await machine.stop()


def end(pids: list[int]) -> None:
    """End what a backend, as it says, does not."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpgid(pid), signal.SIGKILL)


async def wait_gone(machine, row, pids: list[int], within: float = 0.0) -> None:
    deadline = time.monotonic() + within + row.gone_within
    while left := await still_there(machine, row, pids):
        assert time.monotonic() < deadline, f"still there after {row.gone_within} s: {left}"
        await asyncio.sleep(0.01)


async def pids_in(machine, path: str, count: int) -> list[int]:
    """The process ids that a command writes to a file, when all are there."""
    async with asyncio.timeout(30):
        while True:
            try:
                lines = (await machine.read_file(path)).split()
            except NoSuchFile:
                lines = []
            if len(lines) == count:
                return [int(line) for line in lines]
            await asyncio.sleep(0.02)


async def held_up(machine, path: str) -> None:
    """Return when a command that writes to this file for each megabyte of output does so no more."""
    before, now = -1, 0
    async with asyncio.timeout(60):
        while now != before or now < 4:
            await asyncio.sleep(0.5)
            with contextlib.suppress(NoSuchFile):
                before, now = now, len(await machine.read_file(path))


class TestExec:
    @real_commands
    async def test_output_and_status(self, machine):
        result = await machine.exec("echo out; echo err >&2; exit 3")
        assert result == ExecResult("out\n", "err\n", 3)

    async def test_success(self, machine):
        assert await machine.exec("true") == ExecResult("", "", 0)

    async def test_check_raises_on_failure(self, machine):
        with pytest.raises(CommandFailed, match="boom"):
            (await machine.exec("echo boom >&2; exit 1")).check("make")

    async def test_a_command_that_does_not_exist(self, machine):
        assert (await machine.exec("no-such-command-here")).exit_code == 127

    @real_commands
    async def test_death_by_signal(self, machine):
        assert (await machine.exec("kill -9 $$")).exit_code == 137

    @real_commands
    async def test_a_syntax_error(self, machine):
        assert (await machine.exec("if; fi")).exit_code == 2

    async def test_there_is_no_standard_input(self, machine):
        assert (await machine.exec("cat; echo end", timeout=30)).stdout == "end\n"

    @real_commands
    async def test_50_megabytes_on_both_streams_at_once(self, machine):
        command = f"head -c {50 * MEGA} /dev/zero | tr '\\0' o & head -c {50 * MEGA} /dev/zero | tr '\\0' e >&2; wait"
        result = await machine.exec(command)
        assert len(result.stdout) == len(result.stderr) == 50 * MEGA
        assert set(result.stdout[:MEGA]) == {"o"}
        assert set(result.stderr[-MEGA:]) == {"e"}

    async def test_any_bytes(self, machine):
        everything = bytes(range(256)) * 300
        await machine.write_file("bytes", everything)
        result = await machine.exec("cat bytes")
        assert result.stdout.encode("utf-8", "surrogateescape") == everything

    async def test_characters_are_whole_wherever_the_pieces_end(self, machine):
        text = "aß日🌳" * 100_000
        await machine.write_file("text", text.encode())
        assert (await machine.exec("cat text")).stdout == text

    async def test_a_long_command(self, machine, row):
        word = "x" * 300_000
        if row.name == "documented":  # its tool takes one argument, of 128 KiB at most
            with pytest.raises(OSError, match="Argument list too long"):
                await machine.exec(f"echo {word}; cat")
            return
        assert (await machine.exec(f"echo {word}; cat")).stdout == word + "\n"

    @real_commands
    async def test_quotes_newlines_and_unicode(self, machine):
        assert (await machine.exec("printf '%s\\n' \"a'b\" '$HOME' 'ü\n日'")).stdout == "a'b\n$HOME\nü\n日\n"

    @real_commands
    async def test_environment(self, machine):
        assert (await machine.exec("echo $RAMURE_TEST")).stdout == "42\n"

    async def test_working_directory(self, machine, tmp_path, row):
        first = (await machine.exec("pwd; cd /; touch /dev/null")).stdout
        assert first == (await machine.exec("pwd")).stdout
        if row.here:
            assert first == f"{tmp_path}\n"

    async def test_fifty_at_once(self, machine):
        results = await asyncio.gather(*(machine.exec(f"echo {i}; sleep 0.05; exit {i}") for i in range(50)))
        assert [(result.stdout, result.exit_code) for result in results] == [(f"{i}\n", i) for i in range(50)]

    @real_commands
    async def test_what_runs_on_does_not_hold_the_command_up(self, machine, row):
        began = time.monotonic()
        if not row.stragglers:  # it waits for the end of the output
            assert (await machine.exec("sleep 0.5 & echo started")).stdout == "started\n"
            assert time.monotonic() - began >= 0.5
            return
        result = await machine.exec("sleep 100 & echo started")
        assert result.stdout == "started\n"
        assert time.monotonic() - began < 30


class TestUsers:
    async def test_agent_is_the_backends_own(self, machine):
        assert await machine.exec("id -u", user="agent") == await machine.exec("id -u")

    async def test_another_user_is_honoured(self, machine, row):
        for user in row.users:
            if os.getuid() != 0 and row.here:
                with pytest.raises(UserRefused, match="only root"):
                    await machine.exec("true", user=user)
                continue
            result = await machine.exec("id -un; echo $HOME $USER $RAMURE_TEST", user=user)
            assert result == ExecResult(f"{user}\n{pwd.getpwnam(user).pw_dir} {user} 42\n", "", 0)
            result = await machine.exec(f"id -un; : {'x' * 300_000}", user=user)
            assert result == ExecResult(f"{user}\n", "", 0)

    async def test_an_unknown_user_is_refused(self, machine):
        with pytest.raises(UserRefused, match="no-such-user"):
            await machine.exec("true", user="no-such-user")


class TestTimeouts:
    @real_commands
    async def test_the_error_holds_the_output_so_far(self, machine, row):
        began = time.monotonic()
        with pytest.raises(ExecTimeout) as caught:
            await machine.exec("echo so far; echo oops >&2; sleep 100", timeout=0.5 + row.start)
        assert (caught.value.stdout, caught.value.stderr) == ("so far\n", "oops\n")
        assert isinstance(caught.value, TimeoutError)
        assert time.monotonic() - began < 50

    @real_commands
    async def test_the_whole_group_is_ended(self, machine, row):
        command = "echo $$ >> pids; (sleep 1001 & echo $! >> pids; sh -c 'echo $$ >> pids; sleep 1002; true'); true"
        with pytest.raises(ExecTimeout):
            await machine.exec(command, timeout=0.5 + row.start)
        await wait_gone(machine, row, await pids_in(machine, "pids", 3))

    @real_commands
    async def test_so_are_those_that_left_the_group(self, machine, row):
        command = """
            (env -i setsid sh -c 'echo $$ >> pids; sleep 1003; true' &)
            (setsid nohup sh -c 'trap "" TERM HUP INT; echo $$ >> pids; while :; do sleep 1; done' &)
            echo $$ >> pids; sleep 1004; true"""
        command = command if row.stragglers else f"({command}) >/dev/null 2>&1"  # it waits for the output's end
        with pytest.raises(ExecTimeout):
            await machine.exec(command, timeout=0.7 + row.start)
        pids = await pids_in(machine, "pids", 3)
        if row.stragglers:
            await wait_gone(machine, row, pids)
        else:  # it ends the process group only
            assert len(await still_there(machine, row, pids)) == 2
            end(pids)

    async def test_a_command_that_is_in_time(self, machine):
        assert (await machine.exec("echo ok", timeout=30)).stdout == "ok\n"

    @real_commands
    async def test_cancelling_ends_the_command(self, machine, row):
        running = asyncio.create_task(machine.exec("echo $$ > pids; sleep 1005; true"))
        pids = await pids_in(machine, "pids", 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await wait_gone(machine, row, pids)
        assert (await machine.exec("echo fine")).stdout == "fine\n"

    @real_commands
    async def test_cancelling_at_any_moment_leaves_nothing(self, machine, row):
        """Before a command starts, and until one that has started is cancelled."""
        pause, started = 0.0, []
        while not started:
            running = asyncio.create_task(machine.exec("echo $$ >> started; sleep 1006; true"))
            await asyncio.sleep(pause)
            running.cancel()
            await asyncio.wait([running])
            pause = pause * 1.5 + 0.002
            assert pause < 5, "no command has started"
            with contextlib.suppress(NoSuchFile):
                started = [int(pid) for pid in (await machine.read_file("started")).split()]
        await wait_gone(machine, row, started)

    @real_commands
    async def test_a_fork_bomb_of_sorts(self, machine, row):
        command = (
            "spawn() { (setsid sh -c 'echo $$ >> pids; sleep 1007; true' &); }; while :; do spawn; sleep 0.01; done"
        )
        command = command if row.stragglers else f"({command}) >/dev/null 2>&1"
        with pytest.raises(ExecTimeout):
            await machine.exec(command, timeout=0.5 + row.start)
        pids = [int(pid) for pid in (await machine.read_file("pids")).split()]
        assert pids
        if row.stragglers:
            await wait_gone(machine, row, pids)
        else:  # the loop is ended, what left its group is not
            end(pids)


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 4097, 10 * MEGA])
    async def test_what_is_written_is_read(self, machine, size):
        data = os.urandom(size)
        await machine.write_file("file", data)
        assert await machine.read_file("file") == data

    @pytest.mark.timeout(180)
    async def test_200_megabytes(self, machine):
        data = os.urandom(MEGA) * 200
        await machine.write_file("big", data)
        assert await machine.read_file("big") == data

    async def test_a_shorter_file_replaces_a_longer(self, machine):
        await machine.write_file("file", b"long content")
        await machine.write_file("file", b"short")
        assert await machine.read_file("file") == b"short"

    async def test_missing_directories_are_made(self, machine):
        await machine.write_file("a/b/c.txt", b"deep")
        assert (await machine.exec("cat a/b/c.txt")).stdout == "deep"

    async def test_odd_names(self, machine):
        for name in ("with space", "quote'd", 'dou"ble', "ünï", "-n", "$HOME", "semi;colon", "new\nline"):
            await machine.write_file(name, name.encode())
            assert await machine.read_file(name) == name.encode()

    async def test_absolute_paths(self, machine):
        where = (await machine.exec("pwd")).stdout.strip()
        await machine.write_file(f"{where}/abs", b"x")
        assert await machine.read_file("abs") == b"x"

    async def test_a_missing_file(self, machine):
        with pytest.raises(NoSuchFile, match="nowhere"):
            await machine.read_file("nowhere/at/all")
        with pytest.raises(FileNotFoundError):
            await machine.read_file("nowhere")

    async def test_a_directory_is_no_file(self, machine):
        await machine.write_file("d/file", b"")
        with pytest.raises(OSError, match="directory"):
            await machine.read_file("d")
        with pytest.raises(OSError, match="directory"):
            await machine.write_file("d", b"x")

    @real_commands
    async def test_private_files(self, machine):
        await machine.write_private("keys/secret", b"s3cret")
        assert (await machine.exec("stat -c %a keys/secret")).stdout == "600\n"
        assert await machine.read_file("keys/secret") == b"s3cret"
        await machine.write_private("keys/secret", b"new")
        assert await machine.read_file("keys/secret") == b"new"

    @real_commands
    async def test_the_mode_of_a_file_is_kept(self, machine):
        await machine.exec("printf old > script; chmod 755 script")
        await machine.write_file("script", b"#!/bin/sh\necho hi\n")
        assert (await machine.exec("./script")).stdout == "hi\n"

    @pytest.mark.needs("processes", "kernel")
    async def test_what_may_not_be_touched(self, machine):
        """The kernel lets nobody write the one and read the other, root neither."""
        with pytest.raises(OSError, match="(?i)permission denied|read-only"):
            await machine.write_file("/proc/sys/kernel/osrelease", b"x")
        with pytest.raises(OSError, match="(?i)permission denied"):
            await machine.read_file("/proc/sys/vm/drop_caches")

    async def test_many_files_at_once(self, machine):
        await asyncio.gather(*(machine.write_file(f"many/{i}", str(i).encode()) for i in range(50)))
        read = await asyncio.gather(*(machine.read_file(f"many/{i}") for i in range(50)))
        assert read == [str(i).encode() for i in range(50)]


MAKE = {
    "FIFO": "mkfifo odd",
    "socket": """perl -e 'socket(S, 1, 1, 0) && bind(S, pack("S a108", 1, "odd")) or die $!'""",
    "directory": "mkdir odd",
}


@pytest.mark.needs("refuses")
class TestRefusals:
    """What can be no file, or hangs who opens it, is refused by all alike, with its path and the reason; and nothing hangs."""

    @pytest.fixture
    def short(self, monkeypatch):
        """Files are given up after 4 seconds."""
        for module in (files, ssh_machine, ssh_files):
            monkeypatch.setattr(module, "FILE_LIMIT", 4.0)

    @real_commands
    @pytest.mark.parametrize("what", MAKE)
    async def test_what_is_no_regular_file(self, machine, what):
        (await machine.exec(MAKE[what])).check("make it")
        async with asyncio.timeout(60):
            for call in (machine.read_file("odd"), machine.write_file("odd", b"x"), machine.write_private("odd", b"x")):
                with pytest.raises(FileRefused, match=f"odd: it is a {what}, not a regular file") as refused:
                    await call
                assert refused.value.path == "odd"
                assert not isinstance(refused.value, NoSuchFile)

    @real_commands
    async def test_so_is_one_behind_a_link(self, machine):
        (await machine.exec("mkfifo fifo; ln -s fifo link")).check("make them")
        async with asyncio.timeout(60):
            for call in (machine.read_file("link"), machine.write_file("link", b"x")):
                with pytest.raises(FileRefused, match="link: it is a FIFO"):
                    await call

    @pytest.mark.needs("processes", "kernel")
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty"])
    async def test_devices(self, machine, path):
        async with asyncio.timeout(60):
            for call in (machine.read_file(path), machine.write_file(path, b"x")):
                with pytest.raises(FileRefused, match=f"{path}: it is a device, not a regular file"):
                    await call

    @real_commands
    async def test_a_link_that_leads_nowhere(self, machine):
        await machine.exec("ln -s target link")
        with pytest.raises(NoSuchFile, match="link"):
            await machine.read_file("link")
        await machine.write_file("link", b"x")
        assert await machine.read_file("target") == b"x"

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("", "empty"),
            ("a\0b", "NUL"),
            ("\0", "NUL"),
            ("/a\0/b", "NUL"),
            ("n" * 256, "(?i)name too long"),
            ("ü" * 128 + "/x", "(?i)name too long"),
            (("d" * 200 + "/") * 25 + "x", "(?i)name too long"),
            ("half \ud800", "half of a character"),
            ("directory/", "is a directory"),
        ],
    )
    async def test_paths_at_which_no_file_can_be(self, machine, path, why):
        for call in (machine.read_file(path), machine.write_file(path, b"x"), machine.write_private(path, b"x")):
            with pytest.raises(FileRefused, match=why) as refused:
                await call
            assert refused.value.path == path
        assert (await machine.exec("echo on")).stdout == "on\n"

    @pytest.mark.parametrize("command", ["echo a\0b", "\0", "echo half \ud800", "x" * 300_000 + "\0"])
    async def test_commands_that_no_shell_can_be_given(self, machine, command):
        with pytest.raises(CommandRefused, match="NUL|half of a character"):
            await machine.exec(command)
        with pytest.raises(CommandRefused):
            async for _ in machine.stream(command):
                pass
        assert (await machine.exec("echo on")).stdout == "on\n"

    @real_commands
    async def test_a_name_that_is_no_utf_8(self, machine):
        name = "no utf-8 \udcff\udc80"
        await machine.write_file(f"{name}/{name}", b"content")
        assert await machine.read_file(f"{name}/{name}") == b"content"
        assert (await machine.exec(f"cat '{name}/{name}'; printf '\udcfe'")).stdout == "content\udcfe"

    @real_commands
    async def test_a_parent_that_is_a_file(self, machine):
        await machine.write_file("file", b"")
        for path in ("file/below", "file/deep/er"):
            with pytest.raises(FileRefused, match="(?i)not a directory|file exists") as refused:
                await machine.write_file(path, b"x")
            assert refused.value.path == path
            with pytest.raises(FileRefused):
                await machine.read_file(path)

    @real_commands
    async def test_names_that_look_like_options(self, machine):
        for name in ("-rf", "--help", "-n/-e", "--", "-"):
            await machine.write_file(name, name.encode())
            assert await machine.read_file(name) == name.encode()

    @pytest.mark.needs("processes", "kernel")
    async def test_a_file_of_the_kernel_whose_reader_waits_for_news(self, machine, short):
        """It is read, or given up; others are read meanwhile."""
        await machine.write_file("other", b"x")
        reading = [asyncio.create_task(machine.read_file("/proc/kmsg")) for _ in range(3)]
        async with asyncio.timeout(60):
            for _ in range(10):
                assert await machine.read_file("other") == b"x"
            ends = await asyncio.gather(*reading, return_exceptions=True)
        assert all(isinstance(each, (bytes, FileRefused)) for each in ends), ends
        assert (await machine.exec("echo on")).stdout == "on\n"

    @real_commands
    async def test_an_empty_file_and_one_of_the_kernels_that_has_no_size(self, machine, row):
        await machine.write_file("empty", b"")
        assert await machine.read_file("empty") == b""
        if row.kernel:
            assert (await machine.read_file("/proc/self/status")).startswith(b"Name:")

    @pytest.mark.needs(
        "kernel"
    )  # an SFTP server that waits for a FIFO in a process of its own, which the fake's is not
    @real_commands
    async def test_a_file_that_a_peer_swaps_for_a_fifo_again_and_again(self, machine, short):
        """Each read gives content or a refusal, in time; and none holds up the others."""
        swap = "while :; do rm -f swapped; mkfifo swapped; rm -f swapped; echo content >swapped; done 2>/dev/null"
        await machine.write_file("other", b"x")
        swapping = asyncio.create_task(machine.exec(swap))
        await asyncio.sleep(0.5)
        try:
            async with asyncio.timeout(100):
                for _ in range(scale.examples(30)):
                    calls = [
                        machine.read_file("swapped"),
                        machine.write_file("swapped", b"new"),
                        machine.read_file("other"),
                    ]
                    *swapped, other = await asyncio.gather(*calls, return_exceptions=True)
                    assert other == b"x"
                    assert all(each is None or isinstance(each, (bytes, FileRefused)) for each in swapped), swapped
        finally:
            swapping.cancel()
            await asyncio.wait([swapping])


class TestStreams:
    @real_commands
    async def test_output_comes_as_it_is_made(self, machine, row):
        async with machine.stream("for i in 1 2 3; do echo $i; sleep 0.3; done; echo err >&2; exit 5") as stream:
            seen = [(chunk.source, chunk.text, time.monotonic()) async for chunk in stream]
        assert stream.exit_code == 5
        if row.name == "documented":  # the default yields everything at the end
            assert [each[:2] for each in seen] == [("stdout", "1\n2\n3\n"), ("stderr", "err\n")]
            return
        assert [(source, text) for source, text, _ in seen] == [
            ("stdout", "1\n"),
            ("stdout", "2\n"),
            ("stdout", "3\n"),
            ("stderr", "err\n"),
        ]
        assert seen[2][2] - seen[0][2] > 0.4

    @real_commands
    async def test_all_of_it_comes_to_a_slow_reader(self, machine):
        size = 0
        async for chunk in machine.stream(f"head -c {20 * MEGA} /dev/zero"):
            size += len(chunk.data)
            await asyncio.sleep(0.001)
        assert size == 20 * MEGA

    async def test_a_timeout(self, machine):
        with pytest.raises(ExecTimeout):
            async for _ in machine.stream("echo x; sleep 100", timeout=0.5):
                pass

    @pytest.mark.needs("processes", "stragglers")
    async def test_a_timeout_while_its_reader_is_slow(self, machine, row):
        """It ends on time; what it had put out on this host comes all the same, then the error."""
        command = "echo $$ > pid; while :; do head -c 1000000 /dev/zero; echo >> written; done"
        size = 0

        async def read_on(stream) -> None:
            nonlocal size
            async for chunk in stream:
                size += len(chunk.data)

        async with machine.stream(command, timeout=1 + row.start) as stream:
            size += len((await anext(stream)).data)
            await wait_gone(machine, row, await pids_in(machine, "pid", 1), 30)
            with pytest.raises(ExecTimeout):
                await read_on(stream)
        if row.name not in ("ssh", "morph"):  # there the link's window holds much, which the end of the command drops
            assert size >= MEGA * len(await machine.read_file("written"))

    @real_commands
    async def test_leaving_ends_the_command(self, machine, row):
        async with machine.stream("echo $$; echo $$ > pid; sleep 1008; true") as stream:
            reading = asyncio.create_task(anext(stream))
            pids = await pids_in(machine, "pid", 1)
            if row.name == "documented":  # the default yields nothing before the end; leaving ends it all the same
                assert not reading.done()
                reading.cancel()
                await asyncio.wait([reading])
            else:
                assert (await reading).text == f"{pids[0]}\n"
        await wait_gone(machine, row, pids)

    @pytest.mark.needs("processes", "stragglers")
    @pytest.mark.parametrize("how", ["leaving", "cancelling"])
    async def test_one_that_its_slow_reader_holds_up(self, machine, row, how):
        """It is ended all the same: nobody will ever read what is in its pipe."""
        command = "echo $$ > pid; while :; do head -c 1000000 /dev/zero; echo >> written; done"

        leave = asyncio.Event()

        async def read() -> None:
            async with machine.stream(command) as stream:
                await anext(stream)
                await leave.wait()

        reading = asyncio.create_task(read())
        await held_up(machine, "written")
        if how == "leaving":
            leave.set()
        else:
            reading.cancel()
        done, _ = await asyncio.wait([reading], timeout=60)
        assert done
        await wait_gone(machine, row, await pids_in(machine, "pid", 1))


class TestEnds:
    async def test_stop_twice(self, machine):
        await machine.stop()
        await machine.stop()

    async def test_use_after_stop(self, machine):
        await machine.stop()
        for call in (
            lambda: machine.exec("true"),
            lambda: machine.read_file("x"),
            lambda: machine.write_file("x", b""),
            lambda: machine.ping(),
        ):
            with pytest.raises(MachineStopped):
                await call()

    @real_commands
    async def test_stop_ends_what_still_runs(self, machine, row):
        await machine.exec("(setsid sh -c 'echo $$ >> pids; sleep 1009; true' >/dev/null 2>&1 &)")
        running = asyncio.create_task(machine.exec("echo $$ >> pids; sleep 1010; true"))
        pids = await pids_in(machine, "pids", 2)
        await machine.stop()
        if not row.stragglers:  # its stop ends nothing
            assert await still_there(machine, row, pids) == pids
            end(pids)
            await running
            return
        with pytest.raises(MachineStopped):
            await running
        if row.here:  # elsewhere nobody can look any more
            await wait_gone(machine, row, pids)

    async def test_a_ping(self, machine):
        await machine.ping()

    async def test_descriptions_say_something(self, machine, row, tmp_path):
        assert machine.describe()
        assert row.image(tmp_path).describe()

    async def test_two_machines_of_one_image(self, row, tmp_path):
        image = row.image(tmp_path)
        one, two = await asyncio.gather(image.spawn(), image.spawn())
        await one.stop()
        assert (await two.exec("echo on")).stdout == "on\n"
        await two.stop()


@pytest.mark.needs("forks")
class TestCopies:
    @real_commands
    async def test_a_fork_has_what_was_there(self, machine):
        await machine.exec("mkdir -p d; echo one > d/file; chmod 700 d/file; ln -s file d/link; printf x > .hidden")
        fork = await machine.fork()
        assert (await fork.exec("cat d/link .hidden; stat -c %a d/file")).stdout == "one\nx700\n"
        await fork.stop()

    async def test_a_fork_and_its_origin_are_independent(self, machine):
        await machine.write_file("file", b"before")
        fork = await machine.fork()
        await fork.write_file("file", b"fork")
        await fork.write_file("only-fork", b"")
        await machine.write_file("file", b"origin")
        await machine.write_file("only-origin", b"")
        assert await machine.read_file("file") == b"origin"
        assert await fork.read_file("file") == b"fork"
        for one, others in ((machine, "only-fork"), (fork, "only-origin")):
            with pytest.raises(NoSuchFile):
                await one.read_file(others)
        await machine.stop()
        assert await fork.read_file("only-fork") == b""
        await fork.stop()

    @real_commands
    async def test_machines_start_from_a_snapshot(self, machine):
        await machine.write_file("file", b"then")
        image = await machine.snapshot()
        await machine.write_file("file", b"now")
        one, two = await asyncio.gather(image.spawn(), image.spawn())
        await one.exec("printf changed > file")
        assert await two.read_file("file") == b"then"
        assert await machine.read_file("file") == b"now"
        await machine.stop()
        three = await image.spawn()
        assert await three.read_file("file") == b"then"
        for each in (one, two, three):
            await each.stop()
        await image.remove()
        with pytest.raises(SpawnFailed):
            await image.spawn()

    async def test_a_stopped_machine_cannot_be_copied(self, machine):
        await machine.stop()
        for call in (machine.fork, machine.snapshot):
            with pytest.raises(MachineStopped):
                await call()


@pytest.mark.lacks("forks")
async def test_what_cannot_be_copied_says_so(row, tmp_path):
    machine = await row.image(tmp_path).spawn()
    for call in (machine.fork, machine.snapshot):
        with pytest.raises(NotSupported, match=f"{call.__name__}()"):
            await call()
    await machine.stop()


SECRET = {"TOKEN": "s3cret"}


@pytest.mark.parametrize(
    "image",
    [
        LocalImage(env=SECRET),
        SandboxImage(env=SECRET),
        SSHImage("host", env=SECRET),
        DockerImage("image", env=SECRET),
        DockerImage.attach("container", env=SECRET),
        MorphImage(env=SECRET),
    ],
    ids=lambda image: type(image).__name__,
)
def test_what_is_in_the_environment_is_not_shown(image):
    """An image is part of messages, and those of errors, crash reports and logs."""
    assert "s3cret" not in f"{image!r} {image.describe()}"


class TestWithin:
    async def test_files_go_into_the_folder_and_come_out_of_it(self, machine):
        everything = bytes(range(256)) * 300
        for folder, path in ((".", "a/b"), (".", "empty"), ("sub/folder", "file"), ("./sub", "folder/file")):
            data = b"" if path == "empty" else everything
            await machine.write_within(folder, path, data)
            assert await machine.read_within(folder, path, len(everything)) == data
            assert await machine.read_file(f"{folder}/{path}") == data
        full = (await machine.exec("pwd")).stdout.removesuffix("\n") + "/a/b"
        await machine.write_within(".", full, b"new")
        assert await machine.read_within(".", full, 3) == await machine.read_file("a/b") == b"new"

    async def test_what_is_not_there_and_what_is_too_large(self, machine):
        await machine.write_file("a/file", b"12345")
        for folder, path in ((".", "nowhere"), (".", "a/nowhere"), (".", "no/where"), ("none", "file")):
            with pytest.raises(NoSuchFile):
                await machine.read_within(folder, path, 10)
        assert await machine.read_within(".", "a/file", 5) == b"12345"
        with pytest.raises(FileRefused, match="it has 5 bytes; at most 4 can be passed on"):
            await machine.read_within(".", "a/file", 4)

    async def test_no_path_leads_out(self, machine):
        await machine.write_file("inside", b"")
        await machine.write_file("sub/file", b"")
        for folder, path in (
            (".", "/etc/passwd"),
            (".", "../x"),
            (".", "sub/../../x"),
            ("sub", "../inside"),
            (".", "//etc/x"),
        ):
            with pytest.raises(OutsideFolder):
                await machine.read_within(folder, path, 1000)
            with pytest.raises(OutsideFolder):
                await machine.write_within(folder, path, b"PWNED")
        assert await machine.read_file("inside") == b""

    @real_commands
    async def test_no_link_leads_out(self, machine):
        links = "ln -s /etc/passwd file; ln -s /tmp dir; ln -s ../inside sub/up; ln -s /proc/self/root root; ln -s /tmp/ramure-x new"
        (await machine.exec(f"mkdir sub; echo in > inside; {links}")).check()
        for folder, path in (
            (".", "file"),
            (".", "dir/x"),
            ("sub", "up"),
            (".", "root/etc/passwd"),
            ("dir", "x"),
            (".", "new"),
        ):
            with pytest.raises(OutsideFolder):
                await machine.read_within(folder, path, 100_000)
            with pytest.raises(OutsideFolder):
                await machine.write_within(folder, path, b"PWNED")
        assert await machine.read_within(".", "sub/up", 3) == b"in\n"
        assert (await machine.exec("ls -a | grep ramure-; ls -d /tmp/x /tmp/ramure-x")).stdout == ""

    @real_commands
    async def test_what_is_no_regular_file_is_refused(self, machine):
        (await machine.exec("mkfifo fifo; mkdir dir")).check()
        for path in ("fifo", "dir", "."):
            with pytest.raises(FileRefused, match="not a regular file"):
                await machine.read_within(".", path, 100)
            with pytest.raises(FileRefused, match="not a regular file"):
                await machine.write_within(".", path, b"")
        for path in ("", "nul\0", "x" * 300, "dir/"):
            with pytest.raises(FileRefused):
                await machine.read_within(".", path, 100)
            with pytest.raises(FileRefused):
                await machine.write_within(".", path, b"")

    @real_commands
    async def test_nothing_of_it_stays_in_the_machines_temporary_directory(self, machine):
        look = 'ls -d "${TMPDIR:-/tmp}"/ramure-passing-* 2>/dev/null'
        before = (await machine.exec(look)).stdout
        await machine.write_within(".", "file", b"x")
        await machine.read_within(".", "file", 1)
        with pytest.raises(OutsideFolder):
            await machine.write_within(".", "../file", b"x")
        assert (await machine.exec(look)).stdout == before
        assert (await machine.exec("ls -a | grep ramure-")).stdout == ""
