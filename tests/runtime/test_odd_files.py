"""What is on disk is input: odd lines, and what is no file of ours, stop no command that reads logs and leases."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from ramure.cli.main import main as cli
from ramure.testing.leaks import LeakCheck


def _ended_run(home: Path) -> Path:
    """The log directory of a run that was killed, with an agent."""
    logs = home / "logs" / "brave-otter-3f9a1c"
    logs.mkdir(parents=True)
    (logs / "_runtime.jsonl").write_text('{"ts": 1.0, "type": "run_started"}\n')
    (logs / "worker.jsonl").write_text('{"seq": 1, "ts": 1.0, "type": "message", "data": {"text": "Go."}}\n')
    return logs


ODD = {
    "a seq": '{"seq": "x"}',
    "a time": '{"ts": "then", "type": "message"}',
    "a time beyond all dates": '{"ts": 1e300, "type": "message"}',
    "a type": '{"type": 7}',
    "no object": "[7]",
    "no JSON": "\0\0",
    "too deep": "[" * 100_000,
    "a number too long": '{"a": ' + "9" * 10_000 + "}",
    "usage": '{"seq": 2, "ts": 1.0, "type": "assistant", "data": {"usage": {"input": "many"}}}',
    "cost": '{"seq": 2, "ts": 1.0, "type": "assistant", "data": {"usage": {"cost": {"total": 1e999}}}}',
}


@pytest.mark.parametrize("line", ODD.values(), ids=ODD)
@pytest.mark.parametrize("command", ["ls --all", "logs", "why worker", "gc"])
def test_an_odd_line_is_counted_and_passed_over(command: str, line: str, leak_check: LeakCheck) -> None:
    logs = _ended_run(leak_check.home)
    with (logs / "worker.jsonl").open("a") as file:
        file.write(f'{line}\n{{"seq": 3, "ts": 2.0, "type": "problem", "data": {{"message": "behind"}}}}\n')
    done = CliRunner().invoke(cli, command.split())
    assert done.exit_code == 0, done.output
    assert done.exception is None
    if command == "ls --all" or (command == "logs" and "usage" not in line):
        assert "passed over: 1 line that is no valid entry" in done.output
    if command in ("logs", "why worker"):
        assert "behind" in done.output


@pytest.mark.parametrize("what", ["FIFO", "directory", "symbolic link", "device"])
@pytest.mark.parametrize("command", ["ls --all", "logs", "why worker", "gc"])
def test_what_is_no_file_of_ours_is_not_opened(command: str, what: str, leak_check: LeakCheck) -> None:
    logs = _ended_run(leak_check.home)
    for path in (logs / "worker.jsonl", logs / "_runtime.jsonl", leak_check.home / "runtimes" / "x.json"):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if what == "directory":
            path.mkdir()
        elif what == "symbolic link":
            path.symlink_to("/dev/zero")
        elif what == "FIFO" or os.geteuid() != 0:
            os.mkfifo(path)
        else:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    done = CliRunner().invoke(cli, command.split())
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert done.exit_code == (1 if command == "gc" else 0), done.output
    assert f"a {what}, not a regular file" in done.output or "another" in done.output
