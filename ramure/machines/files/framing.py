"""A command's output, told from what else is printed around it: pure code, no I/O.

Shells print what nobody asked for: ``~/.bashrc``, ``/etc/profile``, a ``ForceCommand``, a trap at exit, warnings about the
locale. So whatever we read stands between two marks, which carry a token that is drawn anew for each command.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal

__all__ = [
    "FRAME",
    "MARK",
    "Marks",
    "Output",
    "answered",
    "asked",
    "framed",
    "login_framed",
    "login_line",
    "login_unframed",
    "new_token",
    "packed",
    "unframed",
]

Source = Literal["stdout", "stderr"]
Output = Callable[[Source, bytes], object]

MARK: Final = r"""
ramure_mark() { printf '\036%s %s\n' "$ramure_token" "$1"; printf '\036%s %s\n' "$ramure_token" "$1" >&2; }
"""
"""The shell function that writes a mark with the token ``$ramure_token`` to both streams: ``start <pid>``, ``end <status>``,
or ``lost``. (A command inherits the variables of its shell that were exported before: none of ours may bear such a name.)"""

UNPACK: Final = (
    'for ramure_word; do shift; ramure_word=$(printf %b. "$ramure_word"); set -- "$@" "${ramure_word%.}"; done; '
)

_ANSWER: Final = (
    'printf "\\036%s start %s\\n" "$ramure_token" $$ >&2; '
    'ramure_answer=$("$@" </dev/null; printf .%s $?); ramure_code=${ramure_answer##*.}; '
    'printf "\\036%s start %s\\n%s\\036%s end %s\\n" "$ramure_token" $$ "${ramure_answer%.*}" "$ramure_token" "$ramure_code"; '
    'printf "\\036%s end %s\\n" "$ramure_token" "$ramure_code" >&2; exit "$ramure_code"'
)
"""Runs ``$@`` between marks. Its output is collected, and written at once: so that what a job in the background prints
meanwhile does not come between."""

FRAME: Final = f"ramure_token=$1; shift; {_ANSWER}"
"""Runs the command $2 … between marks with the token $1. Its output is text."""

LOGIN_FRAME: Final = f"ramure_token=$1; shift; {UNPACK}{_ANSWER}"
"""As :data:`FRAME`, for words that are :func:`packed`."""

NOISE: Final = 1 << 16
"""Bytes that are kept of what came before the start, for errors."""

_MARKED: Final = re.compile(rb"(start|end|lost) ?([0-9]{0,10})\n")
_LONGEST: Final = len(b"start 1234567890\n")

_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.,:/=+-]*\Z")
_UNSAFE: Final = re.compile(rb"[^ -~]|[\\'!]")


class _Tokens:
    """Random words. Random bytes are read in bulk: each read lets another thread take the interpreter's lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = b""

    def take(self) -> str:
        with self._lock:
            if not self._bytes:
                self._bytes = os.urandom(4096)
            token, self._bytes = self._bytes[:16], self._bytes[16:]
        return token.hex()


_tokens = _Tokens()
os.register_at_fork(after_in_child=_tokens.__init__)  # type: ignore[misc]  # a child draws other tokens


def new_token() -> str:
    """A word that no output holds by chance: 32 hexadecimal digits."""
    return _tokens.take()


class Marks:
    """Passes on what stands between the marks, on each of the two streams."""

    def __init__(self, token: str, output: Output) -> None:
        self._output = output
        self._mark = b"\x1e" + token.encode() + b" "
        self._held: dict[Source, bytes] = {"stdout": b"", "stderr": b""}
        self._before: dict[Source, bytes] = {"stdout": b"", "stderr": b""}
        self._where: dict[Source, str] = {"stdout": "before", "stderr": "before"}
        self.leader: int | None = None
        """The process that leads the command, from its start on."""
        self.lost: bool = False
        """Whether the machine said that it has lost what the command needs: nothing was run."""
        self.code: int | None = None

    @property
    def started(self) -> bool:
        """Whether the start was marked."""
        return self.leader is not None

    @property
    def over(self) -> bool:
        """Whether the end was marked on both streams."""
        return all(where == "after" for where in self._where.values())

    @property
    def messages(self) -> str:
        """What came before the start: the words of whoever was to start the command."""
        said = [self._before[source] + self._held[source] for source in ("stderr", "stdout")]
        return "\n".join(text for each in said if (text := each.decode(errors="replace").strip()))

    def feed(self, source: Source, data: bytes) -> None:
        """Take what came on a stream."""
        if self._where[source] == "after":
            return  # of something that runs on after its command
        data = self._held[source] + data
        self._held[source] = b""
        start = 0
        while (at := data.find(self._mark, start)) >= 0:
            marked = _MARKED.match(data, at + len(self._mark))
            if marked is None:
                if len(data) - at < len(self._mark) + _LONGEST and b"\n" not in data[at:]:
                    break  # it has not all come yet
                start = at + 1  # the command's own, who knows why
                continue
            self._emit(source, data[:at])
            self._marked(source, marked[1], int(marked[2] or 0))
            if self._where[source] == "after":
                return
            data, start = data[marked.end() :], 0
        keep = len(data) - at if at >= 0 else self._begun(data)
        self._emit(source, data[: len(data) - keep])
        self._held[source] = data[len(data) - keep :]

    def rest(self) -> None:
        """Pass on what was held back, when no more will come."""
        for source in self._held:
            held, self._held[source] = self._held[source], b""
            self._emit(source, held)

    def _marked(self, source: Source, word: bytes, number: int) -> None:
        if word == b"start":
            self._where[source] = "inside"
            if source == "stdout":
                self.leader = number
        elif word == b"lost":
            self.lost = True
        elif self._where[source] == "inside":
            self.code = number
            self._where[source] = "after"

    def _emit(self, source: Source, data: bytes) -> None:
        if not data:
            return
        if self._where[source] == "before":
            self._before[source] = (self._before[source] + data)[-NOISE:]
        elif self._where[source] == "inside":
            self._output(source, data)

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of a mark."""
        at = data.rfind(b"\x1e", max(0, len(data) - len(self._mark) + 1))
        return len(data) - at if at >= 0 and self._mark.startswith(data[at:]) else 0


def framed(argv: Sequence[str], token: str, *, stdin: bool = False) -> list[str]:
    """The command that runs ``argv`` between marks; without standard input, if that is not its own."""
    return ["/bin/sh", "-c", FRAME.replace(" </dev/null", "") if stdin else FRAME, "sh", token, *argv]


def unframed(token: str, stdout: bytes, stderr: bytes) -> tuple[Marks, bytes, bytes]:
    """What a command that was :func:`framed` put out, taken apart."""
    output: dict[Source, list[bytes]] = {"stdout": [], "stderr": []}
    marks = Marks(token, lambda source, data: output[source].append(data))
    marks.feed("stdout", stdout)
    marks.feed("stderr", stderr)
    marks.rest()
    return marks, b"".join(output["stdout"]), b"".join(output["stderr"])


def asked(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """The token and the command of what was :func:`framed`; None for anything else. For machines that have no shell."""
    if len(words) > 5 and words[1] == "-c" and words[2] == FRAME:
        return words[4], list(words[5:])
    return None


def answered(token: str, stdout: str, stderr: str, code: int) -> tuple[str, str]:
    """What a shell would have put out, for a command that was :func:`framed` with this token."""
    mark = f"\x1e{token}"
    return (f"{mark} start 1\n{stdout}{mark} end {code}\n", f"{mark} start 1\n{stderr}{mark} end {code}\n")


def packed(text: str) -> str:
    """The text as the argument of ``printf %b``, in printable ASCII without quotes and exclamation marks: so no login shell
    reads anything into it (csh takes no newline in quotes, and ``!`` for its history; fish takes some backslashes)."""
    return _UNSAFE.sub(lambda match: b"\\0%03o" % match[0][0], text.encode("utf-8", "surrogateescape")).decode()


def login_line(argv: Sequence[str]) -> str:
    """The command line for a login shell, whichever it is (bash, dash, zsh, fish, csh, a restricted one). Words are printable
    ASCII: see :func:`packed`. No word's ``exec``, and no path as the program: restricted shells refuse both."""
    return " ".join(map(_login_word, argv))


def login_framed(argv: Sequence[str], token: str) -> str:
    """As :func:`framed`, for a login shell."""
    return login_line(["sh", "-c", LOGIN_FRAME, "sh", token, *map(packed, argv)])


def login_unframed(argv: Sequence[str]) -> str:
    """The command line for a login shell that becomes ``argv``, which makes its own marks and has standard input."""
    return login_line(["sh", "-c", UNPACK + 'exec "$@"', "sh", *map(packed, argv)])


def _login_word(word: str) -> str:
    if _PLAIN_WORD.match(word):
        return word
    return "'" + re.sub(r"[\\'!]", lambda match: f"'\\{match[0]}'", word) + "'"
