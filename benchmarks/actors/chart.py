"""``python -m benchmarks.actors.chart FILE.png``: draws the figures that come in on standard input, as JSON."""

from __future__ import annotations

import json
import sys

from benchmarks.actors.rows import ROWS


def draw(figures: dict[str, dict[str, float]], file: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    grid, axes = plt.subplots(2, 4, figsize=(16, 8), constrained_layout=True)
    for row, axis in zip(ROWS, axes.flat, strict=True):
        names = [name for name in figures if row.key in figures[name]]
        values = [figures[name][row.key] for name in names]
        colours = ["#2a7f62" if name == "ramure" else "#b9c0c6" for name in names]
        bars = axis.barh(names[::-1], values[::-1], color=colours[::-1])
        axis.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 2, max(values) * 4)
        axis.set_title(f"{row.title} ({row.unit})", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    grid.suptitle("The actor kernel beside its peers: lower is better, logarithmic")
    grid.savefig(file, dpi=110)


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
