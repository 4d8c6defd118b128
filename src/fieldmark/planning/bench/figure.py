"""Images a second against batch size, with what the machine could do."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from fieldmark.inspection.style import FAINT, INK, RULE, SERIES, SMALL_PT, TEXT_PT, new_figure
from fieldmark.planning.bench.records import NetworkBench
from fieldmark.runs.files import save_bytes

_DPI = 160


def draw_bench(benches: Sequence[NetworkBench]) -> Figure:
    """One line a network with the quartiles around it, and a dashed line for its limit.

    The limit is the images a second at which the machine would do nothing but matrix products.
    """
    limits = benches[0].limits
    verb = {"infer": "Inference", "train": "Training", "load": "Loading"}[benches[0].mode]
    legend_height = 0.2 * -(-len(benches) // 2)
    figure, box = new_figure(
        6.4,
        3.8 + legend_height,
        f"{verb}: images a second by batch size",
        f"{limits.device}, {limits.precision}, {limits.said_threads}; matrix products "
        f"{limits.matmul_gflops:,.0f} GFLOP/s, copying {limits.memory_gb_per_second:,.1f} GB/s. "
        "Bands: quartiles of the repeats. Dashed: nothing but matrix products at that rate.",
    )
    axes = box.axes(0.55, 0.1, 5.8, 3.2)
    for place, bench in enumerate(benches):
        colour = SERIES[place % len(SERIES)]
        sizes = [point.batch_size for point in bench.points]
        speeds = [point.images_per_second for point in bench.points]
        low, high = [p.low for p in bench.points], [p.high for p in bench.points]
        axes.plot(sizes, speeds, color=colour, marker="o", markersize=3.5, linewidth=1.6)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.axhline(bench.limit_images_per_second, color=colour, linestyle=(0, (4, 3)), lw=1)
        axes.lines[-2].set_label(f"{bench.name}, {bench.image_size} px")
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, -0.14),
        ncols=2,
        frameon=False,
        fontsize=TEXT_PT,
        handlelength=1.4,
        borderaxespad=0.0,
    )
    for text in legend.get_texts():
        text.set_color(INK)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    every = sorted({point.batch_size for bench in benches for point in bench.points})
    axes.set_xticks(every, [str(size) for size in every])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_label_some))
    axes.set_xlabel("images in a batch", color=INK, fontsize=TEXT_PT)
    axes.set_ylabel("images a second", color=INK, fontsize=TEXT_PT)
    axes.tick_params(which="both", labelsize=SMALL_PT, colors=FAINT)
    axes.grid(color=RULE, linewidth=0.6)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    for spine in ("left", "bottom"):
        axes.spines[spine].set_color(RULE)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure; the suffix, .png or .svg, names the format."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=_DPI)
    save_bytes(path, content.getvalue())


def _label_some(value: float, _: int) -> str:
    """Between the powers of ten the twos and fives have labels, where a decade is wide."""
    first = f"{value:.0e}"[0]
    return f"{value:,.0f}" if first in "25" else ""
