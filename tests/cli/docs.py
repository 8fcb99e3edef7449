"""``docs/cli.md``: every command with its real output. ``python -m tests.cli.docs --write`` makes it anew.

The run is that of ``program.py``. What differs from one time to the next (ids, times, process ids, sizes) is normalised
before it is written, and a test compares the page with what the commands print now.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

from ramure.cli.main import COMMANDS
from tests.cli.live import LIMIT, ROOT, Shell, live_run

PAGE = ROOT / "docs" / "cli.md"

HEAD = """# The command line

`ramure` operates live runs over their [control socket](control.md), and reads the logs of those that have ended. A run is named by `--id`: its id, or
a beginning of it, such as its first two words; if only one run is live, it is meant. Every command has `--help` with an example, and `--json`
([cli-json.md](cli-json.md)). Output is aligned, coloured on a terminal, and plain in a pipe or with `NO_COLOR`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such run, 4 no such agent or actor. `exec` exits with the status of its command. Errors are one line,
which says what to do. For completion of commands, runs, agents and endpoints: `eval "$(_RAMURE_COMPLETE=bash_source ramure)"` (or `zsh_source`, `fish_source`).

`pause` is for budgets: agents stop at once, and nothing is lost. What a model is doing is interrupted, messages wait in the log, and the program with its tool
calls goes on; `resume` delivers what waited and tells those that were at work to go on.

What follows is what the commands print, and is checked by a test. The commands that look into actors have [a page of their own](inspection.md).
"""

SHOWN = (
    "ls",
    "status",
    "send worker Write it down.",
    "logs worker -f --type tool_call --type tool_result",
    "call greet name=Ann",
    "call add_task spec=haiku tries=3",
    "exec worker -- true",
    "pause worker",
    "resume worker",
    "send nobody Hello.",
    "status --id nope",
    "connect worker",
    "ssh worker",
    "tree",
    "inspect other.one --json",
    "why worker",
    "suspend other.one",
    "resume other.one",
    "restart 'pi of other.one'",
    "kill other.one --reason 'no longer needed'",
    "gc --dry-run",
    "stop",
    "ls --all",
)
"""In this order; help alone is shown of what needs a terminal, a network or a pi."""

HELP = ("trace", "top", "demo", "setup", "doctor")


def page() -> str:
    """The page as the commands make it now."""
    import shlex

    parts = [HEAD]
    with tempfile.TemporaryDirectory() as directory:
        shell = Shell(Path(directory) / "home", {"COLUMNS": "120"})
        with live_run(shell, "worker", "other.one", id="brave-otter-3f9a1c"):
            for line in SHOWN:
                words = [word for word in shlex.split(line) if word != "-f"]
                said = shell(*words)
                if line.startswith("send worker"):
                    wait_idle(shell)
                code = f"[exit code {said.code}]\n" if said.code else ""
                parts.append(block(line, normal(said.out + said.err, directory) + code))
    anywhere = Shell(Path("/nonexistent"), {"COLUMNS": "120"})
    parts.extend(block(f"{name} --help", anywhere(name, "--help").out) for name in HELP)
    shown = {line.split()[0] for line in (*SHOWN, *HELP)}
    assert shown == set(COMMANDS), shown ^ set(COMMANDS)
    return "\n".join(parts)


def wait_idle(shell: Shell) -> None:
    """Until the agent has answered."""
    deadline = time.monotonic() + LIMIT
    while '"run_end"' not in shell("logs", "worker", "--type", "run_end", "--json").out:
        assert time.monotonic() < deadline, "the agent has not answered"


def block(line: str, output: str) -> str:
    """A command and what it prints."""
    body = "\n".join(part.rstrip() for part in output.strip("\n").splitlines())
    return f"```console\n$ ramure {line}\n{body}\n```\n"


def normal(text: str, directory: str) -> str:
    """The same text each time."""
    text = text.replace(directory, "/home/you").replace("/home/you/home", "~/.ramure")
    for pattern, instead in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "12:30:00"),
        (r"\d\d:\d\d:\d\d(\.\d+)?", "12:30:00"),
        (r"\b1\d{9}\.\d+", "1800000000.0"),
        (r"\bpid([ =])\d+", r"pid\g<1>4711"),
        (r"0x[0-9a-f]+", "0x7f0000000000"),
        (r"(for|ago) \d+(s|m\d+s)", r"\g<1> 5s"),
        (r"(?m)(?<= )\d+s(?= |$)", "5s"),
        (r"seconds=[\d.]+", "seconds=5.0"),
        (r"entry \d+", "entry 10"),
        (r"ramure=\S+", "ramure=0.1.0"),
        (r"(?<=main)( +)5s( +)\d+", r"\g<1>5s\g<2>4711"),
        (r'"(number|thread|pid)": \d+', r'"\g<1>": 4711'),
        (r"call_[0-9a-f]+", "call_0"),
        (r"#\d\d+", "#20"),
        (r"\b\d+(\.\d+)? ms\b", "1 ms"),
    ):
        text = re.sub(pattern, instead, text)
    return text


def squeezed(text: str) -> str:
    """Without the columns' widths, which depend on what is in them."""
    return re.sub(r" +", " ", text)


def main() -> int:
    """Write the page, or say whether it is up to date."""
    made = page()
    if "--write" in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    return 0 if squeezed(made) == squeezed(PAGE.read_text(encoding="utf-8")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
