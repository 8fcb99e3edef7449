"""Files over SFTP. Blocking functions."""

from __future__ import annotations

import errno
import io
import posixpath
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ramure.machines.errors import FileRefused, NoSuchFile

if TYPE_CHECKING:
    import paramiko

    from ramure.machines.ssh_connection import Connection

__all__ = ["read", "write"]

T = TypeVar("T")

CHUNK = 1 << 20


def write(connection: Connection, path: str, data: bytes, mode: int | None) -> None:
    """Write a file; missing directories are made. ``mode`` is set before the first byte is written."""

    def work(sftp: paramiko.SFTPClient) -> None:
        try:
            _write(sftp, path, data, mode)
        except FileNotFoundError:
            _make_directories(sftp, posixpath.dirname(path))
            _write(sftp, path, data, mode)

    _over_sftp(connection, work, path, "writing")


def _over_sftp(connection: Connection, work: Callable[[paramiko.SFTPClient], T], path: str, what: str) -> T:
    """Do it; once more from the beginning, which harms neither reading nor writing a whole file, where the SFTP session
    has ended though the connection lives (somebody has killed its process on the host)."""
    import paramiko

    doing = f"the {what} of {path}"
    again = True
    with connection.file_lock:
        while True:
            sftp = connection.sftp()
            try:
                return work(sftp)
            except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
                if isinstance(error, OSError) and not _closed(sftp):  # the server's answer
                    if isinstance(error, FileNotFoundError):
                        raise NoSuchFile(path) from error
                    raise FileRefused(path, _why(sftp, path, error)) from error
                connection.forget_sftp(sftp)
                if not again or connection.over():
                    raise connection.lost(doing, error) from error
                again = False


def _closed(sftp: paramiko.SFTPClient) -> bool:
    channel = sftp.get_channel()
    return channel is None or channel.closed


def _write(sftp: paramiko.SFTPClient, path: str, data: bytes, mode: int | None) -> None:
    with sftp.open(path, "wb") as file:
        if mode is not None:
            file.chmod(mode)
        file.set_pipelined(True)
        view = memoryview(data)
        for start in range(0, len(data), CHUNK):
            file.write(bytes(view[start : start + CHUNK]))
        # paramiko hears of pipelined writes that failed (a full disk), and says nothing.
        requests = file._reqs  # type: ignore[attr-defined]
        while requests:
            sftp._read_response(requests.popleft())  # type: ignore[attr-defined]


def _make_directories(sftp: paramiko.SFTPClient, path: str) -> None:
    if path in ("", "/"):
        return
    try:
        sftp.stat(path)
    except FileNotFoundError:
        _make_directories(sftp, posixpath.dirname(path))
        try:
            sftp.mkdir(path)
        except OSError:  # somebody else has made it meanwhile, or it fails again, and says why, when it is used
            sftp.stat(path)


def read(connection: Connection, path: str) -> bytes:
    """The whole content of a file."""

    def work(sftp: paramiko.SFTPClient) -> bytes:
        content = io.BytesIO()
        sftp.getfo(path, content)
        return content.getvalue()

    return _over_sftp(connection, work, path, "reading")


def _why(sftp: paramiko.SFTPClient, path: str, error: OSError) -> str:
    """SFTP says no more than "Failure" for most things."""
    if error.errno == errno.EACCES:
        return "permission denied"
    try:
        if stat.S_ISDIR(sftp.stat(path).st_mode or 0):
            return "it is a directory"
    except OSError:
        return str(error)
    return f"{error} (no room?)" if str(error) == "Failure" else str(error)
