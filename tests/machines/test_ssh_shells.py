"""What hosts print that nobody asked for, and the shells that they log us in to. On a real sshd."""

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ramure.machines.errors import ExecTimeout, MachineError, SpawnFailed
from tests.e2e.kit import until
from tests.machines.sshd import RC, Sshd

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

as_root = pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")

NOISES = {
    "a greeting": "echo Welcome",
    "no newline": "printf Welcome",
    "many lines": "seq 100",
    "a directory a line": "for each in 1 2 3 4 5 6 7 8 9; do echo /srv/project; done",
    "both streams, before and after": RC,
    "tracing": "set -x",
    "tracing that is inherited": "set -x; export SHELLOPTS",
    "bytes": r"printf '\036\000\377\036'",
    "a mark of somebody else's": r"printf '\036%032d start 1\n\036%032d end 0\n' 0 0",
    "a job at the end": "(sleep 0.05; echo late) &",
    "names of ours": "export token=a code=b mark=c word=d command=e how=f private=/srv/project workdir=/srv/project",
}


@contextlib.contextmanager
def host(directory: Path, **options):
    """A host that behaves so."""
    (directory / "sshd").mkdir()
    server = Sshd(directory / "sshd", **options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def project(tmp_path):
    """A directory of the user's."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "work.txt").write_text("a year of work")
    return tmp_path / "project"


class TestNoise:
    @pytest.mark.parametrize("rc", NOISES.values(), ids=NOISES)
    async def test_stop_leaves_the_users_directory_and_removes_its_own(self, tmp_path, project, rc):
        with host(tmp_path, rc=rc.replace("/srv/project", str(project))) as server:
            machine = await server.image(workdir=str(project)).spawn()
            assert machine.workdir == str(project)
            private = machine._private
            assert Path(private, "env").exists()
            assert (await machine.exec("pwd; echo err >&2; exit 3")).exit_code == 3
            await machine.stop()
        assert (project / "work.txt").read_text() == "a year of work"
        assert not os.path.exists(private)

    @pytest.mark.parametrize("rc", [rc for name, rc in NOISES.items() if name != "a job at the end"])
    async def test_a_commands_output_is_its_own(self, tmp_path, rc):
        with host(tmp_path, rc=rc) as server:
            machine = await server.image().spawn()
            everything = bytes(range(256)) * 3000
            await machine.write_file("bytes", everything)
            assert (await machine.exec("cat bytes")).stdout.encode("utf-8", "surrogateescape") == everything
            streamed = [chunk async for chunk in machine.stream("cat bytes; cat bytes")]
            assert b"".join(chunk.data for chunk in streamed if chunk.source == "stdout") == everything * 2
            result = await machine.exec("echo out; echo err >&2; exit 3")
            assert (result.stdout, result.exit_code) == ("out\n", 3)
            if "SHELLOPTS" not in rc:  # then the user's own shell traces its commands
                assert result.stderr == "err\n"
            await machine.stop()

    async def test_variables_of_the_users_reach_commands_unchanged(self, tmp_path):
        with host(tmp_path, rc=NOISES["names of ours"]) as server:
            machine = await server.image().spawn()
            for command in ("echo $token $code $mark $word $command $how $private", "echo $token $code 'b!'\n"):
                assert (await machine.exec(command)).stdout.startswith("a b ")
            await machine.stop()

    async def test_a_command_that_leaves_something_running_ends_with_its_own_output(self, tmp_path):
        with host(tmp_path) as server:
            machine = await server.image().spawn()
            result = await machine.exec("(while :; do echo noise; sleep 0.3; done) & echo mine", timeout=60)
            assert result.stdout.replace("noise\n", "") == "mine\n"
            assert (await machine.exec("exec > >(sleep 0.02; cat); echo through a pipe")).stdout == "through a pipe\n"
            await machine.stop()

    async def test_files_work_where_the_shell_prints_before_the_sftp_server(self, tmp_path):
        with host(tmp_path) as server:
            config = server.directory / "config"
            config.write_text(config.read_text().replace("sftp internal-sftp", "sftp /usr/lib/openssh/sftp-server"))
            server.stop()
            server.start()
            machine = await server.image().spawn()
            data = os.urandom(3_000_000)
            await machine.write_file("a/b", data)
            assert await machine.read_file("a/b") == data
            await machine.stop()


SHELLS = ["bash -c", "dash -c", "bash -r -c", "bash -l -c", "zsh -c", "fish -c", "tcsh -c"]


class TestLoginShells:
    @pytest.fixture(params=SHELLS)
    async def machine(self, request, tmp_path):
        assert shutil.which(request.param.split()[0]), "make test installs it (tools/need.sh)"
        with host(tmp_path, shell=request.param) as server:
            machine = await server.image(env={"GREETING": "it's\na \\ day!"}).spawn()
            yield machine
            await machine.stop()

    async def test_commands_mean_what_they_mean_in_a_posix_shell(self, machine):
        commands = {
            "echo $GREETING": "it's a \\ day!\n",
            "printf '%s\\n' \"a'b\" '$HOME' 'ü\n日' '!!' 'a\\\\b' '{a,b}' '*' '~' '#x' '%d' ';' '`id`'": (
                "a'b\n$HOME\nü\n日\n!!\na\\\\b\n{a,b}\n*\n~\n#x\n%d\n;\n`id`\n"
            ),
            "echo one\necho two": "one\ntwo\n",
            "for i in 1 2 3; do [ $i = 2 ] || echo $i; done": "1\n3\n",
            "printf 'nicht UTF-8: \udcff\\n'": "nicht UTF-8: \udcff\n",
            "echo " + "x" * 100_000: "x" * 100_000 + "\n",
        }
        for command, expected in commands.items():
            result = await machine.exec(command)
            assert (result.stdout, result.stderr, result.exit_code) == (expected, "", 0)

    async def test_a_timeout_ends_the_command(self, machine):
        with pytest.raises(ExecTimeout):
            await machine.exec("echo $$ >pid; sleep 1000; :", timeout=3.0)
        pid = int(await machine.read_file("pid"))
        await until(lambda: not os.path.exists(f"/proc/{pid}"), 30, "it is gone")

    async def test_nothing_is_left(self, machine):
        await machine.write_file("file", b"x")
        private, workdir = machine._private, machine.workdir
        await machine.stop()
        assert not os.path.exists(private)
        assert not os.path.exists(workdir)


@pytest.mark.parametrize(
    ("shell", "said"),
    [("sh -c 'echo This account is not available.; exit 1' --", "not available"), ("cat /dev/null #", "nothing")],
)
async def test_an_account_that_runs_nothing_is_told(tmp_path, shell, said):
    expected = pytest.raises(SpawnFailed, match=f"(?s)did not run a command.*{said}")
    with host(tmp_path, shell=shell, rc="") as server, expected:
        await server.image().spawn()


class TestRemoval:
    """Only what a machine made is removed: the same directory, nothing through a link, nothing below a mount."""

    @pytest.fixture
    async def machine(self, own_sshd):
        machine = await own_sshd.image(abandon_after=2).spawn()
        yield machine
        await machine.stop()
        shutil.rmtree(machine.workdir, ignore_errors=True)

    @pytest.fixture
    def mounted(self, tmp_path, machine):
        """Ends what is mounted below the machine's directory."""
        yield
        while (
            subprocess.run(["umount", "-l", f"{machine.workdir}/d"], capture_output=True, check=False).returncode == 0
        ):
            pass

    @as_root
    @pytest.mark.parametrize("how", ["mount --bind {data} d", "mount -t tmpfs none d && cp -a {data}/. d"])
    async def test_what_is_mounted_stays(self, machine, mounted, project, caplog, how):
        (await machine.exec("mkdir d; " + how.format(data=project))).check("mount")
        with caplog.at_level(logging.WARNING):
            await machine.stop()
        assert Path(machine.workdir, "d", "work.txt").read_text() == "a year of work"
        assert (project / "work.txt").exists()
        assert f"{machine.workdir}/d is mounted in it" in caplog.text

    @as_root
    async def test_so_does_a_file_that_is_mounted(self, machine, mounted, project, caplog):
        (await machine.exec(f"touch d; mount --bind {project}/work.txt d")).check("mount")
        with caplog.at_level(logging.WARNING):
            await machine.stop()
        assert (project / "work.txt").read_text() == "a year of work"
        assert "is mounted in it" in caplog.text

    async def test_a_link_in_its_place_stays(self, machine, project, caplog):
        shutil.rmtree(machine.workdir)
        os.symlink(project, machine.workdir)
        with caplog.at_level(logging.WARNING):
            await machine.stop()
        assert (project / "work.txt").exists()
        assert "it is a link by now" in caplog.text
        os.unlink(machine.workdir)

    async def test_another_directory_in_its_place_stays(self, machine, project, caplog):
        os.rename(machine.workdir, f"{machine.workdir}-elsewhere")
        os.rename(project, machine.workdir)
        with caplog.at_level(logging.WARNING):
            await machine.stop()
        assert Path(machine.workdir, "work.txt").exists()
        assert "not the directory that was made there" in caplog.text
        shutil.rmtree(f"{machine.workdir}-elsewhere")

    async def test_another_directory_in_the_private_ones_place_stays(self, machine, project):
        private = machine._private
        os.rename(private, f"{private}-elsewhere")
        os.rename(project, private)
        await machine.stop()
        assert Path(private, "work.txt").exists()
        for each in (private, f"{private}-elsewhere"):
            shutil.rmtree(each)

    async def test_links_inside_are_removed_and_not_followed(self, machine, project):
        await machine.exec(
            f"ln -s {project} link; mkdir -p deep/er; ln -s {project}/work.txt deep/er/file; ln {project}/work.txt hard"
        )
        await machine.stop()
        assert (project / "work.txt").read_text() == "a year of work"
        assert not os.path.exists(machine.workdir)

    async def test_odd_names_and_modes_inside_are_removed(self, machine):
        await machine.exec(
            "mkdir -p -- -rf ' ' .hidden ..x 'new\nline' shut/in; touch -- -rf/-x ' /*' ..x/y; chmod 500 shut; chmod 0 shut/in"
        )
        await machine.stop()
        assert not os.path.exists(machine.workdir)

    @as_root
    async def test_the_hosts_own_cleanup_leaves_what_is_mounted(self, own_sshd, project, tmp_path):
        words = [
            str(own_sshd.port),
            *(str(own_sshd.directory / name) for name in ("user_key", "known_hosts")),
            str(project),
        ]
        command = [sys.executable, "-c", textwrap.dedent(ABANDONED), *words]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        workdir, private = done.stdout.split()
        try:
            await until(lambda: not os.path.exists(private), 60, "the private directory is gone")
            assert (project / "work.txt").read_text() == "a year of work"
            assert os.path.exists(workdir)
        finally:
            subprocess.run(["umount", "-l", f"{workdir}/d"], check=False)
            shutil.rmtree(workdir)


ABANDONED = """
    import asyncio, os, signal, sys
    from ramure.machines.ssh.image import SSHImage

    async def main():
        machine = await SSHImage("127.0.0.1", port=int(sys.argv[1]), key=sys.argv[2], known_hosts=sys.argv[3],
                                 config=os.devnull, abandon_after=2).spawn()
        result = await machine.exec(f"mkdir d; mount --bind {sys.argv[4]} d; pwd; echo $RAMURE_PRIVATE")
        print(result.stdout.replace("\\n", " "), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
"""


async def test_preparing_anew_keeps_the_directory_that_is_there(own_sshd):
    """Else the cleanup of the one before would take the machine for abandoned, and remove what it works in."""
    machine = await own_sshd.image(abandon_after=3).spawn()
    await machine.write_file("file", b"x")
    private = machine._private
    os.unlink(f"{private}/env")
    assert (await machine.exec("cat file")).stdout == "x"
    assert machine._private == private
    await asyncio.sleep(6)
    assert (await machine.exec("cat file")).stdout == "x"
    await machine.stop()


async def test_a_host_that_never_runs_what_it_is_told_fails_in_the_end(own_sshd):
    machine = await own_sshd.image().spawn()
    script = Path(machine._private, "run")
    script.unlink()
    script.mkdir()
    with pytest.raises(MachineError):
        await machine.exec("true")
    await machine.stop()
