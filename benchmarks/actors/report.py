"""Figures as a table, and which requirements they miss. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.actors.rows import REQUIRED, ROWS

__all__ = ["missed", "table"]

Figures = Mapping[str, Mapping[str, float]]


def figure(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(figures: Figures, versions: Mapping[str, str], machine: Mapping[str, object], rounds: int) -> str:
    """A Markdown table; lower is better everywhere."""
    names = list(figures)
    head = ["", *(name if versions[name] == name else f"{name} {versions[name]}" for name in names)]
    lines = [[f"{row.title} ({row.unit})", *(figure(figures[n].get(row.key)) for n in names)] for row in ROWS]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    body = [
        "| "
        + " | ".join(
            cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in [head, rule, *lines]
    ]
    where = f"{machine['cores']} cores, {machine['cpu']}, {machine['os']}, Python {machine['python']}"
    return "\n".join([f"Medians of {rounds} round{'s' if rounds != 1 else ''}; lower is better. {where}.", "", *body])


def missed(figures: Figures) -> list[str]:
    """The requirements that these figures do not meet, as sentences. Peers and rows that are absent count as met."""
    ours = figures.get("ramure", {})
    texts = []
    for required in REQUIRED:
        mine = ours.get(required.row)
        theirs = 1.0 if required.peer is None else figures.get(required.peer, {}).get(required.row)
        if mine is None or theirs is None or mine <= required.factor * theirs:
            continue
        bound = (
            f"{required.factor:,.0f}"
            if required.peer is None
            else f"{required.factor:.3g} × {required.peer}'s {figure(theirs)}"
        )
        texts.append(f"{required.row}: {figure(mine)} is more than {bound}")
    return texts
