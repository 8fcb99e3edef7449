"""What can go wrong on a machine, as types. All are :class:`~ramure.errors.OperationalError`: the world's fault."""

from __future__ import annotations

from ramure.errors import OperationalError

__all__ = [
    "CommandRefused",
    "CopyFailed",
    "ExecTimeout",
    "FileRefused",
    "HostKeyRefused",
    "LinkLost",
    "LoginRefused",
    "MachineDown",
    "MachineError",
    "MachineStopped",
    "NoSuchFile",
    "NotRemoved",
    "NotSupported",
    "OutsideFolder",
    "SpawnFailed",
    "UserRefused",
    "WorkNotSaved",
]


class MachineError(OperationalError):
    """The root of what machines raise."""


class SpawnFailed(MachineError):
    """No machine could be made from an image; nothing of the attempt is left.

    ``image`` describes the image, ``remedy`` (if there is one) is what to do about it.
    """

    def __init__(self, image: str, why: str, remedy: str = "") -> None:
        self.image = image
        self.why = why
        self.remedy = remedy
        super().__init__(f"{image}: {why}" + (f"; {remedy}" if remedy else ""))


class MachineStopped(MachineError):
    """The machine was used after its ``stop()``."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        super().__init__(f"{machine} has been stopped; spawn another one from its image")


class MachineDown(MachineError):
    """The machine, or the way to it, is gone, though nobody stopped it. ``why`` says what was seen."""

    def __init__(self, machine: str, why: str) -> None:
        self.machine = machine
        self.why = why
        super().__init__(f"{machine} is down: {why}")


class WorkdirGone(MachineDown):
    """The machine's working directory was removed: nothing can be started there any more."""

    def __init__(self, machine: str, workdir: str) -> None:
        super().__init__(machine, f"its working directory {workdir} was removed")


class LinkLost(MachineError):
    """The connection to the machine broke while something was under way: whether that took effect is not known.

    The machine may be well, and what runs there goes on; the next call connects again.
    """

    def __init__(self, machine: str, doing: str, why: str) -> None:
        self.machine = machine
        self.doing = doing
        self.why = why
        super().__init__(
            f"the connection to {machine} broke ({why}) during {doing}; it may have taken effect, or may yet"
        )


class ExecTimeout(MachineError, TimeoutError):
    """A command took longer than its ``timeout``; it and all that it started were killed.

    ``stdout`` and ``stderr`` are its output until then. ``left`` are the process ids that could not be
    killed (as a rule none; a setuid program of another user, say).
    """

    def __init__(
        self, command: str, seconds: float, stdout: str = "", stderr: str = "", left: tuple[int, ...] = ()
    ) -> None:
        self.command = command
        self.seconds = seconds
        self.stdout = stdout
        self.stderr = stderr
        self.left = left
        shown = command if len(command) <= 200 else command[:199] + "…"
        tail = (stderr or stdout).strip()[-500:]
        text = f"`{shown}` did not end within {seconds:g} s and was killed"
        if left:
            text += f" (processes {', '.join(map(str, left))} could not be)"
        super().__init__(text + (f"; its last output:\n{tail}" if tail else ""))


class FileRefused(MachineError, OSError):
    """A file could not be read or written: no permission, a directory, no room. ``path`` and ``why`` say more."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path}: {why}")


class NoSuchFile(FileRefused, FileNotFoundError):
    """There is no file at this path."""

    def __init__(self, path: str, why: str = "no such file") -> None:
        super().__init__(path, why)


class OutsideFolder(FileRefused):
    """A path leads out of the only folder that files are passed on from and to: ``folder``. Nothing was read or written."""

    def __init__(self, path: str, folder: str, why: str = "") -> None:
        self.folder = folder
        super().__init__(path, why or f"it leads outside {folder}, the only folder that may be reached")


class CommandRefused(MachineError, ValueError):
    """A command that no shell can be given: it holds a NUL byte, say. Nothing was run."""

    def __init__(self, command: str, why: str) -> None:
        self.command = command
        self.why = why
        shown = command if len(command) <= 200 else command[:199] + "…"
        super().__init__(f"the command {shown!r} cannot be run: {why}")


class HostKeyRefused(MachineError):
    """An SSH host's key is unknown, another one than it was, or revoked."""


class LoginRefused(MachineError):
    """An SSH host did not let us in with any key that we have."""


class UserRefused(MachineError):
    """A command was to run as a user that this machine cannot run it as."""

    def __init__(self, user: str, machine: str, why: str) -> None:
        self.user = user
        super().__init__(f"{machine} cannot run commands as {user!r}: {why}")


class NotSupported(MachineError):
    """This kind of machine cannot do what was asked (fork, snapshot, another user ...)."""

    def __init__(self, machine: str, what: str) -> None:
        self.what = what
        super().__init__(f"{machine} does not support {what}")


class NotRemoved(MachineError):
    """A directory of a machine was not removed, or not all of it: it may hold what ramure did not make.

    ``path`` is what stays, ``why`` says why, ``remedy`` what to do about it.
    """

    def __init__(self, path: str, why: str, remedy: str) -> None:
        self.path = path
        self.why = why
        self.remedy = remedy
        shown = path.encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{shown} was not removed: {why}; {remedy}")


class CopyFailed(MachineError):
    """A fork or a snapshot of a machine did not succeed; nothing of it is left."""


class WorkNotSaved(CopyFailed):
    """What was done in a machine's git worktree could not all be saved to refs of its repository when the machine stopped.

    It is still in ``path``, untouched; ``why`` says what was in the way. A further ``stop()`` tries again; so does
    ``ramure gc``, once the program has ended.
    """

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(
            f"the work in {path} could not all be saved when its machine stopped: {why}; it is still there: mend that and "
            "stop() the machine again, or, after the program's end, run `ramure gc`"
        )
