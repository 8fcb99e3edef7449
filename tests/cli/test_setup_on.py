"""``ramure setup --on``: on a real sshd. npm is a stub where only what it is asked for matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import SetupFailed
from ramure.agents.pi.toolchain.find import Harness
from ramure.agents.pi.toolchain.remote import Wishes, find_on, set_up_on
from ramure.cli.commands.setup import image_of
from ramure.errors import UsageError
from tests.agents.toolchain import stubs
from tests.machines.sshd import Sshd

NODE = """case "$1" in
-p) case "$2" in
    *execPath*) printf 'v{version}\\t%s\\n' "$0" ;;
    *statSync*) stat -c '%Y000000000 %s' "$3" ;;
    *package.json*) sed 's/.*"version": "\\([^"]*\\)".*/\\1/' "$3/package.json" ;;
    *) echo {version} ;;
    esac ;;
--version) echo v{version} ;;
*) script=$1; shift; exec "$script" "$@" ;;
esac"""
"""A Node that knows the questions that are asked."""

NPM = """echo "$@" >>"{log}"
while [ $# -gt 1 ]; do [ "$1" = --prefix ] && prefix=$2; shift; done
case "$1" in *@latest) [ -z "{fails}" ] || {{ echo "npm error network {fails}" >&2; exit 1; }} ;; esac
package=$prefix/node_modules/@earendil-works/pi-coding-agent
mkdir -p "$package/dist"
echo '{{"name": "@earendil-works/pi-coding-agent", "version": "1.9.0", "bin": {{"pi": "dist/cli.js"}}}}' >"$package/package.json"
printf '#!/bin/sh\\necho 1.9.0\\n' >"$package/dist/cli.js"
chmod +x "$package/dist/cli.js\""""


class There:
    """A host to log in to, whose commands have a PATH and a home of their own."""

    def __init__(self, directory: Path) -> None:
        self.home, self.bin = directory / "there", directory / "there" / "bin"
        self.bin.mkdir(parents=True)
        for name in ("sh", "bash", "env", "mkdir", "mktemp", "mv", "rm", "cat", "tr", "sed", "dirname", "readlink", "tail",
                     "stat", "uname", "id", "printf", "chmod", "tar", "gzip", "sleep", "grep", "awk", "flock", "tmux"):  # fmt: skip
            found = next((p for p in (Path("/usr/bin", name), Path("/bin", name)) if p.exists()), None)
            if found:
                (self.bin / name).symlink_to(found)
        (directory / "sshd").mkdir()
        self.sshd = Sshd(directory / "sshd")

    def image(self):
        return self.sshd.image(env={"PATH": str(self.bin), "HOME": str(self.home), "RAMURE_HOME": str(self.home / "r")})

    @property
    def toolchain(self) -> Path:
        return self.home / "r" / "toolchain"

    def current(self) -> dict:
        return json.loads((self.toolchain / "current.json").read_text())

    def node(self, version: str = "24.1.0") -> None:
        stubs.script(self.bin / "node", NODE.format(version=version))

    def npm(self, fails: str = "") -> Path:
        log = self.home / "npm.log"
        stubs.script(self.bin / "npm", NPM.format(log=log, fails=fails))
        return log


@pytest.fixture
def there(tmp_path: Path) -> Iterator[There]:
    there = There(tmp_path)
    yield there
    there.sshd.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture
async def machine(there: There):
    machine = await there.image().spawn()
    yield machine
    await machine.stop()


@pytest.mark.real
async def test_ones_own_pi_there_is_taken(there, machine):
    there.node("22.19.0")
    cli = stubs.pi(there.bin, "0.87.1")
    found = await set_up_on(machine, Wishes())
    assert (found.source, found.pi, str(found.node_version)) == ("own", cli, "22.19.0")
    assert not there.toolchain.exists()


@pytest.mark.real
async def test_pi_is_installed_there_by_its_npm(there, machine):
    there.node()
    log = there.npm()
    said: list[str] = []
    found = await set_up_on(machine, Wishes(), said.append)
    assert (found.source, str(found.pi_version)) == ("private", "1.9.0")
    assert found.pi.is_relative_to(there.toolchain / "pi-1.9.0")
    assert "@earendil-works/pi-coding-agent@latest" in log.read_text()
    assert "--ignore-scripts" in log.read_text()
    assert said[-1] == "installing pi latest …"
    assert sorted(path.name for path in there.toolchain.iterdir()) == ["current.json", "lock", "pi-1.9.0"]
    assert there.toolchain.stat().st_mode & 0o777 == 0o700
    assert there.current()["pi"] == str(found.pi)
    assert isinstance(await find_on(machine, Wishes()), Harness)
    log.unlink()
    assert await set_up_on(machine, Wishes()) == found  # there already
    assert not log.exists()


@pytest.mark.real
async def test_what_was_chosen_is_what_agents_there_use_though_another_is_on_the_path(there, machine):
    there.node()
    there.npm()
    stubs.pi(there.bin, "0.87.1")
    found = await set_up_on(machine, Wishes(private=True))
    assert str(found.pi_version) == "1.9.0"
    assert await find_on(machine, Wishes()) == found


@pytest.mark.real
async def test_without_the_newest_an_older_pi_will_do(there, machine):
    there.node()
    log = there.npm(fails="ETARGET")
    await set_up_on(machine, Wishes())
    assert "pi-coding-agent@0.87.1" in log.read_text()


@pytest.mark.real
async def test_where_nothing_can_be_installed_or_copied_the_error_says_so(there, machine):
    with pytest.raises(SetupFailed, match=r"needs pip, uv or npm, and none .*\n.*cannot be copied: .*no private Node"):
        await set_up_on(machine, Wishes())
    there.node()
    there.npm(fails="ENETUNREACH")
    with pytest.raises(SetupFailed, match="(?s)pi latest could not be installed on .*ENETUNREACH.*that host npm"):
        await set_up_on(machine, Wishes(pi="latest"))
    assert [path.name for path in there.toolchain.iterdir()] == ["lock"]


@pytest.mark.real
async def test_a_version_that_will_not_do_is_refused(machine):
    with pytest.raises(UsageError, match="too old"):
        await set_up_on(machine, Wishes(pi="0.70.0"))


@pytest.mark.real
async def test_a_host_without_npm_or_network_gets_a_copy_of_ours(there, machine, home):
    ours = home / "toolchain"
    stubs.script(ours / "node-24.1.0" / "bin" / "node", NODE.format(version="24.1.0"))
    stubs.pi_package(ours / "pi-1.9.0" / "node_modules", "1.9.0")
    said: list[str] = []
    found = await set_up_on(machine, Wishes(), said.append)
    assert (str(found.pi_version), str(found.node_version)) == ("1.9.0", "24.1.0")
    assert found.pi.is_relative_to(there.toolchain)
    assert "copying this host's: pi 1.9.0" in said[-1]
    assert sorted(path.name for path in there.toolchain.iterdir()) == [
        "current.json", "lock", "node-24.1.0", "pi-1.9.0",
    ]  # fmt: skip
    assert await find_on(machine, Wishes()) == found
    with pytest.raises(SetupFailed, match="cannot be copied: its pi is 1.9.0"):
        await set_up_on(machine, Wishes(pi="1.8.0"))


@pytest.mark.real
async def test_a_copy_that_does_not_run_there_is_not_left(there, machine, home):
    ours = home / "toolchain"
    stubs.script(ours / "node-24.1.0" / "bin" / "node", "exit 1")
    stubs.pi_package(ours / "pi-1.9.0" / "node_modules", "1.9.0")
    with pytest.raises(SetupFailed, match="the copy could not be installed"):
        await set_up_on(machine, Wishes())
    assert [path.name for path in there.toolchain.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("box", ("box", None, None)),
        ("me@box:2222", ("box", "me", 2222)),
        ("me@[::1]:22", ("::1", "me", 22)),
    ],
)
def test_hosts_are_written_as_for_ssh(host, expected):
    image = image_of(host)
    assert (image.host, image.user, image.port) == expected


@pytest.mark.parametrize("host", ["", "a:b", "a b:x", "@box"])
def test_what_is_no_host_is_wrong_usage(host):
    with pytest.raises(UsageError, match=r"takes \[user@\]host\[:port\]"):
        image_of(host)


@pytest.mark.real
@pytest.mark.timeout(180)  # three programs, one after the other
def test_the_command_does_it_with_the_users_own_ssh_settings(there, tmp_path):
    there.node("22.19.0")
    stubs.pi(there.bin, "0.87.1")
    settings = tmp_path / "user" / ".ssh"
    settings.mkdir(parents=True)
    (there.sshd.directory / "config").write_text(
        (there.sshd.directory / "config")
        .read_text()
        .replace("SetEnv ", f"SetEnv PATH={there.bin} RAMURE_HOME={there.home}/r ")
    )
    there.sshd.stop()
    there.sshd.start()
    (settings / "config").write_text(
        f"Host box\n HostName 127.0.0.1\n Port {there.sshd.port}\n IdentityFile {there.sshd.directory}/user_key\n"
        f" UserKnownHostsFile {there.sshd.directory}/known_hosts\n"
    )
    command = [sys.executable, "-m", "ramure.cli", "setup", "--on", "box"]
    environ = {**os.environ, "HOME": str(tmp_path / "user")}
    done = subprocess.run([*command, "--json"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pi_version"] == "0.87.1"
    done = subprocess.run([*command, "--dry-run"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("this fits: pi 0.87.1 on Node 22.19.0")
    (there.bin / "tmux").unlink()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("agents on box run pi 0.87.1")
    assert "there is no tmux on" in done.stderr
