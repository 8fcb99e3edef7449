"""Random trees with mounts, links, files of others and replaced directories, and the removal of them.

A program of its own, so that it can run in a mount namespace of its own: ``unshare -m python -m
tests.edges.removal_runs FIRST COUNT [MUTANT]``. Prints a line for each run in which something was touched that we did not
make, or something of ours stayed without a reason, and what the runs have tried.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SOURCE = Path(__file__).parents[2] / "ramure" / "machines" / "reaper" / "removal.py"

LATER = """                if error.errno not in _NOT_EMPTY:  # else something has just written into it: the next pass sees it
                    raise
"""
REFUSES = """        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
        else:
            return
"""
BUSY = REFUSES.replace("_NOT_EMPTY", "(*_NOT_EMPTY, errno.EBUSY)")
"""Goes on where the kernel has said that something is mounted."""

MUTANTS: dict[str, list[tuple[str, str]]] = {
    "follows links": [
        ("os.O_NOFOLLOW | ", ""),
        ("follow_symlinks=False) or", "follow_symlinks=True) or"),
        (REFUSES, REFUSES.replace("_NOT_EMPTY", "(*_NOT_EMPTY, errno.ENOTDIR)")),
        (LATER, "                os.unlink(name, dir_fd=directory)\n"),
    ],
    "ignores mounts": [
        ('    if not LINUX:\n        return None\n    with open(f"/proc/self/fdinfo', '    return None\n    with open(f"/proc/self/fdinfo'),
        ("for point in mounts_in(path):", "for point in ():"),
        (REFUSES, BUSY),
    ],
    "looks for mounts before it begins only": [
        ("if _mount(handle) != self.mount or os.fstat(handle).st_dev != self.device:", "if False:"),
        (REFUSES, BUSY),
    ],
    "compares devices only": [
        ("_mount(handle) != self.mount or ", ""),
        ("for point in mounts_in(path):", "for point in ():"),
        (REFUSES, BUSY),
    ],
    "ignores the inode": [('if one.get("inode") != other.get("inode"):', "if False:"), ("and born != other_born", "and False"),
                          ('.st_ino != identity["inode"]', ".st_ino == -1")],
    "ignores the time of birth": [("and born != other_born", "and False")],
    "takes whatever is there for gone": [("raise _other(path) from None", "return False")],
    "stops at the first thing in the way": [("self.note(here, error)", "raise")],
}  # fmt: skip


def removal(mutant: str = "") -> ModuleType:
    """The module under test, or a wrong one."""
    text = SOURCE.read_text()
    for old, new in MUTANTS[mutant] if mutant else ():
        assert text.count(old) >= 1, (mutant, old)
        text = text.replace(old, new)
    spec = importlib.util.spec_from_loader(f"removal {mutant}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if mutant:
        text = text.replace("PATIENCE = 5.0", "PATIENCE = 0.1")
    exec(compile(text, str(SOURCE), "exec"), module.__dict__)
    return module


class Tree:
    """One run: what is ours, what is not, and what was done to both."""

    def __init__(self, random: random.Random, base: Path, module: ModuleType) -> None:
        self.random = random
        self.base = base
        self.module = module
        self.did: list[str] = []
        self.doubts: set[str] = set()  # what is there that forbids to remove all
        self.number = itertools.count()
        self.mounts: list[Path] = []
        self.immutable: list[Path] = []
        self.late: Callable[[], None] | None = None
        self.outside = base / "outside"
        for name in ("data", "data/deep", "other"):
            (self.outside / name).mkdir(parents=True)
            for number in range(3):
                (self.outside / name / f"precious{number}").write_text(f"{name} {number}")
        (self.outside / "other" / "locked").mkdir(mode=0o500)
        (self.outside / "other" / "locked" / "in").touch()
        os.chown(self.outside / "other" / "precious0", 1234, 1234)
        self.ours = base / "ours"
        self.ours.mkdir(mode=0o700)
        self.identity = module.identify(str(self.ours))
        self.directories = [self.ours]

    # -- what may be there --------------------------------------------------------------------------------

    def name(self, kind: str) -> Path:
        directory = self.random.choice(self.directories)
        odd = self.random.choice(["", "", "", " \n", "\udcff\udc80", "'\"$(id)", "ü", "-rf"])
        return directory / f"{odd}{kind}{next(self.number)}"

    def theirs(self) -> Path:
        return self.random.choice([path for path in self.outside.rglob("*") if not path.is_symlink()])

    def directory(self) -> None:
        path = self.name("d")
        path.mkdir()
        self.directories.append(path)

    def file(self) -> None:
        self.name("f").write_bytes(self.random.randbytes(10))

    def deep(self) -> None:
        here = os.open(self.fresh(), os.O_RDONLY)
        for _ in range(self.random.choice([5, 30, 200])):
            os.mkdir("x", dir_fd=here)
            below = os.open("x", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)

    def fresh(self) -> Path:
        path = self.ours / f"n{next(self.number)}"
        path.mkdir()
        return path

    def link(self) -> None:
        target = self.theirs()
        self.name("l").symlink_to(self.random.choice([target, os.path.relpath(target, self.ours), "/nowhere"]))

    def hard_link(self) -> None:
        with contextlib.suppress(OSError):
            os.link(self.random.choice(list(self.outside.rglob("precious*"))), self.name("h"))

    def special(self) -> None:
        path = self.name("s")
        match self.random.randrange(3):
            case 0:
                os.mkfifo(path)
            case 1:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            case _:
                with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
                    sock.bind(os.fsencode(path))

    def locked(self) -> None:
        path = self.random.choice(self.directories)
        path.chmod(self.random.choice([0, 0o500, 0o300]))

    def of_another(self) -> None:
        path = self.name("o")
        path.touch()
        os.chown(path, 1234, 1234)

    def is_immutable(self) -> None:
        path = self.name("i")
        path.touch()
        if subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode == 0:
            self.immutable.append(path)
            self.doubts.add("is_immutable")

    def mount(self, *words: str | Path, at: Path) -> None:
        subprocess.run(["mount", *words, at], check=True, capture_output=True)
        self.mounts.append(at)

    def bind(self) -> None:
        path = self.name("m")
        path.mkdir()
        self.mount("--bind", self.outside / "data", at=path)
        self.doubts.add("bind")

    def bind_file(self) -> None:
        path = self.name("m")
        path.touch()
        self.mount("--bind", self.outside / "data" / "precious0", at=path)
        self.doubts.add("bind_file")

    def other_file_system(self) -> None:
        path = self.name("t")
        path.mkdir()
        self.mount("-t", "tmpfs", "x", at=path)
        (path / "theirs").write_text("x")
        self.doubts.add("other_file_system")

    def on_itself(self) -> None:
        self.mount("--bind", self.ours, at=self.ours)
        self.doubts.add("on_itself")

    def seen_elsewhere(self) -> None:
        """Ours is mounted at a place of theirs: that hides what they have there, and is no reason to keep ours."""
        path = self.base / f"elsewhere{next(self.number)}"
        path.mkdir()
        self.mount("--bind", self.ours, at=path)

    # -- what may become of the whole ----------------------------------------------------------------------

    def renamed(self) -> None:
        self.ours.rename(self.base / "moved")

    def replaced(self) -> None:
        """By a directory of others, or of the same name and, on ext4, the same inode."""
        if self.random.random() < 0.5 and not self.mounts and not self.immutable:
            shutil.rmtree(self.ours)
        else:
            self.ours.rename(self.base / "moved")
        shutil.copytree(self.outside / "data", self.ours)
        self.doubts.add("replaced")

    def replaced_by_link(self) -> None:
        self.ours.rename(self.base / "moved")
        self.ours.symlink_to(self.outside / "data")
        self.doubts.add("replaced_by_link")

    def mounted_later(self) -> None:
        """While the tree is removed."""
        point = self.ours / "late" / "point"
        point.mkdir(parents=True, exist_ok=True)
        (point / "file").touch()

        def late() -> None:
            if point.is_dir():
                self.mount("--bind", self.outside / "data", at=point)
                self.doubts.add("mounted_later")

        self.late = late

    def swapped_later(self) -> None:
        """For a link, while the tree is removed."""
        point = self.ours / "swap" / "point"
        point.mkdir(parents=True, exist_ok=True)
        (point / "file").touch()

        def late() -> None:
            if point.is_dir() and not point.is_symlink():
                point.rename(point.with_name(f"was{next(self.number)}"))
                point.symlink_to(self.outside / "data")

        self.late = late

    # -- a run ---------------------------------------------------------------------------------------------

    CONTENT = (
        "directory", "directory", "directory", "file", "file", "link", "hard_link", "special", "locked", "of_another", "deep",
    )  # fmt: skip
    MOUNTS = ("bind", "bind_file", "other_file_system", "on_itself", "seen_elsewhere", "is_immutable")
    WHOLE = ("renamed", "replaced", "replaced", "replaced_by_link", "mounted_later", "swapped_later")

    def run(self) -> list[str]:
        chosen = [self.random.choice(self.CONTENT) for _ in range(self.random.randrange(1, 40))]
        if self.random.random() < 0.4:
            chosen += self.random.choices(self.MOUNTS, k=self.random.randrange(1, 3))
        if self.random.random() < 0.5:
            whole = self.random.choice(self.WHOLE)
            if not (whole.startswith("re") and "on_itself" in chosen):  # a mount point is not renamed
                chosen.append(whole)
        for what in chosen:
            self.did.append(what)
            getattr(self, what)()
        before = self.seen()
        refused: Any = None
        with self.hooked():
            try:
                removed = self.module.remove_tree(str(self.ours), self.identity)
            except self.module.Refused as error:
                refused, removed = error, False
        wrong = [f"touched: {path}" for path in before if self.look(path) != before[path]]
        there = os.path.lexists(self.ours)
        if refused is None and there:
            wrong.append("it says nothing, and the directory is there")
        if refused is not None and not (refused.remedy and os.fspath(refused.place).startswith(str(self.base))):
            wrong.append(f"it does not say what to do: {refused}")
        if not self.doubts and (there or refused):
            wrong.append(f"it stays without a reason: {refused}")
        if self.doubts == {"is_immutable"} and refused is not None:
            rest = [each for each in self.ours.rglob("*") if not each.is_dir() and each not in self.immutable]
            wrong += [f"it stays beside what could not be removed: {each}" for each in rest]
        if removed and there:
            wrong.append("it says that it is gone")
        return wrong

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """Do what is to happen meanwhile when the n-th directory is looked into."""
        original, calls, at = os.scandir, itertools.count(1), self.random.randrange(1, 6)

        def scandir(path: Any) -> Any:
            if self.late is not None and next(calls) == at:
                self.late()
            return original(path)

        os.scandir = scandir  # type: ignore[assignment]
        try:
            yield
        finally:
            os.scandir = original

    def seen(self) -> dict[Path, Any]:
        """What is not ours."""
        roots = [self.outside]
        if "replaced" in self.did or "replaced_by_link" in self.did:
            roots.append(self.ours)
        moved = self.base / "moved"
        if moved.exists():
            roots.append(moved)
        paths = [path for root in roots for path in [root, *(root.rglob("*") if not root.is_symlink() else ())]]
        paths += [each / "theirs" for each in self.mounts if (each / "theirs").exists()]
        return {path: self.look(path) for path in paths}

    def look(self, path: Path) -> Any:
        try:
            there = path.lstat()
        except OSError:
            return None
        content: Any = None
        if stat.S_ISREG(there.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(there.st_mode):
            content = os.readlink(path)
        elif stat.S_ISDIR(there.st_mode):
            content = sorted(os.listdir(path))
        return there.st_mode, there.st_uid, there.st_ino, content

    def clean(self) -> None:
        for path in self.immutable:
            for place in (path, self.base / "moved" / path.relative_to(self.ours)):
                subprocess.run(["chattr", "-i", place], capture_output=True, check=False)
        while points := removal().mounts_in(str(self.base)):
            subprocess.run(["umount", "-l", points[-1]], check=False, capture_output=True)
        shutil.rmtree(self.base)


def main(first: int, count: int, mutant: str = "") -> None:
    module = removal(mutant)
    tried: Counter[str] = Counter()
    for seed in range(first, first + count):
        base = Path(tempfile.mkdtemp(prefix="removal-"))
        if seed % 2:  # file systems differ, in inode numbers above all
            subprocess.run(["mount", "-t", "tmpfs", "x", base], check=True)
        tree = Tree(random.Random(seed), base, module)
        try:
            found = tree.run()
            for wrong in found:
                print(f"WRONG seed {seed}: {wrong!r} after {tree.did}", flush=True)
            tried.update(tree.did)
            if mutant and found:
                break
        finally:
            if seed % 2:
                for path in tree.immutable:
                    subprocess.run(["chattr", "-i", path], capture_output=True, check=False)
                while points := removal().mounts_in(str(base)):
                    # One that is mounted on itself is there twice, and goes with the other.
                    subprocess.run(["umount", "-l", points[-1]], check=False, capture_output=True)
                base.rmdir()
            else:
                tree.clean()
    print("tried", dict(sorted(tried.items())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4])
