"""``docs/cli-json.json`` and ``docs/control.json``: made from the types in the code. ``python -m tests.cli.schemas --write``
makes them anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from ramure.cli import documents
from ramure.runtime.control import schemas

ROOT: Final = Path(__file__).parent.parent.parent
WIDTH: Final = 140
FILES: Final = {"cli-json.json": documents.schemas, "control.json": schemas.schemas}


def text_of(value: Any, indent: str = "", before: int = 0) -> str:
    """JSON, with what fits on a line on one."""
    alone = json.dumps(value, ensure_ascii=False)
    if len(indent) + before + len(alone) <= WIDTH or not isinstance(value, list | dict):
        return alone
    if isinstance(value, list):
        parts = [f"{indent}  {text_of(each, indent + '  ')}" for each in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    keys = {key: json.dumps(key, ensure_ascii=False) for key in value}
    parts = [
        f"{indent}  {keys[key]}: {text_of(each, indent + '  ', len(keys[key]) + 2)}" for key, each in value.items()
    ]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


def main() -> int:
    """Write the files, or say whether they are up to date."""
    stale = False
    for name, made in FILES.items():
        path, text = ROOT / "docs" / name, text_of(made()) + "\n"
        if "--write" in sys.argv:
            path.write_text(text, encoding="utf-8")
        stale = stale or path.read_text(encoding="utf-8") != text
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
