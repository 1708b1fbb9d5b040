"""The plots of docs/performance.md: matplotlib, and no decision about what was good.

Promises the same file for the same figures, and text that stays text, so that a change of figures is all that a diff shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.measuring import LOOPS
from benchmarks.record import short

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Figures = dict[tuple[str, str, str], dict[str, float]]

SIZES = [1, 32, 128]  # MB
COLOURS = {
    "gibbs": "#c0392b",
    "anyio.to_process": "#34495e",
    "pebble": "#7f8c8d",
    "loky": "#b2bec3",
    "trio-parallel": "#5d8aa8",
    "memcpy": "#27ae60",
    "ProcessPoolExecutor": "#7f8c8d",
    "LitServe": "#b2bec3",
    "mosec": "#27ae60",
}


def draw(figures: Figures, folder: Path) -> dict[str, str]:
    """The title of each plot that could be drawn, by its file's name."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "gibbs", "font.family": "sans-serif", "font.size": 9}
    )
    from matplotlib import pyplot

    folder.mkdir(exist_ok=True)
    drawn = {}
    for name, (title, plot) in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=(7, 3.2))
        if plot(axes, figures):
            axes.set_title(title)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
            figure.tight_layout()
            figure.savefig(folder / name, metadata={"Date": None})
            strip_line_ends(folder / name)
            drawn[name] = title
        pyplot.close(figure)
    return drawn


def strip_line_ends(path: Path) -> None:
    """matplotlib leaves blanks at the ends of lines."""
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def latency(axes: Any, figures: Figures) -> bool:
    axes.set_ylabel("µs: p50 (bar) and p99 (line)")
    return bars(axes, figures, "latency", "p50, µs", upper="p99, µs")


def throughput(axes: Any, figures: Figures) -> bool:
    axes.set_ylabel("requests/s")
    return bars(axes, figures, "throughput", "256 in flight, requests/s")


def over_http(axes: Any, figures: Figures) -> bool:
    axes.set_ylabel("requests/s")
    return bars(axes, figures, "over_http", "64 connections, requests/s")


def bars(axes: Any, figures: Figures, benchmark: str, what: str, upper: str = "") -> bool:
    """A group for each loop, in it a bar for each who was measured there."""
    loops = [loop for loop in LOOPS if (benchmark, what, loop) in figures]
    labelled = set()
    for at, loop in enumerate(loops):
        row = figures[benchmark, what, loop]
        width = 0.8 / len(row)
        for number, (who, value) in enumerate(row.items()):
            x = at + (number - (len(row) - 1) / 2) * width
            label = None if who in labelled else who
            labelled.add(who)
            axes.bar(x, value, width * 0.92, color=COLOURS.get(who), label=label)
            top = figures.get((benchmark, upper, loop), {}).get(who, value)
            axes.vlines(x, value, top, color=COLOURS.get(who), linewidth=1)
            axes.text(x, top, short(value), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(loops)), loops)
    return bool(loops)


def arrays(axes: Any, figures: Figures) -> bool:
    """One loop is enough: they differ little beside the copying."""
    loop = next((loop for loop in LOOPS if ("arrays", "1 MB there and back, ms", loop) in figures), None)
    if loop is None:
        return False
    rows = {size: figures.get(("arrays", f"{size} MB there and back, ms", loop), {}) for size in SIZES}
    for who in ("anyio.to_process", "gibbs", "memcpy"):
        points = [(size, row[who]) for size, row in rows.items() if who in row]
        label = "one plain copy" if who == "memcpy" else who
        axes.plot(*zip(*points, strict=True), marker="o", color=COLOURS[who], label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(SIZES, [f"{size} MB" for size in SIZES])
    axes.set_ylabel(f"ms, on {loop}")
    return True


PLOTS: dict[str, tuple[str, Callable[[Any, Figures], bool]]] = {
    "latency.svg": ("one tiny request at a time, 1 worker", latency),
    "throughput.svg": ("tiny requests, 2 workers, 256 in flight", throughput),
    "arrays.svg": ("float64 there and back, 1 worker", arrays),
    "over_http.svg": ("a tiny model behind HTTP, 2 workers", over_http),
}
