"""Surroundings in which people's programs run, as data, and how a program with an agent on real pi is run in one."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ramure.testing import Conversation, ScriptedModel, Text, ToolCall
from tests.e2e.kit import Stage

PROGRAM = """
import asyncio, os, sys, time
from ramure import agent, agent_process, done, wait

@agent_process
async def main():
    for _ in range(int(os.environ.get("TEST_BUSY_THREADS", "0"))):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    worker = await agent("wörker".replace("ö", "o"))

    @worker.on("finish")
    async def finish(text: str) -> str:
        "Call with your result."
        done(text)
        return "Recorded."

    said = await worker.exec("printf 'ex\\\\303\\\\251c'")
    await worker.send("Begin, with an é.")
    return said.stdout + " " + await wait()

def run():
    if "TEST_BUSY_THREADS" in os.environ:
        return asyncio.new_event_loop().run_until_complete(main())
    return asyncio.run(main())

try:
    result = run()
except BaseException:
    import traceback
    with open(os.environ["TEST_RESULT"] + ".error", "w", encoding="utf-8") as file:
        traceback.print_exc(file=file)
    raise
with open(os.environ["TEST_RESULT"], "w", encoding="utf-8") as file:
    file.write(result)
if "TEST_BUSY_THREADS" in os.environ:
    os._exit(0)
"""

NAMESPACE = ("unshare", "--mount", "--propagation", "private")


@dataclass(frozen=True)
class Surroundings:
    """``env`` is set (None: unset); ``setup`` is shell text before the program, with $DIR for the stage's directory;
    ``refused`` matches the one line with the remedy, where it cannot work."""

    env: dict[str, str | None] = field(default_factory=dict)
    setup: str = ""
    prefix: tuple[str, ...] = ()
    refused: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Files in the user's home."""
    closed: bool = False
    """Standard input, output and errors are closed."""
    at: str | None = None
    """Where the stage's directory is mounted, and belongs to the user 12345."""


DEAD_PROXY = "http://user:secret@127.0.0.1:9"  # the discard port: nobody listens
FILES_LIMIT = "more open files"

AS_12345 = """
mount -t tmpfs none /mnt && mkdir -m 755 /mnt/pyenv /mnt/stage
mount --bind /root/.pyenv /mnt/pyenv && mount --bind "$DIR" /mnt/stage
mount -t tmpfs -o mode=755 none /root && mkdir -m 755 /root/.pyenv && mount --bind /mnt/pyenv /root/.pyenv
chown -R 12345:12345 /mnt/stage
"""
SETPRIV = 'set -- setpriv --reuid 12345 --regid 12345 --clear-groups -- "$@"\n'

MATRIX: dict[str, Surroundings] = {
    "as it is": Surroundings(),
    # -- proxies
    "a proxy": Surroundings({"HTTP_PROXY": DEAD_PROXY, "HTTPS_PROXY": DEAD_PROXY, "NO_PROXY": "example.com"}),
    "a proxy in lower case": Surroundings({"http_proxy": DEAD_PROXY, "https_proxy": DEAD_PROXY, "no_proxy": None}),
    "a proxy for all": Surroundings(
        {"ALL_PROXY": DEAD_PROXY, "all_proxy": DEAD_PROXY, "NO_PROXY": "10.0.0.0/8, .corp"}
    ),
    "a proxy that Node uses by itself": Surroundings(
        {"NODE_USE_ENV_PROXY": "1", "HTTP_PROXY": DEAD_PROXY, "npm_config_proxy": DEAD_PROXY}
    ),
    "a proxy with differing exemptions": Surroundings({"HTTP_PROXY": DEAD_PROXY, "NO_PROXY": "a.b", "no_proxy": "c.d"}),
    # -- locale, time, masks
    "LANG=C": Surroundings({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": None}),
    "LC_ALL=POSIX": Surroundings({"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "no locale": Surroundings({"LANG": None, "LC_ALL": None, "LC_CTYPE": None}),
    "a locale that is not installed": Surroundings({"LANG": "de_DE.ISO-8859-1", "LC_ALL": "de_DE.UTF-8"}),
    "C.UTF-8": Surroundings({"LC_ALL": "C.UTF-8"}),
    "umask 000": Surroundings(setup="umask 000"),
    "umask 077": Surroundings(setup="umask 077"),
    "umask 277": Surroundings(setup="umask 277"),
    "TZ elsewhere": Surroundings({"TZ": "Asia/Tokyo"}),
    "TZ unset": Surroundings({"TZ": None}),
    "TZ wrong": Surroundings({"TZ": ":nowhere/at all"}),
    # -- shells and terminals
    "sh is bash": Surroundings(setup="mount --bind /bin/bash /usr/bin/dash", prefix=NAMESPACE),
    "sh is bash, and UID is exported": Surroundings(
        {"UID": "0", "EUID": "0", "PPID": "1"}, setup="mount --bind /bin/bash /usr/bin/dash", prefix=NAMESPACE
    ),
    "reserved names": Surroundings(
        {"UID": "0", "GROUPS": "0", "SHELLOPTS": "braceexpand", "OPTIND": "7", "a-b": "odd"}
    ),
    "SHELL=/bin/false": Surroundings({"SHELL": "/bin/false"}),
    "a hostile tmux.conf": Surroundings(
        files={
            ".tmux.conf": "set -g default-shell /bin/false\nset -g default-command 'exit 3'\nnonsense\nkill-server\n"
        }
    ),
    "a hostile bashrc": Surroundings(
        {"BASH_ENV": "$HOME/.quiet", "ENV": "$HOME/.quiet"},
        files={
            ".bashrc": "echo Welcome\necho oops >&2\n",
            ".quiet": "alias exec=false\nunset HOME\ncd /\n",
            ".profile": "echo Profile\nexit 3\n",
            ".bash_profile": "exit 4\n",
        },
    ),
    "inside of tmux": Surroundings({"TMUX": "/nowhere/default,1,0", "TMUX_PANE": "%0", "TMUX_TMPDIR": "/nowhere"}),
    "TERM unknown": Surroundings({"TERM": "alien-256color", "COLORTERM": None, "TERMINFO": "/nowhere"}),
    "TERM unset": Surroundings({"TERM": None}),
    "closed stdio": Surroundings(closed=True),
    # -- homes and users
    "no HOME": Surroundings({"HOME": None}),
    "HOME is nowhere": Surroundings({"HOME": "/nowhere/at/all"}),
    "no USER": Surroundings({"USER": None, "LOGNAME": None}),
    "a read-only home, with RAMURE_HOME elsewhere": Surroundings(
        setup='mount --bind "$HOME" "$HOME" && mount -o remount,bind,ro "$HOME"', prefix=NAMESPACE
    ),
    "a wholly read-only home": Surroundings(
        {"RAMURE_HOME": "$HOME/.ramure"},
        setup='mount --bind "$HOME" "$HOME" && mount -o remount,bind,ro "$HOME"',
        prefix=NAMESPACE,
        refused=r"\.ramure.*RAMURE_HOME",
    ),
    "RAMURE_HOME is a file": Surroundings({"RAMURE_HOME": "/etc/passwd"}, refused=r"/etc/passwd.*RAMURE_HOME"),
    "no passwd entry": Surroundings(setup=AS_12345 + SETPRIV, prefix=NAMESPACE, at="/mnt/stage"),
    "no passwd entry and no HOME": Surroundings(
        {"HOME": None, "RAMURE_HOME": None},
        setup=AS_12345 + SETPRIV,
        prefix=NAMESPACE,
        at="/mnt/stage",
        refused="RAMURE_HOME",
    ),
    # -- limits
    "few files": Surroundings(setup="ulimit -S -n 64"),
    "few files for good": Surroundings(setup="ulimit -n 64"),
    "very few files for good": Surroundings(setup="ulimit -n 24", refused=FILES_LIMIT),
    "few processes": Surroundings(
        setup=AS_12345 + 'set -- prlimit --nproc=3 -- "$@"\n' + SETPRIV,
        prefix=NAMESPACE,
        at="/mnt/stage",
        refused="ulimit -u",
    ),
    # -- hosts
    "another hostname": Surroundings(setup="hostname elsewhere.example", prefix=("unshare", "--uts")),
    # (The TMPDIR and not /tmp: the checkout, and with it pi, may stand there.)
    "a noexec TMPDIR": Surroundings(
        setup='mount --bind "$TMPDIR" "$TMPDIR" && mount -o remount,bind,noexec "$TMPDIR"', prefix=NAMESPACE
    ),
    "a full TMPDIR": Surroundings(
        setup='mount -t tmpfs -o size=16k none "$TMPDIR"; head -c 100000 /dev/zero >"$TMPDIR/full" 2>/dev/null',
        prefix=NAMESPACE,
        refused=r"[Nn]o (space|room)",
    ),
    "TMPDIR is nowhere": Surroundings({"TMPDIR": "/nowhere/at/all"}),
    "a git hook's variables": Surroundings(
        {
            "GIT_DIR": "/nowhere/.git",
            "GIT_INDEX_FILE": "/nowhere/.git/index",
            "GIT_WORK_TREE": "/nowhere",
            "GIT_EXEC_PATH": "",
        }
    ),
    "a full default executor": Surroundings({"TEST_BUSY_THREADS": "64"}),
}

SAMPLE = ("a proxy", "LC_ALL=POSIX", "sh is bash, and UID is exported", "a wholly read-only home", "closed stdio")
"""What runs with every `make test`."""


def answer(conversation: Conversation) -> object:
    assert "Begin, with an é." in str(conversation.messages)
    return Text("Done.") if conversation.tool_results else ToolCall("finish", {"text": "fîn"})


async def run_in(stage: Stage, name: str) -> None:
    """Run the program, and check that it works, or says in one line why not and what to do."""
    here = MATRIX[name]
    for file, text in here.files.items():
        (stage.user / file).write_text(text)
    result = stage.work / "result"
    async with ScriptedModel(lambda conversation: answer(conversation)) as model:
        stage.serve(model)
        moved: Callable[[str], str] = lambda text: text  # noqa: E731
        if here.at is not None:
            home = stage.run.home / "toolchain"
            installed = home.resolve()
            home.unlink()
            shutil.copytree(installed, home, symlinks=True)
            moved = lambda text: text.replace(str(stage.run.directory), here.at or "")  # noqa: E731
        environ: dict[str, str | None] = {**stage.environ, "TEST_RESULT": str(result)}
        environ |= {n: None if v is None else v.replace("$HOME", str(stage.user)) for n, v in here.env.items()}
        environ = {n: None if v is None else moved(v) for n, v in environ.items()}
        program = stage.work / "program.py"
        program.write_text(PROGRAM, encoding="utf-8")
        closed = "<&- >&- 2>&-" if here.closed else ""
        script = f'DIR={shlex.quote(str(stage.run.directory))}\n{here.setup}\nexec "$@" {closed}'
        argv = (*here.prefix, "/bin/sh", "-c", script, "sh", sys.executable, moved(str(program)))
        missing = {n: None for n in stage.environ if environ.get(n) is None}
        async with stage.start(*argv, env={**environ, **missing}) as process:
            status = await process.ends(90)
    if here.refused is None:
        said = result.with_name("result.error")
        assert status == 0, process.said or (said.exists() and said.read_text(encoding="utf-8"))
        assert process.said == "", process.said
        assert Path(result).read_text(encoding="utf-8") == "exéc fîn"
    else:
        assert status != 0
        final = [line for line in process.said.splitlines() if re.match(r"[\w.]+: ", line)][-1]
        whole = process.said[process.said.rindex(final) :]
        assert final.startswith("ramure.") and re.search(here.refused, whole), process.said
