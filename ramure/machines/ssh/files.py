"""Files over SFTP. Blocking functions.

A server works off one request after another: one that hangs, on a FIFO say, hangs with all that use its session. So only
regular files are opened, a session that says nothing is given up, and others wait for none that makes no progress.
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
import stat
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ramure.machines.checks import what_it_is
from ramure.machines.errors import FileRefused, MachineError, NoSuchFile
from ramure.machines.files.remote import FILE_LIMIT

if TYPE_CHECKING:
    import paramiko

    from ramure.machines.ssh.connection import Connection

__all__ = ["Stalled", "read", "write"]

T = TypeVar("T")

CHUNK = 1 << 20
PIECE = 1 << 16
"""Bytes between two looks at the clock."""
LOOK = 0.2
NOT_A_DIRECTORY = "Not a directory"
RELEASE_LIMIT = 5.0

RELEASE = r"""[ ! -p "$1" ] || : <>"$1" """
"""Opens the FIFO $1 at both ends, which waits for nobody: so what waits for its other end goes on."""


class Stalled(Exception):
    """Another transfer on the connection makes no progress: nothing was done."""


def write(connection: Connection, path: str, where: bytes, data: bytes, mode: int | None) -> None:
    """Write a file; missing directories are made. ``mode`` is set before the first byte is written. ``where`` is the full
    path of ``path``."""

    def work(sftp: paramiko.SFTPClient) -> None:
        with contextlib.suppress(FileNotFoundError):
            _check(sftp, where)
        try:
            _write(connection, sftp, where, data, mode)
        except FileNotFoundError:
            _make_directories(sftp, posixpath.dirname(where), 0o777 if mode is None else 0o700)
            _write(connection, sftp, where, data, mode)

    _over_sftp(connection, work, path, where, "writing")


def read(connection: Connection, path: str, where: bytes) -> bytes | None:
    """The content of a file; None if its size is 0: then it may be one of the kernel's, and reading it may wait for news."""

    def work(sftp: paramiko.SFTPClient) -> bytes | None:
        _check(sftp, where)
        with sftp.open(where, "rb") as file:
            now = file.stat()  # what was there may have been swapped
            if not stat.S_ISREG(now.st_mode or 0):
                raise _Refused(what_it_is(now.st_mode or 0))
            if not now.st_size:
                return None
            file.prefetch(now.st_size)
            pieces = []
            while piece := file.read(PIECE):
                connection.transfer_moved = time.monotonic()
                pieces.append(piece)
            return b"".join(pieces)

    return _over_sftp(connection, work, path, where, "reading")


class _Refused(Exception):
    """By us, not by the server."""


def _over_sftp(
    connection: Connection, work: Callable[[paramiko.SFTPClient], T], path: str, where: bytes, what: str
) -> T:
    """Do it; once more from the beginning, which harms neither reading nor writing a whole file, where the SFTP session
    has ended though the connection lives (somebody has killed its process on the host)."""
    import paramiko

    doing = f"the {what} of {path}"
    again = True
    with _transfer(connection):
        while True:
            sftp = connection.sftp()
            _limited(sftp)
            connection.transfer_moved = time.monotonic()
            try:
                return work(sftp)
            except _Refused as refused:
                raise FileRefused(path, str(refused)) from None
            except TimeoutError as error:
                connection.forget_sftp(sftp)
                with contextlib.suppress(MachineError):  # its server waits there for ever
                    connection.call(
                        ["/bin/sh", "-c", RELEASE, "sh", where.decode("utf-8", "surrogateescape")], limit=RELEASE_LIMIT
                    )
                why = f"the host's SFTP server said nothing for {FILE_LIMIT:g} s: what is there waits for somebody, or the disk"
                raise FileRefused(path, why) from error
            except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
                if isinstance(error, OSError) and not _closed(sftp):  # the server's answer
                    why = _why(sftp, where, error)
                    if isinstance(error, FileNotFoundError) and not why.startswith(NOT_A_DIRECTORY):
                        raise NoSuchFile(path) from error
                    raise FileRefused(path, why) from error
                connection.forget_sftp(sftp)
                if not again or connection.over():
                    raise connection.lost(doing, error) from error
                again = False


@contextlib.contextmanager
def _transfer(connection: Connection) -> Iterator[None]:
    """The connection's one transfer. Raises :class:`Stalled` rather than waiting for one that hangs."""
    while not connection.file_lock.acquire(timeout=LOOK):
        if connection.stalled:
            raise Stalled
    try:
        yield
    finally:
        connection.transfer_moved = None
        connection.file_lock.release()


def _limited(sftp: paramiko.SFTPClient) -> None:
    channel = sftp.get_channel()
    if channel is not None:
        channel.settimeout(FILE_LIMIT)


def _closed(sftp: paramiko.SFTPClient) -> bool:
    channel = sftp.get_channel()
    return channel is None or channel.closed


def _check(sftp: paramiko.SFTPClient, where: bytes) -> None:
    """Refuse what is no regular file. Raises FileNotFoundError."""
    mode = sftp.stat(where).st_mode or stat.S_IFREG
    if not stat.S_ISREG(mode):
        raise _Refused(what_it_is(mode))


def _write(connection: Connection, sftp: paramiko.SFTPClient, where: bytes, data: bytes, mode: int | None) -> None:
    with sftp.open(where, "wb") as file:
        if mode is not None:
            file.chmod(mode)
        file.set_pipelined(True)
        view = memoryview(data)
        for start in range(0, len(data), CHUNK):
            file.write(bytes(view[start : start + CHUNK]))
            connection.transfer_moved = time.monotonic()
        # paramiko hears of pipelined writes that failed (a full disk), and says nothing.
        requests = file._reqs  # type: ignore[attr-defined]
        while requests:
            sftp._read_response(requests.popleft())  # type: ignore[attr-defined]
            connection.transfer_moved = time.monotonic()


def _make_directories(sftp: paramiko.SFTPClient, path: bytes, mode: int) -> None:
    if path in (b"", b"/"):
        return
    try:
        sftp.stat(path)
    except FileNotFoundError:
        _make_directories(sftp, posixpath.dirname(path), mode)
        try:
            sftp.mkdir(path, mode)
        except OSError:  # somebody else has made it meanwhile, or it fails again, and says why, when it is used
            sftp.stat(path)


def _why(sftp: paramiko.SFTPClient, where: bytes, error: OSError) -> str:
    """SFTP says no more than "Failure" for most things."""
    if error.errno == errno.EACCES:
        return "permission denied"
    parent = posixpath.dirname(where)
    while parent not in (b"", b"/"):
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(sftp.stat(parent).st_mode or stat.S_IFDIR):
                return f"{NOT_A_DIRECTORY}: {parent.decode(errors='replace')}"
        parent = posixpath.dirname(parent)
    return f"{error} (no room?)" if str(error) == "Failure" else str(error)
