"""Ways out of the sandbox, each refused; and what it must still be able to do."""

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ramure import executor
from ramure.machines.errors import FileRefused, MachineDown, NoSuchFile, SpawnFailed, UserRefused
from ramure.machines.sandbox.image import SandboxImage
from ramure.machines.tmux.remote import ExecTmux

pytestmark = pytest.mark.real

SECRET = "s3cret-of-the-host"


@pytest.fixture
async def outside(tmp_path, monkeypatch):
    """A host with things to steal and to break; ``work`` is the sandbox's directory."""
    for name in ("work", "home/.ssh", "home/.config", "sibling"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("home/.ssh/id_rsa", "home/.config/key", "sibling/file", "file"):
        (tmp_path / name).write_text(SECRET)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SECRET_KEY", SECRET)
    return tmp_path


@pytest.fixture
async def victim():
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, "VICTIM": SECRET})
    yield process
    process.kill()
    process.wait()


READS = {
    "a sibling file": "cat {top}/sibling/file",
    "a file above": "cat ../file",
    "HOME's ssh key": "cat {top}/home/.ssh/id_rsa",
    "~/.ssh": "cat ~/.ssh/id_rsa",
    "HOME's settings": "cat {top}/home/.config/key",
    "/root": "ls -A /root | grep . && echo " + SECRET,
    "a symbolic link out": "ln -s {top}/sibling/file link; cat link",
    "a symbolic link to a directory": "ln -s {top}/sibling dir; cat dir/file",
    "a hard link out": "ln {top}/sibling/file hard && cat hard",
    "dot dot through a link": "ln -s . here; cat here/../../file",
    "the root of process 1": "cat /proc/1/root{top}/file",
    "the root of the parent": "cat /proc/$PPID/root{top}/file",
    "the directory of a process": "cat /proc/*/cwd/../file",
    "open files of processes": "for f in /proc/[0-9]*/fd/*; do timeout 0.1 head -c 1000 $f; done | grep -a {secret}",
    "environments of processes": "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep {secret}",
    "our environment": "env | grep {secret}",
    "the victim's environment": "cat /proc/{victim}/environ | grep -a {secret}",
    "password hashes": "grep -q : /etc/shadow && echo {secret}",
    "the host's disk": "cat /dev/vda /dev/sda /dev/nvme0n1 | head -c 1 | grep -ac . && echo {secret}",
    "kernel memory": "head -c 1 /dev/mem /proc/kcore && echo {secret}",
    "the host's runtime files": "ls -A /run | grep -v ramure | grep . && echo {secret}",
    "the host's temporary files": "ls -A /tmp | grep -v pytest | grep . && echo {secret}",
    "docker's socket": "test -e /var/run/docker.sock && echo {secret}",
    "listing the host's processes": "ls /proc | grep -x {victim} && echo {secret}",
}

ACTS = {
    "writing to a sibling": "echo broken > {top}/sibling/file",
    "writing above": "echo broken > ../file",
    "writing through a link": "ln -s {top}/file link; echo broken > link",
    "removing a sibling": "rm -rf {top}/sibling",
    "writing to the system": "touch /usr/bin/{marker} /etc/{marker} /opt/{marker}",
    "writing into our program": "echo broken >> /run/ramure/reaper.py",
    "remounting the system": "mount -o remount,rw /usr && touch /usr/bin/{marker}",
    "mounting the disk": "mkdir m; mount /dev/vda m && touch m/{marker}",
    "making a device": "mknod disk b 254 0 && cat disk | head -c 1 && touch {top}/{marker}",
    "a change of root": "chroot / touch {top}/{marker}",
    "killing the victim": "kill -9 {victim}",
    "killing everything": "(sleep 0.1; true) & kill -9 -1; true",
    "setting the kernel": "echo {marker} > /proc/sys/kernel/domainname && echo {marker}",
    "sysrq": "echo h > /proc/sysrq-trigger && echo {marker}",
    "entering the host's namespaces": "nsenter -t 1 -a touch {top}/{marker}; nsenter -t {victim} -a touch {top}/{marker}",
    "namespaces of its own": "unshare -rmU sh -c 'mount -t tmpfs x /usr && touch {top}/{marker}'",
}


@pytest.mark.parametrize("way", READS)
async def test_it_cannot_read(way, outside, victim):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    command = READS[way].format(top=outside, secret=SECRET, victim=victim.pid)
    result = await machine.exec(command, timeout=20)
    await machine.stop()
    assert SECRET not in result.stdout


@pytest.mark.parametrize("way", ACTS)
async def test_it_cannot_change(way, outside, victim):
    marker = f"ramure-marker-{os.getpid()}"
    machine = await SandboxImage(workdir=outside / "work").spawn()
    command = ACTS[way].format(top=outside, marker=marker, victim=victim.pid)
    await asyncio.gather(machine.exec(command, timeout=30), return_exceptions=True)
    await machine.stop()
    assert (outside / "file").read_text() == (outside / "sibling/file").read_text() == SECRET
    assert victim.poll() is None
    for place in ("/usr/bin", "/etc", "/opt", "/", str(outside)):
        assert not Path(place, marker).exists()
    assert marker not in Path("/proc/sys/kernel/domainname").read_text()


async def test_file_methods_do_not_follow_links_out(outside):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    await machine.exec(f"ln -s {outside}/file read; ln -s {outside}/sibling dir")
    with pytest.raises(NoSuchFile):
        await machine.read_file("read")
    with pytest.raises(FileRefused):
        await machine.write_file("/usr/bin/nothing", b"x")
    for path in ("read", "dir/file", f"{outside}/file"):
        try:
            await machine.write_file(path, b"broken")
        except FileRefused:
            continue
    await machine.stop()
    assert (outside / "file").read_text() == (outside / "sibling/file").read_text() == SECRET


@pytest.mark.parametrize("network", [True, False])
async def test_the_network_can_be_switched_off(outside, network):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        machine = await SandboxImage(workdir=outside / "work", network=network).spawn()
        result = await machine.exec(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo through; ls /sys/class/net", timeout=20)
        await machine.stop()
    assert ("through" in result.stdout) is network


async def test_commands_share_one_sandbox(outside):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    await machine.exec("sleep 1000 & echo $! > pid; echo shared > /tmp/shared")
    assert (await machine.exec("cat /tmp/shared; kill -0 $(cat pid) && echo there")).stdout == "shared\nthere\n"
    await machine.stop()


async def test_tmux_runs_in_it(outside):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    tmux = ExecTmux(machine)
    await tmux.start()
    await tmux.new_session("w1", ["sh", "-c", "echo in the box; sleep 0.3; exit 4"], cwd=machine.workdir)
    ending = await tmux.wait_end("w1")
    assert (ending.exit_code, ending.screen) == (4, "in the box")
    await tmux.kill_server()
    await machine.stop()


async def test_it_outlives_the_thread_that_started_it(outside, monkeypatch):
    """The kernel kills a process that asked to end with its parent when the *thread* that started it ends (prctl(2))."""
    monkeypatch.setattr(executor, "_threads", executor.Threads(4, "short", idle=0.01))
    machine = await SandboxImage(str(outside / "work")).spawn()
    try:
        async with asyncio.timeout(20):
            while any(each.name.startswith("short") for each in threading.enumerate()):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # a signal of the kernel's would be there by now
        assert (await machine.exec("echo here")).stdout == "here\n"
    finally:
        await machine.stop()


async def test_a_killed_sandbox_is_noticed(outside):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    running = asyncio.create_task(machine.exec("sleep 1000"))
    noticing = asyncio.create_task(machine.wait_down())
    await asyncio.sleep(0.1)
    os.kill(machine.reaper.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert "reaper" in await noticing
    with pytest.raises(MachineDown):
        await running
    await machine.stop()


async def test_what_is_needed_beside_can_be_shown(outside):
    machine = await SandboxImage(workdir=outside / "work", readonly=[outside / "sibling"]).spawn()
    file = shlex.quote(str(outside / "sibling/file"))
    assert (await machine.exec(f"cat {file}")).stdout == SECRET
    assert not (await machine.exec(f"echo broken > {file}")).ok
    await machine.stop()


async def test_it_has_one_user(outside):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    with pytest.raises(UserRefused):
        await machine.exec("true", user="nobody")
    await machine.stop()


async def test_without_bwrap_it_fails_closed(outside, monkeypatch):
    monkeypatch.setenv("PATH", str(outside))
    with pytest.raises(SpawnFailed, match="install bubblewrap"):
        await SandboxImage().spawn()


async def test_where_bwrap_cannot_run_it_fails_closed(outside, monkeypatch):
    broken = outside / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{outside}:{os.environ['PATH']}")
    with pytest.raises(SpawnFailed, match="No permissions to create new namespace"):
        await SandboxImage(workdir=outside / "work").spawn()


async def test_the_cost_of_a_start(outside, capsys):
    began = time.monotonic()
    for _ in range(10):
        await (await SandboxImage(workdir=outside / "work").spawn()).stop()
    each = (time.monotonic() - began) / 10
    with capsys.disabled():
        print(f"\nsandbox: start and stop {each * 1000:.0f} ms")
    assert each < 1


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("own", ["", "/opt/lib:/srv/lib"])
async def test_a_python_that_finds_its_library_by_a_path_outside_only(own, linked, tmp_path, monkeypatch):
    """As pyenv builds one with --enable-shared: the path of its library stands in the program."""
    prefix, real = tmp_path / "versions/3.99", os.path.realpath(sys.executable)
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib").mkdir()
    (prefix / "lib/libpython.so").touch()
    (prefix / "bin/python").write_text(
        f'#!/bin/sh\n[ -e "$LD_LIBRARY_PATH/libpython.so" ] || [ -e {prefix}/lib/libpython.so ] || exit 127\nexec {real} "$@"\n'
    )
    (prefix / "bin/python").chmod(0o755)
    if linked:
        (tmp_path / "current").symlink_to(prefix)
        prefix = tmp_path / "current"
    monkeypatch.setattr("sys._base_executable", str(prefix / "bin/python"), raising=False)
    monkeypatch.setattr("sys.base_prefix", str(prefix))
    readonly = [os.path.dirname(os.path.dirname(real))]
    machine = await SandboxImage(readonly=readonly, env={"LD_LIBRARY_PATH": own} if own else {}).spawn()
    assert (
        await machine.exec('echo "${LD_LIBRARY_PATH-unset}"; env | grep -c RAMURE_LD')
    ).stdout == f"{own or 'unset'}\n0\n"
    await machine.stop()


def _mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


@pytest.mark.parametrize(
    "way",
    [
        "cp /bin/true evil; chmod 4755 evil",
        "cp /bin/true evil; chmod 6755 evil",
        "cp /bin/true evil; chmod 2755 evil",
        "cp /bin/true evil; chmod 4111 evil",  # that nobody may read
        "mkdir -p a/b; cp /bin/true a/b/evil; chmod u+s a/b/evil; ln a/b/evil evil",
        "cp /bin/true evil; perl -e 'chmod 04755, \"evil\"'",
        "cp /bin/true evil; touch -d 2001-01-01 evil; chmod 4755 evil; touch -d 2001-01-01 evil",
        "cp /bin/true $'new\\nline'; chmod 4755 $'new\\nline'; mv $'new\\nline' evil",
    ],
)
async def test_no_setuid_file_of_a_sandbox_is_left(outside, caplog, way):
    machine = await SandboxImage(workdir=outside / "work").spawn()
    assert (await machine.exec(f"bash -c {shlex.quote(way)}")).ok
    assert _mode(outside / "work" / "evil") & 0o6000
    await machine.stop()
    assert not _mode(outside / "work" / "evil") & 0o6000
    assert _mode(outside / "work" / "evil") & 0o111  # the rest stays
    assert "had made files setuid" in caplog.text


async def test_your_own_setuid_files_stay_as_they_were(outside, caplog):
    own, away = outside / "work" / "own", outside / "away"
    for file in (own, away):
        file.write_text("")
        file.chmod(0o4755)
    await asyncio.sleep(1.2)  # status changes of before the sandbox
    machine = await SandboxImage(workdir=outside / "work").spawn()
    await machine.exec(f"ln -s {away} link; mkfifo fifo; chmod 4755 fifo; echo x > new")
    await machine.stop()
    assert (_mode(own), _mode(away)) == (0o4755, 0o4755)
    assert "setuid" not in caplog.text
