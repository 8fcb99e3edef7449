"""``python -m tests.links [--row NAME] [--write]``: what happens when links and hosts break, and its table."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence

from ramure.agents.pi.toolchain import Toolchain
from tests.conftest import ROOT, _installed
from tests.links.table import ROWS
from tests.links.trial import Result, Row, run
from tests.pages import put_between

PAGE = ROOT / "docs" / "machines.md"
BEGIN, END = "<!-- the measured table of links: make links writes it -->", "<!-- end of the table of links -->"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.links", description=__doc__)
    parser.add_argument("--row", action="append", help="only rows with this in their name (may be repeated)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed, the same commands (default: any)")
    parser.add_argument("-n", type=int, default=1, help="how often (default: once)")
    parser.add_argument("--write", action="store_true", help="put the table of this run into docs/machines.md")
    options = parser.parse_args(arguments)
    rows = [row for row in ROWS if not options.row or any(name in row.name for name in options.row)]
    if not rows:
        parser.error("no row is called so; the rows: " + ", ".join(row.name for row in ROWS))
    seed = secrets.randbelow(100_000) if options.seed is None else options.seed
    results = asyncio.run(trials([(row, seed + n) for n in range(options.n) for row in rows], _installed("toolchain")))
    print(f"\n{table(results)}")
    wrong = [result for result in results if result.wrong]
    print(f"\n{len(results) - len(wrong)} of {len(results)} as expected; seed {seed}")
    if options.write:
        put_between(PAGE, BEGIN, END, table(results))
    return 1 if wrong else 0


async def trials(plan: list[tuple[Row, int]], toolchain: Toolchain) -> list[Result]:
    results = []
    for row, seed in plan:
        results.append(await run(row, seed, toolchain))
        print(results[-1], flush=True)
    return results


def table(results: list[Result]) -> str:
    """What was seen, as Markdown; of several trials of a row the slowest figures."""
    lines = [
        "| what happens | noticed after | commands under way | the agent | connected again | messages, calls |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        of_row = [result for result in results if result.row is row]
        if of_row:
            lines.append("| " + " | ".join(_cells(row, of_row)) + " |")
    return "\n".join(lines)


def _cells(row: Row, results: list[Result]) -> tuple[str, ...]:
    noticed = [result.noticed for result in results if result.noticed is not None]
    back = [result.back_after for result in results if result.back_after is not None]
    lost = sum(result.count("lost") for result in results)
    down = sum(result.count("down") for result in results)
    done = sum(result.count("done") + result.count("timed out") for result in results)
    commands = (
        f"{done} as they said" + (f", {lost} `LinkLost`" if lost else "") + (f", {down} `MachineDown`" if down else "")
    )
    wrong = sum(bool(result.wrong) for result in results)
    counts = f"{sum(result.messages for result in results)}, {sum(result.calls for result in results)}, each once"
    return (
        row.name,
        f"{max(noticed):.1f} s" + (f" (at most {row.noticed_within:g})" if row.noticed_within else "")
        if noticed
        else "–",
        commands,
        _agent(results[0]),
        f"{max(back):.1f} s later" if back else "–",
        counts if not wrong else f"{wrong} of {len(results)} trials NOT as expected",
    )


def _agent(result: Result) -> str:
    if result.ending:
        return f"ends: `{result.ending.partition(':')[2].strip().partition(':')[0]}`; its pi ended by itself"
    if result.downs:
        return f"`agent_down` ({result.downs[0].rpartition(': ')[2]}), and is started again with its conversation"
    return "is adopted again" if result.lost else "sees nothing of it"


if __name__ == "__main__":
    sys.exit(main())
