"""What only MorphCloud can show: recipes, TTLs, pauses, lost answers, and an account's key that nobody may see.

The real SDK and the real SSH client, against a fake of the service (``morph_fake``). After each test, no instance is
left there and no thread here.
"""

import asyncio
import functools
import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from ramure.machines.errors import (
    HostKeyRefused,
    LinkLost,
    MachineDown,
    MachineError,
    MachineStopped,
    NotSupported,
    SpawnFailed,
)
from ramure.machines.morph import cloud as morph_cloud
from ramure.machines.morph import image as morph
from ramure.machines.morph.cloud import CloudError
from ramure.machines.morph.image import MorphImage
from ramure.testing.blocking import detect_blocking_calls
from tests.machines.morph_fake import KEY, Fault, MorphFake

pytestmark = pytest.mark.real


@pytest.fixture
def fake(monkeypatch, tmp_path):
    others = threads()  # of machines that other tests share
    with MorphFake.running() as fake, detect_blocking_calls() as calls:
        for name, value in {**fake.environment(), "RAMURE_HOME": str(tmp_path / "home")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(morph_cloud, "PAUSES", (0.01, 0.02, 0.04))
        yield fake
        wait_until(lambda: not fake.instances, "an instance is left")
        wait_until(lambda: threads() <= others, "a thread is left")
    assert not morph_cloud.Cloud._live
    own = ("morph_fake.py", "morph_vm.py", "asyncssh")  # the fake's loop is on a thread of its own
    assert not [str(call) for call in calls if not any(file in call.stack for file in own)]


@pytest.fixture
def image(fake):
    return MorphImage(fake.snapshot())


@pytest.fixture
async def machine(image):
    machine = await image.spawn()
    yield machine
    await machine.stop()


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("morph_", "ssh "))}


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


class TestWhatItStartsFrom:
    async def test_an_empty_machine_of_the_base_image_is_made_once(self, fake):
        image = MorphImage(vcpus=2, memory=1024)
        for _ in range(2):
            await (await image.spawn()).stop()
        assert [snapshot.spec["memory"] for snapshot in fake.snapshots.values()] == [1024]

    async def test_a_snapshot_with_other_resources_is_booted_with_them(self, fake, image):
        machine = await replace(image, vcpus=8).spawn()
        assert fake.instances[machine.id].spec["vcpus"] == 8
        assert fake.count("POST /snapshot/.*/boot") == 1
        await machine.stop()

    async def test_the_metadata_is_the_instances(self, fake, image):
        machine = await replace(image, metadata={"team": "red"}).spawn()
        assert fake.instances[machine.id].metadata["team"] == "red"
        await machine.stop()

    async def test_a_workdir_is_made(self, image):
        machine = await replace(image, workdir="/mnt/root/some/where").spawn()
        assert (await machine.exec("pwd")).stdout == "/mnt/root/some/where\n"
        await machine.stop()


class TestRecipes:
    async def test_its_steps_run_once_whoever_spawns_and_however_often(self, fake):
        image = MorphImage(recipe=["echo one >> log", "echo two >> log"])
        machines = await asyncio.gather(*(image.spawn() for _ in range(3)))
        machines.append(await MorphImage(recipe=["echo one >> log", "echo two >> log"]).spawn())
        for machine in machines:
            assert await machine.read_file("log") == b"one\ntwo\n"
            await machine.stop()
        assert fake.count("POST /instance/.*/snapshot") == 2

    async def test_a_longer_one_goes_on_where_the_shorter_ended(self, fake):
        await (await MorphImage(recipe=["echo one >> log"]).spawn()).stop()
        machine = await MorphImage(recipe=["echo one >> log", "echo two >> log"]).spawn()
        assert await machine.read_file("log") == b"one\ntwo\n"
        assert fake.count("POST /instance/.*/snapshot") == 2
        await machine.stop()

    @pytest.mark.parametrize("change", [{"version": "2"}, {"memory": 4096}, {"recipe": ["date +%N > log", "true"]}])
    async def test_what_differs_is_made_anew(self, fake, change):
        image = MorphImage(recipe=["date +%N > log"])
        first = await image.spawn()
        second = await replace(image, **change).spawn()
        same = "recipe" in change  # its first step is the same
        assert (await first.read_file("log") == await second.read_file("log")) == same
        await first.stop()
        await second.stop()

    async def test_it_may_begin_with_a_snapshot(self, image, machine):
        await machine.write_file("there", b"already\n")
        own = await machine.snapshot()
        cooked = await MorphImage(own.id, recipe=["cat there > copy"]).spawn()
        assert await cooked.read_file("copy") == b"already\n"
        await cooked.stop()

    async def test_a_step_that_fails_says_which_and_leaves_what_was_before_it(self, fake):
        image = MorphImage(recipe=["echo one > log", "echo no such package >&2; exit 3", "true"])
        with pytest.raises(SpawnFailed, match=r"step 2 .* exited with status 3:\nno such package"):
            await image.spawn()
        assert fake.count("POST /instance/.*/snapshot") == 1
        assert not fake.instances

    def test_a_string_is_no_recipe(self):
        with pytest.raises(TypeError, match="recipe is a list"):
            MorphImage(recipe="apt-get install -y git")


class TestTheDeadMansSwitch:
    async def test_it_is_on_unless_switched_off(self, fake, image):
        machine, endless = await image.spawn(), await replace(image, ttl_seconds=None).spawn()
        assert (fake.instances[machine.id].ttl, fake.instances[machine.id].ttl_action) == (3600, "stop")
        assert fake.instances[endless.id].ttl is None
        await machine.stop()
        await endless.stop()

    async def test_a_machine_that_is_used_lives_on(self, fake, image, monkeypatch):
        monkeypatch.setattr(morph, "SIGNS_OF_LIFE", 40)
        machine = await replace(image, ttl_seconds=4).spawn()
        await until(lambda: fake.count("POST /instance/.*/ttl") >= 45)  # at a tenth of a second each
        assert (await machine.exec("echo on")).stdout == "on\n"
        await machine.stop()

    async def test_forks_have_one_too(self, fake, image):
        machine = await replace(image, ttl_seconds=1000, ttl_action="pause").spawn()
        fork = await machine.fork()
        assert (fake.instances[fork.id].ttl, fake.instances[fork.id].ttl_action) == (1000, "pause")
        await machine.stop()
        await fork.stop()

    async def test_a_program_that_is_killed_leaves_nothing_for_long(self, fake, image):
        program = (
            "import asyncio, os\nfrom ramure.machines.morph.image import MorphImage\n"
            f"asyncio.run(MorphImage({image.id!r}, ttl_seconds=6).spawn())\nos.kill(os.getpid(), 9)"
        )
        ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], timeout=30, check=False)
        assert ended.returncode == -9
        assert fake.count("POST /instance") == 1
        await until(lambda: not fake.instances)

    async def test_a_sign_of_life_that_fails_is_told_and_given_again(self, fake, image, caplog, monkeypatch):
        monkeypatch.setattr(morph, "SIGNS_OF_LIFE", 60)
        fake.faults.append(Fault("POST /instance/.*/ttl", 500, times=4))  # all tries of the first
        machine = await replace(image, ttl_seconds=30).spawn()
        with caplog.at_level(logging.WARNING):
            await until(lambda: fake.count("POST /instance/.*/ttl") >= 5)
        assert "renewing the TTL" in caplog.text
        await machine.stop()

    @pytest.mark.parametrize("change", [{"ttl_seconds": 0}, {"ttl_action": "explode"}])
    def test_values_that_mean_nothing(self, change):
        with pytest.raises(ValueError, match=r"0|explode"):
            MorphImage(**change)


class TestLostAnswers:
    @pytest.mark.parametrize("how", ["early", "late", 503, 429])
    async def test_no_instance_is_started_twice(self, fake, image, how):
        fake.faults.append(Fault("POST /instance", how))
        machine = await image.spawn()
        assert len(fake.instances) == 1
        await machine.stop()

    @pytest.mark.parametrize("how", ["early", "late", 502])
    async def test_no_snapshot_is_made_twice(self, fake, machine, how):
        before = len(fake.snapshots)
        fake.faults.append(Fault("POST /instance/.*/snapshot", how))
        await machine.snapshot()
        assert len(fake.snapshots) == before + 1

    async def test_an_instance_whose_stopping_was_not_confirmed_is_stopped(self, fake, image):
        machine = await image.spawn()
        fake.faults.append(Fault("DELETE /instance/.*", "late"))
        await machine.stop()
        assert not fake.instances

    async def test_one_that_cannot_be_stopped_is_told_of_and_can_be_stopped_later(self, fake, image):
        machine = await image.spawn()
        fake.faults.append(Fault("DELETE /instance/.*", 500, times=4))
        with pytest.raises(CloudError, match="the fake says no"):
            await machine.stop()
        with pytest.raises(MachineStopped):
            await machine.exec("true")
        await machine.stop()
        assert not fake.instances

    async def test_a_command_is_never_run_twice(self, fake, machine):
        running = asyncio.create_task(machine.exec("echo run >> log; sleep 2; echo done >> log"))
        async with asyncio.timeout(30):
            while not (await machine.exec("cat log")).ok:
                pass
        fake.cut(machine.id)
        with pytest.raises(LinkLost, match="may have taken effect"):
            await running
        async with asyncio.timeout(30):  # the command itself went on
            while await answered(machine, "cat log") != "run\ndone\n":
                await asyncio.sleep(0.1)
        assert fake.count("POST /instance/.*/exec") == 0


async def answered(machine, command: str) -> str:
    try:
        return (await machine.exec(command)).stdout
    except LinkLost:  # it met the connection that was cut
        return ""


class TestSpawnFailures:
    """Each leaves no instance: the fixture looks."""

    async def test_there_is_no_such_snapshot(self, fake):
        with pytest.raises(SpawnFailed, match="Snapshot snapshot_nowhere not found"):
            await MorphImage("snapshot_nowhere").spawn()

    async def test_there_is_no_such_base_image(self, fake):
        with pytest.raises(SpawnFailed, match="morphvm-maximal"):
            await MorphImage(base_image="morphvm-maximal").spawn()

    async def test_the_quota_is_used_up(self, fake, image):
        fake.quota = 0
        with pytest.raises(SpawnFailed, match=r"quota exceeded.*; stop what is not needed"):
            await image.spawn()
        assert fake.count("POST /instance") == 1

    async def test_the_key_is_wrong(self, fake, image):
        with pytest.raises(SpawnFailed, match="is the API key right") as caught:
            await replace(image, api_key="morph_wrong_key").spawn()
        assert "morph_wrong_key" not in str(caught.value)

    async def test_there_is_no_key(self, image, monkeypatch):
        monkeypatch.delenv("MORPH_API_KEY")
        with pytest.raises(SpawnFailed, match="set MORPH_API_KEY"):
            await image.spawn()

    async def test_the_sdk_is_not_installed(self, image, monkeypatch):
        monkeypatch.setitem(sys.modules, "morphcloud.api", None)
        with pytest.raises(SpawnFailed, match=r"pip install 'ramure\[morph\]'"):
            await image.spawn()

    async def test_the_service_cannot_be_reached(self, image, monkeypatch):
        monkeypatch.setenv("MORPH_BASE_URL", "http://127.0.0.1:1/api")
        with pytest.raises(SpawnFailed, match="connection to the internet"):
            await image.spawn()

    async def test_no_way_in_is_given_out(self, fake, image):
        fake.faults.append(Fault("GET /instance/.*/ssh/key", 500, times=4))
        with pytest.raises(SpawnFailed, match="the fake says no"):
            await image.spawn()

    async def test_ssh_cannot_be_reached(self, image, monkeypatch):
        monkeypatch.setenv("MORPH_SSH_PORT", "1")
        monkeypatch.setattr(morph, "SSH_LIMIT", 0.5)
        with pytest.raises(SpawnFailed, match="runs, but SSH to it failed"):
            await image.spawn()

    async def test_the_workdir_cannot_be_made(self, image):
        with pytest.raises(SpawnFailed, match="no working directory.*/proc/nowhere"):
            await replace(image, workdir="/proc/nowhere").spawn()

    async def test_the_gateway_shows_another_key_than_before(self, fake, image, tmp_path):
        await (await image.spawn()).stop()
        known = tmp_path / "home" / "morph_known_hosts"
        assert known.stat().st_mode & 0o777 == 0o600
        other = known.read_text().split()
        known.write_text(f"{other[0]} {other[1]} {(tmp_key())}\n")
        with pytest.raises(HostKeyRefused, match="is not the one that is known"):
            await image.spawn()

    async def test_the_caller_leaves_while_it_starts(self, fake, image):
        fake.boot_seconds = 2
        spawning = asyncio.create_task(image.spawn())
        await until(lambda: fake.instances)
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning


def tmp_key() -> str:
    import asyncssh

    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[1]


class TestSecrets:
    async def test_the_key_is_shown_to_nobody(self, fake, image, monkeypatch, caplog, capfd):
        monkeypatch.delenv("MORPH_API_KEY")
        caplog.set_level(logging.DEBUG)
        image = replace(image, api_key=KEY, env={"TOKEN": "canary-in-env"})
        machine = await image.spawn()
        seen = (
            await machine.exec("ps axww -o args; cat /proc/*/environ | tr '\\0' '\\n' | grep -v TOKEN; echo $TOKEN")
        ).stdout
        assert "canary-in-env" in seen
        assert KEY not in seen
        assert "canary-in-env" not in seen.rpartition("canary-in-env")[0]
        ps = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
        here = (await asyncio.to_thread(ps, ["ps", "axww", "-o", "args"])).stdout
        fake.end_instance(machine.id)
        with pytest.raises(MachineError) as gone:
            await machine.exec("true")
        await machine.stop()
        told = [
            repr(image),
            image.describe(),
            machine.describe(),
            str(gone.value),
            caplog.text,
            *capfd.readouterr(),
            here,
        ]
        assert not [text for text in told if KEY in text or "canary-in-env" in text]
        assert {login.partition(":")[2] for login in fake.logins} == {""}

    async def test_the_sdk_prints_nothing(self, fake, capfd):
        machine = await MorphImage(recipe=["true"]).spawn()
        await (await machine.fork()).stop()
        await machine.stop()
        assert capfd.readouterr() == ("", "")


class TestEndsAndPauses:
    async def test_an_instance_that_somebody_else_stopped_is_down(self, fake, machine):
        watching = asyncio.create_task(machine.wait_down())
        await machine.exec("true")
        fake.end_instance(machine.id)
        async with asyncio.timeout(20):
            assert "no such instance any more" in await watching
        with pytest.raises((MachineDown, MachineError)):
            await machine.exec("true")

    async def test_a_pause_keeps_what_is_there(self, fake, machine):
        await machine.write_file("file", b"kept")
        await machine.pause()
        with pytest.raises(MachineDown, match=r"paused; resume\(\) it"):
            await machine.exec("true")
        await machine.resume()
        assert await machine.read_file("file") == b"kept"

    async def test_a_pause_of_ours_is_no_death(self, fake, machine):
        watching = asyncio.create_task(machine.wait_down())
        await machine.pause()
        done, _ = await asyncio.wait([watching], timeout=2)
        assert not done
        await machine.resume()
        assert (await machine.exec("echo on")).stdout == "on\n"
        fake.end_instance(machine.id)
        async with asyncio.timeout(20):
            await watching

    async def test_what_the_service_paused_can_be_attached_to(self, fake, image):
        machine = await replace(image, ttl_action="pause").spawn()
        await machine.write_file("file", b"kept")
        fake.pause_instance(machine.id)
        again = await image.attach(machine.id).spawn()
        assert await again.read_file("file") == b"kept"
        await again.stop()
        assert machine.id in fake.instances  # it was not ours to end
        await machine.stop()

    async def test_an_owned_one_is_ended_and_has_the_ttl(self, fake, image):
        machine = await image.spawn()
        owned = await replace(image, ttl_seconds=500).attach(machine.id, owned=True).spawn()
        assert fake.instances[machine.id].ttl == 500
        await owned.stop()
        assert not fake.instances
        await machine.stop()

    async def test_there_is_nothing_to_attach_to(self, fake):
        with pytest.raises(SpawnFailed, match="morphvm_nowhere not found"):
            await MorphImage().attach("morphvm_nowhere").spawn()

    async def test_a_fork_leaves_no_snapshot(self, fake, machine):
        before = set(fake.snapshots)
        await (await machine.fork()).stop()
        assert set(fake.snapshots) == before


class TestServices:
    async def test_an_http_service_is_published_once(self, fake, machine):
        url = await machine.expose_http_service("web", 8000)
        assert url == await machine.expose_http_service("web", 8000) == f"https://web-{machine.id}.http.invalid"
        with pytest.raises(CloudError, match=r"already exists \(HTTP 409\)"):
            await machine.expose_http_service("web", 9000)
        await machine.hide_http_service("web")
        await machine.hide_http_service("web")
        assert not fake.instances[machine.id].services

    async def test_a_port_of_ours_is_reached_through_a_tunnel(self, machine):
        async def greet(reader, writer):
            writer.write(b"hello " + await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            address = await machine.expose_port(server.sockets[0].getsockname()[1])
            command = f"exec 3<>/dev/tcp/{address.replace(':', '/')}; echo you >&3; cat <&3"
            assert (await machine.exec(command, timeout=30)).stdout == "hello you\n"

    async def test_a_gateway_that_gives_no_tunnels_is_told_of_with_the_way_round(self, fake, machine):
        fake.tunnels = False
        with pytest.raises(NotSupported, match="base_url="):
            await machine.expose_port(80)

    async def test_a_terminal_is_ssh_without_the_key_of_the_account(self, fake, machine):
        command = machine.terminal(["tmux", "attach"])
        assert command == ["ssh", "-t", "-p", str(fake.ssh_port), f"{machine.id}@127.0.0.1", "tmux attach"]

    async def test_many_machines_share_one_client(self, fake, image, monkeypatch):
        from morphcloud.api import MorphCloudClient

        made = []
        original = MorphCloudClient.__init__
        monkeypatch.setattr(MorphCloudClient, "__init__", lambda self, **kw: made.append(self) or original(self, **kw))
        machines = await asyncio.gather(*(image.spawn() for _ in range(8)))
        assert len([thread for thread in threads() if thread.name.startswith("morph_")]) <= morph_cloud.THREADS
        await asyncio.gather(*(machine.stop() for machine in machines))
        assert len(made) == 1
