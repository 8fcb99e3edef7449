"""``ramure exec``: a command on an agent's machine."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from ramure.cli.common import SECONDS, Failed, agent_argument, as_json, find, json_option, run_option
from ramure.runtime.control.flow import Taken

if TYPE_CHECKING:
    from ramure.runtime.control.blocking import RunClient

__all__ = ["command"]


@click.command(
    "exec",
    epilog="Example: ramure exec worker -- git log --oneline -3; ramure exec worker 'ls | wc -l'",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@run_option
@click.option("--user", default="agent", metavar="NAME", help="Another user of the machine than the agents' own.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Kill it, and all it started, after this time.")
@json_option
@agent_argument
@click.argument("words", nargs=-1, required=True, metavar="[--] COMMAND...")
def command(
    agent: str, words: tuple[str, ...], run: str | None, user: str, timeout: float | None, json_wanted: bool
) -> None:
    """Run a command on AGENT's machine, with its output as it comes, and exit with its status.

    AGENT may also be a machine, as "machine 1". One word is a shell's line; several are a command and its arguments. Options
    stand before AGENT. Ctrl-C kills the command, and all that it started; so does a reader of the output that leaves. One that reads
    slowly holds the command up. With --json the output is one document, at the end.
    """
    if words[0] == "--":
        words = words[1:]
    line = words[0] if len(words) == 1 else shlex.join(words)
    with find(run) as client:
        limit = {} if timeout is None else {"limit": timeout}
        output = _output(client, {"agent": agent, "command": line, "user": user, **limit})
        if json_wanted:
            said = {"execution_id": client.execution_id, "agent": agent, "command": line}
            as_json("exec", {**said, **_collected(output)})
            return
        try:
            code = _as_it_comes(client, output)
        except BrokenPipeError:
            code = 128 + signal.SIGPIPE  # as of any program whose output nobody reads; leaving ends the command
    raise SystemExit(code)


def _output(client: RunClient, arguments: dict[str, Any]) -> Iterator[tuple[str, bytes] | int]:
    """The output as it comes, and at last the exit status. What has been dealt with is told to the run, which holds the
    command up meanwhile."""
    number, taken = 0, Taken()
    for item in client.stream("exec_stream", **arguments):
        if "data" in item:
            yield item["source"], item["data"]
            if items := taken.add(len(item["data"])):
                client.ask("exec_taken", number=number, items=items)
        elif "exit_code" in item:
            yield item["exit_code"]
        else:
            number = item["number"]


def _as_it_comes(client: RunClient, output: Iterator[tuple[str, bytes] | int]) -> int:
    descriptors = {"stdout": _descriptor(sys.stdout), "stderr": _descriptor(sys.stderr)}
    client.output = descriptors["stdout"]
    code = 0
    for item in output:
        if isinstance(item, int):
            code = item
        else:
            _write(descriptors[item[0]], item[1])
    return code


def _collected(output: Iterator[tuple[str, bytes] | int]) -> dict[str, Any]:
    collected = {"stdout": bytearray(), "stderr": bytearray()}
    code = 0
    for item in output:
        if isinstance(item, int):
            code = item
        else:
            collected[item[0]] += item[1]
    texts = {source: data.decode("utf-8", "surrogateescape") for source, data in collected.items()}
    return {**texts, "exit_code": code}


def _descriptor(stream: IO[str] | None) -> int:
    """Where it leads; -1 where it was closed before we were started: its number may be something else's now."""
    return -1 if stream is None else stream.fileno()


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it, however long that takes. Raises BrokenPipeError."""
    left = memoryview(data if descriptor >= 0 else b"")
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody has made a pipe or terminal non-blocking that is theirs too
            select.select([], [descriptor], [])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(f"the output cannot be written: {error.strerror}; the command was ended") from error
