"""Containers on a real engine that the tests start: what DockerImage promises beyond the contract."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ramure.machines.docker.image import DockerImage
from ramure.machines.errors import (
    CopyFailed,
    ExecTimeout,
    FileRefused,
    MachineDown,
    MachineError,
    NotSupported,
    SpawnFailed,
    UserRefused,
)
from ramure.machines.reaper import leases
from ramure.machines.tmux.remote import ExecTmux
from ramure.marks import mark_context
from tests.machines.engine import IMAGE, DockerEngine, docker_engine

pytestmark = pytest.mark.real


@pytest.fixture
def engine():
    return docker_engine()


@pytest.fixture
def image(engine):
    return DockerImage(IMAGE, pull="never", engine=engine.command)


@pytest.fixture(autouse=True)
def nothing_left(request):
    """No container, image or volume of a test's stays; other workers have theirs meanwhile."""
    mark = f"test={os.getpid()}-{time.monotonic_ns()}"
    request.node.user_properties.append(("mark", mark))
    yield mark
    engine = docker_engine()
    assert engine.docker("ps", "-aq", "--filter", f"label={mark}") == ""


def labelled(image, mark):
    name, _, value = mark.partition("=")
    return replace(image, labels={**image.labels, name: value})


@pytest.fixture
def marked(image, nothing_left):
    return labelled(image, nothing_left)


async def inspected(engine, machine):
    return json.loads(await asyncio.to_thread(engine.docker, "container", "inspect", machine.container))[0]


class TestOptions:
    async def test_all_of_them_reach_the_engine(self, engine, marked, nothing_left, tmp_path):
        (tmp_path / "file").write_text("from the host")
        tmp_path.chmod(0o755)
        name = f"ramure-test-{os.getpid()}"
        before = mark_context("run-42")
        try:
            machine = await replace(
                marked, name=name, user="agent", workdir="/srv/here", env={"TOKEN": "s3cret\n'$HOME"}, memory="256m",
                cpus=0.5, pids=100, volumes={str(tmp_path): "/data:ro"}, labels={**marked.labels, "a": "b c"},
            ).spawn()  # fmt: skip
        finally:
            mark_context(before)
        seen = await inspected(engine, machine)
        assert seen["Name"] == f"/{name}"
        assert seen["HostConfig"]["Memory"] == 256 << 20
        assert seen["HostConfig"]["NanoCpus"] == 500_000_000
        assert seen["HostConfig"]["PidsLimit"] == 100
        assert seen["Config"]["Labels"].items() >= {"a": "b c", "ramure.run": "run-42"}.items()
        assert "s3cret" not in json.dumps(seen)
        result = await machine.exec('id -un; pwd; printf "%s\\n" "$TOKEN"; cat /data/file; echo > /data/file')
        assert result.stdout == "agent\n/srv/here\ns3cret\n'$HOME\nfrom the host"
        assert "Read-only" in result.stderr
        assert (await machine.exec("touch mine && stat -c %U /srv/here")).stdout == "agent\n"
        assert name in machine.describe()
        await machine.stop()

    async def test_a_name_that_is_taken(self, marked):
        named = replace(marked, name=f"ramure-test-{os.getpid()}-taken")
        machine = await named.spawn()
        with pytest.raises(SpawnFailed, match="the name is taken"):
            await named.spawn()
        assert (await machine.exec("echo untouched")).stdout == "untouched\n"
        await machine.stop()

    async def test_a_command_of_its_own(self, marked):
        command = 'echo "$GREETING" > /greeting; exec sleep 1000'
        machine = await replace(marked, command=command, env={"GREETING": "hi there"}).spawn()
        async with asyncio.timeout(30):
            while not (said := (await machine.exec("cat /greeting")).stdout):
                await asyncio.sleep(0.05)
        assert said == "hi there\n"
        await machine.stop()

    async def test_arguments_as_a_list(self, marked):
        machine = await replace(marked, command=["sleep", "1000"]).spawn()
        assert (await machine.exec("tr '\\0' ' ' < /proc/1/cmdline")).stdout == "sleep 1000 "
        await machine.stop()

    async def test_a_command_that_ends_at_once(self, marked):
        with pytest.raises(SpawnFailed, match=r"ended at once \(its container ended with status 3\): out of luck"):
            await replace(marked, command="echo out of luck >&2; exit 3").spawn()

    async def test_a_container_may_be_left(self, engine, marked, nothing_left):
        machine = await replace(marked, remove_on_stop=False).spawn()
        await machine.exec("echo kept > /kept")
        await machine.stop()
        assert (await inspected(engine, machine))["State"]["Running"] is False
        engine.docker("start", machine.container)
        again = await DockerImage.attach(machine.container, engine=engine.command).spawn()
        assert await again.read_file("/kept") == b"kept\n"
        await again.stop()
        engine.docker("rm", "-f", machine.container)

    async def test_a_pull_policy_that_does_not_exist(self):
        with pytest.raises(ValueError, match="'missing', 'always' or 'never'"):
            DockerImage(IMAGE, pull="sometimes")


class TestAttach:
    async def test_a_container_is_borrowed(self, engine, nothing_left):
        options = ["--network", "host", "--label", nothing_left, "--workdir", "/srv"]
        container = engine.docker("run", "-d", *options, IMAGE, "sleep", "1000").strip()
        try:
            machine = await DockerImage.attach(container, env={"TOKEN": "42"}, engine=engine.command).spawn()
            result = await machine.exec("pwd; echo $TOKEN; setsid sleep 1001 >/dev/null 2>&1 & echo")
            assert result.stdout.split() == ["/srv", "42"]
            fork = await machine.fork()
            await fork.write_file("only-fork", b"")
            assert not (await machine.exec("ls only-fork")).ok
            await fork.stop()
            await machine.stop()
            assert engine.docker("exec", container, "ps", "-eo", "args").count("sleep 100") == 1
            assert engine.docker("exec", container, "ls", "/dev/shm", "/tmp").split() == ["/dev/shm:", "/tmp:"]
        finally:
            engine.docker("rm", "-f", container)

    async def test_one_that_is_not_there(self, engine):
        with pytest.raises(SpawnFailed, match="no-such-container: it does not run: it has been removed"):
            await DockerImage.attach("no-such-container", engine=engine.command).spawn()


class TestNetwork:
    async def test_on_the_hosts_network_addresses_are_the_hosts(self, marked):
        machine = await marked.spawn()
        assert await machine.expose_port(4711) == "127.0.0.1:4711"
        await machine.stop()

    async def test_on_a_bridge_the_gateway_leads_here(self, engine, marked):
        async def greet(reader, writer):
            writer.write(b"hello " + await reader.readline())
            writer.close()

        network = f"ramure-test-{os.getpid()}"
        engine.docker("network", "create", "--driver", "bridge", network)
        try:
            async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
                machine = await replace(marked, network=network).spawn()
                address = await machine.expose_port(server.sockets[0].getsockname()[1])
                assert not address.startswith("127.")
                assert address == await machine.expose_port(server.sockets[0].getsockname()[1])
                host, _, port = address.rpartition(":")
                talk = f"exec 3<>/dev/tcp/{host}/{port}; echo bridge >&3; cat <&3"
                assert (await machine.exec(talk, timeout=20)).stdout == "hello bridge\n"
                await machine.stop()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(host, int(port))
        finally:
            engine.docker("network", "rm", network)

    async def test_without_a_network_nothing_leads_here(self, marked):
        machine = await replace(marked, network="none").spawn()
        with pytest.raises(NotSupported, match="leads nowhere; pass base_url="):
            await machine.expose_port(4711)
        await machine.stop()


class TestEnds:
    @pytest.mark.parametrize(
        ("way", "seen"),
        [
            ("kill", "status 137"),
            ("stop", "its container ended with status 0"),
            ("rm", "status 137|it has been removed"),
        ],
    )
    async def test_an_end_from_outside_is_noticed(self, engine, marked, way, seen):
        machine = await marked.spawn()
        running = asyncio.create_task(machine.exec("sleep 1000"))
        noticing = asyncio.create_task(machine.wait_down())
        await machine.exec("sleep 500 & true")
        options = {"rm": ["rm", "-f"], "stop": ["stop", "--time", "5"]}.get(way, [way])
        await asyncio.to_thread(engine.docker, *options, machine.container)
        async with asyncio.timeout(60):
            assert re.search(seen, await noticing)
        with pytest.raises(MachineDown, match=seen):
            await running
        with pytest.raises(MachineDown, match=seen):
            await machine.exec("true")
        with pytest.raises(MachineDown, match=seen):
            await machine.read_file("x")
        await machine.stop()

    def test_nothing_is_left_when_the_program_is_killed(self, engine, no_leases, nothing_left):
        program = f"""
            import asyncio
            from ramure.machines.docker.image import DockerImage

            async def main():
                name, _, value = {nothing_left!r}.partition("=")
                image = DockerImage("{IMAGE}", pull="never", engine={engine.command!r}, labels={{name: value}})
                machine = await image.spawn()
                fork = await machine.fork()
                print("ready", flush=True)
                await machine.exec("sleep 1000")

            asyncio.run(main())
        """
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            images = engine.docker("images", "-q", "ramure-commit")
            assert images
            running.kill()
        deadline = time.monotonic() + 30
        while engine.docker("ps", "-aq", "--filter", f"label={nothing_left}"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        # The image may be used by the container until just now; its lease says what is left to be done.
        removed, refused = leases.remove_stale()
        assert not refused
        assert any("an image of" in lease.what for lease in removed)
        assert not list(no_leases.glob("machines/*"))

    async def test_what_its_keeper_could_not_remove_can_be_removed_later(self, engine, no_leases, marked, nothing_left):
        program = f"""
            import asyncio, os, signal
            from ramure.machines.docker.image import DockerImage

            async def main():
                name, _, value = {nothing_left!r}.partition("=")
                image = DockerImage("{IMAGE}", pull="never", engine={engine.command!r}, labels={{name: value}})
                machine = await image.spawn()
                os.kill(machine._engine.reaper.pid, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

            asyncio.run(main())
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        await asyncio.to_thread(subprocess.run, command, check=False)
        other = await marked.spawn()
        assert len(engine.docker("ps", "-q", "--filter", f"label={nothing_left}").split()) == 2
        assert [lease.what for lease in leases.stale()] == [f"a container of {IMAGE}"]
        removed, refused = await asyncio.to_thread(leases.remove_stale)
        assert (len(removed), refused) == (1, [])
        assert (await other.exec("echo mine lives")).stdout == "mine lives\n"
        await other.stop()


class TestCommits:
    async def test_only_the_images_that_are_used_stay(self, engine, marked):
        before = engine.docker("images", "-aq").split()
        machine = await marked.spawn()
        fork = await machine.fork()
        second = await fork.fork()
        await fork.stop()
        snapshot = await second.snapshot()
        child = await snapshot.spawn()
        await snapshot.remove()
        await second.stop()
        assert (await child.exec("echo on")).stdout == "on\n"
        assert child.image.image in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
        await child.stop()
        await machine.stop()
        assert child.image.image not in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
        assert len(engine.docker("images", "-aq").split()) <= len(before) + 3  # of other workers

    async def test_an_image_names_no_machine_and_holds_no_secret(self, engine, marked):
        machine = await replace(marked, env={"TOKEN": "s3cret"}).spawn()
        snapshot = await machine.snapshot()
        settings = json.loads(engine.docker("image", "inspect", snapshot.image))[0]["Config"]
        assert settings["Labels"]["ramure.machine"] == ""
        assert "s3cret" not in json.dumps(settings)
        listing = engine.docker(
            "run",
            "--rm",
            "--network",
            "host",
            snapshot.image,
            "-c",
            "grep -r s3cret /tmp /dev/shm /work; ls -A /dev/shm",
        )
        assert listing == ""
        await machine.stop()
        await snapshot.remove()


class TestFailures:
    """Spawning that fails half-way: the error says why and what to do, and nothing is left (``nothing_left``)."""

    async def test_no_such_image(self, marked):
        with pytest.raises(
            SpawnFailed, match=r"a container of no-such-image: there is no such image: .*; check the name"
        ):
            await replace(marked, image="no-such-image").spawn()

    async def test_an_image_that_cannot_be_pulled(self, marked):
        with pytest.raises(SpawnFailed, match="pull` failed: .*connection refused"):
            await replace(marked, image="127.0.0.1:1/nothing", pull="missing").spawn()

    async def test_no_engine_answers(self, marked, tmp_path):
        with pytest.raises(SpawnFailed, match="the engine does not answer: .*; start it"):
            await replace(marked, engine=("docker", "--host", f"unix://{tmp_path}/none")).spawn()

    async def test_no_engine_is_installed(self, marked, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SpawnFailed, match="no docker and no podman on the PATH; install one"):
            await replace(marked, engine=None).spawn()
        with pytest.raises(SpawnFailed, match="there is no 'docker' on the PATH"):
            await marked.spawn()

    async def test_no_shell_in_the_image(self, engine, marked):
        name = f"ramure-test-empty-{os.getpid()}"
        with tempfile.TemporaryDirectory() as empty:
            data = subprocess.run(["tar", "-C", empty, "-c", "."], capture_output=True, check=True).stdout
        engine.docker("import", "--change", "CMD nothing", "-", name, data=data)
        try:
            with pytest.raises(SpawnFailed, match=r"the image has no /bin/sh: .*; ramure needs a shell in it"):
                await replace(marked, image=name).spawn()
        finally:
            engine.docker("image", "rm", name)

    @pytest.mark.parametrize(
        ("option", "value", "why"),
        [
            ("network", "no-such-network", "network no-such-network not found"),
            ("volumes", ["/no/such:relative"], "relative"),
            ("memory", "lots", "invalid"),
            ("user", "no-such-user", "unable to find user no-such-user"),
            ("workdir", "/dev/null/x", "working directory"),
        ],
    )
    async def test_an_option_that_the_engine_refuses(self, marked, option, value, why):
        with pytest.raises(SpawnFailed, match=why):
            await replace(marked, **{option: value}).spawn()

    async def test_a_variable_that_no_shell_can_hold(self, marked):
        with pytest.raises(ValueError, match="'A-B' cannot be the name"):
            await replace(marked, env={"A-B": "1"}).spawn()

    async def test_the_spawner_is_cancelled(self, engine, marked, nothing_left):
        for delay in (0.01, 0.1, 0.2, 0.3):
            spawning = asyncio.create_task(marked.spawn())
            await asyncio.sleep(delay)
            spawning.cancel()
            await asyncio.wait([spawning])
            if not spawning.cancelled():
                await spawning.result().stop()
            assert engine.docker("ps", "-aq", "--filter", f"label={nothing_left}") == ""

    async def test_the_spawner_is_cancelled_while_the_lease_is_written(self, marked, monkeypatch):
        written = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(descriptor):
            loop.call_soon_threadsafe(written.set)
            time.sleep(0.3)

        monkeypatch.setattr(os, "fsync", slow)
        spawning = asyncio.create_task(marked.spawn())
        await written.wait()
        spawning.cancel()
        await asyncio.wait([spawning])
        assert spawning.cancelled()

    async def test_a_full_disk(self, nothing_left):
        with tempfile.TemporaryDirectory() as directory:
            small = DockerEngine(Path(directory, "engine"))
            small.directory.mkdir()
            small.start(size="90m")
            try:
                image = labelled(DockerImage(IMAGE, pull="never", engine=small.command), nothing_left)
                machine = await image.spawn()
                full = await machine.exec("head -c 200000000 /dev/zero > /fill")
                assert "No space left" in full.stderr
                with pytest.raises(FileRefused, match="No space left"):
                    await machine.write_file("/more", b"x" * 100_000)
                with pytest.raises(CopyFailed, match="no space left"):
                    await machine.fork()
                with pytest.raises(SpawnFailed, match="the engine's disk is full: .*; make room"):
                    await image.spawn()
                assert len(small.docker("ps", "-aq").split()) == 1
                await machine.stop()
            finally:
                small.end()


class TestCommands:
    async def test_tmux_runs_in_it(self, marked):
        machine = await marked.spawn()
        tmux = ExecTmux(machine)
        await tmux.start()
        await tmux.new_session("w1", ["sh", "-c", "echo in the box; sleep 0.3; exit 4"], cwd=machine.workdir)
        ending = await tmux.wait_end("w1")
        assert (ending.exit_code, ending.screen) == (4, "in the box")
        await tmux.kill_server()
        await machine.stop()

    async def test_output_that_looks_like_a_mark(self, marked):
        machine = await marked.spawn()
        noise = "printf '\\036'; printf '\\036%s ' $RAMURE_EXEC; printf '\\036%.8s' $RAMURE_EXEC"
        result = await machine.exec(f"{noise}; ({noise}) >&2; exit 7")
        assert result.exit_code == 7
        assert result.stdout == result.stderr
        assert result.stdout.startswith("\x1e\x1e")
        await machine.stop()

    async def test_a_command_that_kills_the_shell_that_tells_its_end(self, marked):
        machine = await marked.spawn()
        assert (await machine.exec("echo so; kill -9 $PPID; sleep 1000")).exit_code == 137
        await machine.stop()

    async def test_a_working_directory_that_went_away(self, marked):
        machine = await marked.spawn()
        assert (await machine.exec('rm -r "$PWD"')).ok
        with pytest.raises(MachineError, match="its working directory cannot be entered"):
            await machine.exec("true")
        await machine.stop()

    async def test_a_paused_container_refuses_and_goes_on(self, engine, marked):
        machine = await marked.spawn()
        engine.docker("pause", machine.container)
        with pytest.raises(MachineError, match="paused"):
            await machine.exec("true")
        engine.docker("unpause", machine.container)
        assert (await machine.exec("true")).ok
        await machine.stop()

    async def test_root_ends_what_changed_its_user(self, marked):
        machine = await replace(marked, user="agent").spawn()
        assert (await machine.exec("id -u", user="root")).stdout == "0\n"
        with pytest.raises(ExecTimeout):
            await machine.exec("echo $$ > /tmp/pid; exec sleep 1000", user="nobody", timeout=1.5)
        assert not (await machine.exec("kill -0 $(cat /tmp/pid)", user="root")).ok
        with pytest.raises(UserRefused, match="unable to find user"):
            await machine.exec("true", user="no-such-user")
        await machine.stop()


async def test_in_a_container_of_somebody_elses_only_what_bears_the_machines_mark_is_removed():
    owner = await DockerImage(IMAGE, pull="never", engine=docker_engine().command).spawn()
    guest = await DockerImage.attach(owner.container, engine=docker_engine().command).spawn()
    private = f"/*/*/ramure-{guest.id}-* /*/ramure-{guest.id}-*"
    assert (await owner.exec(f"ls -d {private} 2>/dev/null")).stdout
    theirs = f"/tmp/ramure-{guest.id}-theirs"
    await owner.exec(
        f"mkdir {theirs} /tmp/data; echo work >{theirs}/file; echo work >/tmp/data/file; ln -s data {theirs}-link"
    )
    await owner.exec(f"echo {guest.id} >/tmp/data/machine")
    await guest.stop()
    left = (await owner.exec(f"ls -d {private} 2>/dev/null")).stdout.split()
    assert sorted(left) == [theirs, f"{theirs}-link"]
    assert (await owner.exec(f"cat {theirs}/file /tmp/data/file")).stdout == "work\nwork\n"
    await owner.stop()
