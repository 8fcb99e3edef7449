"""The parent of a life of pi (``tree_program``): what it starts, passes on, and ends."""

from __future__ import annotations

import ast
import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ramure.machines.reaper.process_tree import HERE, PROGRAM, EndedTree, environment_file, held, read_report
from tests.e2e.kit import foreground
from tests.edges.deaths import KINDS, child_of, sleepers

pytestmark = pytest.mark.timeout(120)

WITHIN = 20.0

AT_TERMINAL = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # nohup, or a shell's background, has these ignored
    signal.signal(number, signal.SIG_DFL)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass
class Tree:
    """A parent that runs at a terminal of its own, as in a tmux pane."""

    process: subprocess.Popen[bytes]
    terminal: int
    directory: Path
    seen: bytes = b""

    def ends(self) -> int:
        return self.process.wait(WITHIN)

    def says(self, text: bytes) -> None:
        """Read until the terminal has shown ``text``."""
        os.set_blocking(self.terminal, False)
        until(lambda: self._shown(text), f"{text!r} on the screen")

    def _shown(self, text: bytes) -> bool:
        with contextlib.suppress(OSError):
            self.seen += os.read(self.terminal, 65536)
        return text in self.seen

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    @property
    def report(self) -> list[EndedTree]:
        file = self.directory / "report"
        return read_report(file.read_text()) if file.exists() else []

    @property
    def leader(self) -> int:
        """What the parent runs."""
        return foreground(self.process.pid)


def until(condition: Callable[[], object], what: str, within: float = WITHIN) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)


PARENTS = {"python": HERE, "perl": ("perl", str(PROGRAM.with_name("tree_program.pl")))}

either = pytest.mark.parametrize("parent", PARENTS)


@contextlib.contextmanager
def tree(
    tmp_path: Path, command: str, *, env: dict[str, str] | None = None, daemons: str = "end", parent: str = "python"
) -> Iterator[Tree]:
    """A shell command below a parent."""
    file = tmp_path / "environment"
    file.write_bytes(environment_file({"PATH": os.environ["PATH"], **(env or {})}))
    argv = held(
        ["bash", "-c", command],
        PARENTS[parent],
        mark=tmp_path.name,
        environment=str(file),
        report=str(tmp_path / "report"),
        daemons=daemons,  # type: ignore[arg-type]
    )
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, *argv],
        stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path, env={"PATH": os.environ["PATH"], "TERM": "screen"},
    )  # fmt: skip
    os.close(slave)
    try:
        yield Tree(process, master, tmp_path)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGUSR2)
        process.wait(WITHIN)
        os.close(master)


@pytest.fixture
def number() -> int:
    """A number by which the sleepers of a test are known."""
    return 20_000_000 + time.monotonic_ns() % 9_000_000 * 10


@pytest.mark.parametrize(
    ("parent", "victim"), [("python", "command"), ("python", "parent"), ("python", "holder"), ("perl", "command")]
)
def test_sigkill_of_any_one_ends_every_kind_of_daemon(tmp_path: Path, number: int, parent: str, victim: str) -> None:
    command = "".join(kind.replace("{}", str(number + place)) for place, kind in enumerate(KINDS.values()))
    with tree(tmp_path, f"{command} sleep {number + 99}; :", parent=parent) as running:
        until(lambda: len(sleepers(number, number + 100)) >= len(KINDS) + 1, "daemons")
        above = running.process.pid
        os.kill({"command": running.leader, "parent": above, "holder": child_of(above)}[victim], signal.SIGKILL)
        assert running.ends() in (128 + 9, -9)
        until(lambda: not sleepers(number, number + 100), "all have ended")


@either
def test_the_report_names_each_command_that_was_ended_and_its_directory(
    tmp_path: Path, parent: str, number: int
) -> None:
    (tmp_path / "a dir").mkdir()
    command = f"cd 'a dir'; setsid sh -c 'sleep {number}; :' & setsid sleep {number + 1} & sleep 0.3; kill -9 $$"
    with tree(tmp_path, command, parent=parent) as running:
        running.ends()
        assert set(running.report) == {
            EndedTree(str(tmp_path / "a dir"), f"sh -c 'sleep {number}; :'"),
            EndedTree(str(tmp_path / "a dir"), f"sleep {number}"),
            EndedTree(str(tmp_path / "a dir"), f"sleep {number + 1}"),
        }
        assert (tmp_path / "report").stat().st_mode & 0o777 == 0o600


@either
def test_there_is_no_report_where_nothing_was_left(tmp_path: Path, parent: str) -> None:
    with tree(tmp_path, "true", parent=parent) as running:
        assert running.ends() == 0
        assert not (tmp_path / "report").exists()


@either
@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_status_is_the_commands(tmp_path: Path, parent: str, command: str, status: int) -> None:
    with tree(tmp_path, command, parent=parent) as running:
        assert running.ends() == status


@either
def test_a_command_that_is_missing_is_said(tmp_path: Path, parent: str) -> None:
    with tree(tmp_path, "exec /no/such/program", parent=parent) as running:
        assert running.ends() == 127


@either
@pytest.mark.parametrize("name", ["TERM", "HUP", "QUIT"])
def test_signals_are_passed_on(tmp_path: Path, parent: str, name: str) -> None:
    with tree(
        tmp_path, f"trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done", parent=parent
    ) as running:
        running.says(b"ready")
        running.process.send_signal(getattr(signal, f"SIG{name}"))
        assert running.ends() == 5


@either
def test_ctrl_c_and_a_new_size_reach_the_command_alone(tmp_path: Path, parent: str) -> None:
    command = "trap 'echo size; ' WINCH; trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    with tree(tmp_path, command, parent=parent) as running:
        running.says(b"ready")
        termios.tcsetwinsize(running.terminal, (33, 77))
        running.says(b"size")
        running.type(b"\x03")
        running.says(b"interrupted")
        assert running.ends() == 3


@either
def test_ctrl_d_reaches_the_command(tmp_path: Path, parent: str) -> None:
    with tree(tmp_path, "echo ready; cat; echo end of input", parent=parent) as running:
        running.says(b"ready")
        running.type(b"\x04")
        running.says(b"end of input")
        assert running.ends() == 0


@either
@pytest.mark.parametrize("stop", ["^Z", "kill 0", "SIGSTOP"])
def test_what_stops_is_set_going_again(tmp_path: Path, parent: str, stop: str) -> None:
    command = {
        "^Z": "trap 'echo again' CONT; echo ready; while :; do sleep 0.05; done",
        "kill 0": "trap 'echo again' CONT; echo ready; kill -TSTP 0; while :; do sleep 0.05; done",
        "SIGSTOP": "trap 'echo again' CONT; echo ready; kill -STOP $$; while :; do sleep 0.05; done",
    }[stop]
    with tree(tmp_path, command, parent=parent) as running:
        running.says(b"ready")
        if stop == "^Z":
            running.type(b"\x1a")
        running.says(b"again")
        running.seen = b""
        running.type(b"\x03")
        assert running.ends() in (130, 137)


def test_the_parents_that_are_stopped_are_set_going_by_each_other(tmp_path: Path) -> None:
    with tree(tmp_path, "echo ready; sleep 1000") as running:
        running.says(b"ready")
        os.kill(child_of(running.process.pid), signal.SIGSTOP)
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 143


ODD = {
    "UID": "4711",
    "EUID": "1",
    "PPID": "1",
    "BASHOPTS": "cdspell",
    "SHELLOPTS": "noglob",
    "with.dot": "1",
    "with-dash": "2",
    "3digit": "3",
    "BASH_FUNC_hello%%": "() {  echo hello from a function\n}",
    "LINES_OF": "a\nb\tc",
    "EMPTY": "",
    "QUOTES": "'\"$(touch /tmp/never)`\\",
    "BYTES": os.fsdecode(b"\xff\xfe"),
    "_": "underscore",
}


@either
def test_an_environment_travels_whole(tmp_path: Path, parent: str) -> None:
    reader = "import os, sys; sys.stdout.buffer.write(repr(dict(os.environb)).encode()); sys.stdout.flush()"
    file = tmp_path / "environment"
    file.write_bytes(environment_file(ODD))
    argv = held([sys.executable, "-I", "-c", reader], PARENTS[parent], mark="m", environment=str(file))
    done = subprocess.run(argv, capture_output=True, check=True, env={"PATH": os.environ["PATH"], "SECRET": "x"})
    expected = {os.fsencode(name): os.fsencode(value) for name, value in ODD.items()}
    seen = ast.literal_eval(done.stdout.decode())
    assert {name: seen[name] for name in expected} == expected
    assert set(seen) - set(expected) <= {b"LC_CTYPE"}, "nothing of the terminal's own environment"  # Python's own


@either
def test_the_file_is_removed_once_it_is_read(tmp_path: Path, parent: str) -> None:
    with tree(tmp_path, "echo ready; cat", env={"API_KEY": "sk-1"}, parent=parent) as running:
        running.says(b"ready")
        assert [file.name for file in tmp_path.iterdir()] == []


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("A=B", "x"), ("A\0B", "x"), ("A", "x\0y")])
def test_what_can_be_in_no_environment_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        environment_file({name: value})


def test_daemons_that_are_kept_outlive_the_command_and_what_it_had_under_way_does_not(
    tmp_path: Path, number: int
) -> None:
    with tree(
        tmp_path, f"setsid sh -c 'setsid -f sleep {number}; env -i setsid -f sleep {number + 1}'; echo ready; sleep {number + 2}; :",
        daemons="keep",
    ) as running:  # fmt: skip
        running.says(b"ready")
        until(lambda: len(sleepers(number, number + 3)) == 3, "all run")
        holder = child_of(running.process.pid)
        time.sleep(0.6)  # two looks
        os.kill(running.leader, signal.SIGKILL)
        assert running.ends() == 137
        assert sorted(sleepers(number, number + 3).values()) == [f"sleep {number}", f"sleep {number + 1}"]
        os.kill(holder, signal.SIGUSR2)
        until(lambda: not sleepers(number, number + 3), "they end with the holder")


def test_a_holder_of_kept_daemons_goes_with_the_last_of_them(tmp_path: Path, number: int) -> None:
    with tree(tmp_path, f"setsid -f sleep {number}; sleep 0.6; exit 4", daemons="keep") as running:
        assert running.ends() == 4
        [(pid, _)] = sleepers(number, number + 1).items()
        holder = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{holder}").exists(), "the holder has gone")
