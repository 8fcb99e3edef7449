"""Whatever an agent does in a git worktree, under whatever configuration, no byte of it is lost, and nothing else changes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramure.machines.errors import SpawnFailed
from ramure.machines.git import saving, worktrees
from ramure.machines.local import LocalImage
from tests.edges.worktree_world import End, World, git
from tests.scale import SOAK, long_in_a_soak

EXAMPLES = round(500 * SOAK) if SOAK else 15
ENDS: list[End] = ["stop", "killed", "killed with its reaper"]

CONFIGURATION = [
    ("status.showUntrackedFiles", "no"),
    ("core.fsmonitor", "@/alarm"),
    ("core.hooksPath", "@/hooks"),
    ("commit.gpgsign", "true"),
    ("tag.gpgsign", "true"),
    ("gpg.program", "@/refuses"),
    ("core.quotePath", "false"),
    ("core.autocrlf", "true"),
    ("core.autocrlf", "input"),
    ("core.safecrlf", "true"),
    ("core.eol", "crlf"),
    ("core.fileMode", "false"),
    ("core.symlinks", "false"),
    ("core.excludesFile", "@/everything"),
    ("core.attributesFile", "@/attributes"),
    ("core.splitIndex", "true"),
    ("core.untrackedCache", "true"),
    ("core.logAllRefUpdates", "false"),
    ("core.ignoreCase", "true"),
    ("core.precomposeUnicode", "true"),
    ("core.protectNTFS", "true"),
    ("core.abbrev", "4"),
    ("core.compression", "0"),
    ("core.editor", "@/refuses"),
    ("core.pager", "@/refuses"),
    ("core.checkStat", "minimal"),
    ("core.trustctime", "false"),
    ("core.preloadIndex", "false"),
    ("feature.manyFiles", "true"),
    ("index.version", "4"),
    ("index.sparse", "true"),
    ("submodule.recurse", "true"),
    ("diff.external", "@/alarm"),
    ("diff.noprefix", "true"),
    ("diff.ignoreSubmodules", "all"),
    ("merge.conflictStyle", "diff3"),
    ("merge.ff", "only"),
    ("rebase.autoStash", "true"),
    ("rebase.autoSquash", "true"),
    ("rerere.enabled", "true"),
    ("gc.auto", "1"),
    ("gc.pruneExpire", "now"),
    ("gc.reflogExpire", "now"),
    ("gc.worktreePruneExpire", "now"),
    ("color.ui", "always"),
    ("log.showSignature", "true"),
    ("alias.status", "!@/alarm"),
    ("alias.add", "!@/alarm"),
    ("advice.detachedHead", "false"),
    ("i18n.commitEncoding", "latin1"),
    ("branch.autoSetupMerge", "always"),
    ("worktree.guessRemote", "true"),
    ("checkout.defaultRemote", "origin"),
    ("safe.bareRepository", "explicit"),
    ("protocol.file.allow", "always"),
    ("credential.helper", "!@/alarm"),
    ("filter.big.clean", "@/cat"),
    ("filter.big.smudge", "@/cat"),
    ("filter.big.required", "true"),
    ("user.useConfigOnly", "true"),
    ("help.autoCorrect", "immediate"),
]

NAMES = [
    "plain",
    "with space",
    "-dash",
    ":(top)x",
    "new\nline",
    "tab\there",
    "back\\slash",
    '"quoted"',
    "café",
    "\udcff\udcfe",
]
NAMES += [
    "d/below",
    "very/deep/below",
    "x.log",
    "build/out",
    "x.big",
    "y.bat",
    "text",
    "a",
    "sub/c",
    "d/b",
    "git~1",
    "CON",
    ".gitmodules",
]

PLAIN = [
    "echo data $N > 'data-$N'",
    "echo more $N >> text",
    "echo other $N > a",
    "printf 'dos $N\\r\\nmixed\\n' > dos.bat",
    "printf 'big $N' > x$N.big",
    "printf 'agent $N\\n*\\n' >> .gitignore",
    "echo '* filter=big diff=big merge=big ident text=auto working-tree-encoding=UTF-16' > .gitattributes",
    "chmod +x text; chmod 000 a",
    "rm -f text d/b",
    "mv sub moved$N",
    "ln -sf /etc/passwd passwd; ln -s . loop$N; ln -s 'missing $N' dangling$N",
    "mkfifo fifo$N; mkdir -p empty/empty",
    "rm -rf d; echo 'file for a directory $N' > d",
    "rm -f a; mkdir a; echo $N > a/in",
    "git add -A",
    "echo staged $N > s; git add -f s; echo 'then changed $N' > s",
    "echo staged $N > gone$N; git add -f gone$N; rm gone$N",
    "echo $N > intended; git add -N intended",
    "git rm -q --cached text",
    "git commit -qam 'work $N'",
    "echo $N > c$N; git add -f c$N; git commit -qm 'commit $N'",
    "echo $N > c$N; git add -f c$N; git commit -q --no-verify --no-gpg-sign -m 'sure $N'",
    "git commit -q --amend --no-verify --no-gpg-sign --allow-empty -m 'amended $N'",
    "git checkout -q --detach",
    "git checkout -q --detach; git commit -q --no-verify --no-gpg-sign --allow-empty -m 'detached $N'",
    "git checkout -q HEAD~1",
    "git checkout -qf feature",
    "git switch -q -c other$N",
    "git switch -q -",
    "git checkout -q --orphan orphan$N",
    "git branch -m renamed$N",
    "git checkout -q --detach; git branch -D ramure/$MACHINE",
    "git reset -q --hard HEAD~1",
    "git reset -q --soft HEAD~1",
    "git rebase -q feature",
    "git rebase -q feature; git rebase -q --skip",
    "git rebase -q -x false HEAD~1",
    "git rebase -q --abort; git merge --abort",
    "git merge -q --no-edit feature",
    "git merge -q feature; git add -A; git -c core.editor=true commit -q --no-verify --no-gpg-sign",
    "git cherry-pick feature",
    "git revert --no-edit HEAD",
    "git bisect start HEAD HEAD~1",
    "git stash -q",
    "git stash -q -u",
    "git stash -q -a",
    "git stash pop -q",
    "git stash drop -q",
    "git stash push -q; git stash push -q; echo x$N > a; git stash -q",
    "git update-index --skip-worktree text; echo hidden $N > text",
    "git update-index --assume-unchanged a; echo hidden $N > a",
    "git update-index --skip-worktree sub/c; rm sub/c",
    "git sparse-checkout set --cone d",
    "git sparse-checkout set --no-cone '/*' '!/sub'; mkdir -p sub; echo back $N > sub/new",
    "git sparse-checkout disable",
    "git gc -q --prune=now",
    "git reflog expire --expire=now --all",
    "git repack -adq; git pack-refs --all",
    "git worktree prune; git worktree list",
    "git worktree add -q ../second$N; echo $N > ../second$N/x; rm -rf ../second$N",
    "git worktree unlock .; git worktree prune",
    "git init -q nested$N; echo $N > nested$N/inner",
    "git init -q --bare bare$N.git",
    "git clone -q . clone$N",
    "mkdir -p odd; echo 'gitdir: /nowhere' > odd/.git; echo $N > odd/in",
    "mkdir -p ODD/.GIT; echo $N > ODD/.GIT/config",
    "git -c protocol.file.allow=always submodule add -q -f $REPOSITORY module$N; echo $N > module$N/new",
    "git -c protocol.file.allow=always submodule add -q -f $REPOSITORY m$N; git submodule deinit -qf m$N; rm -rf m$N",
    "rm -f .git",
    "rm -f .git; git init -q .; git config core.fsmonitor $WORLD/alarm",
    "mv .git evil; mkdir -p odd; echo 'gitdir: ./evil' > .git",
    "cp -r $(git rev-parse --git-common-dir) evil$N; git --git-dir=evil$N config core.fsmonitor $WORLD/alarm; echo gitdir: ./evil$N >.git",
    "ln -sf $REPOSITORY/.git .git",
    "rm -rf ./* .g*",
    "rm -rf $PWD",
    "cd ..; mv $OLDPWD moved; mkdir $OLDPWD; echo $N > $OLDPWD/x",
    "rm -f $(git rev-parse --git-path index)",
    "touch $(git rev-parse --git-path index.lock) $(git rev-parse --git-path HEAD.lock)",
    "touch $(git rev-parse --git-common-dir)/refs/heads/ramure/$MACHINE.lock",
    "echo junk > $(git rev-parse --git-path index)",
    "echo junk > $(git rev-parse --git-path HEAD)",
    "git tag -a -m 'tag $N' tag$N",
    "git commit -q --no-verify --no-gpg-sign --allow-empty -m 'of worktree'; git update-ref refs/worktree/x HEAD; git reset -q --hard HEAD~1",
    "git update-ref refs/worktree/blob $(echo $N | git hash-object -w --stdin)",
    "git replace -f HEAD HEAD~1",
    "git symbolic-ref HEAD refs/heads/unborn$N",
    "git config core.fsmonitor $WORLD/alarm; git config filter.big.clean $WORLD/alarm; git config diff.big.command $WORLD/alarm",
    "git config core.worktree /tmp; git config core.bare true",
    "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor $WORLD/alarm",
    "for h in pre-commit post-checkout reference-transaction; do cp $WORLD/alarm $(git rev-parse --git-common-dir)/hooks/$h; done",
    "echo '*' > $(git rev-parse --git-common-dir)/info/exclude; echo '* filter=big' > $(git rev-parse --git-common-dir)/info/attributes",
    "git rev-parse HEAD > $(git rev-parse --git-common-dir)/shallow",
    "git worktree remove --force --force .",
    "git notes add -m 'note $N'; git am -q /dev/null; git apply --index /dev/null",
]


def written(name: str, number: int) -> str:
    """A step that writes to a file of this name."""
    quoted = "$'" + "".join(f"\\x{byte:02x}" for byte in name.encode("utf-8", "surrogateescape")) + "'"
    return f'mkdir -p -- "$(dirname -- {quoted})" && echo written {number} > ./{quoted}'


step = st.one_of(
    st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.sampled_from(NAMES).map(lambda name: f"name:{name}")
)


def script(steps: list[str], world: World) -> str:
    lines = [
        f"export WORLD='{world.directory}' REPOSITORY='{world.repository}' MACHINE=$RAMURE_MACHINE GIT_EDITOR=true"
    ]
    for number, each in enumerate(steps):
        text = written(each[5:], number) if each.startswith("name:") else each.replace("$N", str(number))
        lines.append(f"( {text} ) </dev/null >/dev/null 2>&1")
    return "\n".join(lines)


def lives(steps: list[str], config: list[tuple[str, str]], end: End, *, in_a_hook: bool) -> World:
    """One world, from its beginning to its end, checked."""
    directory = Path(tempfile.mkdtemp(prefix="ramure-test-world-"))
    try:
        world = World(directory, config, in_a_hook=in_a_hook)
        (directory / "everything").write_text("*\n")
        (directory / "attributes").write_text("* filter=big\n")
        world.check(world.run(script(steps, world), end))
        return world
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@long_in_a_soak
@pytest.mark.parametrize("end", ENDS)
@settings(max_examples=-(-EXAMPLES // len(ENDS)))
@given(st.lists(step, max_size=7), st.lists(st.sampled_from(CONFIGURATION), max_size=6), st.booleans())
def test_no_byte_that_an_agent_wrote_in_a_worktree_is_lost_and_nothing_else_is_changed(end, steps, config, in_a_hook):
    lives(steps, config, end, in_a_hook=in_a_hook)


@pytest.mark.parametrize("end", ["stop", "killed with its reaper"])
@pytest.mark.parametrize("each", PLAIN if SOAK else PLAIN[::20])
def test_each_thing_alone(each, end):
    lives([each], [], end, in_a_hook=False)


MUTANTS = {
    "save": "echo data > data",
    "_plan_files": "echo data > data",
    "_plan_index": "echo staged > s; git add -f s; echo 'then changed' > s",
    "_plan_state": "git checkout -q --detach; git commit -q --allow-empty -m it; git checkout -q -",
    "_plan_rest": "echo it > it.log",
    "_refuse_what_stays": "git init -q nested; echo it > nested/inner",
}
"""What is left out of the saving, and what an agent loses by that."""


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checker_notices_what_a_part_of_the_saving_is_good_for(name, monkeypatch):
    lives([MUTANTS[name]], [], "stop", in_a_hook=False)
    monkeypatch.setattr(worktrees if name == "save" else saving, name, lambda *args, **more: None)
    monkeypatch.setattr(saving, "_verify", lambda *args, **more: None)
    with pytest.raises(AssertionError, match="no ref holds"):
        lives([MUTANTS[name]], [], "stop", in_a_hook=False)


SPAWNS = round(200 * SOAK) if SOAK else 40


@long_in_a_soak
async def test_worktrees_that_are_made_in_parallel_on_a_busy_host_are_all_made(tmp_path, monkeypatch):
    """200 in a full run, 40 at a time, beside gits of the user's: none fails, and none leaves a branch."""
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", [], in_a_hook=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(world.config))
    image = LocalImage(workdir=world.repository, worktree=True)
    limit, failures, machines = asyncio.Semaphore(40), [], []

    async def one() -> None:
        async with limit:
            try:
                machines.append(await image.spawn())
            except SpawnFailed as error:
                failures.append(error)

    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    script = f"while :; do git -C {world.repository} worktree list; git -C {world.repository} worktree prune; done"
    busy.append(subprocess.Popen(["bash", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        await asyncio.gather(*(one() for _ in range(SPAWNS)))
        assert failures == []
        branches = git(world.repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/ramure").split()
        assert sorted(branches) == sorted(f"ramure/{machine.id}" for machine in machines)
        assert len(machines) == SPAWNS
    finally:
        for each in busy:
            each.kill()
            each.wait()
        await asyncio.gather(*(machine.stop() for machine in machines))
    assert git(world.repository, "for-each-ref", "refs/heads/ramure", "refs/ramure-kept") == ""
    assert list((tmp_path / "home" / "machines").iterdir()) == []
