"""The programs in the documentation: each ```python block of README.md and docs/*.md, and each examples/*.py.

All of them run in a test. A line before it says what a program needs; none is needed for one that runs as it stands.
In Markdown it is a comment right above the block, in an example it is the first comment:

    <!-- test: pi=haiku; prints=ten haikus -->
    # test: pi=haiku; prints=ten haikus

    pi=NAME         runs agents: real pi, on a scripted model with the script NAME of tests/docs/scripts.py
    morph           finds a fake of MorphCloud
    docker          finds a container engine, with a small image that is called debian:bookworm
    pi              calls `pi` itself: the real one is on the PATH
    prints=TEXT     TEXT is in what it prints
    raises=NAME     it ends with this exception
    first=CODE      a line that is run before it, such as an import that the text has shown already
    continues       it goes on where the block before it in the file ended
    then=CODE       a line that is run after it, such as asyncio.run(main())
    args=WORDS      its arguments
    seconds=N       it may take that long (20 if not said)

A block may `await` at its top level. One that defines tests is run by pytest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
KEYS = {"docker", "morph", "pi", "first", "prints", "raises", "continues", "then", "args", "seconds"}

_FENCE = re.compile(r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_ABOVE = re.compile(r"<!--\s*test:(?P<needs>[^\n]*?)-->\s*\n\s*\Z")
_HEADER = re.compile(r"^# test:(?P<needs>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    name: str
    code: str
    needs: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def programs(root: Path = ROOT) -> list[Program]:
    texts = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    found = [block for text in texts for block in blocks(text.read_text(encoding="utf-8"), str(text.relative_to(root)))]
    for file in sorted((root / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8")
        header = _HEADER.search(code)
        name = str(file.relative_to(root))
        found.append(Program(name, code, _parse(header["needs"] if header else "", name)))
    return found


def blocks(text: str, name: str) -> Iterator[Program]:
    before = ""
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        above = _ABOVE.search(text[: fence.start()])
        needs = _parse(above["needs"] if above else "", f"{name}:{line}")
        code = re.sub(rf"^{fence['indent']}", "", fence["code"], flags=re.MULTILINE)
        if "continues" in needs:
            code = before + code
        before = code
        yield Program(f"{name}:{line}", code, needs)


def _parse(text: str, where: str) -> dict[str, str]:
    needs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, _, value = part.partition("=")
        if key.strip() not in KEYS:
            raise ValueError(f"{where}: `test:` knows {sorted(KEYS)}, not {key.strip()!r}")
        needs[key.strip()] = value.strip()
    return needs
