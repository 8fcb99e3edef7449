"""Git worktrees as working directories: made whole or not at all, and removed only when refs hold all that was done there.

(`tests/edges/test_worktrees.py` tries random ones.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from ramure.machines.errors import SpawnFailed, WorkNotSaved
from ramure.machines.git import ignored_files
from ramure.machines.local import LocalImage
from ramure.machines.reaper import leases
from ramure.machines.sandbox.image import SandboxImage
from ramure.runtime.run.gc import sweep
from tests.conftest import ROOT
from tests.e2e.kit import until

pytestmark = pytest.mark.real

WHO = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.hooksPath=/dev/null")
COMMIT = "git -c user.name=a -c user.email=a@a commit -q"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A TMPDIR, in which nothing may be left."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@pytest.fixture
def repository(tmp_path, temporary):
    return new_repository(tmp_path / "repository")


def new_repository(path):
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    (path / "file").write_text("first")
    git(path, "add", ".")
    git(path, *WHO, "commit", "-q", "-m", "first")
    return path


def git(repository, *args):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", repository, *args]
    return subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode(errors="replace")


def refs(repository):
    return git(repository, "for-each-ref", "--format=%(refname)").split()


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def saved(repository, machine):
    assert git(repository, "show", f"ramure/{machine.id}:new") == "work"
    assert not Path(machine.workdir).exists()


async def worktree(repository):
    return await LocalImage(workdir=repository, worktree=True).spawn()


async def test_each_machine_has_a_branch_of_its_own(repository):
    image = LocalImage(workdir=repository, worktree=True)
    one, two = await asyncio.gather(image.spawn(), image.spawn())
    assert await one.read_file("file") == b"first"
    await one.write_file("file", b"changed")
    assert await two.read_file("file") == b"first"
    branch = (await one.exec("git branch --show-current")).stdout.strip()
    assert branch == f"ramure/{one.id}"
    assert branch in one.describe()
    await one.stop()
    await two.stop()
    assert git(repository, "show", f"{branch}:file") == "changed"
    assert git(repository, "branch", "--format=%(refname:short)").split() == ["main", branch]
    assert len(git(repository, "worktree", "list").splitlines()) == 1


async def test_commits_stay_on_the_branch(repository):
    machine = await LocalImage(workdir=repository, worktree=True).spawn()
    await machine.exec("echo x > y; git add y; git -c user.name=a -c user.email=a@a commit -qm work")
    await machine.stop()
    assert git(repository, "log", "--format=%s", f"ramure/{machine.id}").split() == ["work", "first"]


async def test_the_locks_of_a_git_that_was_killed_are_no_hindrance(repository):
    machine = await LocalImage(workdir=repository, worktree=True).spawn()
    await machine.write_file("new", b"work")
    await machine.exec("touch $(git rev-parse --git-path index.lock) $(git rev-parse --git-path HEAD.lock)")
    await machine.exec("touch $(git rev-parse --git-path refs/heads/$(git branch --show-current).lock)")
    await machine.stop()
    saved(repository, machine)


async def test_neither_are_signatures_and_hooks(repository):
    """That would ask for a passphrase, say."""
    machine = await LocalImage(workdir=repository, worktree=True).spawn()
    await machine.write_file("new", b"work")
    refuses = script(repository / "refuses", "exit 1")
    git(repository, "config", "commit.gpgsign", "true")
    git(repository, "config", "gpg.program", str(refuses))
    for hook in ("pre-commit", "prepare-commit-msg", "commit-msg", "reference-transaction"):
        script(repository / ".git/hooks" / hook, "exit 1")
    await machine.stop()
    saved(repository, machine)


async def test_work_that_cannot_be_saved_stays_and_the_stop_can_be_repeated(repository):
    machine = await LocalImage(workdir=repository, worktree=True).spawn()
    await machine.write_file("new", b"work")
    await machine.exec("git init -q nested; echo inner > nested/file")
    for _ in range(2):
        with pytest.raises(WorkNotSaved, match=f"{machine.workdir} could not all be saved.*: nested;") as caught:
            await machine.stop()
        assert caught.value.path == machine.workdir
        assert Path(machine.workdir, "new").read_bytes() == b"work"
        assert Path(machine.workdir, "nested/file").read_bytes() == b"inner\n"
    shutil.rmtree(f"{machine.workdir}/nested/.git")
    await machine.stop()
    saved(repository, machine)
    assert git(repository, "show", f"ramure/{machine.id}:nested/file") == "inner\n"


async def test_a_directory_that_is_no_repository(tmp_path):
    with pytest.raises(SpawnFailed, match="git"):
        await LocalImage(workdir=tmp_path, worktree=True).spawn()


# -- made whole, or not at all --


def nothing_is_left(repository, temporary, no_leases):
    assert refs(repository) == ["refs/heads/main"]
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert list(temporary.iterdir()) == []
    assert list(no_leases.glob("machines/*")) == []


async def test_hooks_neither_run_nor_stop_a_worktree(repository, tmp_path):
    for directory in (repository / ".git/hooks", tmp_path / "hooks"):
        directory.mkdir(exist_ok=True)
        for hook in ("post-checkout", "reference-transaction", "post-index-change"):
            script(directory / hook, f"touch {tmp_path}/ran; exit 1")
    for configured in (False, True):
        if configured:
            git(repository, "config", "core.hooksPath", str(tmp_path / "hooks"))
        machine = await worktree(repository)
        assert await machine.read_file("file") == b"first"
        await machine.stop()
    assert not (tmp_path / "ran").exists()


async def test_a_checkout_that_fails_leaves_nothing(repository, temporary, no_leases):
    (repository / ".gitattributes").write_text("file filter=no\n")
    git(repository, "add", ".")
    git(repository, *WHO, "commit", "-q", "-m", "second")
    git(repository, "config", "filter.no.smudge", "false")
    git(repository, "config", "filter.no.required", "true")
    with pytest.raises(SpawnFailed, match="smudge filter"):
        await worktree(repository)
    nothing_is_left(repository, temporary, no_leases)


async def test_a_branch_that_is_in_the_way_of_all_of_ours(repository, temporary, no_leases):
    git(repository, "branch", "ramure")
    with pytest.raises(SpawnFailed, match="refs/heads/ramure"):
        await worktree(repository)
    git(repository, "branch", "-D", "ramure")
    nothing_is_left(repository, temporary, no_leases)


async def test_a_repository_without_a_commit(tmp_path, temporary):
    subprocess.run(["git", "init", "-q", tmp_path / "new"], check=True)
    with pytest.raises(SpawnFailed, match="has no commit .* commit something first"):
        await worktree(tmp_path / "new")


async def test_a_spawn_that_is_given_up_leaves_nothing(repository, temporary, no_leases):
    for wait in (0.0, 0.02, 0.05, 0.1):
        spawning = asyncio.create_task(worktree(repository))
        await asyncio.sleep(wait)
        spawning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await spawning).stop()
    await until(lambda: not [*temporary.iterdir(), *no_leases.glob("machines/*")], 30, "nothing is left")
    nothing_is_left(repository, temporary, no_leases)


async def test_many_at_once_beside_gits_of_others(repository):
    """git's own lock is held by somebody else now and then, and half of a worktree is seen by others."""
    script(
        repository / "busy", "while :; do git worktree list; git worktree prune; git config x.y z; done >/dev/null 2>&1"
    )
    with subprocess.Popen(["setsid", "./busy"], cwd=repository) as busy:
        machines = await asyncio.gather(*(worktree(repository) for _ in range(12)), return_exceptions=True)
        os.killpg(busy.pid, signal.SIGKILL)
    assert [each for each in machines if isinstance(each, BaseException)] == []
    await asyncio.gather(*(each.stop() for each in machines))
    assert refs(repository) == ["refs/heads/main"]


async def test_a_worktree_of_somebody_elses_is_not_pruned(repository, tmp_path):
    """It is on a disk that is not mounted just now."""
    git(repository, "worktree", "add", "-q", "-b", "theirs", tmp_path / "disk")
    shutil.rmtree(tmp_path / "disk")
    machine = await worktree(repository)
    await machine.stop()
    assert (repository / ".git/worktrees/disk/HEAD").exists()


# -- the environment --


HOOK = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")


@pytest.mark.parametrize("image", ["local", "worktree", "sandbox"])
async def test_what_git_sets_for_its_hooks_is_not_a_machines(image, repository, tmp_path, monkeypatch):
    """A program that a hook of another repository starts works in the one that it names."""
    outer = new_repository(tmp_path / "outer")
    before = git(outer, "for-each-ref"), git(outer, "worktree", "list")
    values = [".git", ".git/index", "", ".git/objects", ".git", "sub/"]
    for name, value in zip(HOOK, values, strict=True):
        monkeypatch.setenv(name, value if name == "GIT_PREFIX" else f"{outer}/{value}")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'user.name=hook'")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "@0 +0000")
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")
    kind = SandboxImage if image == "sandbox" else LocalImage
    more = {"worktree": True} if image == "worktree" else {}
    machine = await kind(workdir=repository, env={"GIT_PAGER": "cat"}, **more).spawn()
    said = (await machine.exec("env | grep ^GIT_ | grep -v _SSL_ | sort; git rev-parse --show-toplevel")).stdout.split(
        "\n"
    )
    ssh = [] if image == "sandbox" else ["GIT_SSH_COMMAND=ssh -i key"]
    assert said == ["GIT_PAGER=cat", *ssh, machine.workdir, ""]
    await machine.exec(f"echo x > new; git add new; {COMMIT} -m work")
    await machine.stop()
    assert (git(outer, "for-each-ref"), git(outer, "worktree", "list")) == before
    assert "work" in git(repository, "log", "--all", "--format=%s")


# -- nothing is lost --


LOSSES = {
    "detached": "git checkout -q --detach; echo it > it; git add it; {commit} -m it",
    "detached, and back again": "git checkout -q --detach; echo it > it; git add it; {commit} -m it; git checkout -q -",
    "in the middle of a rebase": (
        "echo 1 > file; {commit} -am one; git checkout -q --detach HEAD~1; echo 2 > file; {commit} -am two; "
        "echo it > it; git add it; {commit} -m it; git -c user.name=a -c user.email=a@a rebase -q ramure/$RAMURE_MACHINE"
    ),
    "a merge with conflicts": (
        "git checkout -q -b b; echo 1 > file; {commit} -am one; git checkout -q -; echo 2 > file; {commit} -am two; "
        "git merge -q b; echo it > it"
    ),
    "another branch, not committed": "git checkout -q -b b; {commit} --allow-empty -m b; echo it > it",
    "the user's branch, not committed": "git checkout -q --ignore-other-worktrees main; echo it > it",
    "our branch removed": "git checkout -q --detach; git branch -D ramure/$RAMURE_MACHINE; echo it > it; git add it; {commit} -m it",
    "an amended commit": "echo it > it; git add it; {commit} -m it; git rm -q it; {commit} --amend --allow-empty -m other",
    "reset away": "echo it > it; git add it; {commit} -m it; git reset -q --hard HEAD~1",
    "staged, then changed": "echo it > it; git add it; echo other > it",
    "staged, then removed": "echo it > it; git add it; rm it",
    "skipped": "git update-index --skip-worktree file; echo it > file",
    "assumed unchanged": "git update-index --assume-unchanged file; echo it > file",
    "outside of a sparse checkout": "git sparse-checkout set --no-cone /none; echo it > file",
    "ignored": "echo '*' > .gitignore; echo it > it",
    "ignored by the repository": "echo it > $(git rev-parse --git-common-dir)/x; echo x > $(git rev-parse --git-common-dir)/info/exclude; echo it > x",
    "stashed by a rebase": "{commit} --allow-empty -m o; echo it > file; git rebase -q --autostash -x false HEAD~1",
    "a ref of the worktree's own": "git update-ref refs/worktree/x $(echo it | git hash-object -w --stdin)",
    "not readable": "echo it > it; chmod 0 it",
    "without its .git": "echo it > it; rm .git",
    "with another .git": "echo it > it; mv .git other",
    "without its index": "echo it > it; rm $(git rev-parse --git-path index)",
    "pruned": "echo it > it; rm .git; git -C $REPOSITORY worktree prune",
    "a name that is no text": "echo it > $'\\xff\\n:(top)'",
    "line ends": "echo '* text eol=crlf ident' > .gitattributes; echo it > it; git add -A; {commit} -m it; echo it > it",
}


@pytest.mark.parametrize("untracked", ["no", "normal"])
@pytest.mark.parametrize("what", LOSSES)
async def test_what_is_saved_when_a_machine_stops(what, untracked, repository, tmp_path, monkeypatch):
    config = tmp_path / "gitconfig"
    config.write_text(f"[status]\nshowUntrackedFiles = {untracked}\n[user]\nname = a\nemail = a@a\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("REPOSITORY", str(repository))
    machine = await worktree(repository)
    main = git(repository, "rev-parse", "main")
    await machine.exec(LOSSES[what].format(commit=COMMIT))
    await machine.stop()
    assert not Path(machine.workdir).exists()
    assert git(repository, "rev-parse", "main") == main
    blob = subprocess.run(
        ["git", "hash-object", "--stdin"], input=b"it\n", capture_output=True, check=True
    ).stdout.decode()
    assert blob.strip() in git(repository, "rev-list", "--objects", "--glob=*")
    assert {ref for ref in refs(repository) if machine.id in ref}


async def test_what_is_kept_beside_the_branch_says_what_it_is(repository):
    machine = await worktree(repository)
    await machine.exec("echo 'it' > .gitignore; echo ignored > it; echo staged > s; git add s; echo other > s")
    await machine.exec(
        f"{COMMIT} --allow-empty -m gone; git reset -q --hard HEAD~1; echo other > s; git add s; echo third > s"
    )
    await machine.stop()
    kept = f"refs/ramure-kept/{machine.id}"
    assert git(repository, "show", f"{kept}:ignored/it") == "ignored\n"
    assert git(repository, "show", f"{kept}:staged/s") == "other\n"
    assert git(repository, "show", f"ramure/{machine.id}:s") == "third\n"
    assert "gone" in git(repository, "log", "--format=%s", kept)
    assert git(repository, "branch", "--format=%(refname:short)").split() == ["main", f"ramure/{machine.id}"]


async def test_of_too_much_that_the_repository_ignores_the_largest_directory_is_left_out_and_named(
    repository, monkeypatch
):
    (repository / ".gitignore").write_text("modules/\n*.log\n")
    git(repository, "add", ".")
    git(repository, *WHO, "commit", "-q", "-m", "second")
    monkeypatch.setattr(ignored_files, "IGNORED_FILES", 25)
    machine = await worktree(repository)
    await machine.exec("mkdir modules; for i in $(seq 20); do echo $i > modules/$i; done; echo it > it.log")
    await machine.exec("echo own/ >> .gitignore; mkdir own; for i in $(seq 20); do echo $i > own/$i; done")
    await machine.stop()
    kept = f"refs/ramure-kept/{machine.id}"
    names = git(repository, "ls-tree", "-r", "--name-only", kept).split()
    assert "ignored/it.log" in names
    assert (
        len([name for name in names if name.startswith("ignored/own/")]) == 20
    )  # the agent's own rules leave nothing out
    assert not [name for name in names if name.startswith("ignored/modules")]
    assert "20 files" in git(repository, "log", "-1", "--format=%B", kept)


STAYS = {
    "a repository": ("git init -q in; echo it > in/it", "repositories in it.*: in"),
    "a repository in upper case": ("mkdir -p in/.GIT; echo it > in/it", "repositories in it.*: in"),
    "a submodule": (
        "git -c protocol.file.allow=always submodule add -q $REPOSITORY in; echo it > in/it",
        "repositories",
    ),
    "a submodule that is not checked out": (
        "git -c protocol.file.allow=always submodule add -q $REPOSITORY in; git submodule deinit -qf in; rm -rf in",
        "it has submodules",
    ),
    "a repository of its own": ("rm .git; git init -q; echo it > it", "its .git is not the one"),
    "a link to elsewhere": ("ln -sf $REPOSITORY/.git .git; echo it > it", "its .git is not the one"),
    "another directory": ("cd ..; mv $OLDPWD moved; mkdir $OLDPWD; echo it > $OLDPWD/it", "it was replaced"),
    "an index that is none": ("echo it > it; echo junk > $(git rev-parse --git-path index)", "index"),
}


@pytest.mark.parametrize("what", STAYS)
async def test_what_cannot_be_saved_stays_and_is_named(what, repository, monkeypatch):
    monkeypatch.setenv("REPOSITORY", str(repository))
    command, why = STAYS[what]
    machine = await worktree(repository)
    await machine.exec(command)
    before = subprocess.run(["find", machine.workdir, "-ls"], capture_output=True, check=True).stdout
    with pytest.raises(WorkNotSaved, match=why) as caught:
        await machine.stop()
    assert caught.value.path == machine.workdir
    assert subprocess.run(["find", machine.workdir, "-ls"], capture_output=True, check=True).stdout == before
    shutil.rmtree(Path(machine.workdir).parent)
    shutil.rmtree(repository / f".git/worktrees/ramure-{machine.id}/modules", ignore_errors=True)
    (repository / f".git/worktrees/ramure-{machine.id}/index").unlink(missing_ok=True)
    await machine.stop()


async def test_a_repository_that_is_gone(repository):
    machine = await worktree(repository)
    await machine.write_file("new", b"work")
    repository.rename(f"{repository}-moved")
    with pytest.raises(WorkNotSaved, match="is gone"):
        await machine.stop()
    assert Path(machine.workdir, "new").read_bytes() == b"work"
    Path(f"{repository}-moved").rename(repository)
    await machine.stop()
    saved(repository, machine)


# -- copies --


async def test_forks_and_snapshots_of_a_worktree_are_worktrees_on_branches_of_their_own(repository):
    origin = await worktree(repository)
    await origin.exec(f"echo one > one; git add one; {COMMIT} -m one; echo staged > s; git add s; echo open > o")
    snapshot = await origin.snapshot()
    machines = [await origin.fork(), await snapshot.spawn(), await snapshot.spawn()]
    machines.append(await machines[1].fork())
    for number, each in enumerate(machines):
        said = (await each.exec("git status --porcelain; git branch --show-current; cat one s o")).stdout
        assert said == f"A  s\n?? o\nramure/{each.id}\none\nstaged\nopen\n"
        await each.exec(f"{COMMIT} -m mine; echo {number} > new")
    assert (await origin.exec("git log --format=%s; git status --porcelain")).stdout == "one\nfirst\nA  s\n?? o\n"
    for number, each in enumerate(machines):
        await each.stop()
        assert git(repository, "show", f"ramure/{each.id}:new") == f"{number}\n"
        assert git(repository, "log", "--format=%s", f"ramure/{each.id}").split("\n")[1:] == [
            "mine",
            "one",
            "first",
            "",
        ]
    await snapshot.remove()
    await origin.stop()


# -- after SIGKILL --


PROGRAM = """
    import asyncio, os, signal, sys, time
    from ramure.machines.local import LocalImage
    from ramure.machines.sandbox.image import SandboxImage

    async def main():
        kind, command, who = sys.argv[2:]
        make = {"worktree": lambda: LocalImage(workdir=sys.argv[1], worktree=True), "sandbox": SandboxImage}[kind]
        machine = await make().spawn()
        done = await machine.exec(command)
        print(machine.id, machine.workdir, done.exit_code, flush=True)
        if who == "its reaper too":
            os.kill(machine.reaper.pid, signal.SIGKILL)
            time.sleep(0.3)  # the sandbox is gone
        os.kill(os.getpid(), signal.SIGKILL)

    from ramure.marks import mark_context
    mark_context(os.environ["DEAD_RUN"])
    asyncio.run(main())
"""


async def killed(repository, temporary, kind, command, who="its reaper too"):
    """The machine of a program that was killed: its id and its directory."""
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(repository), kind, command, who]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "REPOSITORY": str(repository)}
    environment["DEAD_RUN"] = run_id(temporary)
    done = await asyncio.to_thread(
        subprocess.run, argv, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    identity, place, status = done.stdout.split()
    assert kind == "worktree" or status == "0"
    return identity, Path(place)


def run_id(temporary):
    """One that no test beside this one has."""
    return f"dead{temporary.stat().st_ino}"


@pytest.mark.parametrize("who", ["the program", "its reaper too"])
@pytest.mark.parametrize(
    "what", ["detached", "in the middle of a rebase", "another branch, not committed", "our branch removed"]
)
async def test_gc_saves_what_a_killed_program_left(what, who, repository, temporary, no_leases, monkeypatch):
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "a")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "a@a")
    identity, place = await killed(repository, temporary, "worktree", LOSSES[what].format(commit=COMMIT), who)
    [foreseen] = [
        each for each in await asyncio.to_thread(sweep, no_leases / "runtimes", dry_run=True) if each.kind == "machine"
    ]
    assert place.exists()
    assert str(place.parent) in foreseen.what
    found = await asyncio.to_thread(sweep, no_leases / "runtimes")
    assert [each for each in found if each.error] == []
    assert not place.exists()
    blob = subprocess.run(
        ["git", "hash-object", "--stdin"], input=b"it\n", capture_output=True, check=True
    ).stdout.decode()
    assert blob.strip() in git(repository, "rev-list", "--objects", "--glob=*")
    assert [ref for ref in refs(repository) if identity in ref]


async def test_gc_says_where_work_is_that_it_cannot_save_and_saves_it_once_it_can(repository, temporary, no_leases):
    identity, place = await killed(
        repository, temporary, "worktree", "printf work > new; git init -q in; echo it > in/it"
    )
    for _ in range(2):
        errors = [each for each in await asyncio.to_thread(sweep, no_leases / "runtimes") if each.error]
        assert [each.kind for each in errors] == ["machine"]
        assert f"the work in {place} could not all be saved" in errors[0].error
        assert (place / "new").read_text() == "work"
    shutil.rmtree(place / "in/.git")
    assert [each.error for each in await asyncio.to_thread(sweep, no_leases / "runtimes")] == [None]
    assert git(repository, "show", f"ramure/{identity}:new") == "work"


async def test_a_worktree_that_no_lease_names_is_left(repository, temporary, no_leases):
    _, place = await killed(repository, temporary, "worktree", "printf work > new")
    for lease in no_leases.glob("machines/*"):
        lease.unlink()
    assert [each.error for each in await asyncio.to_thread(sweep, no_leases / "runtimes") if each.error] == []
    assert (place / "new").read_text() == "work"
    shutil.rmtree(place.parent)


EVIL = {
    "a repository behind a .git file": "git init -q .; mv .git evil; {config}; echo 'gitdir: ./evil' > .git",
    "a repository": "git init -q .; mv .git evil; {config}; mv evil .git",
    "a worktree of its own": (
        "git init -q r; cd r; git commit -q --allow-empty -m x; git worktree add -q -b ramure/x ../w; cd ..; "
        "mv r/.git evil; {config}; mv evil r/.git; cp w/.git .git"
    ),
    "a link": "git init -q r; mv r/.git evil; {config}; ln -s evil .git",
}
CONFIG = "; ".join(
    f"git --git-dir=evil config {name} 'id > {{top}}/PWNED; false'"
    for name in (
        "core.fsmonitor",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "diff.external",
        "core.sshCommand",
    )
)


@pytest.mark.parametrize("what", EVIL)
async def test_nothing_that_an_agent_in_a_sandbox_wrote_is_run_on_the_host(
    what, repository, temporary, no_leases, tmp_path
):
    config = (
        CONFIG.format(top=tmp_path)
        + "; mkdir -p evil/hooks; for h in post-checkout pre-commit reference-transaction; do "
    )
    config += f"printf '#!/bin/sh\nid > {tmp_path}/PWNED' > evil/hooks/$h; chmod +x evil/hooks/$h; done"
    command = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a; echo '* filter=x' > .gitattributes; "
    _, place = await killed(repository, temporary, "sandbox", command + EVIL[what].format(config=config))
    assert (place / ".gitattributes").exists()
    found = await asyncio.to_thread(sweep, no_leases / "runtimes")
    assert not (tmp_path / "PWNED").exists()
    assert [each.error for each in found if each.error] == []
    assert not place.exists()
    assert refs(repository) == ["refs/heads/main"]


async def test_leases_of_worktrees_are_the_users_alone(repository):
    machine = await worktree(repository)
    [path] = (leases.ramure_home() / "machines").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    await machine.stop()
