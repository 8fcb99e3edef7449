"""``ramure run``: run a program, and show what its agents do."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from ramure.cli.common import EXIT_USAGE, Failed, as_json, json_option, usage_error
from ramure.cli.watch import EVERY, Display, Watch, display_for

__all__ = ["command"]

DRAIN: Final = 1.0
"""Seconds for which the last output of a program that has ended is waited for."""


@click.command(
    "run",
    epilog="Example: ramure run --script answers.json program.py --fast",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--script", metavar="FILE", help="A scripted model instead of your own: a JSON file, or module:name.")
@click.option("--plain", is_flag=True, help="Lines instead of the live display, also on a terminal.")
@json_option
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(script: str | None, plain: bool, json_wanted: bool, program: str, arguments: tuple[str, ...]) -> None:
    """Run PROGRAM with its ARGUMENTS, and show what its agents do, for how long, tokens and cost.

    A .py file is run by this Python, anything else as it is. On a terminal there is a live table below what the program
    prints; in a pipe, a line on standard error for each change. The exit code is the program's. --script starts the scripted
    model of ramure.testing, so nothing is spent; with --json the program's output goes to standard error.
    """
    argv = _argv(program, arguments)
    began = time.time()
    with contextlib.ExitStack() as stack:
        env = {**os.environ, **(stack.enter_context(_scripted(script)) if script is not None else {})}
        display = None if plain else display_for(own=False)
        code, watch = _run(argv, env, display, json_wanted)
    if json_wanted:
        from ramure.runtime.log.reader import outline

        runs = [outline(Path(seen.status["log_dir"])) for seen in watch.runs.values()]
        as_json("run", {"argv": argv, "exit_code": code, "seconds": time.time() - began, "runs": runs})
    raise SystemExit(code)


def _argv(program: str, arguments: Sequence[str]) -> list[str]:
    if program.endswith(".py"):
        if not Path(program).is_file():
            usage_error(f"there is no file {program!r}")
        return [sys.executable, program, *arguments]
    found = shutil.which(program)
    if found is None:
        usage_error(f"{program!r} is no .py file, and no program that can be run")
    return [found, *arguments]


@contextlib.contextmanager
def _scripted(script: str) -> Iterator[dict[str, str]]:
    """The environment in which pi finds the scripted model, which runs meanwhile."""
    with (
        tempfile.TemporaryDirectory(prefix="ramure-run-") as directory,
        tempfile.TemporaryFile("w+") as errors,
    ):
        config = Path(directory) / "pi"
        options = ["--while-stdin-open", "--write-config", str(config)]
        model = subprocess.Popen(
            [sys.executable, "-m", "ramure.testing.scripted_model", script, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the program, which still needs its model to end in order
        )
        assert model.stdin is not None
        assert model.stdout is not None
        with model.stdin, model.stdout:
            up = model.stdout.readline()
            if not up:
                model.wait()
                errors.seek(0)
                raise Failed(f"--script {script}: {errors.read().strip() or 'the model did not start'}", EXIT_USAGE)
            json.loads(up)
            yield {"PI_CODING_AGENT_DIR": str(config), "PI_OFFLINE": "1"}
        if model.wait():
            errors.seek(0)
            click.echo(f"ramure: the scripted model: {errors.read().strip()}", err=True)


def _run(argv: list[str], env: dict[str, str], display: Display | None, to_stderr: bool) -> tuple[int, Watch]:
    """Run it to its end; its exit code, and what was seen of its runs."""
    from ramure.cli.watch import Lines

    live = display is not None and not isinstance(display, Lines)
    shown = display if display is not None else Lines()
    master, slave = _terminal() if live else (None, None)
    own = sys.stderr if to_stderr else None
    handler = signal.signal(
        signal.SIGINT, lambda *_: None
    )  # the terminal sends it to the program too, which ends in order
    try:
        running = subprocess.Popen(
            argv,
            env=env,
            stdout=slave if slave is not None and (to_stderr or sys.stdout.isatty()) else own,
            stderr=slave,
        )
        if slave is not None:
            os.close(slave)
        code, watch = _follow(running, shown, master)
    finally:
        signal.signal(signal.SIGINT, handler)
    return (code if code >= 0 else 128 - code), watch


def _follow(running: subprocess.Popen[bytes], display: Display, master: int | None) -> tuple[int, Watch]:
    watch = Watch(running.pid)
    reading = None
    if master is not None:
        reading = threading.Thread(target=_pass_on, args=(master, display), daemon=True)
        reading.start()
    try:
        while True:
            try:
                running.wait(EVERY)
                break
            except subprocess.TimeoutExpired:
                pass
            watch.look()
            display.show(watch.runs.values())
            if master is not None:
                _resize(master)
        if reading is not None:
            reading.join(DRAIN)
        watch.look()
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait()
        display.close(watch.runs.values())
        watch.close()
    return running.returncode, watch


# -- its terminal -----------------------------------------------------------------------------------------------------


def _terminal() -> tuple[int, int]:
    """A terminal for the program's output, which the display stands below."""
    master, slave = os.openpty()
    _resize(master)
    return master, slave


def _resize(master: int) -> None:
    with contextlib.suppress(OSError, termios.error):
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
        if termios.tcgetwinsize(master) != (lines, columns):
            termios.tcsetwinsize(master, (lines, columns))


def _pass_on(master: int, display: Display) -> None:
    decoder: Any = codecs.getincrementaldecoder("utf-8")("replace")
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(master, 1 << 16):
            display.write(decoder.decode(data))
    os.close(master)
