"""``docs/cli.md``: every command with its real output. ``python -m tests.cli.docs --write`` makes it anew.

The run is that of ``docs_program.py``, on real pi and a scripted model; the second one, which is killed, is that of ``program.py``.
What differs from one time to the next (ids, times, process ids, versions) is normalised before it is written, and a test compares
the page with what the commands print now.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ramure.agents.pi.toolchain import Toolchain
from ramure.cli.main import COMMANDS
from tests.cli.live import LIMIT, ROOT, Shell, live_run
from tests.conftest import _installed, lend_toolchain
from tests.e2e.screen import Screen

PAGE = ROOT / "docs" / "cli.md"
PROGRAM = Path(__file__).with_name("docs_program.py")
RUN, SECOND = "brave-otter-3f9a1c", "quiet-maple-07d2b4"
COLUMNS = 120

HEAD = """# The command line

`ramure` operates live runs over their [control socket](control.md), and reads the logs of those that have ended. A run is named by `--id`: its id, or
a beginning of it, such as its first two words; if only one run is live, it is meant. Every command has `--help` with an example, and `--json`
([cli-json.md](cli-json.md)). Output is aligned, coloured on a terminal, and plain in a pipe or with `NO_COLOR`. On a narrow terminal long texts are cut and
columns left out; in a pipe all is there.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such run, 4 no such agent or actor; 130 after Ctrl-C. `exec` exits with the status of its command. Errors are
one line, which says what to do. For completion of commands, runs, agents, actors, endpoints and processes: `eval "$(_RAMURE_COMPLETE=bash_source ramure)"` (or
`zsh_source`, `fish_source`).

`exec` passes output on as it comes, byte for byte, in memory that does not grow: `ramure exec worker -- tar c . | tar x` copies a directory. Who reads slowly holds the
command up; who leaves (`| head -1`) ends it, and so does Ctrl-C. With `--json` all output is one document, at the end.

`pause` is for budgets: agents stop at once, and nothing is lost. What a model is doing is interrupted, messages wait in the log, and the program with its tool
calls goes on; after `resume` those that were at work go on with it, with the results of their calls, and what waited is delivered.

`ramure run program.py` runs any program and shows what its agents do, for how long, tokens and cost: on a terminal in a live table below what the
program prints, else in a line for each change on standard error. The arguments behind the program are its own, and so is the exit code.
`--script answers.json` starts the scripted model ([testing.md](testing.md)), so that nothing is spent. In a program of your own,
`with ramure.progress(): asyncio.run(main())` shows the same.

What follows is what the commands print about a program with two agents on real pi, and is checked by a test; `…` stands where a screen or a long output is
left out. [inspection.md](inspection.md) says more about those that look into actors.
"""


class Page:
    """What has been typed and printed so far."""

    def __init__(self, shell: Shell, directory: Path) -> None:
        self.shell = shell
        self.directory = directory
        self.parts: list[str] = []
        self.shown: set[str] = set()

    def title(self, text: str) -> None:
        self.parts.append(f"## {text}\n")

    def say(self, *lines: str) -> None:
        """Type commands, one after the other."""
        for line in lines:
            said = self.shell(*shlex.split(line))
            self.add(line, said.out + said.err, said.code)

    def add(self, line: str, output: str, code: int = 0) -> None:
        """A command and what it printed."""
        self.shown.add(line.split()[0])
        ended = f"\n[exit code {code}]" if code else ""
        body = "\n".join(part.rstrip() for part in self.normal(output).strip("\n").splitlines())
        self.parts.append(f"```console\n$ ramure {line}\n{body}{ended}\n```\n".replace("\n\n```", "\n```"))

    def screen(self, line: str, work: Callable[[Screen], str]) -> None:
        """A command that needs a terminal: what is on its screen when ``work`` has typed."""
        with closing(Screen(self.directory, self.shell.environ)) as screen:
            screen.start(sys.executable, "-m", "ramure.cli", *shlex.split(line), columns=COLUMNS)
            self.add(line, work(screen))

    def text(self) -> str:
        assert self.shown >= set(COMMANDS), set(COMMANDS) - self.shown
        return "\n".join([HEAD, *self.parts])

    def normal(self, text: str) -> str:
        """The same text each time."""
        for place, instead in (
            (sys.executable, "/usr/bin/python3"),
            (str(self.shell.home), "~/.ramure"),
            (str(self.directory), "/home/you"),
            (tempfile.gettempdir(), "/tmp"),
        ):
            text = text.replace(place, instead)
        for pattern, instead in NORMAL:
            text = re.sub(pattern, instead, text)
        return text


NORMAL: Final[tuple[tuple[str, Any], ...]] = (
    (r"(?m)^(\S+ +main +)(\w+)( +\d+)", lambda row: row[1] + "5s".ljust(len(row[2])) + "4711".rjust(len(row[3]))),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "12:30:00"),
    (r"\d\d:\d\d:\d\d(\.\d+)?", r"12:30:00"),
    (r"\bpid([ =])\d+", r"pid\g<1>4711"),
    (r"0x[0-9a-f]+", "0x7f0000000000"),
    (r"\bafter (?:\d+m)?\d+s", "after 5s"),
    (r"(?m)(\bfor) +(?:\d+m)?\d+s", r"\g<1> 5s"),
    (r"\d+s ago", "5s ago"),
    (r"(?m)(?<= )(?:\d+m)?\d+s(?= |$)", lambda took: "5s".rjust(len(took[0]))),
    (r"after [\d.]+ s", "after 0.5 s"),
    (r"ready again [\d.]+ s", "ready again 2.1 s"),
    (r"entry \d+", "entry 10"),
    (r"\[ramure \d+ [a-z2-7]{8}\]", "[ramure 10 k3f7x2ab]"),
    (r"ramure=\S+", "ramure=0.1.0"),
    (r"#\d\d+", "#20"),
    (r"`ramure resume \d+`", "`ramure resume 20`"),
    (r"\d+% of a core", "1% of a core"),
    (r"(ramure-[a-z]+-[a-z]+-[0-9a-f]{6})-\w+-\w+", r"\g<1>-1"),
    (r"\b(?!brave-otter|quiet-maple)[a-z]+-[a-z]+-[0-9a-f]{6}\b", "stark-badger-9c7177"),
    (r"pi \d+\.\d+\.\d+ on Node \d+\.\d+\.\d+", "pi 1.6.0 on Node 24.19.0"),
    (r"tmux( +)\d\.\d\w?", r"tmux\g<1>3.3a"),
    (r"(?m)^(\w+ +python +)\S+", r"\g<1>3.12.3"),
    (r"(?m)^(\w+ +tmux +).*", r"\g<1>3.3a (/usr/bin/tmux)"),
    (r"(?m)^(ok +node +).*", r"\g<1>24.19.0 (~/.ramure/toolchain/node-24.19.0/bin/node)"),
    (r"(?m)^(ok +pi +)\S+", r"\g<1>1.6.0"),
    (r"(?m)^(worker +idle +330 +)\d+", r"\g<1>330"),  # tokens of the last minute, on a host that is slow
    (r"pi \d+\.\d+\.\d+ is ready", "pi 1.6.0 is ready"),
    (r"(?m)^(\S+  \S+ ✓ .*?)(  [\d.]+s)?$", r"\g<1>  0.2s"),
    (r"started by program \d+, ramure [^\s]+", "started by program 4711, ramure 0.1.0"),
    (r"[\d.]+ s after its death", "2.1 s after its death"),
    (r"--id (?!brave-otter|quiet-maple)[a-z]+-[a-z]+\)", "--id stark-badger)"),
    (r"haikus in \d+\.\d s", "haikus in 4.4 s"),
    (r"\(private, [^)]*\)", "(private, ~/.ramure/toolchain/pi-1.6.0/…)"),
)


# -- what needs more than a line -----------------------------------------------------------------------------------


def talk(screen: Screen) -> str:
    """``connect``: type to the agent, and look at what it answers."""
    screen.wait_for("ramure: worker")
    screen.keys("Are you there?")
    screen.wait_for("Are you there?")
    screen.keys("Enter")
    seen = screen.wait_for("Yes, I am.")
    screen.keys("C-b", "d")
    wanted = ("Write it down.", "Done.", "Are you there?", "Yes, I am.", "ramure: worker", "[worker] 0:pi*")
    lines = [line.partition('"')[0].rstrip() for line in seen.splitlines() if any(text in line for text in wanted)]
    return "…\n" + "\n".join(lines)


def look_round(screen: Screen) -> str:
    """``ssh``: a shell, in the agent's working directory."""
    screen.wait_for("$")
    screen.keys("echo $((40 + 2))", "Enter")
    screen.wait_for("42")
    screen.keys("exit", "Enter")
    return screen.wait_for("status 0").partition("status 0")[0]


def traced(page: Page, line: str) -> None:
    """``trace``, while something else happens."""
    with ThreadPoolExecutor() as others:
        tracing = others.submit(page.shell, *shlex.split(line))
        while not tracing.done():
            page.shell("call", "greet")
        page.add(line, tracing.result().out)


def wait_idle(shell: Shell, *types: str) -> None:
    """Until the agent's log has an entry of this type."""
    deadline = time.monotonic() + LIMIT
    wanted = [word for type in types for word in ("--type", type)]
    while len(shell("logs", "worker", *wanted).out.splitlines()) < len(types):
        assert time.monotonic() < deadline, f"no {types} in the agent's log"


def cut(output: str, first: int, last: int) -> str:
    """The beginning and the end of a long output."""
    lines = output.strip().splitlines()
    return "\n".join([*lines[:first], "…", *lines[-last:]])


# -- the page --------------------------------------------------------------------------------------------------------


def page(toolchain: Toolchain) -> str:
    """As the commands make it now."""
    with tempfile.TemporaryDirectory(prefix="ramure-docs-") as name:
        directory = Path(name)
        environ = {"HOME": name, "COLUMNS": str(COLUMNS), "SHELL": "/bin/sh", "PS1": "$ ", "PI_OFFLINE": "1"}
        shell = Shell(directory / "home", environ)
        lend_toolchain(toolchain, shell.home)
        made = Page(shell, directory)
        with ThreadPoolExecutor() as others:
            demo = others.submit(demonstrated, toolchain, directory / "demo")
            made.say("ls")  # of a host where nothing runs
            with live_run(shell, id=RUN, program=PROGRAM):
                of_a_run(made)
                of_its_actors(made)
                of_two_runs(made)
            made.title("Running a program")
            ran(made)
            made.title("Trying it, and what it needs")
            made.add("demo --scripted", demo.result())
        made.say("setup", "doctor")
        return made.text()


def of_a_run(page: Page) -> None:
    page.title("A run and its agents")
    page.say("ls", "status", "send worker Write it down.")
    wait_idle(page.shell, "run_end")
    page.say("logs worker", "logs worker --since 10m --type tool_call --type tool_result")
    page.screen("connect worker", talk)
    page.say("connect worker --json")
    page.screen("ssh worker", look_round)
    page.say(
        "exec worker -- sh -c 'echo $((40 + 2)); exit 7'",
        "call greet name=Ann",
        "call add_task spec=haiku tries=3",
        "call fails",
        "pause worker",
        "resume worker",
        "send nobody Hello.",
        "stauts",
        "status --id nope",
    )


def of_its_actors(page: Page) -> None:
    page.title("Its actors")
    page.shell("call", "write_letters")
    page.say("tree", "tree --all", "inspect clerk")
    traced(page, "trace pool#2 --calls -n 2")
    page.say(
        "top -n 1 --most 1",
        "why worker",
        "kill 'pi of worker' --reason 'to see what happens'",
    )
    wait_idle(page.shell, "agent_restarted")
    page.say("why worker", "restart worker")
    wait_idle(page.shell, "agent_restarted", "agent_restarted")
    page.say("suspend pool#2", "resume pool#2", "inspect wroker")


def of_two_runs(page: Page) -> None:
    page.title("Two runs, and their ends")
    with live_run(page.shell, "solo", id=SECOND):
        page.say("logs", "stop quiet --kill", "gc --dry-run", "gc", "stop", "ls --all", "ls")
    page.say("status brave", "why --id brave", "why --id quiet", "gc --logs --older-than 30d")


ASKING: Final = """
import asyncio
from ramure import agent, agent_process

@agent_process
async def main():
    worker = await agent("worker")
    print("It says:", await worker.ask("How many files are here?"))

asyncio.run(main())
"""

ANSWERS: Final = """[
  [{"tool": "bash", "arguments": {"command": "ls | wc -l"}}, {"usage": {"input": 1200, "output": 40}}],
  ["None so far.", {"usage": {"input": 1300, "output": 10}}]
]
"""


def ran(page: Page) -> None:
    """``run``: what it says of the agent is a matter of when it looks, so the first and the last line stand for it."""
    program, script = page.directory / "program.py", page.directory / "answers.json"
    program.write_text(ASKING, encoding="utf-8")
    script.write_text(ANSWERS, encoding="utf-8")
    said = page.shell("run", "--script", str(script), str(program))
    first, *_, last = said.err.splitlines()
    page.add("run --script answers.json program.py", f"{first}\n…\n{said.out}{last}", said.code)


def demonstrated(toolchain: Toolchain, directory: Path) -> str:
    """What ``ramure demo`` prints, on a host of its own."""
    shell = Shell(directory, {"HOME": str(directory), "PI_OFFLINE": "1"})
    lend_toolchain(toolchain, shell.home)
    said = shell("demo", "--scripted")
    assert said.code == 0, said
    return cut(said.err, 7, 1) + "\n" + cut(said.out, 4, 3)


def squeezed(text: str) -> str:
    """Without the columns' widths, which depend on what is in them."""
    return re.sub(r" +", " ", text)


def main() -> int:
    """Write the page, or say whether it is up to date."""
    made = page(_installed("toolchain"))
    if "--write" in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    return 0 if squeezed(made) == squeezed(PAGE.read_text(encoding="utf-8")) else 1


if __name__ == "__main__":
    raise SystemExit(main())
