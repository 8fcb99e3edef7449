"""What only SSH can show: host keys, jumps, tunnels, and links that break. On a real sshd."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import ramure
from ramure.machines.errors import (
    ExecTimeout,
    FileRefused,
    HostKeyRefused,
    LinkLost,
    LoginRefused,
    MachineDown,
    SpawnFailed,
)
from ramure.machines.ssh import files as ssh_files
from ramure.machines.ssh import image as ssh
from ramure.machines.tmux.remote import ExecTmux
from tests.e2e.kit import until
from tests.machines.sshd import Sshd

pytestmark = pytest.mark.real

IPV6 = ["::1"] if os.path.exists("/proc/net/if_inet6") else []


@pytest.fixture
async def machine(own_sshd):
    machine = await own_sshd.image(dead_after=3.0, give_up_after=5.0).spawn()
    yield machine
    await machine.stop()


class TestKeys:
    async def test_an_unknown_host_is_refused_with_the_way_to_accept_it(self, own_sshd, tmp_path):
        (tmp_path / "none").touch()
        with pytest.raises(HostKeyRefused, match="ssh-keyscan -p"):
            await own_sshd.image(known_hosts=str(tmp_path / "none")).spawn()

    async def test_another_key_than_the_known_is_refused(self, own_sshd, tmp_path):
        other = (own_sshd.directory / "user_key.pub").read_text()
        (tmp_path / "other").write_text(f"[127.0.0.1]:{own_sshd.port} {other}")
        with pytest.raises(HostKeyRefused, match="ssh-keygen -R"):
            await own_sshd.image(known_hosts=str(tmp_path / "other")).spawn()

    async def test_hashed_names_and_lines_of_other_kinds_are_read(self, own_sshd):
        known = own_sshd.directory / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
        assert "127.0.0.1" not in known.read_text()
        key = (own_sshd.directory / "user_key.pub").read_text()
        known.write_text(f"@cert-authority *.example.org {key}# comment\nnonsense\n\n{known.read_text()}")
        machine = await own_sshd.image().spawn()
        assert (await machine.exec("echo in")).stdout == "in\n"
        await machine.stop()

    async def test_a_revoked_key_is_refused(self, own_sshd):
        known = own_sshd.directory / "known_hosts"
        known.write_text(known.read_text() + f"@revoked * {(own_sshd.directory / 'host_key.pub').read_text()}")
        with pytest.raises(HostKeyRefused, match="revoked"):
            await own_sshd.image().spawn()

    async def test_a_key_that_the_host_does_not_take(self, own_sshd):
        with pytest.raises(LoginRefused, match="add it to the ssh-agent"):
            await own_sshd.image(key=str(own_sshd.directory / "host_key")).spawn()

    async def test_nobody_listens(self, own_sshd):
        own_sshd.stop()
        with pytest.raises(SpawnFailed, match=r"127\.0\.0\.1"):
            await own_sshd.image().spawn()


class TestWays:
    async def test_the_configuration_is_honoured(self, own_sshd, tmp_path):
        keys = own_sshd.directory
        config = tmp_path / "ssh_config"
        config.write_text(
            f"Host box\n HostName 127.0.0.1\n Port {own_sshd.port}\n IdentityFile {keys}/user_key\n"
            f" UserKnownHostsFile {keys}/known_hosts\n"
        )
        image = own_sshd.image(host="box", port=None, key=None, known_hosts=None, config=str(config))
        machine = await image.spawn()
        assert (await machine.exec("echo in")).stdout == "in\n"
        await machine.stop()

    async def test_a_jump(self, own_sshd):
        machine = await own_sshd.image(jump=f"127.0.0.1:{own_sshd.port}").spawn()
        assert (await machine.exec("echo in")).stdout == "in\n"
        await machine.stop()

    async def test_a_hundred_commands_at_once(self, machine):
        results = await asyncio.gather(*(machine.exec(f"echo {i}") for i in range(100)))
        assert [result.stdout for result in results] == [f"{i}\n" for i in range(100)]

    async def test_the_environment_is_in_no_command_line(self, own_sshd):
        canary = f"canary-{os.getpid()}"
        machine = await own_sshd.image(env={"API_KEY": canary}).spawn()
        running = asyncio.create_task(machine.exec("sleep 0.3; echo $API_KEY"))
        await asyncio.sleep(0.15)
        listing = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert canary not in listing
        assert (await running).stdout == f"{canary}\n"
        await machine.stop()

    async def test_a_reverse_tunnel(self, machine):
        async def greet(reader, writer):
            writer.write(b"hello " + await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            address = await machine.expose_port(server.sockets[0].getsockname()[1])
            host, port = address.split(":")
            command = f"exec 3<>/dev/tcp/{host}/{port}; echo you >&3; cat <&3"
            results = await asyncio.gather(*(machine.exec(command, timeout=30) for _ in range(20)))
        assert {result.stdout for result in results} == {"hello you\n"}

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", *IPV6])
    async def test_agents_reach_the_run_wherever_it_listens(self, own_sshd, host):
        @ramure.agent_process(image=own_sshd.image(), host=host)
        async def main():
            there = await (await ramure.machine()).machine()
            url = await ramure.current_runtime().services.url_for(there)  # as an agent's launch asks
            opened = f"exec 3<>/dev/tcp/{url.removeprefix('ws://').replace(':', '/')}"
            command = opened + r"; printf 'GET / HTTP/1.1\r\nHost: here\r\n\r\n' >&3; head -1 <&3"
            return (await there.exec(command, timeout=30)).stdout

        assert (await main()).startswith("HTTP/1.1")

    async def test_nothing_is_left_by_a_stop_that_is_cancelled(self, own_sshd):
        machine = await own_sshd.image().spawn()
        private = machine._private
        stopping = asyncio.create_task(machine.stop())
        other = asyncio.create_task(machine.stop())
        await asyncio.sleep(0.005)
        stopping.cancel()
        await machine.stop()
        assert not os.path.exists(private)
        assert not os.path.exists(machine.workdir)
        assert not machine._pool.alive()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await other

    async def test_nothing_is_left(self, own_sshd, tmp_path):
        machine = await own_sshd.image(workdir=str(tmp_path / "work")).spawn()
        private = machine._private
        await machine.exec("x" * 100_000)
        await machine.stop()
        assert not os.path.exists(private)
        assert os.path.exists(tmp_path / "work")
        deadline = time.monotonic() + 5
        while any("ssh" in thread.name or "paramiko" in str(thread) for thread in threading.enumerate()):
            assert time.monotonic() < deadline, threading.enumerate()
            await asyncio.sleep(0.05)


class TestBrokenLinks:
    async def test_a_command_under_way_is_not_reported_as_done(self, machine, own_sshd):
        running = asyncio.create_task(machine.exec("echo started; sleep 3; echo done"))
        await asyncio.sleep(0.3)
        own_sshd.cut()
        with pytest.raises(LinkLost, match="may have taken effect"):
            await asyncio.wait_for(running, 30)

    async def test_the_next_command_connects_again(self, machine, own_sshd):
        own_sshd.cut()
        async with asyncio.timeout(30):
            while True:
                try:
                    result = await machine.exec("echo again")
                    break
                except LinkLost:  # the first may still meet the old connection
                    continue
        assert result.stdout == "again\n"

    async def test_tmux_goes_on_and_its_watch_too(self, machine, own_sshd):
        tmux = ExecTmux(machine)
        await tmux.start()
        try:
            await tmux.new_session("w1", ["sh", "-c", "sleep 2; exit 7"], cwd="/")
            waiting = asyncio.create_task(tmux.wait_end("w1"))
            await asyncio.sleep(0.5)
            own_sshd.cut()
            assert (await waiting).exit_code == 7
        finally:
            await tmux.kill_server()

    async def test_a_tunnel_is_opened_again_on_its_port(self, machine, own_sshd):
        watching = asyncio.create_task(machine.wait_down())
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            address = await machine.expose_port(server.sockets[0].getsockname()[1])
            own_sshd.cut()
            command = f"exec 3<>/dev/tcp/{address.replace(':', '/')}"
            async with asyncio.timeout(30):
                while True:
                    try:
                        if (await machine.exec(command)).ok and machine._tunnels:
                            break
                    except LinkLost:
                        continue
                    await asyncio.sleep(0.1)
        assert not watching.done()
        watching.cancel()

    async def test_a_host_that_is_gone_is_down(self, own_sshd):
        machine = await own_sshd.image(dead_after=2.0, give_up_after=1.5).spawn()
        watching = asyncio.create_task(machine.wait_down())
        await asyncio.sleep(0.1)
        own_sshd.process.kill()
        own_sshd.process.wait()
        for connection in machine._pool._connections.values():
            connection.transport.sock.close()
        async with asyncio.timeout(30):
            assert "refused" in await watching
        with pytest.raises(MachineDown):
            await machine.exec("true")
        await machine.stop()
        own_sshd.start()


class TestSlowReaders:
    @pytest.mark.parametrize("command", ["yes", "yes | head -c 100000000 >&2"])
    async def test_the_command_is_ended_in_time(self, machine, command):
        stream = machine.stream(f"echo $$ >pid; {command}; :", timeout=1.0)
        first = await anext(aiter(stream))
        assert first.data
        pid = (await machine.read_file("pid")).decode().strip()
        assert os.path.exists(f"/proc/{pid}")
        await until(lambda: not os.path.exists(f"/proc/{pid}"), 30, "it is gone, though nobody reads")
        with pytest.raises(ExecTimeout):
            async for _ in stream:
                pass

    async def test_what_ended_in_time_is_read_whole(self, machine):
        size = 0
        stream = machine.stream("for i in $(seq 20); do head -c 100000 /dev/zero; sleep 0.01; done", timeout=5.0)
        async for chunk in stream:
            size += len(chunk.data)
            if size < 1_500_000:
                await asyncio.sleep(0.4)
        assert (size, stream.exit_code) == (2_000_000, 0)

    async def test_one_that_leaves_ends_the_command(self, machine):
        stream = machine.stream("echo $$ >pid; yes; :")
        await anext(aiter(stream))
        pid = (await machine.read_file("pid")).decode().strip()
        await asyncio.wait_for(stream.aclose(), 30)
        await until(lambda: not os.path.exists(f"/proc/{pid}"), 30, "it is gone")

    async def test_what_writes_without_end_is_ended_in_time(self, machine):
        with pytest.raises(ExecTimeout):
            await asyncio.wait_for(machine.exec("yes", timeout=1.0), 60)


class TestFewSessions:
    """Hosts whose sshd takes fewer sessions on a connection (MaxSessions) than we would use."""

    @pytest.fixture(params=[1, 2, 3])
    async def machine(self, request, tmp_path):
        sshd = Sshd(tmp_path, f"MaxSessions {request.param}\n")
        machine = await sshd.image().spawn()
        yield machine
        await machine.stop()
        sshd.stop()

    async def test_commands_and_files_at_once(self, machine):
        async def both(number):
            await machine.write_file(f"file{number}", b"%d" % number)
            said = (await machine.exec(f"sleep 0.3; cat file{number}; echo x >>count{number}")).stdout
            return said, await machine.read_file(f"count{number}")

        assert await asyncio.gather(*map(both, range(6))) == [(str(number), b"x\n") for number in range(6)]
        assert [chunk.text async for chunk in machine.stream("echo on")] == ["on\n"]

    async def test_one_after_the_other(self, machine):
        for number in range(20):
            assert (await machine.exec(f"echo {number}")).stdout == f"{number}\n"
        assert len(machine._pool._connections) == 1

    @pytest.mark.parametrize("how", ["timeout", "cancel"])
    async def test_a_command_is_ended_from_another_connection(self, machine, how):
        await asyncio.gather(*(machine.exec("sleep 0.2") for _ in range(4)))
        running = asyncio.create_task(
            machine.exec("echo $$ >pid; sleep 1000; :", timeout=3.0 if how == "timeout" else None)
        )
        await until(lambda: os.path.exists(f"{machine.workdir}/pid"), 30, "it runs")
        if how == "cancel":
            running.cancel()
        with pytest.raises(ExecTimeout if how == "timeout" else asyncio.CancelledError):
            await asyncio.wait_for(running, 30)
        pid = (await machine.read_file("pid")).decode().strip()
        await until(lambda: not os.path.exists(f"/proc/{pid}"), 30, "it is gone")

    async def test_none_at_all_is_told_with_the_remedy(self, tmp_path):
        sshd = Sshd(tmp_path, "MaxSessions 0\n")
        with pytest.raises(SpawnFailed, match="MaxSessions"):
            await asyncio.wait_for(sshd.image().spawn(), 30)
        sshd.stop()


class TestSftp:
    @staticmethod
    def servers(sshd) -> list[int]:
        """The processes that serve SFTP."""
        pids = [sshd.process.pid]
        for pid in pids:  # grows meanwhile
            listing = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
            pids += [int(word) for word in listing.stdout.split()]
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        return [pid for pid, command in commands.items() if b"internal-sftp" in command]

    async def test_a_session_that_was_killed_is_replaced(self, machine, own_sshd):
        await machine.write_file("file", b"1")
        for _ in range(2):
            for pid in self.servers(own_sshd):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.3)
            assert await machine.read_file("file") == b"1"
        killed = self.servers(own_sshd)
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await machine.write_file("file", b"2")
        assert await machine.read_file("file") == b"2"

    async def test_one_that_is_killed_under_way_too(self, machine, own_sshd):
        data = os.urandom(1_000_000) * 40
        writing = asyncio.create_task(machine.write_file("file", data))
        await until(lambda: os.path.exists(f"{machine.workdir}/file"), 30, "it is begun")
        for pid in self.servers(own_sshd):
            os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(writing, 60)
        assert Path(machine.workdir, "file").read_bytes() == data

    @pytest.mark.parametrize("how", ["read", "write"])
    async def test_a_transfer_that_hangs_holds_up_no_other_and_is_given_up(self, machine, own_sshd, monkeypatch, how):
        """A FIFO that came there after the look: the server waits for its other end."""
        monkeypatch.setattr(ssh_files, "FILE_LIMIT", 6.0)
        await machine.write_file("file", b"x")
        (await machine.exec("mkfifo fifo")).check("make it")
        with monkeypatch.context() as blind:
            blind.setattr(ssh_files, "_check", lambda sftp, where: None)
            call = machine.read_file("fifo") if how == "read" else machine.write_file("fifo", b"x")
            hanging = asyncio.create_task(call)
            await asyncio.sleep(1.0)
        began = time.monotonic()
        reading = [machine.read_file("file") for _ in range(20)]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*reading) == [b"x"] * 20
        if time.monotonic() - began < 4.0:  # else this host was too busy to tell
            assert not hanging.done()
        with pytest.raises(FileRefused, match="said nothing for 6 s"):
            await asyncio.wait_for(hanging, 60)
        assert await machine.read_file("file") == b"x"

        def waiting() -> list[int]:
            return [pid for pid in self.servers(own_sshd) if "partner" in Path(f"/proc/{pid}/wchan").read_text()]

        await until(lambda: not waiting(), 30, "no server waits for a FIFO's other end any more")

    async def test_a_server_without_it_is_told_with_the_remedy(self, own_sshd):
        config = own_sshd.directory / "config"
        config.write_text(config.read_text().replace("Subsystem sftp internal-sftp\n", ""))
        own_sshd.stop()
        own_sshd.start()
        with pytest.raises(SpawnFailed, match="Subsystem sftp internal-sftp"):
            await asyncio.wait_for(own_sshd.image().spawn(), 30)


async def test_tmux_waits_between_links_that_break():
    tries = []

    class Breaking:
        async def exec(self, command, timeout):
            tries.append(command)
            raise LinkLost("somewhere", "the start of a command", "closed")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ExecTmux(Breaking()).panes(), 1.0)
    assert 2 <= len(tries) <= 10


class TestSilence:
    """The other side is there for the kernel, and says nothing."""

    @pytest.fixture
    def jump_sshd(self, own_sshd):
        directory = own_sshd.directory / "jump"
        directory.mkdir()
        jump = Sshd(directory)
        (directory / "authorized_keys").write_text((own_sshd.directory / "authorized_keys").read_text())
        with (own_sshd.directory / "known_hosts").open("a") as known:
            known.write((directory / "known_hosts").read_text())
        yield jump
        jump.stop()

    @pytest.fixture(params=["direct", "jump"])
    async def machine(self, request, own_sshd):
        jump = None
        if request.param == "jump":
            jump = f"127.0.0.1:{request.getfixturevalue('jump_sshd').port}"
        # The jump host takes the key that the ssh configuration names.
        config = own_sshd.directory / "ssh_config"
        config.write_text(f"Host *\n  IdentityFile {own_sshd.directory}/user_key\n")
        machine = await own_sshd.image(jump=jump, config=str(config), dead_after=3.0, give_up_after=3.0).spawn()
        yield machine
        await machine.stop()

    @pytest.fixture
    def frozen(self, own_sshd):
        """Stops the server with all that serves a connection."""
        stopped: list[int] = []

        def freeze() -> None:
            pids = [own_sshd.process.pid]
            for pid in pids:  # grows meanwhile
                listing = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
                pids += [int(word) for word in listing.stdout.split()]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)

        yield freeze
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def test_a_command_under_way_is_told(self, machine, frozen):
        running = asyncio.create_task(machine.exec("sleep 300"))
        await asyncio.sleep(0.5)
        frozen()
        with pytest.raises(LinkLost, match="silent for 3 s"):
            await asyncio.wait_for(running, 30)

    async def test_it_is_noticed_though_nothing_is_under_way(self, machine, frozen):
        watching = asyncio.create_task(machine.wait_down())
        await machine.write_file("file", b"x")
        frozen()
        assert await asyncio.wait_for(watching, 60)

    async def test_a_living_link_is_let_alone(self, own_sshd):
        machine = await own_sshd.image(dead_after=1.0).spawn()
        before = list(machine._pool._connections)
        assert (await machine.exec("sleep 3; echo idle")).stdout == "idle\n"  # nothing is said meanwhile
        size = 0
        async for chunk in machine.stream("head -c 50000000 /dev/zero"):
            size += len(chunk.data)
        assert size == 50_000_000
        for _ in range(3):
            await machine.write_file("big", bytes(20_000_000))
        assert len(await machine.read_file("big")) == 20_000_000
        assert list(machine._pool._connections) == before
        await machine.stop()


class TestReboots:
    """What was in the host's /tmp is gone."""

    @pytest.fixture
    async def machine(self, own_sshd, tmp_path):
        machine = await own_sshd.image(env={"GREETING": "hi"}).spawn()
        yield machine
        await machine.stop()

    @staticmethod
    def forget(machine):
        shutil.rmtree(machine._private)
        shutil.rmtree(machine.workdir)

    async def test_commands_find_what_they_need_again(self, machine):
        self.forget(machine)
        commands = ("echo $GREETING; pwd", "x" * 100_000 + "; echo $GREETING", "echo $GREETING")
        results = await asyncio.gather(*(machine.exec(command, timeout=30) for command in commands))
        assert [result.stdout for result in results] == [f"hi\n{machine.workdir}\n", "hi\n", "hi\n"]

    async def test_a_command_that_found_nothing_is_run_once(self, machine):
        self.forget(machine)
        await machine.exec("echo x >>/tmp/$RAMURE_MACHINE-ran")
        assert (await machine.exec("cat /tmp/$RAMURE_MACHINE-ran; rm /tmp/$RAMURE_MACHINE-ran")).stdout == "x\n"

    async def test_streams_and_files_too(self, machine):
        self.forget(machine)
        await machine.write_file("file", b"x")
        assert await machine.read_file("file") == b"x"
        assert [chunk.text async for chunk in machine.stream("echo $GREETING")] == ["hi\n"]


ABANDONING = """
    import asyncio, os, signal, sys
    from ramure.machines.ssh.image import SSHImage

    async def main():
        machine = await SSHImage("127.0.0.1", port=int(sys.argv[1]), key=sys.argv[2], known_hosts=sys.argv[3],
                                 config=os.devnull, abandon_after=2).spawn()
        result = await machine.exec("setsid sleep 1000 >/dev/null 2>&1 & echo $!; touch file; pwd; echo $RAMURE_PRIVATE")
        print(result.stdout.replace("\\n", " "), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


async def test_a_host_cleans_up_after_a_program_that_was_killed(own_sshd):
    lives = await own_sshd.image(abandon_after=2).spawn()
    pid = int((await lives.exec("setsid sleep 1000 >/dev/null 2>&1 & echo $!")).stdout)
    directory = own_sshd.directory
    words = [str(own_sshd.port), str(directory / "user_key"), str(directory / "known_hosts")]
    command = [sys.executable, "-c", textwrap.dedent(ABANDONING), *words]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    left, workdir, private = done.stdout.split()
    assert os.path.exists(private)
    await until(lambda: not any(map(os.path.exists, (private, workdir, f"/proc/{left}"))), 60, "all of it is gone")
    assert os.path.exists(f"/proc/{pid}")  # a machine whose program lives is let alone
    assert (await lives.exec("echo on")).stdout == "on\n"
    await lives.stop()


async def test_a_machine_whose_threads_are_all_busy_is_not_taken_for_abandoned(own_sshd, monkeypatch):
    monkeypatch.setattr(ssh, "THREADS", 4)
    machine = await own_sshd.image(abandon_after=4).spawn()
    running = [asyncio.create_task(machine.exec("sleep 1000")) for _ in range(4)]
    done, _ = await asyncio.wait(running, timeout=10)
    assert not done
    assert os.path.exists(machine.workdir)
    await asyncio.wait_for(machine.stop(), 30)
    assert not os.path.exists(machine._private)
    await asyncio.gather(*running, return_exceptions=True)


class TestRebootsThatKeepFiles:
    """The janitor is gone, its number may be another's by now, and what it is to clean up is still there."""

    @pytest.fixture
    async def machine(self, own_sshd):
        machine = await own_sshd.image(abandon_after=10).spawn()
        yield machine
        await machine.stop()

    @pytest.fixture
    def stranger(self, machine):
        """A process that has the janitor's number, as far as one can see there."""
        time.sleep(0.1)  # not born in the janitor's own hundredth of a second, by which the kernel tells them apart
        stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        file = Path(machine._private, "janitor")
        janitor, *rest = file.read_text().splitlines()
        os.killpg(int(janitor), signal.SIGKILL)
        file.write_text("\n".join([str(stranger.pid), *rest]) + "\n")
        yield stranger
        stranger.kill()
        stranger.wait()

    async def test_no_stranger_is_killed(self, machine, stranger):
        await machine.stop()
        assert stranger.poll() is None

    async def test_another_janitor_is_hired(self, machine, stranger):
        file = Path(machine._private, "janitor")
        await until(lambda: file.read_text().split()[:1] not in ([], [str(stranger.pid)]), 60, "there is another")
        janitor = int(file.read_text().split()[0])
        await machine.stop()
        await until(lambda: not os.path.exists(f"/proc/{janitor}"), 30, "it is dismissed")
        assert stranger.poll() is None

    async def test_one_janitor_is_enough(self, machine):
        file = Path(machine._private, "janitor")
        before = file.read_text()
        await asyncio.sleep(3)
        assert file.read_text() == before
