"""Remove a directory tree that this program made, and nothing else. Blocking.

The reaper loads this file by its path, so it imports nothing of ramure and little of the standard library.

* The tree is known by the identity that was recorded when it was made: inode, time of birth, and within one boot the
  device. The record lies outside of the tree, where no agent's command is trusted to write it. Another directory at the
  same path stays.
* Each directory is opened by its name below the descriptor of the one above it, never through a symbolic link, and is
  entered only if its descriptor is on the same mount as the tree. ``st_dev`` alone does not show a bind mount of the
  same file system. The kernel refuses (EBUSY) to unlink what something is mounted on.
* A file with other hard links loses one name. No file's mode or attributes are changed.
* Where something stays, :class:`Refused` says what, why, and what to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Callable

__all__ = ["Identity", "Refused", "boot", "identify", "mounts_in", "remove_tree", "same"]

Identity = dict[str, "int | str | None"]
"""``inode``, ``device``, ``born`` (nanoseconds, None where the system does not tell), ``boot``; all JSON."""

LINUX = sys.platform == "linux"
DEEPEST = 20
"""Directories that are open at once; what lies deeper is moved up first."""

PATIENCE = 5.0
"""Seconds for which a directory is emptied again and again while something writes into it."""

SHOWN = 3
"""Entries that could not be removed that an error names."""

AGAIN = "then run `ramure gc`"

_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


class Refused(OSError):
    """A tree was not removed, or not all of it. ``place`` is what stays; ``remedy`` is what to do about it."""

    def __init__(self, place: str, why: str, remedy: str) -> None:
        super().__init__(f"{_shown(place)}: {why}; {remedy}")
        self.place = place
        self.why = why
        self.remedy = remedy


# -- identity -------------------------------------------------------------------------------------------------------


def boot() -> str:
    """The id of this boot of the system; "" where it does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def identify(place: str | int) -> Identity:
    """The identity of a directory, by its path or by a descriptor of it."""
    descriptor = place if isinstance(place, int) else os.open(place, _O_PATH | _DIRECTORY)
    try:
        there = os.fstat(descriptor)
        return {"inode": there.st_ino, "device": there.st_dev, "born": _born(descriptor, there), "boot": boot()}
    finally:
        if descriptor != place:
            os.close(descriptor)


def same(one: Identity, other: Identity) -> bool:
    """Whether both are of one directory. Device numbers may change with a boot."""
    if one.get("inode") != other.get("inode"):
        return False
    born, other_born = one.get("born"), other.get("born")
    if born is not None and other_born is not None and born != other_born:
        return False
    return one.get("boot") != other.get("boot") or one.get("device") == other.get("device")


def _born(descriptor: int, there: os.stat_result) -> int | None:
    """When it was made. An inode number may be used again at once; with the time of birth it is not the same."""
    if _libc is None:
        at = getattr(there, "st_birthtime", None)
        return None if at is None else int(at * 1e9)
    buffer = ctypes.create_string_buffer(256)
    empty_path, btime = 0x1000, 0x800
    try:
        failed = _libc.statx(descriptor, b"", empty_path, btime, buffer)
    except AttributeError:  # a C library without statx
        return None
    raw = buffer.raw
    if failed or not int.from_bytes(raw[0:4], sys.byteorder) & btime:
        return None
    seconds = int.from_bytes(raw[80:88], sys.byteorder, signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(raw[88:92], sys.byteorder)


# -- mounts ---------------------------------------------------------------------------------------------------------


def mounts_in(path: str) -> list[str]:
    """The mount points at or below ``path``, as this process sees them."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    parent, name = os.path.split(os.path.abspath(path))
    root = os.fsencode(os.path.join(os.path.realpath(parent), name))
    points = (re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split()[4]) for line in lines)
    return [os.fsdecode(point) for point in points if point == root or point.startswith(root + b"/")]


def _mount(descriptor: int) -> int | None:
    """The id of the mount that a descriptor is on; None on a system that has no bind mounts.

    Not by statx(2): that asks the file system, and one that is dead may never answer.
    """
    if not LINUX:
        return None
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    raise OSError(errno.ENOSYS, "the system does not tell on which mount a directory is")


def _mounted(place: str) -> Refused:
    return Refused(place, "something is mounted on it", f"unmount it (`umount {_quoted(place)}`), {AGAIN}")


# -- removal --------------------------------------------------------------------------------------------------------


def remove_tree(path: str, identity: Identity) -> bool:
    """Remove the directory that has this identity, with all in it. False if nothing is at the path.

    Raises :class:`Refused`. Where something is mounted in the tree, all of it stays.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    try:
        above = os.open(parent, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _remove_below(above, name, path, identity)
    except Refused:
        raise
    except OSError as error:
        raise Refused(path, error.strerror or str(error), f"remove what is in the way, {AGAIN}") from error
    finally:
        os.close(above)


def _remove_below(above: int, name: str, path: str, identity: Identity) -> bool:
    try:
        top = _entered(name, above)
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # a link or a file in its place
        raise _other(path) from None
    try:
        if _mount(top) != _mount(above):
            raise _mounted(path)
        if not same(identity, identify(top)):
            raise _other(path)
        for point in mounts_in(path):
            raise Refused(
                point, "it is mounted in a directory to be removed", f"unmount it (`umount {_quoted(point)}`), {AGAIN}"
            )
        removal = _Removal(top)
        deadline = time.monotonic() + PATIENCE
        while True:
            removal.empty(top, path, 0)
            removal.check(path)
            if os.stat(name, dir_fd=above, follow_symlinks=False).st_ino != identity["inode"]:
                raise _other(path)
            try:
                os.rmdir(name, dir_fd=above)
                break
            except OSError as error:
                if error.errno not in _NOT_EMPTY or time.monotonic() > deadline:
                    removal.note(path, error)
                    removal.check(path)
    finally:
        os.close(top)
    return True


def _other(path: str) -> Refused:
    return Refused(
        path,
        "it is not the directory that was made here: another is in its place",
        "look at it, and remove it yourself",
    )


class _Removal:
    """One removal under way. ``top`` is a descriptor of the tree's directory."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.mount = _mount(top)
        self.device = os.fstat(top).st_dev
        self.failed: list[tuple[str, OSError]] = []
        self.failures = 0
        self.moved = 0

    def empty(self, handle: int, place: str, depth: int) -> None:
        """Remove what is in a directory. ``handle`` need not be readable."""
        directory = self._readable(handle)
        try:
            deadline: float | None = None
            while True:
                failures, moved = self.failures, self.moved
                if not self._pass(directory, place, depth) or self.failures > failures:
                    return
                if deadline is None or self.moved > moved:
                    deadline = time.monotonic() + PATIENCE
                elif time.monotonic() > deadline:
                    return  # something writes faster than we remove; rmdir says that it is not empty
        finally:
            os.close(directory)

    def note(self, place: str, error: OSError) -> None:
        """Remember what could not be removed, and go on with the rest."""
        self.failures += 1
        if len(self.failed) < SHOWN:
            self.failed.append((place, error))

    def check(self, path: str) -> None:
        """Raise :class:`Refused` if anything could not be removed."""
        if not self.failed:
            return
        place, error = self.failed[0]
        more = f" (and {self.failures - 1} more)" if self.failures > 1 else ""
        if error.errno == errno.EBUSY:
            raise _mounted(place) from error
        why = f"{error.strerror}{more}"
        remedy = f"remove {_quoted(path)} as a user who may"
        if error.errno == errno.EPERM:
            remedy = f"if it is immutable, `chattr -R -i -a {_quoted(path)}`"
        elif error.errno in _NOT_EMPTY:
            why, remedy = f"something still writes into it{more}", f"end what does (`fuser -v {_quoted(place)}`)"
        elif error.errno == errno.EROFS:
            remedy = "mount its file system writable"
        raise Refused(place, why, f"{remedy}, {AGAIN}") from error

    def _pass(self, directory: int, place: str, depth: int) -> int:
        """Remove each entry once; the number of entries that there were."""
        seen = 0
        with os.scandir(directory) as entries:
            for entry in entries:
                seen += 1
                here = f"{place}/{entry.name}"
                try:
                    if not (entry.is_dir(follow_symlinks=False) or self._unlinked(directory, entry.name)):
                        continue
                    self._directory(directory, entry.name, here, depth)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it has just been removed, or become something else: the next pass sees what
                except Refused:
                    raise
                except OSError as error:
                    self.note(here, error)
        return seen

    def _unlinked(self, directory: int, name: str) -> bool:
        """Unlink a file. True if it is a directory by now."""
        try:
            _mending(directory, lambda: os.unlink(name, dir_fd=directory))
        except IsADirectoryError:
            return True
        return False

    def _directory(self, directory: int, name: str, place: str, depth: int) -> None:
        try:
            _mending(directory, lambda: os.rmdir(name, dir_fd=directory))
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
        else:
            return
        handle = _entered(name, directory)
        try:
            if _mount(handle) != self.mount or os.fstat(handle).st_dev != self.device:
                raise _mounted(place)
            if depth >= DEEPEST:
                self._move_up(directory, name, handle)
                return
            failures = self.failures
            self.empty(handle, place, depth + 1)
        finally:
            os.close(handle)
        if self.failures == failures:
            try:
                os.rmdir(name, dir_fd=directory)
            except OSError as error:
                if error.errno not in _NOT_EMPTY:  # else something has just written into it: the next pass sees it
                    raise

    def _move_up(self, directory: int, name: str, handle: int) -> None:
        """Move a directory to the top of the tree, where the next pass finds it: a deep tree needs few descriptors."""
        while True:
            self.moved += 1
            try:
                os.rename(name, f".ramure-removed-{self.moved}", src_dir_fd=directory, dst_dir_fd=self.top)
            except PermissionError:
                if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 == 0o700:
                    raise
                _open_up(handle)
            except OSError as error:
                if error.errno not in (*_NOT_EMPTY, errno.ENOTDIR):
                    raise
            else:
                return

    def _readable(self, handle: int) -> int:
        """A descriptor that the directory's entries can be read by, whatever its mode was."""
        try:
            return os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=handle)
        except PermissionError:
            _open_up(handle)
            return os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=handle)


def _mending(directory: int, remove: Callable[[], None]) -> None:
    """Remove an entry, also from a directory whose mode does not allow it."""
    try:
        remove()
    except PermissionError as error:
        mode = os.fstat(directory).st_mode
        if error.errno != errno.EACCES or stat.S_IMODE(mode) & 0o700 == 0o700:
            raise
        os.fchmod(directory, 0o700)
        remove()


def _entered(name: str, directory: int) -> int:
    """A descriptor of a directory, to be looked at before anything is done in it."""
    try:
        return os.open(name, _O_PATH | _DIRECTORY, dir_fd=directory)
    except PermissionError:
        if LINUX:
            raise
        os.chmod(name, 0o700, dir_fd=directory, follow_symlinks=False)  # without O_PATH, one must be able to read it
        return os.open(name, _O_PATH | _DIRECTORY, dir_fd=directory)


def _open_up(handle: int) -> None:
    """Give a directory mode 0700: a command may have taken away the right to remove what is in it."""
    if LINUX:
        with contextlib.suppress(OSError):  # then the next system call says why not
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
    else:
        os.fchmod(handle, 0o700)


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _quoted(path: str) -> str:
    shown = _shown(path)
    return shown if re.fullmatch(r"[\w@%+=:,./~-]+", shown) else "'" + shown.replace("'", "'\"'\"'") + "'"
