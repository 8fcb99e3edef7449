"""Becoming a command that needs a terminal; what ``connect`` and ``ssh`` share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from ramure.cli.common import Failed, note, usage_error

__all__ = ["become", "need_terminal"]

FALLBACK: Final = "xterm-256color"
PLAINEST: Final = "xterm"


def need_terminal(command: str) -> None:
    """Raise a usage error where there is none."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        usage_error(f"{command} needs a terminal; `ramure exec` and `ramure logs` work anywhere")


def _with_term(environment: dict[str, str]) -> dict[str, str]:
    """tmux and shells refuse a terminal that this host's terminfo does not know: new ones are like the common one."""
    import curses

    term = environment.get("TERM", "")
    for name in filter(None, (term, FALLBACK, PLAINEST)):
        try:
            curses.setupterm(name, sys.stdout.fileno())
        except curses.error:
            continue
        if name != term:
            note(f"this host does not know TERM={term or '(none)'}; taken for {name}")
        return {**environment, "TERM": name}
    return environment


def become(terminal: Mapping[str, Any]) -> NoReturn:
    """Run the command that the run named, instead of this program."""
    environment = {name: value for name, value in os.environ.items() if name != "TMUX"}  # also from within a tmux
    argv: list[str] = terminal["argv"]
    try:
        if terminal["cwd"] is not None:
            os.chdir(terminal["cwd"])
        os.execvpe(argv[0], argv, {**_with_term(environment), **terminal["env"]})
    except OSError as error:
        raise Failed(f"{argv[0]}: {error.strerror}; `ramure doctor` says what is missing") from error
