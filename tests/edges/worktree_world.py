"""A repository of a user's with a git worktree of ours in it, in which an agent does what it likes, and then the end.

Independent of how ramure saves: what there was is read by plain git and Python just before the end, and compared with what the
repository's refs hold afterwards. The program with the machine is a forked child, so that it can be killed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ramure.machines.errors import WorkNotSaved
from ramure.machines.local import LocalImage
from ramure.runtime.run.gc import sweep

End = Literal["stop", "killed", "killed with its reaper"]

CLEAN = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
NOBODY = ["-c", "user.name=user", "-c", "user.email=user@localhost", "-c", "core.hooksPath=/dev/null"]

TEMPLATE = r"""
git init -q -b main .
printf 'one\ntwo\nthree\n' > text; printf 'a\n' > a; mkdir d sub; printf 'b\n' > d/b; printf 'c\n' > sub/c
printf 'echo hi\r\n' > dos.bat; printf '#!/bin/sh\n' > run; chmod +x run; ln -s text link
printf '*.log\nbuild/\n' > .gitignore; printf '*.bat text eol=crlf\n*.big filter=big\n' > .gitattributes
git add -A; git commit -qm first
git checkout -qb feature; printf 'one\nFEATURE\nthree\n' > text; printf 'f\n' > f; git add -A; git commit -qm feature
git checkout -q main; printf 'one\nMAIN\nthree\n' > text; git commit -qam main; git tag v1
printf 'not committed\n' > a; printf 'mine\n' > untracked
git worktree add -q ../gone feature; rm -rf ../gone
"""

HOOKS = ("post-checkout", "pre-commit", "commit-msg", "reference-transaction", "post-index-change", "post-commit")


@cache
def template() -> Path:
    """The user's repository, and another one round which hooks might have started us; made once."""
    place = Path(tempfile.mkdtemp(prefix="ramure-test-template-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for name in ("repository", "outer"):
        (place / name).mkdir()
        script = TEMPLATE.replace("git commit", f"git {shlex.join(NOBODY)} commit")
        subprocess.run(["bash", "-ec", script], cwd=place / name, env=CLEAN, check=True, capture_output=True)
    return place


@dataclass
class Seen:
    """What there was just before the end."""

    machine: str
    path: str
    files: dict[str, str] = field(default_factory=dict)  # the name of the blob, by path (as latin-1)
    objects: list[str] = field(default_factory=list)  # commits and staged blobs
    given: list[str] = field(default_factory=list)  # blobs that were there before the agent
    error: str = ""  # of the stop
    place: str = ""  # where WorkNotSaved says that the work is


def git(directory: Path | str, *args: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *args],
        env=CLEAN,
        capture_output=True,
        check=check,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return done.stdout.decode("latin-1")


def files_in(directory: str) -> dict[str, str]:
    """The blobs of all that is in a directory, its own .git apart."""
    root = os.fsencode(directory)
    found = {}
    for base, directories, names in os.walk(root):
        for name in (*names, *(each for each in directories if os.path.islink(os.path.join(base, each)))):
            full = os.path.join(base, name)
            mode = os.lstat(full).st_mode
            if base == root and name == b".git":
                continue
            if stat.S_ISLNK(mode):
                content = os.readlink(full)
            elif stat.S_ISREG(mode):
                content = Path(os.fsdecode(full)).read_bytes()
            else:
                continue
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            found[os.path.relpath(full, root).decode("latin-1")] = digest
    return found


def tree_hash(*directories: Path, leave_out: str = "") -> str:
    """All that is in these directories: names, kinds, modes, contents."""
    made = hashlib.sha256()
    for directory in directories:
        for base, subdirectories, names in os.walk(os.fsencode(directory)):
            subdirectories.sort()
            for name in sorted([*subdirectories, *names]):
                full = os.path.join(base, name)
                if leave_out and re.search(leave_out, os.fsdecode(os.path.relpath(full, os.fsencode(directory)))):
                    continue
                mode = os.lstat(full).st_mode
                made.update(full + b"\0%o\0" % mode)
                if stat.S_ISREG(mode):
                    made.update(Path(os.fsdecode(full)).read_bytes())
                elif stat.S_ISLNK(mode):
                    made.update(os.readlink(full))
    return made.hexdigest()


class World:
    """One repository, one machine, one end."""

    def __init__(self, directory: Path, config: Sequence[tuple[str, str]], *, in_a_hook: bool) -> None:
        self.directory = directory
        self.repository = directory / "repository"
        self.outer = directory / "outer"
        self.home = directory / "home"
        self.temporary = directory / "tmp"
        for each in (self.home, self.temporary, directory / "hooks", directory / "userhome"):
            each.mkdir()
        subprocess.run(["cp", "-a", f"{template()}/.", str(directory)], check=True)
        self.in_a_hook = in_a_hook
        alarm = f"#!/bin/sh\n[ -e {directory}/armed ] && echo $0 >> {directory}/PWNED\n"
        self.script("alarm", alarm + "exit 0\n")
        self.script("refuses", alarm + "exit 1\n")
        self.script("cat", alarm + "exec cat\n")
        for hook in HOOKS:
            self.script(f"hooks/{hook}", alarm + "exit 1\n")
            if not (self.repository / ".git/hooks" / hook).exists():
                self.script(
                    f"repository/.git/hooks/{hook}", alarm + ("exit 1\n" if hook == "post-checkout" else "exit 0\n")
                )
        self.config = directory / "gitconfig"
        self.config.touch()
        for name, value in (("user.name", "agent"), ("user.email", "agent@localhost"), *config):
            git(directory, "config", "--file", str(self.config), name, value.replace("@", str(directory)))

    def script(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        outer = f"{self.outer}/.git"
        hook = {
            "GIT_DIR": outer,
            "GIT_INDEX_FILE": f"{outer}/index",
            "GIT_PREFIX": "",
            "GIT_WORK_TREE": str(self.outer),
        }
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "RAMURE_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "HOME": str(self.directory / "userhome"),
            "GIT_CONFIG_GLOBAL": str(self.config),
            **(hook if self.in_a_hook else {}),
        }

    # -- the program with the machine --

    def run(self, script: str, end: End) -> Seen:
        """Start a machine in a program of its own, run the script there, and let it end."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._child(writing, script, end)
        os.close(writing)
        with open(reading, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        answer = json.loads(said)
        assert "traceback" not in answer, answer["traceback"]
        seen = Seen(**answer)
        if end != "stop":
            found = self.gc()
            errors = [each.error for each in found if each.error]
            seen.error = "; ".join(errors)
            if errors:
                place = re.search(r"the work in (/\S+) could not all be saved", errors[0])
                assert place is not None, errors
                seen.place = place[1]
        return seen

    def gc(self) -> list[Any]:
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self.environment())
        try:
            return sweep(self.home / "runtimes")
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _child(self, writing: int, script: str, end: End) -> None:
        try:
            os.environ.clear()
            os.environ.update(self.environment())
            tempfile.tempdir = str(self.temporary)
            with open(writing, "w", closefd=False) as self.answer:
                asyncio.run(self._program(script, end))
        except BaseException:
            os.write(writing, json.dumps({"traceback": traceback.format_exc()}).encode())
        finally:
            os._exit(0)

    async def _program(self, script: str, end: End) -> None:
        machine = await LocalImage(workdir=self.repository, worktree=True).spawn()
        given = set(files_in(machine.workdir).values())  # what a checkout made of the user's files is not the agent's
        await machine.exec(script)
        seen = self.look(machine.id, machine.workdir)
        seen.given = sorted(given)
        (self.directory / "armed").touch()
        if end == "stop":
            try:
                await machine.stop()
            except WorkNotSaved as error:
                seen.error, seen.place = str(error), error.path
            if seen.error:
                with contextlib.suppress(WorkNotSaved):  # it may be repeated
                    await machine.stop()
        json.dump(seen.__dict__, self.answer)
        self.answer.flush()
        if end == "killed with its reaper":
            os.kill(machine.reaper.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    # -- what there is --

    def look(self, machine: str, path: str) -> Seen:
        """All that the agent has written, wherever it is now: read by plain git and Python."""
        seen = Seen(machine, path)
        if os.path.isdir(path):
            seen.files = files_in(path)
        admin = self.repository / ".git/worktrees" / f"ramure-{machine}"
        words: set[str] = set()
        if admin.is_dir():
            for base, directories, names in os.walk(admin):
                directories[:] = [name for name in directories if name != "modules"]
                for name in names:
                    if name not in ("index", "ramure-index") and not name.startswith("sharedindex"):
                        words |= set(re.findall(r"\b[0-9a-f]{40}\b", Path(base, name).read_text("latin-1")))
            staged = git(self.repository, f"--git-dir={admin}", "ls-files", "-s", check=False)
            words |= set(re.findall(r"^(?!160000)\d{6} ([0-9a-f]{40})", staged, re.MULTILINE))
        log = self.repository / ".git/logs/refs/heads/ramure" / machine
        if log.is_file():
            words |= set(re.findall(r"\b[0-9a-f]{40}\b", log.read_text("latin-1")))
        seen.objects = [each for each in sorted(words) if self._exists(each)]
        (self.directory / "refs").write_text(self.refs(machine))
        (self.directory / "outside").write_text(self.outside())
        return seen

    def _exists(self, name: str) -> bool:
        done = subprocess.run(
            ["git", "-C", self.repository, "cat-file", "-e", name], env=CLEAN, capture_output=True, check=False
        )
        return done.returncode == 0

    def refs(self, machine: str) -> str:
        """All refs of the repository but those that are the machine's."""
        lines = git(self.repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        ours = re.compile(rf"refs/heads/ramure/{machine}(-\w+)* |refs/ramure-kept/{machine} ")
        return "\n".join(line for line in lines if not ours.match(line)) + git(self.repository, "rev-parse", "HEAD")

    def outside(self) -> str:
        """The user's files, other repositories, and what git keeps of others."""
        inside = (
            r"^\.git/(objects|logs|refs|packed-refs|worktrees/ramure-|worktrees$)|^\.git$|\.lock$|^\.git/ORIG_HEAD$"
        )
        return tree_hash(self.repository, leave_out=inside) + tree_hash(self.outer)

    def held(self) -> set[str]:
        """Every object that a ref of the repository holds."""
        said = git(self.repository, "rev-list", "--objects", "--glob=*")
        return {line[:40] for line in said.splitlines()}

    # -- what must hold --

    def check(self, seen: Seen) -> None:
        assert not (self.directory / "PWNED").exists(), (self.directory / "PWNED").read_text()
        assert self.outside() == (self.directory / "outside").read_text(), "something outside was changed"
        assert self.refs(seen.machine) == (self.directory / "refs").read_text(), "a ref that is not ours was changed"
        admin = self.repository / ".git/worktrees" / f"ramure-{seen.machine}"
        leases = list((self.home / "machines").glob("*.json"))
        if seen.error:
            assert seen.place in seen.error
            if os.path.isdir(seen.path) or seen.files:
                assert files_in(seen.place) == seen.files, f"{seen.place} is not as it was"
            assert admin.is_dir() or not seen.objects or not self._unheld(seen), (
                "the worktree's own git directory is gone"
            )
            assert leases, "nothing will try again"
            return
        held = self.held() | set(seen.given)
        lost = {path: blob for path, blob in seen.files.items() if blob not in held}
        assert not lost, f"no ref holds {lost}"
        assert not self._unheld(seen), f"no ref holds {self._unheld(seen)}"
        assert os.listdir(self.temporary) == []
        assert not admin.exists()
        assert leases == []
        assert git(self.repository, "fsck", "--connectivity-only", "--no-dangling", check=False) == ""
        branch = f"refs/heads/ramure/{seen.machine}"
        if git(self.repository, "for-each-ref", branch):
            others = ("--not", f"--exclude=ramure/{seen.machine}", "--branches", "--tags")
            assert git(self.repository, "rev-list", branch, *others), "a branch with nothing of its own is left"

    def _unheld(self, seen: Seen) -> set[str]:
        held = self.held()
        return {each for each in seen.objects if each not in held}
