"""What a docstring says of a function, and of each of its parameters: Google's, NumPy's and Sphinx's styles. Pure."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from typing import Final

__all__ = ["read_docstring"]

_GOOGLE: Final = re.compile(r"(Args|Arguments|Parameters|Params):\s*")
_NUMPY: Final = re.compile(r"(Parameters|Other Parameters)\s*")
_UNDERLINE: Final = re.compile(r"-{3,}\s*")
_SPHINX: Final = re.compile(r":(?:param|parameter|arg|argument)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_SPHINX_TYPE: Final = re.compile(r":type\s+\w+\s*:.*")
_FIELD: Final = re.compile(r":\w+(\s+[^:]+)?:")
_ITEM: Final = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NAMES: Final = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")


def read_docstring(text: str, parameters: Collection[str]) -> tuple[str, dict[str, str]]:
    """The description without the sections that are about ``parameters``, and the text of each parameter.

    A section that does not name any of the parameters is part of the description.
    """
    lines = text.split("\n")
    kept: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        read, end = _section(lines, at, parameters)
        if read:
            found.update({name: words for name, words in read.items() if words})
            at = end
        else:
            kept.append(lines[at])
            at += 1
    if not found:
        return text, {}
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), found


def _section(lines: list[str], at: int, parameters: Collection[str]) -> tuple[dict[str, str], int]:
    """The parameters that are described from line ``at`` on, and the line after them; none where no section begins."""
    line = lines[at]
    if sphinx := _SPHINX.fullmatch(line.strip()):
        end, words = _sphinx_words(lines, at + 1, sphinx[2])
        return ({sphinx[1]: words} if sphinx[1] in parameters else {}), end
    if _SPHINX_TYPE.fullmatch(line.strip()) and any(_SPHINX.fullmatch(other.strip()) for other in lines):
        return {"": ""}, at + 1
    if _NUMPY.fullmatch(line) and at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1]):
        end = next(
            (n - 1 for n in range(at + 3, len(lines)) if _UNDERLINE.fullmatch(lines[n]) and lines[n - 1].strip()),
            len(lines),
        )
        return _known(_items(lines[at + 2 : end], _NAMES, own_line=True), parameters), end
    if _GOOGLE.fullmatch(line):
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() and not lines[n][0].isspace()), len(lines))
        body = inspect.cleandoc("\n" + "\n".join(lines[at + 1 : end])).split("\n")
        return _known(_items(body, _ITEM, own_line=False), parameters), end
    return {}, at


def _sphinx_words(lines: list[str], at: int, first: str) -> tuple[int, str]:
    words = [first]
    while at < len(lines) and lines[at].strip() and not _FIELD.match(lines[at].strip()):
        words.append(lines[at].strip())
        at += 1
    return at, " ".join(filter(None, words))


def _items(lines: list[str], pattern: re.Pattern[str], *, own_line: bool) -> Iterator[tuple[str, str]]:
    """Each name with its words. ``own_line``: these begin on the line after it."""
    names: list[str] = []
    words: list[str] = []
    for line in [*lines, "end:"]:
        head = pattern.fullmatch(line) if line and not line[0].isspace() else None
        if head is None and line != "end:":
            words.append(line.strip())
            continue
        for name in names:
            yield name, " ".join(filter(None, words))
        if head is not None:
            names = [name.strip().lstrip("*") for name in head[1].split(",")]
            words = [] if own_line else [head[2]]


def _known(items: Iterator[tuple[str, str]], parameters: Collection[str]) -> dict[str, str]:
    found = dict(items)
    return {name: words for name, words in found.items() if name in parameters}
