"""Check that type checkers know the type of each public name of the wheel: `pyright --verifytypes`, at 100%.

pyright looks for an installed package that is no editable one; so the wheel is unpacked into a scratch environment,
which sees the libraries of this one.
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ASK = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        venv.create(directory / "venv", with_pip=False)
        asked = subprocess.run([directory / "venv/bin/python", "-c", ASK], capture_output=True, text=True, check=True)
        site = Path(asked.stdout.strip())
        with zipfile.ZipFile(next(directory.glob("*.whl"))) as wheel:
            wheel.extractall(site)
        ours = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
        (site / "libraries.pth").write_text(ours.stdout)
        done = subprocess.run(
            [sys.executable, "-m", "pyright", "--verifytypes", "ramure", "--ignoreexternal"],
            cwd=directory,
            env={**os.environ, "PATH": f"{directory}/venv/bin{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    score = [line for line in done.stdout.splitlines() if line.startswith("Type completeness score")]
    if done.returncode != 0 or score != ["Type completeness score: 100%"]:
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    print(score[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
