"""Running git on this host so that neither the environment nor the configuration changes what it does. Blocking.

Two ways, and no third:

* :func:`user_git`: in the user's own repository, with the user's own configuration, to make a worktree of it. Filters
  (git-lfs) and line ends are the user's; hooks, fsmonitor and submodules are off.
* :func:`plumbing`: on the git directory alone, when an agent has worked. Only plumbing commands that read and write
  objects, indexes and refs; the user's configuration is not read, and no program that the repository's names is run: no
  hook, filter, fsmonitor, pager, editor, signature or transport. It never gets a working directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ramure.machines.errors import CopyFailed

__all__ = ["GitFailed", "locked", "plumbing", "user_git", "without_repository"]

LIMIT: Final = 600.0
"""Seconds for one command of git: a large repository takes its time, and one that waits for somebody has none."""

LOCK_LIMIT: Final = 120.0
"""Seconds to wait for other programs that add or remove worktrees of the same repository; then git's own locks must do."""

OF_A_REPOSITORY: Final = frozenset(
    """
    GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_DIR GIT_GRAFT_FILE
    GIT_IMPLICIT_WORK_TREE GIT_INDEX_FILE GIT_INTERNAL_SUPER_PREFIX GIT_NAMESPACE GIT_NO_REPLACE_OBJECTS
    GIT_OBJECT_DIRECTORY GIT_PREFIX GIT_QUARANTINE_PATH GIT_REPLACE_REF_BASE GIT_SHALLOW_FILE GIT_WORK_TREE
    GIT_AUTHOR_DATE GIT_CHERRY_PICK_HELP GIT_COMMITTER_DATE GIT_REFLOG_ACTION
    """.split()
)
"""What git sets for its hooks, filters and aliases: it binds a git below them to one repository and one command."""

OF_THE_USER: Final = (
    "GIT_CONFIG_COUNT", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_KEY_", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_VALUE_", "GIT_EXEC_PATH", "GIT_HTTP_", "GIT_LFS_", "GIT_PROXY_", "GIT_SSH", "GIT_SSL_",
)  # fmt: skip
"""How the variables begin that say which configuration and which connections are the user's."""

NOBODY_IS_ASKED: Final = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
}

NOTHING_IS_STARTED: Final = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "branch.autoSetupMerge": "false",
    "core.filesRefLockTimeout": "5000",
    "core.packedRefsTimeout": "5000",
}

BYTES_AS_THEY_ARE: Final = {
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.autocrlf": "false",
    "core.protectNTFS": "false",
    "core.protectHFS": "false",
    "core.precomposeUnicode": "false",
    "core.ignoreCase": "false",
    "core.quotePath": "false",
    "core.sparseCheckout": "false",
    "core.splitIndex": "false",
    "core.untrackedCache": "false",
    "core.logAllRefUpdates": "true",
    "core.alternateRefsCommand": "false",
    "index.sparse": "false",
    "index.skipHash": "false",
    "i18n.commitEncoding": "UTF-8",
    "fastimport.unpackLimit": "100",
}


class GitFailed(CopyFailed):
    """A command of git ended with an error. ``said`` is what it wrote, ``status`` its exit status (-1: it has none)."""

    def __init__(self, what: str, said: str, status: int = -1) -> None:
        self.said = said
        self.status = status
        super().__init__(f"{what}: {said}")


def without_repository(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what binds git to the repository and the command of a hook that started this program."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in OF_A_REPOSITORY and not name.startswith("GIT_PUSH_OPTION_")
    }
    if kept.get("GIT_EDITOR") == ":":  # as `git commit` tells its hooks that nobody is to be asked
        del kept["GIT_EDITOR"]
    return kept


def user_git(directory: str, *args: str, git_dir: str = "") -> bytes:
    """git in a directory of the user's, with the user's configuration; what it says. Raises :class:`GitFailed`.

    ``git_dir`` is the repository's git directory, where that is known; else git looks for it.
    """
    kept = {n: v for n, v in without_repository(os.environ).items() if not n.startswith("GIT_")}
    kept |= {n: v for n, v in os.environ.items() if n.startswith(OF_THE_USER)}
    if git_dir:
        kept["GIT_DIR"] = git_dir
    where = f"git {_verb(args)} in {directory}"
    return _run(["-C", directory, *_options(NOTHING_IS_STARTED), *args], kept | NOBODY_IS_ASKED, where)


def plumbing(
    git_dir: str,
    *args: str,
    common: str = "",
    index: str = "",
    work_tree: str = "",
    stdin: bytes | Iterator[bytes] = b"",
    env: Mapping[str, str] | None = None,
) -> bytes:
    """One plumbing command on a git directory; what it says. Raises :class:`GitFailed`.

    ``common`` is the main repository's git directory, where ``git_dir`` is that of a worktree of it. ``work_tree`` is a
    directory of ours: without it git stands in an empty one.
    """
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("GIT_", "XDG_"))}
    environment |= NOBODY_IS_ASKED | {
        "HOME": "/nonexistent",
        "GIT_DIR": git_dir,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if common:
        environment["GIT_COMMON_DIR"] = common
    if index:
        environment["GIT_INDEX_FILE"] = index
    environment.update(env or {})
    options = _options(NOTHING_IS_STARTED | BYTES_AS_THEY_ARE)
    with contextlib.ExitStack() as stack:
        place = work_tree or stack.enter_context(tempfile.TemporaryDirectory(prefix="ramure-git-"))
        environment["GIT_WORK_TREE"] = place
        return _run([*options, *args], environment, f"git {_verb(args)} in {git_dir}", cwd=place, stdin=stdin)


def _verb(args: Sequence[str]) -> str:
    return next((arg for arg in args if not arg.startswith("-")), "")


def _options(settings: Mapping[str, str]) -> list[str]:
    return [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]


def _run(
    args: list[str], env: Mapping[str, str], what: str, *, cwd: str = "/", stdin: bytes | Iterator[bytes] = b""
) -> bytes:
    with tempfile.TemporaryFile() as given:
        if isinstance(stdin, bytes):
            given.write(stdin)
        else:
            given.writelines(stdin)
        given.seek(0)
        try:
            # A session of its own: Ctrl-C at the terminal is not for it, and its end takes all that it has started.
            process = subprocess.Popen(
                ["git", *args],
                cwd=cwd,
                env=dict(env),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise GitFailed(what, f"git cannot be started: {error.strerror}") from error
        try:
            out, err = process.communicate(timeout=LIMIT)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitFailed(what, f"it did not end within {LIMIT:g} s") from None
            raise
    if process.returncode != 0:
        said = (err or out).decode(errors="replace").strip()
        raise GitFailed(what, said or f"it ended with status {process.returncode}", process.returncode)
    return out


@contextlib.contextmanager
def locked(common: str, limit: float = LOCK_LIMIT) -> Iterator[None]:
    """Alone among all programs of ours that change the worktrees and refs of this repository.

    The lock is on the repository's own directory, so that it holds whatever ``RAMURE_HOME`` is, and leaves no file.
    """
    descriptor = os.open(common, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(random.uniform(0.002, 0.02))
            except OSError:  # a file system without locks
                break
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
        os.close(descriptor)
