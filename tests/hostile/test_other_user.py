"""Another user of this host: of a run it can reach the gateway's port, where it gets no answer, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramure import agent, agent_process, current_runtime, machine
from ramure.machines.local import LocalImage
from ramure.testing import InProcessHarness, Text

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = 65534
SECRET = "s3cret-of-this-user"

LOOK = """
import os, sys
top, bad = sys.argv[1], []
for folder, folders, files in os.walk(top, onerror=lambda error: None):
    for name in folders + files:
        path = os.path.join(folder, name)
        for mode, what in ((os.R_OK, "read"), (os.W_OK, "write")):
            if not os.path.islink(path) and os.access(path, mode) and not (mode == os.R_OK and os.path.isdir(path) and path in sys.argv[2:]):
                bad.append(f"{what} {path}")
print(bad)
"""

ATTACKS = {
    "reading and writing below the run's home": "exec(LOOK)",
    "the list of runs": "print(os.listdir(home + '/runtimes'))",
    "the run's log": "print(open(home + '/logs/' + run + '/_runtime.jsonl').read())",
    "an agent's conversation": "print(open(home + '/logs/' + run + '/other.jsonl').read())",
    "a line in the run's log": "open(home + '/logs/' + run + '/_runtime.jsonl', 'a').write('{}')",
    "the control socket": "s = socket.socket(socket.AF_UNIX); s.connect(home + '/runtimes/' + run + '.sock'); print('connected')",
    "another socket in its place": "os.rename(home + '/runtimes/' + run + '.sock', home + '/runtimes/x'); print('renamed')",
    "a lease of its own": "open(home + '/runtimes/evil.json', 'w').write('{}'); print('written')",
    "the program's environment": "print(open(f'/proc/{pid}/environ').read())",
    "the program's memory": "print(open(f'/proc/{pid}/maps').read())",
    "the program's open files": "print(os.listdir(f'/proc/{pid}/fd'))",
    "a reaper's environment": "print([open(f'/proc/{each}/environ').read() for each in reapers])",
    "ending the program": "os.kill(pid, 9); print('killed')",
    "stopping the reapers": "[os.kill(each, 19) for each in reapers]; print('stopped')",
    "tracing the program": "import ctypes; print('traced' if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0 else '')",
    "a running command's input": "print(open(f'/proc/{reapers[0]}/fd/0', 'w').write('x') if reapers else [][0])",
    "the gateway without a token": "s = socket.create_connection(('127.0.0.1', port)); s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(SECRET if b'401' not in s.recv(999) else '')",
}
"""What it tries, in Python. None prints anything that matters: each fails, or is answered with nothing."""

BECOME = f"""
import os, socket, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In a directory that everybody may enter: only what ramure made of it holds others off."""
    top = Path(tempfile.mkdtemp(prefix="ramure-test-"))
    top.chmod(0o755)
    monkeypatch.setenv("RAMURE_HOME", str(top / "home"))
    monkeypatch.setenv("MY_SECRET", SECRET)
    yield top / "home"
    shutil.rmtree(top)


def reapers() -> list[int]:
    """The processes that this one has started."""
    return [int(pid) for of in Path("/proc/self/task").glob("*/children") for pid in of.read_text().split()]


def attack(code: str, home: Path, run: str, port: int) -> subprocess.CompletedProcess[str]:
    told = f"home, run, port, pid, reapers = {str(home)!r}, {run!r}, {port}, {os.getpid()}, {reapers()}\n"
    told += f"SECRET, LOOK = {SECRET!r}, {LOOK!r}\nsys.argv[1:] = [home]\n"
    command = [sys.executable, "-I", "-c", BECOME + told + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env={})


async def test_another_user_reaches_nothing_of_a_run(home: Path) -> None:
    harness = InProcessHarness(lambda _: Text("Yes."))
    said: dict[str, subprocess.CompletedProcess[str]] = {}

    @agent_process(image=harness.image)
    async def main() -> None:
        other = await agent("other")
        await other.ask(SECRET)
        here = await machine(LocalImage(env={"KEY": SECRET}))
        working = asyncio.ensure_future(here.exec(f"echo {SECRET}; sleep 1000"))
        run = current_runtime()
        try:
            assert reapers()
            for name, code in ATTACKS.items():
                said[name] = await asyncio.to_thread(attack, code, home, run.execution_id, run.gateway.port)
            assert await other.ask("Are you there?") == "Yes."
            assert not working.done()
        finally:
            working.cancel()

    await main()
    reached = {name: done.stdout.strip() for name, done in said.items() if done.stdout.strip() not in ("", "[]")}
    assert reached == {}
    assert "SyntaxError" not in "".join(done.stderr for done in said.values())
    assert "NameError" not in "".join(done.stderr for done in said.values())


def test_what_another_user_puts_in_its_way_stops_no_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory in which sockets with long names are put can be guessed: /tmp/ramure-<uid>."""
    where = Path(tempfile.mkdtemp(prefix="ramure-test-"))
    where.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(where))
    monkeypatch.setenv("RAMURE_HOME", str(home / ("x" * 80)))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    evil = where / f"ramure-{os.getuid()}"
    evil.mkdir(mode=0o777)
    os.chown(evil, NOBODY, NOBODY)

    @agent_process
    async def main() -> str:
        return str(current_runtime().paths.socket)

    try:
        assert not asyncio.run(main()).startswith(f"{evil}/")
        assert list(evil.iterdir()) == []
    finally:
        shutil.rmtree(where)
