"""Small values that several layers share."""

from __future__ import annotations

from dataclasses import dataclass

from ramure.errors import OperationalError

__all__ = ["CommandFailed", "ExecResult"]


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command on a machine gave back.

    ``exit_code`` is the command's status (128 + n when signal n ended it); ``stdout`` and ``stderr`` are
    its output as text, bytes that are not UTF-8 kept as surrogate escapes.
    """

    stdout: str
    stderr: str
    exit_code: int

    @property
    def ok(self) -> bool:
        """True when the command exited with status 0."""
        return self.exit_code == 0

    def check(self, command: str = "") -> ExecResult:
        """Return this result if the command succeeded, else raise :class:`CommandFailed`."""
        if not self.ok:
            raise CommandFailed(command, self)
        return self


class CommandFailed(OperationalError):
    """A command on a machine exited with a status other than 0."""

    def __init__(self, command: str, result: ExecResult) -> None:
        self.command = command
        self.result = result
        tail = (result.stderr or result.stdout).strip()[-2000:]
        what = f"`{command}`" if command else "the command"
        super().__init__(f"{what} exited with status {result.exit_code}" + (f":\n{tail}" if tail else ""))
