"""SSH as `ssh` does it: what the configuration says, whose key a host has, and which keys we log in with. On a real sshd."""

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ramure.errors import UsageError
from ramure.machines.errors import HostKeyRefused, LoginRefused, MachineError, SpawnFailed
from ramure.machines.ssh import config as ssh_config
from ramure.machines.ssh.config import Target
from ramure.machines.ssh.image import SSHImage
from tests.machines.sshd import Sshd

pytestmark = pytest.mark.real

IPV6 = os.path.exists("/proc/net/if_inet6")


def resolved(directory: Path, text: str, host: str = "box", **said) -> Target:
    """What a configuration says of a host."""
    (directory / "config").write_text(text)
    options = {"user": None, "port": None, "key": None, "jump": None, "known_hosts": None, **said}
    return ssh_config.resolve(host, config=str(directory / "config"), dead_after=15.0, **options)


async def says_hello(image: SSHImage) -> None:
    machine = await image.spawn()
    assert (await machine.exec("echo hello")).stdout == "hello\n"
    await machine.stop()


def image_of(sshd: Sshd, directory: Path, text: str, host: str = "box", **said) -> SSHImage:
    """A host that only the configuration says anything about."""
    config = directory / "ssh_config"
    config.write_text(text)
    options = {"host": host, "port": None, "key": None, "known_hosts": None, "config": str(config), **said}
    return sshd.image(**options)


def way_to(sshd: Sshd, *, known: bool = True, key: bool = True) -> str:
    """The lines of a configuration that lead to a server."""
    lines = [f"HostName 127.0.0.1\n Port {sshd.port}\n GlobalKnownHostsFile none"]
    lines += [f"UserKnownHostsFile {sshd.directory}/known_hosts"] if known else []
    lines += [f"IdentityFile {sshd.directory}/user_key"] if key else []
    return "".join(f" {line}\n" for line in lines)


class TestFiles:
    async def test_include_with_a_full_path_and_a_pattern(self, own_sshd, tmp_path):
        parts = tmp_path / "conf.d"
        parts.mkdir()
        (parts / "10-box.conf").write_text("Host box\n" + way_to(own_sshd, key=False))
        (parts / "20-keys.conf").write_text(f"Host *\n IdentityFile {own_sshd.directory}/user_key\n")
        await says_hello(image_of(own_sshd, tmp_path, f"Include {parts}/*.conf\n"))

    async def test_include_below_a_host_and_nested(self, own_sshd, tmp_path):
        (tmp_path / "inner").write_text(way_to(own_sshd))
        (tmp_path / "outer").write_text(f"Include {tmp_path}/inner\n")
        await says_hello(
            image_of(own_sshd, tmp_path, f"Host other\n User nobody\nHost box\n Include {tmp_path}/outer\n")
        )

    async def test_match_exec_and_match_host(self, own_sshd, tmp_path):
        text = f'Match exec "test %h = box"\n{way_to(own_sshd)}Match host never\n Port 1\n'
        await says_hello(image_of(own_sshd, tmp_path, text))

    def test_match_user_sees_who_logs_in(self, tmp_path):
        text = "Match user deploy\n HostName 10.0.0.9\nHost *\n HostName 10.0.0.1\n"
        assert resolved(tmp_path, text, user="deploy").host == "10.0.0.9"
        assert resolved(tmp_path, text, user="other").host == "10.0.0.1"

    async def test_an_error_in_it_is_told_with_its_place(self, own_sshd, tmp_path):
        with pytest.raises(SpawnFailed, match=r"ssh_config.*line 2.*(?i:bad configuration option)"):
            await image_of(own_sshd, tmp_path, "Host box\n NoSuchOption yes\n").spawn()

    async def test_one_that_is_not_there_is_told(self, own_sshd):
        with pytest.raises(SpawnFailed, match="/no/such/config"):
            await own_sshd.image(config="/no/such/config").spawn()

    def test_tokens_and_variables_are_filled_in(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KEYS", "/keys")
        text = (
            "Host box\n HostName %h.example.org\n User me\n Port 2222\n IdentityFile ${KEYS}/%r@%h:%p-%n\n"
            " CertificateFile /certs/%h\n UserKnownHostsFile /known/%k /known/%r\n ProxyCommand nc %h %p %%\n"
        )
        target = resolved(tmp_path, text)
        assert target.host == "box.example.org"
        assert target.keys == ("/keys/me@box.example.org:2222-box",)
        assert target.certificates == ("/certs/box.example.org",)
        assert target.known_hosts[:2] == ("/known/box", "/known/me")
        assert target.proxy_command == "nc box.example.org 2222 %"

    def test_other_settings(self, tmp_path):
        text = (
            "Host box\n HostKeyAlias other\n IdentitiesOnly yes\n IdentityAgent none\n StrictHostKeyChecking accept-new\n"
            " AddressFamily inet6\n BindAddress ::1\n ConnectTimeout 7\n Compression yes\n HashKnownHosts yes\n"
            " UserKnownHostsFile none\n GlobalKnownHostsFile none\n NoHostAuthenticationForLocalhost yes\n"
        )
        target = resolved(tmp_path, text)
        assert (target.alias, target.only_these_keys, target.agent, target.strict) == ("other", True, "", "accept-new")
        assert (target.family, target.bind_address, target.patience) == (10, "::1", 7.0)
        assert (target.compress, target.hash_names, target.trust_loopback, target.known_hosts) == (True, True, True, ())

    @pytest.mark.parametrize(
        ("value", "strict"), [("yes", "yes"), ("ask", "yes"), ("accept-new", "accept-new"), ("no", "no"), ("off", "no")]
    )
    def test_strict_host_key_checking(self, tmp_path, value, strict):
        assert resolved(tmp_path, f"Host *\n StrictHostKeyChecking {value}\n").strict == strict

    def test_what_is_said_goes_before_the_configuration(self, tmp_path):
        text = "Host box\n User config\n Port 1\n IdentityFile /config\n UserKnownHostsFile /config\n"
        target = resolved(tmp_path, text, user="me", port=2, key="/mine", known_hosts="/known")
        assert (target.user, target.port, target.keys, target.known_hosts) == ("me", 2, ("/mine",), ("/known",))

    def test_an_address_of_ssh(self, tmp_path):
        target = resolved(tmp_path, "", "ssh://me@example.org:2222")
        assert (target.user, target.host, target.port) == ("me", "example.org", 2222)
        assert resolved(tmp_path, "", "me@example.org").user == "me"


class TestJumps:
    @pytest.mark.parametrize(
        ("way", "expected"),
        [
            ("root@[::1]:22", ("root", "::1", 22)),
            ("[fe80::1]", (None, "fe80::1", 22)),
            ("me@bastion:2222", ("me", "bastion", 2222)),
            ("ssh://me@bastion:2222", ("me", "bastion", 2222)),
            ("a@b@bastion", ("a@b", "bastion", 22)),
        ],
    )
    @pytest.mark.parametrize("by", ["config", "jump"])
    def test_ways_to_write_one(self, tmp_path, way, expected, by):
        text = f"Host box\n ProxyJump {way}\n" if by == "config" else ""
        jump = resolved(tmp_path, text, jump=way if by == "jump" else None).jump
        assert jump is not None
        user, host, port = expected
        assert (jump.host, jump.port) == (host, port)
        assert user is None or jump.user == user

    def test_each_hop_is_looked_up_too(self, tmp_path):
        text = "Host box\n ProxyJump one,two\nHost one\n HostName 10.0.0.1\n User first\nHost two\n HostName 10.0.0.2\n Port 2222\n"
        target = resolved(tmp_path, text)
        assert target.jump is not None and target.jump.jump is not None
        assert (target.jump.host, target.jump.port) == ("10.0.0.2", 2222)
        assert (target.jump.jump.host, target.jump.jump.user, target.jump.jump.jump) == ("10.0.0.1", "first", None)

    def test_a_jump_has_jumps_of_its_own(self, tmp_path):
        target = resolved(
            tmp_path, "Host box\n ProxyJump one\nHost one\n ProxyJump two\nHost two\n HostName 10.0.0.2\n"
        )
        assert target.jump is not None and target.jump.jump is not None
        assert target.jump.jump.host == "10.0.0.2"

    def test_none_switches_it_off(self, tmp_path):
        text = "Host box\n ProxyJump none\nHost *\n ProxyJump bastion\n"
        assert resolved(tmp_path, text).jump is None
        assert resolved(tmp_path, "Host box\n ProxyJump bastion\n", jump="none").jump is None

    def test_one_that_leads_back_is_told(self, tmp_path):
        with pytest.raises(MachineError, match=r"(?i)loop|lead back"):
            resolved(tmp_path, "Host box\n ProxyJump one\nHost one\n ProxyJump box\n")

    async def test_a_real_one_with_two_hops_and_ipv6(self, own_sshd, tmp_path):
        text = "Host box\n" + way_to(own_sshd) + f" ProxyJump root@127.0.0.1:{own_sshd.port},second\n"
        text += "Host second\n" + way_to(own_sshd) + "Host 127.0.0.1\n" + way_to(own_sshd)
        await says_hello(image_of(own_sshd, tmp_path, text))

    @pytest.mark.skipif(not IPV6, reason="this host has no IPv6")
    async def test_over_ipv6(self, tmp_path):
        (tmp_path / "sshd").mkdir()
        sshd = Sshd(tmp_path / "sshd", address="::1")
        key = (sshd.directory / "host_key.pub").read_text()
        (sshd.directory / "known_hosts").write_text(f"[::1]:{sshd.port} {key}")
        try:
            await says_hello(sshd.image(jump=f"root@[::1]:{sshd.port}"))
        finally:
            sshd.stop()

    async def test_a_command_in_between_is_run_by_a_shell(self, own_sshd, tmp_path):
        """With what ``exec`` and a pipe do there; and what it says when it fails is told."""
        relay = tmp_path / "relay.py"
        relay.write_text(RELAY)
        text = (
            "Host box\n" + way_to(own_sshd) + f" ProxyCommand env A='b c' python3 {relay} %h %p 2>{tmp_path}/errors\n"
        )
        await says_hello(image_of(own_sshd, tmp_path, text))
        text = "Host box\n" + way_to(own_sshd) + " ProxyCommand sh -c 'echo no way to %h >&2; exit 3'\n"
        with pytest.raises(SpawnFailed, match=r"no way to 127\.0\.0\.1.*status 3"):
            await image_of(own_sshd, tmp_path, text).spawn()


RELAY = """
import os, select, socket, sys
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for ready in select.select([0, there], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else there.recv(65536)
        if not data:
            sys.exit()
        there.sendall(data) if ready == 0 else os.write(1, data)
"""


class TestNames:
    @pytest.mark.parametrize("host", ["-oProxyCommand=touch /tmp/owned", "-F/tmp/x", "", "a b", "a\nb", "a\0b"])
    def test_a_host_that_would_be_an_option_is_refused(self, host):
        with pytest.raises(UsageError, match="host="):
            SSHImage(host)

    @pytest.mark.parametrize("user", ["-oProxyCommand=x", "a b"])
    def test_so_is_a_user(self, user):
        with pytest.raises(UsageError, match="user="):
            SSHImage("host", user=user)

    @pytest.mark.parametrize("jump", ["-oProxyCommand=x", "me@-oProxyCommand=x", "ok,-x"])
    def test_so_is_a_jump(self, jump):
        with pytest.raises(UsageError, match="jump="):
            SSHImage("host", jump=jump)


class TestHostKeys:
    @pytest.mark.parametrize(
        "bad",
        [
            "@cert-authority *.example.org ssh-ed25519 garbage",
            "127.0.0.1 ssh-rsa AAAA",
            "nonsense",
            "127.0.0.1 ssh-unknown AAAAC3NzaC1lZDI1NTE5AAAAI",
            "|1|x|y ssh-ed25519 AAAA",
            "\0\0\0",
            "\udcff ssh-ed25519 \udcff",
        ],
    )
    async def test_a_bad_line_makes_no_host_down(self, own_sshd, bad):
        known = own_sshd.directory / "known_hosts"
        text = known.read_text()
        known.write_bytes(f"{bad}\n{text}{bad}\n".encode("utf-8", "surrogateescape"))
        await says_hello(own_sshd.image())

    async def test_patterns_and_negations(self, own_sshd):
        key = (own_sshd.directory / "host_key.pub").read_text()
        known = own_sshd.directory / "known_hosts"
        known.write_text(f"[127.0.0.*]:{own_sshd.port} {key}")
        await says_hello(own_sshd.image())
        known.write_text(f"[127.0.0.*]:*,![127.0.0.1]:* {key}")
        with pytest.raises(HostKeyRefused, match="not known"):
            await own_sshd.image().spawn()

    async def test_the_plain_name_counts_for_a_port_too(self, own_sshd):
        key = (own_sshd.directory / "host_key.pub").read_text()
        (own_sshd.directory / "known_hosts").write_text(f"127.0.0.1 {key}")
        await says_hello(own_sshd.image())

    async def test_an_alias(self, own_sshd, tmp_path):
        key = (own_sshd.directory / "host_key.pub").read_text()
        (tmp_path / "known").write_text(f"the-alias {key}")
        text = (
            "Host box\n"
            + way_to(own_sshd, known=False)
            + f" HostKeyAlias the-alias\n UserKnownHostsFile {tmp_path}/known\n"
        )
        await says_hello(image_of(own_sshd, tmp_path, text))

    async def test_several_files(self, own_sshd, tmp_path):
        text = (
            "Host box\n"
            + way_to(own_sshd, known=False)
            + f" UserKnownHostsFile /no/such/file {own_sshd.directory}/known_hosts\n"
        )
        await says_hello(image_of(own_sshd, tmp_path, text))

    async def test_of_several_types_the_known_one_is_asked_for(self, own_sshd):
        """The server's first choice would be its ed25519 key."""
        directory = own_sshd.directory
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", directory / "second"], check=True)
        config = directory / "config"
        config.write_text(config.read_text() + f"HostKey {directory}/second\n")
        own_sshd.stop()
        own_sshd.start()
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{own_sshd.port} {(directory / 'second.pub').read_text()}")
        await says_hello(own_sshd.image())

    async def test_a_revoked_key_counts_for_its_hosts(self, own_sshd):
        key = (own_sshd.directory / "host_key.pub").read_text()
        known = own_sshd.directory / "known_hosts"
        text = known.read_text()
        known.write_text(f"{text}@revoked elsewhere.example.org {key}")
        await says_hello(own_sshd.image())
        known.write_text(f"{text}@revoked [127.0.0.1]:{own_sshd.port} {key}")
        with pytest.raises(HostKeyRefused, match="revoked"):
            await own_sshd.image().spawn()

    async def test_accept_new_takes_an_unknown_one_once(self, own_sshd, tmp_path):
        text = f"Host box\n{way_to(own_sshd, known=False)} StrictHostKeyChecking accept-new\n UserKnownHostsFile {tmp_path}/new/known\n"
        image = image_of(own_sshd, tmp_path, text)
        await says_hello(image)
        known = tmp_path / "new" / "known"
        assert known.read_text().startswith(f"[127.0.0.1]:{own_sshd.port} ssh-ed25519 ")
        await says_hello(image)
        assert len(known.read_text().splitlines()) == 1
        other = (own_sshd.directory / "user_key.pub").read_text()
        known.write_text(f"[127.0.0.1]:{own_sshd.port} {other}")
        with pytest.raises(HostKeyRefused, match="not the one that is known"):
            await image.spawn()

    async def test_no_lets_a_changed_one_pass_and_says_so(self, own_sshd, tmp_path, caplog):
        (tmp_path / "known").write_text(
            f"[127.0.0.1]:{own_sshd.port} {(own_sshd.directory / 'user_key.pub').read_text()}"
        )
        text = f"Host box\n{way_to(own_sshd, known=False)} StrictHostKeyChecking no\n UserKnownHostsFile {tmp_path}/known\n"
        with caplog.at_level(logging.WARNING):
            await says_hello(image_of(own_sshd, tmp_path, text))
        assert "has changed" in caplog.text

    async def test_no_and_no_file_write_nothing(self, own_sshd, tmp_path):
        text = f"Host box\n{way_to(own_sshd, known=False)} StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n"
        await says_hello(image_of(own_sshd, tmp_path, text))

    async def test_an_unknown_one_says_how_many_lines_could_not_be_read(self, own_sshd):
        (own_sshd.directory / "known_hosts").write_text("nonsense\nmore nonsense\n")
        with pytest.raises(HostKeyRefused, match="2 lines"):
            await own_sshd.image().spawn()


class TestLogin:
    @pytest.fixture
    def agent(self, own_sshd, tmp_path, monkeypatch):
        """An ssh-agent that holds the key that the server takes, and eight others before it."""
        path = tmp_path / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        for number in range(8):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / f"other{number}"], check=True
            )
            subprocess.run(["ssh-add", "-q", tmp_path / f"other{number}"], check=True)
        subprocess.run(["ssh-add", "-q", own_sshd.directory / "user_key"], check=True)
        yield path
        process.terminate()
        process.wait()

    async def test_of_an_agents_many_keys_the_one_that_is_named_is_shown(self, own_sshd, tmp_path, agent):
        """By its public half, the private one being nowhere else; sshd lets one try six."""
        shutil.copy(own_sshd.directory / "user_key.pub", tmp_path / "work.pub")
        text = "Host box\n" + way_to(own_sshd, key=False) + " IdentitiesOnly yes\n IdentityFile {}\n"
        for name in ("work.pub", "work"):
            await says_hello(image_of(own_sshd, tmp_path, text.format(tmp_path / name)))

    async def test_an_agent_that_is_named(self, own_sshd, tmp_path, agent, monkeypatch):
        monkeypatch.delenv("SSH_AUTH_SOCK")
        shutil.copy(own_sshd.directory / "user_key.pub", tmp_path / "work.pub")
        text = f"Host box\n{way_to(own_sshd, key=False)} IdentityFile {tmp_path}/work.pub\n IdentityAgent {agent}\n"
        await says_hello(image_of(own_sshd, tmp_path, text))

    async def test_none_of_an_agent_that_is_switched_off(self, own_sshd, tmp_path, agent):
        shutil.copy(own_sshd.directory / "user_key.pub", tmp_path / "work.pub")
        text = f"Host box\n{way_to(own_sshd, key=False)} IdentityFile {tmp_path}/work.pub\n IdentityAgent none\n"
        with pytest.raises(LoginRefused, match="there is none"):
            await image_of(own_sshd, tmp_path, text).spawn()

    async def test_only_the_keys_that_are_named(self, own_sshd, tmp_path, agent):
        text = f"Host box\n{way_to(own_sshd, key=False)} IdentitiesOnly yes\n IdentityFile {tmp_path}/other1\n"
        with pytest.raises(LoginRefused, match="other1|ssh-agent"):
            await image_of(own_sshd, tmp_path, text).spawn()

    async def test_a_key_that_is_encrypted_is_told(self, own_sshd, tmp_path):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", tmp_path / "locked"], check=True)
        with pytest.raises(LoginRefused, match="locked: it is encrypted: add it to the ssh-agent"):
            await own_sshd.image(key=str(tmp_path / "locked")).spawn()

    async def test_a_certificate(self, own_sshd, tmp_path):
        """The server trusts an authority, and not the key itself."""
        directory = own_sshd.directory
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "ca"], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "mine"], check=True)
        sign = ["ssh-keygen", "-q", "-s", directory / "ca", "-I", "me", "-n", "root", tmp_path / "mine.pub"]
        subprocess.run(sign, check=True)
        (tmp_path / "mine-cert.pub").rename(tmp_path / "certificate")
        config = directory / "config"
        config.write_text(config.read_text() + f"TrustedUserCAKeys {directory}/ca.pub\n")
        own_sshd.stop()
        own_sshd.start()
        text = f"Host box\n{way_to(own_sshd, key=False)} IdentityFile {tmp_path}/mine\n"
        with pytest.raises(LoginRefused):
            await image_of(own_sshd, tmp_path, text).spawn()
        await says_hello(image_of(own_sshd, tmp_path, f"{text} CertificateFile {tmp_path}/certificate\n"))


class TestWithoutTheProgram:
    """paramiko reads the file then."""

    @pytest.fixture(autouse=True)
    def no_ssh(self, monkeypatch):
        monkeypatch.setattr(ssh_config.shutil, "which", lambda name: None)

    async def test_include_is_honoured(self, own_sshd, tmp_path):
        (tmp_path / "part").write_text("Host box\n" + way_to(own_sshd))
        await says_hello(image_of(own_sshd, tmp_path, f"Include {tmp_path}/part\nHost *\n User root\n"))

    def test_one_that_would_be_read_wrong_is_refused(self, tmp_path):
        (tmp_path / "part").write_text("Host inner\n Port 2\n")
        with pytest.raises(MachineError, match="install it"):
            resolved(tmp_path, f"Host box\n Include {tmp_path}/part\n")

    def test_a_circle_is_told(self, tmp_path):
        with pytest.raises(MachineError, match="include each other"):
            resolved(tmp_path, f"Include {tmp_path}/config\n")

    def test_jumps_and_defaults(self, tmp_path):
        target = resolved(tmp_path, "Host box\n ProxyJump root@[::1]:22\n")
        assert target.jump is not None
        assert (target.jump.user, target.jump.host, target.jump.port) == ("root", "::1", 22)
        assert any(key.endswith("/.ssh/id_ed25519") for key in target.keys)


async def test_the_address_family_and_timeouts_are_kept(own_sshd, tmp_path):
    with pytest.raises(SpawnFailed):
        await image_of(own_sshd, tmp_path, "Host box\n" + way_to(own_sshd) + " AddressFamily inet6\n").spawn()
    await says_hello(
        image_of(own_sshd, tmp_path, "Host box\n" + way_to(own_sshd) + " BindAddress 127.0.0.1\n Compression yes\n")
    )


async def test_a_host_that_never_answers_is_down_within_its_connect_timeout(own_sshd, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        text = f"Host box\n HostName 127.0.0.1\n Port {port}\n ConnectTimeout 1\n"
        async with asyncio.timeout(30):
            with pytest.raises(SpawnFailed):
                await image_of(own_sshd, tmp_path, text).spawn()
