"""Copies of working directories that nobody changes, and what is made of them: overlays, where the system can, else
further copies. Blocking functions.

An overlay (Linux's overlayfs) costs a few milliseconds whatever the size: it shows a frozen copy, and takes what is
changed in it into a directory of its own. What makes that sound:

* The kernel leaves undefined what an overlay shows when a layer below it changes. So the layers below are always copies
  of ours in directories of mode 0700, never a directory that somebody works in; they stay until the last machine on
  them has stopped.
* A fork of a machine that works in an overlay copies what that has changed, and not what is below. The upper layer of a
  live overlay is never made a lower one: processes that work in it would go on to write to it.
* Of a file with several hard links, an overlay would change only the one by which it was written to. Directories with
  such files are copied.

Only root may mount. Whether it works (a kernel without overlayfs, a temporary directory that is itself on an overlay)
is found out by trying.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ramure.forks import finalizer
from ramure.machines.copies.workspace import Workspace, copied, copy_of
from ramure.machines.errors import CopyFailed, NotRemoved
from ramure.machines.reaper.directories import adopted, make, remove_tree

__all__ = ["DirectorySnapshot", "freeze", "undo_overlay"]

LIMIT = 30.0
OPTIONS = "redirect_dir=off,index=off,metacopy=off"
"""What a system may have as its default, and what the copy of an upper layer would not survive."""

UNMOUNT = '[ ! -L "$1" ] && mountpoint -q -- "$1" || exit 0; umount -- "$1" 2>/dev/null || umount -l -- "$1"'
"""A shell that somebody left in it does not hold it up. A link in its place may lead to any other mount."""


class DirectorySnapshot:
    """A directory as it was, for as long as it is held: by who froze it, and by each machine on it."""

    def __init__(self, copy: Workspace, below: DirectorySnapshot | None, *, linked: bool) -> None:
        self._copy = copy
        self._linked = linked
        self._holders = 1
        self._lock = threading.Lock()
        self._below = below.hold() if below is not None else None
        self._removed = finalizer(self, copy.remove)  # at the program's end at the latest

    @property
    def layers(self) -> list[str]:
        """The directories that make it up, the uppermost first."""
        return [self._copy.path, *(self._below.layers if self._below else [])]

    @property
    def note(self) -> str:
        """How it was made."""
        return self._copy.note

    def hold(self) -> DirectorySnapshot:
        """Once more. Raises :class:`CopyFailed` if it has gone."""
        with self._lock:
            if self._holders == 0:
                raise CopyFailed(f"the snapshot in {self._copy.path} has been removed")
            self._holders += 1
        return self

    def drop(self) -> None:
        """One holder less; with the last one it goes."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._removed()
            if self._below is not None:
                self._below.drop()

    def spawn(self, identity: str) -> Workspace:
        """A directory that begins as this one. Raises :class:`CopyFailed`."""
        self.hold()  # it may be removed meanwhile
        try:
            return self._spawn(identity)
        finally:
            self.drop()

    def _spawn(self, identity: str) -> Workspace:
        if not self._linked and os.geteuid() == 0:
            holder = _holder(identity)
            try:
                _made_like(f"{holder}/upper", self._copy.path)
                return _mounted(holder, self)
            except BaseException as error:
                Workspace(holder).remove()
                if not isinstance(error, CopyFailed) or self._below is not None:
                    raise
        return copy_of(self._copy.path, identity)


def _holder(identity: str) -> str:
    return make(identity, "an overlay in", "overlay")


def undo_overlay(fields: Mapping[str, Any]) -> None:
    """Remove an overlay of a dead program, by the fields of its lease. Raises :class:`NotRemoved`."""
    with adopted(fields) as holder:
        _unmount(f"{holder}/merged")
        remove_tree(holder)


def _unmount(path: str) -> None:
    done = subprocess.run(unmounting(path), capture_output=True, text=True, timeout=LIMIT, check=False)
    if os.path.ismount(path):
        why = done.stderr.strip() or "it is still mounted"
        raise NotRemoved(path, f"it could not be unmounted: {why}", f"`umount {path}`, then run `ramure gc`")


@dataclass(frozen=True)
class Overlay(Workspace):
    """A directory that is an overlay: in ``holder``, over the layers of ``base``."""

    holder: str = ""
    base: DirectorySnapshot = field(kw_only=True, repr=False)

    def discard(self) -> None:
        _unmount(self.path)
        remove_tree(self.holder)
        self.base.drop()

    def undo(self) -> list[list[str]]:
        return [unmounting(self.path)]

    def made(self) -> str:
        return self.holder

    def fork(self, identity: str) -> Workspace:
        holder = _holder(identity)
        try:
            os.mkdir(f"{holder}/upper")
            copied(f"{self.holder}/upper", f"{holder}/upper")
            return _mounted(holder, self.base)
        except BaseException:
            Workspace(holder).remove()
            raise


def freeze(workspace: Workspace, identity: str) -> DirectorySnapshot:
    """A copy of a directory's present state that nobody changes. Raises :class:`CopyFailed`."""
    try:
        if isinstance(workspace, Overlay):
            changes = copy_of(f"{workspace.holder}/upper", identity)
            if not _has_links(changes.path):
                return _frozen(changes, workspace.base, linked=False)
            changes.remove()
        whole = copy_of(workspace.path, identity)
        return _frozen(whole, None, linked=_has_links(whole.path))
    except OSError as error:
        raise CopyFailed(f"{workspace.path} could not be copied: {error}") from error


def _frozen(copy: Workspace, below: DirectorySnapshot | None, *, linked: bool) -> DirectorySnapshot:
    try:
        return DirectorySnapshot(copy, below, linked=linked)
    except BaseException:
        copy.remove()
        raise


def unmounting(path: str) -> list[str]:
    """The command that unmounts it, if it is mounted."""
    return ["/bin/sh", "-c", UNMOUNT, "sh", path]


def _mounted(holder: str, base: DirectorySnapshot) -> Overlay:
    """The overlay in ``holder``, whose upper layer is there already. Raises :class:`CopyFailed` if it cannot be."""
    path = f"{holder}/merged"
    os.mkdir(f"{holder}/work")
    os.mkdir(path)
    # Links, for the kernel splits the option at colons and commas, which a path may have.
    lower = [f"lower{number}" for number in range(len(base.layers))]
    for name, layer in zip(lower, base.layers, strict=True):
        os.symlink(layer, f"{holder}/{name}")
    _mount(holder, lower)
    return Overlay(path, note="made by overlay", holder=holder, base=base.hold())


def _mount(holder: str, lower: Sequence[str]) -> None:
    options = f"{OPTIONS},lowerdir={':'.join(lower)},upperdir=upper,workdir=work"
    argv = ["mount", "-t", "overlay", "-o", options, "overlay", "merged"]
    try:
        done = subprocess.run(argv, cwd=holder, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CopyFailed(f"no overlay could be mounted in {holder}: {error}") from error
    if done.returncode != 0:
        raise CopyFailed(f"no overlay could be mounted in {holder}: {done.stderr.strip()}")


def _made_like(path: str, model: str) -> None:
    """Make a directory with the owner, mode and times of another: they are those of the overlay's root."""
    os.mkdir(path)
    there = os.stat(model)
    os.chown(path, there.st_uid, there.st_gid)
    shutil.copystat(model, path)


def _has_links(directory: str) -> bool:
    """Whether any file in it has several names."""
    todo = [directory]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                there = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    todo.append(entry.path)
                elif there.st_nlink > 1 and stat.S_ISREG(there.st_mode):
                    return True
    return False
