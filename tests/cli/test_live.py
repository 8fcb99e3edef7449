"""Every command of a run against a live one: in a pipe, in a terminal, and as JSON that fits its schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ramure.cli.main import COMMANDS, main
from tests.cli.live import LIMIT, SCHEMAS, Said, Shell, checked, live_run

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cli") / "home")


@pytest.fixture(scope="module")
def run(shell: Shell) -> Iterator[str]:
    with live_run(shell, "worker", "other.one") as run:
        yield run
    assert not list((shell.home / "runtimes").iterdir())


def words(said: Said) -> list[list[str]]:
    return [line.split() for line in said.out.splitlines()]


@pytest.fixture(autouse=True)
def _only_with_the_run(run: str) -> None:
    """The module has one run."""


def test_ls(shell: Shell, run: str) -> None:
    said = shell("ls")
    assert (said.code, said.err) == (0, "")
    head, worker, other = words(said)
    assert head == ["RUN", "PROGRAM", "AGE", "PID", "TOKENS", "AGENT", "STATE", "FOR", "DOING"]
    assert worker[:2] == [run, "main"]
    assert worker[5:7] == ["worker", "idle"]
    assert other[0] == "other.one"
    [live] = shell("ls", "--json").json["runs"]
    assert (live["execution_id"], [agent["address"] for agent in live["agents"]]) == (run, ["worker", "other.one"])


def test_output_is_coloured_on_a_terminal_only(shell: Shell, run: str) -> None:
    assert "\x1b[" not in shell("status").out
    said = shell.at_terminal("status")
    assert (said.code, "\x1b[32midle" in said.out) == (0, True)
    plain = Shell(shell.home, {"NO_COLOR": "1"}).at_terminal("status")
    assert "\x1b[" not in plain.out
    assert re.sub(r"\x1b\[[0-9;]*m", "", said.out).splitlines()[3].split()[:3] == ["AGENT", "STATE", "FOR"]


def test_status(shell: Shell, run: str) -> None:
    said = shell("status", run[:5])
    assert said.out.startswith(f"{run}  main running for ")
    for part in (
        "worker → other.one",
        "main#1/pool#2",
        "add_task, fails, greet",
        "run_started",
        "ramure connect worker",
    ):
        assert part in said.out
    status = shell("status", "--json").json
    assert [agent["process"] for agent in status["agents"]] == ["main#1", "main#1"]
    assert status["connections"] == [{"one": "worker", "other": "other.one", "direction": "forward"}]
    assert {machine["state"] for machine in status["machines"]} == {"running"}


def test_a_run_is_found_by_a_beginning_of_its_id(shell: Shell, run: str) -> None:
    for wanted in (run, run[:3], run.rpartition("-")[0]):
        assert shell("status", "--json", "--id", wanted).json["execution_id"] == run


def test_send_and_logs(shell: Shell, run: str) -> None:
    assert shell("send", "worker", "Write", "it", "down.").out.startswith("sent to worker (entry ")
    seq = shell("send", "worker", "--queue", "--json", stdin="From standard input.").json["seq"]
    following = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ramure.cli",
            "logs",
            "worker",
            "-f",
            "--type",
            "message",
            "--type",
            "run_end",
            "--json",
        ],
        env=shell.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        texts = []
        for line in following.stdout:
            entry = checked(line)
            texts.append(entry["data"].get("text"))
            if entry["type"] == "run_end" and seq in entry["data"]["seqs"]:
                break
        assert {"Write it down.", "From standard input.", "Done."} <= set(texts)
    finally:
        following.kill()
        following.wait()
        following.stdout.close()  # type: ignore[union-attr]
    said = shell("logs", "worker", "--type", "tool_call", "--since", "1h")
    assert "note(text='a note')" in said.out
    assert shell("logs", "worker", "--since", "2999-01-01").out == ""
    assert len(shell("logs", "--raw", "-n", "3").out.splitlines()) == 3
    moments = [checked(line)["ts"] for line in shell("logs", "--json").out.splitlines()]
    assert moments == sorted(moments)


def test_logs_are_a_conversation_for_people(shell: Shell, run: str) -> None:
    shell("send", "worker", "First line.\nSecond line.")
    said = ""
    while "worker: Done." not in said.partition("First line.")[2]:
        said = shell("logs", "worker").out
    lines = [line.partition("  ")[2] for line in said.splitlines()]
    assert "system → worker: Be brief." in lines
    assert lines[lines.index("person → worker: First line.") + 1].strip() == "Second line."
    assert "worker ✓ note: a note → Noted." in lines
    assert "worker: Done." in lines
    assert "tool_start" in shell("logs", "worker", "--raw").out
    shown = shell.at_terminal("logs", "worker").out
    assert "\x1b[36m" in shown
    with_words = shell("logs").out.splitlines()
    assert [line for line in with_words if "run connects worker → other.one" in line]


def test_a_conversation_is_followed_as_it_goes_on(shell: Shell, run: str) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "ramure.cli", "logs", "other.one", "-f", "-n", "1"],
        env=shell.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        following.stdout.readline()  # the last line of what there was
        shell("send", "other.one", "Go on.")
        said = []
        for line in following.stdout:
            said.append(line.rstrip().partition("  ")[2])
            if said[-1] == "other.one: Done.":
                break
        assert said[0] == "person → other.one: Go on."
        assert "other.one ✓ note: a note → Noted." in said
    finally:
        following.kill()
        following.wait()
        following.stdout.close()  # type: ignore[union-attr]


def test_call(shell: Shell, run: str) -> None:
    assert shell("call", "greet", "name=Ann").out == "Hello, Ann.\n"
    assert shell("call", "greet", 'name="3"', "--as", "pool").out == "Hello, 3.\n"
    value = shell("call", "add_task", "spec=a=b", "tries=3", "--json").json["value"]
    assert value == {"type": "__main__.Task", "spec": "a=b", "tries": 3}
    assert json.loads(shell("call", "add_task", "spec=x").out)["tries"] == 1


def test_exec(shell: Shell, run: str) -> None:
    assert shell("exec", "worker", "--", "true").code == 0
    assert shell("exec", "--json", "worker", "true").json["exit_code"] == 0


def test_pause_and_resume(shell: Shell, run: str) -> None:
    assert shell("pause", "--json").json["paused"] == ["worker", "other.one"]
    try:
        assert "paused" in shell("ls").out
        seq = shell("send", "worker", "While paused.", "--json").json["seq"]
        assert not [e for e in entries(shell) if e["type"] == "delivered" and seq in e["data"]["seqs"]]
        assert shell("resume", "other.one").out == "resumed: other.one\n"
    finally:
        assert shell("resume", "--json").json["resumed"] == ["worker"]
    assert shell("resume").out == "nothing was paused\n"
    status = shell("status", "--json").json
    assert not status["paused"]


def entries(shell: Shell) -> list[dict[str, object]]:
    return [checked(line) for line in shell("logs", "worker", "--json").out.splitlines()]


def test_connect_and_ssh_say_what_they_need(shell: Shell, run: str) -> None:
    assert (shell("connect", "worker").code, shell("connect", "worker").err.count("\n")) == (1, 1)
    assert "`ramure exec` runs commands" in shell("ssh", "worker").err or "terminal" in shell("ssh", "worker").err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("status", "--id", "nope"), 3, "no live run's id begins with 'nope'; there are: "),
        (("send", "nobody", "x"), 4, "no live agent 'nobody'; there are: other.one, worker"),
        (("logs", "nobody"), 4, "there are: other.one, worker"),
        (("exec", "nobody", "true"), 4, "no live agent 'nobody'"),
        (("pause", "nobody"), 4, "no live agent 'nobody'"),
        (
            ("call", "greet", "--as", "nobody"),
            4,
            "no live process is called 'nobody'; there are: main#1, main#1/pool#2",
        ),
        (("call", "nothing"), 2, "no process has an endpoint 'nothing'; there are: add_task, fails, greet"),
        (("call", "greet", "Ann"), 2, "'Ann' is no argument; write NAME=VALUE"),
        (("call", "fails"), 1, "endpoint 'fails' of the process pool#2 raised ValueError: not today"),
        (("send", "worker", " "), 2, "the message is empty"),
        (("logs", "--since", "soon"), 2, "--since 'soon' is no time; write 30s, 10m, 2h, 1d, or "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_errors_are_one_line_with_the_remedy_and_their_exit_code(
    shell: Shell, run: str, arguments: tuple[str, ...], code: int, text: str
) -> None:
    said = shell(*arguments)
    assert (said.code, said.out) == (code, "")
    assert said.err.startswith("ramure: ")
    assert text in said.err
    assert said.err.count("\n") == 1


def completed(shell: Shell, line: str) -> list[str]:
    """What the shell offers behind this line."""
    words = line.split(" ")
    env = {"_RAMURE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "from ramure.cli.main import main; main(prog_name='ramure')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**shell.environ, **env},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [each.partition(",")[2] for each in done.stdout.splitlines() if each]


def test_completion_knows_commands_runs_agents_actors_endpoints_and_processes(shell: Shell, run: str) -> None:

    assert completed(shell, "ramure st") == ["status", "stop"]
    assert completed(shell, "ramure send wo") == ["worker"]
    assert completed(shell, "ramure connect ") == ["other.one", "worker"]
    assert completed(shell, f"ramure status --id {run[:3]}") == [run]
    assert completed(shell, f"ramure stop {run[:3]}") == [run]
    assert completed(shell, "ramure logs --id ") == [run]
    assert completed(shell, "ramure call add") == ["add_task"]
    assert completed(shell, "ramure call greet --as ") == ["main#1/pool#2"]
    assert completed(shell, "ramure inspect pi") == ["pi of other.one", "pi of worker"]


def test_completion_says_nothing_where_nothing_runs(tmp_path: Path, run: str) -> None:
    for line in ("ramure send ", "ramure call ", "ramure why ", "ramure logs --id ", "ramure status "):
        assert completed(Shell(tmp_path), line) == []


def test_two_runs_and_stop(shell: Shell, run: str) -> None:
    with live_run(shell, "solo") as second:
        said = shell("status")
        assert (said.code, run in said.err, second in said.err) == (2, True, True)
        assert "say which with --id" in said.err
        assert shell("stop", "--id", second, "--json").json == {
            "schema": "ramure.stop.v1",
            "execution_id": second,
            "killed": False,
        }
    with live_run(shell, "solo") as third:
        scratch = Path(json.loads((shell.home / "runtimes" / f"{third}.json").read_text())["scratch"])
        assert re.fullmatch(rf"{third} was killed \(pid \d+\)\n", shell("stop", third, "--kill").out)
    ended = {each["execution_id"]: each for each in shell("ls", "--all", "--json").json["ended"]}
    assert ended[second]["outcome"] == "cancelled"
    assert (ended[second]["program"], ended[second]["agents"]) == ("main", 1)
    assert ended[third]["outcome"] == "died"
    assert re.fullmatch(r"[\d:]+  run ended: cancelled: shutdown\n", shell("logs", "--id", second, "-n", "1").out)
    assert shell("gc").code == 0
    assert not [path for path in (shell.home / "runtimes").iterdir() if third in path.name]
    assert not scratch.exists()


def test_a_run_that_does_not_answer_does_not_hold_up_ls(shell: Shell, run: str) -> None:
    pid = shell("ls", "--json").json["runs"][0]["pid"]
    os.kill(pid, 19)
    try:
        listed = shell("ls", "--json").json
        assert listed["runs"] == []
        [silent] = listed["silent"]
        assert (silent["execution_id"], "does not answer" in silent["error"]) == (run, True)
    finally:
        os.kill(pid, 18)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_s_help_has_an_example_and_is_on_the_list(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.epilog is not None
    assert command.epilog.startswith(f"Example: ramure {name}")
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert f"{name}.v1" in SCHEMAS["$defs"] or name == "logs"
