"""Commands of our own on a machine, through its ``exec``: what else is printed there is not taken for their answer."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ramure.machines.base import OUR_LIMIT
from ramure.machines.errors import MachineError
from ramure.machines.files.framing import framed, new_token, unframed
from ramure.masking import get_logger
from ramure.types import ExecResult

if TYPE_CHECKING:
    from ramure.machines.base import Machine

__all__ = ["ask", "told_to_stay"]

logger: logging.Logger = get_logger(__name__)


async def ask(machine: Machine, argv: Sequence[str], *, limit: float | None = OUR_LIMIT) -> ExecResult:
    """Run ``argv`` there: its own output and status.

    Raises :class:`~ramure.machines.errors.ExecTimeout` after ``limit`` seconds, and MachineError where the machine says
    that it ran, and it did not.
    """
    token = new_token()
    result = await machine.exec(shlex.join(framed(argv, token)), timeout=limit)
    marks, stdout, stderr = unframed(token, _bytes(result.stdout), _bytes(result.stderr))
    if not marks.started:
        if result.ok:
            said = " ".join((result.stderr + result.stdout).split())[-300:] or "nothing"
            raise MachineError(f"{machine.describe()} did not run a command of ours, and said {said!r}")
        return ExecResult("", result.stderr or result.stdout, result.exit_code)
    return ExecResult(_text(stdout), _text(stderr), result.exit_code if marks.code is None else marks.code)


def told_to_stay(machine: str, said: str) -> None:
    """Log what a removal on a machine has left where it was: see ``REMOVE``."""
    for line in said.splitlines():
        word, _, rest = line.partition("\t")
        path, _, why = rest.partition("\t")
        if word == "stays":
            logger.warning("%s: %s stays, though it was made for the machine: %s", machine, path, why)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
