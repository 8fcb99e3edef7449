"""``python -m tests.chaos [--seed S] [-n N] [--row NAME] [--keep FILE] [--write]``: trials of the fault table, and their
figures."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import secrets
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.table import ROWS
from tests.chaos.trial import Result, Row, run
from tests.conftest import ROOT, _installed
from tests.pages import put_between

PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- the measured table: make chaos writes it -->", "<!-- end of the measured table -->"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first trial's; the same seed, the same moments (default: any)")
    parser.add_argument("-n", type=int, help="how many trials, in turn over the rows (default: each row once)")
    parser.add_argument("--row", action="append", help="only rows with this in their name (may be repeated)")
    parser.add_argument("--jobs", type=int, default=1, help="how many trials at a time (default: 1)")
    parser.add_argument("--keep", type=Path, help="add the results to this file; the table is of all that it holds")
    parser.add_argument("--write", action="store_true", help="put the table of this run into docs/faults.md")
    options = parser.parse_args(arguments)
    rows = [row for row in ROWS if not options.row or any(name in row.name for name in options.row)]
    if not rows:
        parser.error("no row is called so; the rows: " + ", ".join(row.name for row in ROWS))
    seed = options.seed if options.seed is not None else secrets.randbelow(100_000)
    count = len(rows) if options.n is None else options.n
    before = kept(options.keep) if options.keep is not None and options.keep.exists() else []
    results = before + asyncio.run(
        trials([(rows[i % len(rows)], seed + i // len(rows)) for i in range(count)], options.jobs)
    )
    if options.keep is not None:
        keep(options.keep, results[len(before) :])
    print()
    print(table(results))
    wrong = [result for result in results if result.wrong]
    print(f"\n{len(results) - len(wrong)} of {len(results)} as expected; seed {seed}")
    if options.write:
        put_between(PAGE, BEGIN, END, table(results))
    return 1 if wrong else 0


async def trials(plan: list[tuple[Row, int]], jobs: int) -> list[Result]:
    toolchain = await asyncio.to_thread(_installed, "toolchain")
    door = asyncio.Semaphore(jobs)

    async def one(row: Row, seed: int) -> Result:
        async with door:
            result = await run(row, seed, toolchain)
        print(result, flush=True)
        return result

    return await asyncio.gather(*(one(row, seed) for row, seed in plan))


def keep(file: Path, results: list[Result]) -> None:
    """Add results to a file of such: a long run can be done in pieces."""
    with file.open("a", encoding="utf-8") as lines:
        for result in results:
            fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
            lines.write(json.dumps({**fields, "row": result.row.name}) + "\n")


def kept(file: Path) -> list[Result]:
    rows = {row.name: row for row in ROWS}
    every = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [Result(**{**fields, "row": rows[fields["row"]]}) for fields in every]


def table(results: list[Result]) -> str:
    """The rows with what was measured, as Markdown."""
    lines = [
        "| fault | trials | `agent_down` | `DOWN` | reason | noticed (most) | ready again (median) | the task |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        of_row = [result for result in results if result.row is row]
        if not of_row:
            continue
        noticed = [result.noticed for result in of_row if result.noticed is not None]
        back = [result.restarted for result in of_row if result.restarted is not None]
        right = sum(not result.wrong for result in of_row)
        outcome = "completes" if row.outcome == "finished" else f"`{of_row[0].outcome.partition(':')[0]}`"
        cells = (
            row.name,
            f"{right} of {len(of_row)}" if right < len(of_row) else str(right),
            _same([result.agent_downs for result in of_row]),
            _same([result.downs for result in of_row]),
            _same([result.reason for result in of_row]) or "–",
            f"{max(noticed):.2f} s" if noticed else "–",
            f"{statistics.median(back):.2f} s" if back else "–",
            outcome,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _same(values: Sequence[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


if __name__ == "__main__":
    sys.exit(main())
