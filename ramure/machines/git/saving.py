"""Keeping what an agent did in a git worktree, before its directory is removed. Blocking.

git never sees the agent's directory: its files are read as bytes (:mod:`ramure.machines.git.contents`) and given to plumbing
commands that work on the main repository's side alone. Nothing that is written in the worktree (its ``.git`` file,
attributes, ignored files, nested repositories) is followed, and no flag of its index hides anything.

What is kept, and under which ref of the main repository:

* ``ramure/<id>``, the machine's branch: its commits, and the files that were not committed as a commit on top.
* ``ramure/<id>-uncommitted`` and ``ramure/<id>-detached``, where HEAD was somewhere else and that branch cannot be moved there.
* ``refs/ramure-kept/<id>``, a commit that is on no branch: its parents are the commits that only a reflog or an operation under
  way held; its tree has the files that are ignored, what was staged, and the state of operations under way.

Afterwards it is *verified* that these refs hold all of it: the directory is listed anew, and compared with what a new git
reads from the refs.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ramure.machines.errors import WorkNotSaved
from ramure.machines.git.command import GitFailed, locked
from ramure.machines.git.contents import Contents, contents, data, digest
from ramure.machines.git.ignored_files import choose_left_out, find_ignored
from ramure.machines.git.worktree_status import (
    STATE_LIMIT,
    File,
    IndexEntry,
    Worktree,
    find_unheld,
    git,
    held_elsewhere,
    kinds_of,
    lines_of,
    read_index,
    read_small_file,
    read_tree,
    resolve,
    resolve_commit,
)

__all__ = ["save", "without_lock"]

UNCOMMITTED: Final = "What was not committed when the machine stopped"
KEPT: Final = """What no branch holds of the machine {identity}

Parents: commits that only a reflog or an operation under way held. Directories: ignored/ (files that are ignored), staged/
(what was staged and is not in the files), as-written/ (files as their bytes were, where git stores them otherwise),
state/ (git's files about operations under way), objects/ (other objects that these name).
"""

OF_EVERY_WORKTREE: Final = re.compile(
    rb"(HEAD|ORIG_HEAD|FETCH_HEAD|AUTO_MERGE|COMMIT_EDITMSG|commondir|gitdir|locked|index|ramure-index|config\.worktree"
    rb"|sharedindex\..*|logs/HEAD|info/sparse-checkout|gc\.pid|.*\.lock)"
)
"""What git's directory of a worktree holds when nothing is under way there."""

SKIP_WORKTREE: Final = 0x40000000


@dataclass(slots=True)
class Plan:
    """What is to be held, and by which refs."""

    files: dict[bytes, File] = field(default_factory=dict)  # all that are to be found in the trees
    branch: dict[bytes, File] = field(default_factory=dict)  # the tree of the branch's last commit
    beside: dict[bytes, File] = field(default_factory=dict)  # the tree of the commit that is on no branch
    left_out: list[bytes] = field(default_factory=list)
    written: dict[str, bytes] = field(default_factory=dict)  # objects to be made that are in no file
    commits: set[str] = field(default_factory=set)
    updates: dict[str, tuple[str, str]] = field(default_factory=dict)  # ref: new, old


def save(worktree: Worktree) -> None:
    """Put all that was done under refs, and verify it. Raises :class:`WorkNotSaved`, and then all is as it was, apart from
    refs that hold it already."""
    try:
        _save(worktree)
    except (GitFailed, OSError) as error:
        raise WorkNotSaved(worktree.path, str(error)) from error


def _save(worktree: Worktree) -> None:
    there = _there(worktree)
    found = contents(worktree.path) if there else Contents()
    _refuse_what_stays(worktree, found)
    head = resolve_commit(worktree, "HEAD")
    own = resolve(worktree, worktree.own)
    index = read_index(worktree, f"{worktree.admin}/index")
    plan = Plan()
    parent = head or own or resolve(worktree, f"{worktree.base}^{{commit}}")
    tracked = read_tree(worktree, parent) if parent else {}
    if there:
        _plan_files(worktree, found, index, tracked, plan)
    _plan_index(worktree, index, tracked, plan)
    _plan_state(worktree, plan)
    _write(worktree, found, plan)
    with locked(worktree.common):
        own = resolve(worktree, worktree.own)
        _plan_branch(worktree, plan, parent, own, dirty=there and plan.branch != tracked)
        _plan_rest(worktree, plan)
        _update_refs(worktree, plan)
        _verify(worktree, plan, found, there=there)


# -- what cannot be kept -----------------------------------------------------------------------------------------


def _there(worktree: Worktree) -> bool:
    """Whether the directory is there. One that was moved, or is another one by now, is not ours to remove."""
    if not os.path.isdir(worktree.common):
        raise WorkNotSaved(
            worktree.path, f"its repository {worktree.common} is gone, so there is nothing to save it to"
        )
    gitdir = read_small_file(f"{worktree.admin}/gitdir")
    elsewhere = os.path.dirname(os.fsdecode(gitdir.rstrip(b"\n")))
    if elsewhere and elsewhere != worktree.path and os.path.lexists(elsewhere):
        raise WorkNotSaved(elsewhere, f"the worktree was moved there from {worktree.path}")
    try:
        status = os.lstat(worktree.path)
    except FileNotFoundError:
        return False
    if status.st_ino != worktree.inode:
        raise WorkNotSaved(worktree.path, "it was replaced: it is not the directory that was made for the worktree")
    return True


def _refuse_what_stays(worktree: Worktree, found: Contents) -> None:
    reasons = []
    link = f"{worktree.path}/.git"
    if os.path.lexists(link) and (os.path.islink(link) or read_small_file(link) != worktree.link):
        reasons.append(
            "its .git is not the one that was made for it: it is a repository of its own, which is not opened here"
        )
    modules = f"{worktree.admin}/modules"
    if os.path.isdir(modules) and any(files for _, _, files in os.walk(modules)):
        reasons.append(f"it has submodules, whose repositories in {modules} are not opened here")
    if found.repositories:
        reasons.append(f"there are repositories in it, which are not opened here: {_named(found.repositories)}")
    if found.mounts:
        reasons.append(f"something is mounted in it: {_named(found.mounts)}")
    if found.unreadable:
        why = next(iter(found.unreadable.values()))
        reasons.append(f"it cannot all be read ({why}): {_named(found.unreadable)}")
    if reasons:
        raise WorkNotSaved(worktree.path, "; ".join(reasons))


def _named(paths: Iterable[bytes]) -> str:
    names = sorted(os.fsdecode(path) for path in paths)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(ascii_only, names[:5])) + more


def ascii_only(name: str) -> str:
    """A name for people; one with odd characters as Python writes it."""
    return name if name.isprintable() else ascii(name)


# -- reading -----------------------------------------------------------------------------------------------------


# -- deciding ----------------------------------------------------------------------------------------------------


def _plan_files(
    worktree: Worktree, found: Contents, index: list[IndexEntry], tracked: Mapping[bytes, File], plan: Plan
) -> None:
    """Each file of the directory goes into the branch's tree, or beside it when it is ignored."""
    algorithm = "sha1" if len(worktree.base) == 40 else "sha256"
    try:
        made = {entry.path: entry for entry in read_index(worktree, f"{worktree.admin}/ramure-index")}
    except GitFailed:
        made = {}  # it only saves work
    now = {entry.path: entry for entry in index if entry.stage == 0}
    known = kinds_of(worktree, (entry.oid for entry in made.values()))
    for path, entry in found.files.items():
        untouched = made.get(path)
        if untouched is not None and untouched.oid in known and untouched.matches(entry):
            plan.files[path] = (untouched.mode, untouched.oid)
            continue
        file = plan.files[path] = (entry.mode, digest(worktree.path, path, entry, algorithm))
        committed = tracked.get(path)
        if committed in (None, file):
            continue
        staged = now.get(path)
        if staged is not None and (staged.mode, staged.oid) == committed and staged.matches(entry):
            # git takes it for unchanged: a filter or the line ends are the difference.
            plan.beside[b"as-written/" + path] = file
    ours = tracked.keys() | {entry.path for entry in index} | made.keys()
    ignored = find_ignored(found, worktree, [path for path in found.files if path not in ours])
    plan.left_out = choose_left_out(worktree, found, ignored)
    left_out = set(plan.left_out)
    for path, file in plan.files.items():
        if path in ignored:
            if path not in left_out:
                plan.beside[b"ignored/" + path] = file
        elif b"as-written/" + path in plan.beside:
            plan.branch[path] = tracked[path]
        else:
            plan.branch[path] = file
    for path in left_out:
        del plan.files[path]
    _plan_what_is_not_checked_out(found, index, tracked, plan)


def _plan_what_is_not_checked_out(
    found: Contents, index: list[IndexEntry], tracked: Mapping[bytes, File], plan: Plan
) -> None:
    """Submodules that are empty, and files outside of a sparse checkout, are in the branch's tree as they were."""
    directories = {
        b"/".join(path.split(b"/")[:depth]) for path in found.files for depth in range(1, path.count(b"/") + 1)
    }
    absent = {path: file for path, file in tracked.items() if file[0] == "160000"}
    absent |= {
        entry.path: (entry.mode, entry.oid) for entry in index if entry.flags & SKIP_WORKTREE and entry.stage == 0
    }
    for path, file in absent.items():
        parts = path.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        if path not in directories and not any(parent in found.files for parent in above):
            plan.branch[path] = file


def _plan_index(worktree: Worktree, index: list[IndexEntry], tracked: Mapping[bytes, File], plan: Plan) -> None:
    """What was staged and is in no file any more; in a conflict, all sides."""
    there = {oid for _, oid in (*tracked.values(), *plan.files.values())}
    wanted = [entry for entry in index if entry.oid not in there and entry.mode != "160000"]
    known = kinds_of(worktree, (entry.oid for entry in wanted))
    for entry in wanted:
        if entry.oid in known:  # else it is of a file that is only intended to be added
            directory = b"staged/" if entry.stage == 0 else b"staged-%d/" % entry.stage
            plan.beside[directory + entry.path] = (entry.mode, entry.oid)


def _plan_state(worktree: Worktree, plan: Plan) -> None:
    """All objects that git's files about the worktree name (reflogs, operations under way, refs of its own), and those
    files themselves, when an operation is under way."""
    texts = {}
    if os.path.isdir(worktree.admin):
        for path, entry in contents(worktree.admin).files.items():
            if entry.size <= STATE_LIMIT and entry.mode != "120000" and not _is_index(path):
                texts[path] = b"".join(data(worktree.admin, path, entry))
    logs = read_small_file(f"{worktree.common}/logs/{worktree.own}")
    length = len(worktree.base)
    word = re.compile(rb"(?<![0-9a-f])[0-9a-f]{%d}(?![0-9a-f])" % length)
    named = {oid.decode() for text in (*texts.values(), logs) for oid in word.findall(text)}
    for oid, kind in kinds_of(worktree, named).items():
        match kind:
            case "commit":
                plan.commits.add(oid)
            case "tag":
                plan.written[f"objects/{oid}"] = git(worktree, "cat-file", "tag", oid)
                if commit := resolve(worktree, f"{oid}^{{commit}}"):
                    plan.commits.add(commit)
            case "tree":
                for path, file in read_tree(worktree, oid).items():
                    plan.beside[f"objects/{oid}/".encode() + path] = file
            case _:
                plan.beside[f"objects/{oid}".encode()] = ("100644", oid)
    if any(not OF_EVERY_WORKTREE.fullmatch(path) for path in texts):
        plan.written |= {f"state/{os.fsdecode(path)}": text for path, text in texts.items()}


def _is_index(path: bytes) -> bool:
    return path in (b"index", b"ramure-index") or path.startswith(b"sharedindex.")


def _plan_branch(worktree: Worktree, plan: Plan, parent: str, own: str, *, dirty: bool) -> None:
    """Which ref gets the last commit. No branch but ours is ever moved."""
    tip, name = parent, "detached"
    if dirty:
        tip, name = _committed(worktree, plan.branch, [parent] if parent else [], UNCOMMITTED), "uncommitted"
    elif not tip or not find_unheld(worktree, [tip]):
        return
    zero = "0" * len(worktree.base)
    if not own or (_is_below(worktree, own, tip) and not _checked_out_elsewhere(worktree)):
        plan.updates[worktree.own] = (tip, own or zero)
        return
    number = 1
    while True:
        ref = f"{worktree.own}-{name}" + (f"-{number}" if number > 1 else "")
        there = resolve(worktree, ref)
        if not there:
            plan.updates[ref] = (tip, zero)
            return
        if there == tip or (dirty and _same(worktree, there, tip)):  # of a stop() that did not get to its end
            plan.commits.add(there)
            return
        number += 1


def _is_below(worktree: Worktree, ancestor: str, commit: str) -> bool:
    return not git(worktree, "rev-list", "--max-count=1", ancestor, f"^{commit}").strip()


def _checked_out_elsewhere(worktree: Worktree) -> bool:
    """Whether somebody else works on the machine's branch: it is not moved under them."""
    heads = [f"{worktree.common}/HEAD"]
    others = f"{worktree.common}/worktrees"
    heads += [f"{others}/{name}/HEAD" for name in (os.listdir(others) if os.path.isdir(others) else [])]
    ours = f"ref: {worktree.own}\n".encode()
    return any(read_small_file(head) == ours for head in heads if head != f"{worktree.admin}/HEAD")


def _same(worktree: Worktree, one: str, other: str) -> bool:
    """Whether two commits have the same tree and the same parents."""
    said = git(worktree, "rev-list", "--no-walk=unsorted", "--parents", "--format=%T", one, other).decode().splitlines()
    commits = [(line.split()[2:], tree) for line, tree in zip(said[::2], said[1::2], strict=True)]
    return len(commits) == 2 and commits[0] == commits[1]


def _plan_rest(worktree: Worktree, plan: Plan) -> None:
    """The commit that holds what no branch does, if there is anything."""
    tips = [new for new, _ in plan.updates.values()]
    loose = find_unheld(worktree, plan.commits, also=tips)
    if not loose and not plan.beside and not plan.written:
        return
    before = resolve(worktree, worktree.kept)
    parents = [before] if before else []
    if loose:
        said = git(worktree, "rev-list", "--stdin", "--parents", *held_elsewhere(), stdin=lines_of(loose)).decode()
        parents += sorted(loose - {parent for line in said.splitlines() for parent in line.split()[1:]})
    message = KEPT.format(identity=worktree.identity)
    if plan.left_out:
        message += f"\nLeft out, for their size: {len(plan.left_out)} files that the repository ignores, such as "
        message += f"{_named(plan.left_out)}\n"
    commit = _committed(worktree, plan.beside, parents, message)
    if before and _same_but_itself(worktree, before, commit, loose):
        return
    plan.updates[worktree.kept] = (commit, before or "0" * len(worktree.base))


def _same_but_itself(worktree: Worktree, before: str, commit: str, loose: set[str]) -> bool:
    """Whether the commit of an earlier stop() that did not get to its end holds all this already."""
    trees = {resolve(worktree, f"{each}^{{tree}}") for each in (before, commit)}
    return len(trees) == 1 and all(_is_below(worktree, oid, before) for oid in loose)


# -- writing -----------------------------------------------------------------------------------------------------


def _write(worktree: Worktree, found: Contents, plan: Plan) -> None:
    """Write the objects that are not there yet. git is given bytes, and opens no file."""
    files = {oid: path for path, (_, oid) in plan.files.items()}
    known = kinds_of(worktree, files)
    new = [(found.files[path], path) for oid, path in files.items() if oid not in known]

    def stream() -> Iterator[bytes]:
        for entry, path in new:
            yield b"blob\ndata %d\n" % entry.size
            yield from data(worktree.path, path, entry)
            yield b"\n"
        for text in plan.written.values():
            yield b"blob\ndata %d\n" % len(text)
            yield text
            yield b"\n"
        yield b"done\n"

    if new or plan.written:
        git(worktree, "fast-import", "--quiet", "--done", stdin=stream())
    for name, text in plan.written.items():
        oid = git(worktree, "hash-object", "-t", "blob", "--stdin", stdin=text).decode().strip()
        plan.beside[os.fsencode(name)] = ("100644", oid)


def _committed(worktree: Worktree, files: Mapping[bytes, File], parents: list[str], message: str) -> str:
    """A commit of these files, made with an index of ours."""
    lines = b"".join(f"{mode} {oid} 0\t".encode() + path + b"\0" for path, (mode, oid) in files.items())
    with tempfile.TemporaryDirectory(prefix="ramure-git-") as place:
        index = f"{place}/index"
        git(worktree, "update-index", "-z", "--index-info", stdin=lines, index=index)
        tree = git(worktree, "write-tree", index=index).decode().strip()
    options = [option for parent in parents for option in ("-p", parent)]
    return (
        git(worktree, "commit-tree", *options, tree, stdin=message.encode("utf-8", "backslashreplace")).decode().strip()
    )


def _update_refs(worktree: Worktree, plan: Plan) -> None:
    if not plan.updates:
        return
    for ref in plan.updates:
        without_lock(worktree, ref)
    lines = "".join(f"update {ref}\0{new}\0{old}\0" for ref, (new, old) in plan.updates.items()).encode()
    git(worktree, "update-ref", "-m", "ramure: the machine stopped", "-z", "--stdin", stdin=lines)


def without_lock(worktree: Worktree, ref: str) -> None:
    """Remove the lock of a git that was killed with the machine: nobody else uses the machine's refs."""
    Path(f"{worktree.common}/{ref}.lock").unlink(missing_ok=True)


# -- verifying ---------------------------------------------------------------------------------------------------


def _verify(worktree: Worktree, plan: Plan, before: Contents, *, there: bool) -> None:
    """Raise :class:`WorkNotSaved` unless refs hold every file as it is now, and every commit."""
    held: set[tuple[bytes, File]] = set()
    for ref in _refs(worktree):
        for path, file in read_tree(worktree, ref).items():
            held.add((path.partition(b"/")[2] if ref == worktree.kept else path, file))
    if there:
        parent = resolve_commit(worktree, "HEAD")
        if parent and not find_unheld(worktree, [parent]):
            held |= set(read_tree(worktree, parent).items())
        now = contents(worktree.path)
        if now != before:
            raise WorkNotSaved(worktree.path, "it changes while it is saved: something still runs in it")
        lost = [path for path, file in plan.files.items() if (path, file) not in held]
        missing = plan.files.keys() ^ (now.files.keys() - set(plan.left_out))
        if lost or missing:
            raise WorkNotSaved(worktree.path, f"no ref holds {_named([*lost, *missing])}")
    objects = {oid for _, (_, oid) in held} | {oid for _, oid in plan.beside.values()}
    gone = {oid for oid in {*(oid for _, oid in plan.files.values())} if oid not in objects}
    absent = {oid for _, oid in (*plan.files.values(), *plan.beside.values())} - kinds_of(
        worktree, (oid for _, oid in (*plan.files.values(), *plan.beside.values()))
    ).keys()
    kept = resolve(worktree, worktree.kept)
    loose = find_unheld(worktree, plan.commits, also=[kept] if kept else [])
    if gone or absent or loose:
        raise WorkNotSaved(worktree.path, f"no ref holds {_named(map(str.encode, sorted(gone | absent | loose)))}")


def _refs(worktree: Worktree) -> list[str]:
    patterns = (worktree.own, f"{worktree.own}-*", worktree.kept)
    return git(worktree, "for-each-ref", "--format=%(refname)", *patterns).decode().split()
