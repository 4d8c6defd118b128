"""`bench`: how fast networks and loaders are here, beside what the machine could do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fieldmark.data.sources import read_table
from fieldmark.errors import FieldmarkError, hint
from fieldmark.models.catalog import find_model
from fieldmark.planning.bench.figure import draw_bench, save_figure
from fieldmark.planning.bench.limits import measure_limits
from fieldmark.planning.bench.loading import bench_loading
from fieldmark.planning.bench.networks import Progress, SweepOptions, bench_network
from fieldmark.planning.bench.records import LoadBench, Mode, NetworkBench
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.runs.files import save_text
from fieldmark.training.devices import choose_placement

MODES = ("infer", "train", "load")


def bench(
    names: Sequence[str],
    *,
    mode: Mode = "infer",
    recipe: str | Path | Recipe | None = None,
    overrides: Sequence[str] = (),
    image_size: int | None = None,
    num_classes: int = 1000,
    batch_sizes: Sequence[int] = (),
    seconds: float = 60.0,
    progress: Progress = lambda _: None,
) -> list[NetworkBench] | list[LoadBench]:
    """Measure networks by name (infer, train), or the loading of labelled images (load).

    `image_size` in px; default: each network's own, and the recipe's for loading. `batch_sizes`:
    those to measure; none: 1, 2, 4 ... until memory or `seconds` (of one network) are up, or
    three larger ones were no faster. `recipe` and `overrides` give the rest: optimizer, patches,
    head, precision, device, workers, cache. Raises `UnknownModelError`, `RecipeError`,
    `DataError`.
    """
    if mode not in MODES:
        raise FieldmarkError(
            f"mode '{mode}': expected one of {', '.join(MODES)}.{hint(mode, MODES)}"
        )
    if not names:
        raise FieldmarkError("bench: give the names of networks, or for mode load of images")
    bad = [size for size in batch_sizes if size < 1]
    if bad or num_classes < 1 or seconds <= 0:
        raise FieldmarkError(
            f"bench: batch sizes, classes and seconds are positive, not {[*bad] or num_classes}, "
            f"{seconds:g}"
        )
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides)
    if mode == "load":
        return [_bench_data(name, chosen, image_size, progress) for name in names]
    # All names are looked up before the first is measured, so that a wrong one costs nothing.
    sized = [_with_network(chosen, name, image_size) for name in names]
    placement = choose_placement(chosen)
    progress("the machine's own rates")
    limits = measure_limits(placement.device, placement.precision)
    options = SweepOptions(tuple(batch_sizes), max_seconds=seconds, progress=progress)
    return [
        bench_network(one, mode, limits, num_classes=num_classes, options=options) for one in sized
    ]


def save_bench(results: Sequence[NetworkBench] | Sequence[LoadBench], out: Path) -> list[Path]:
    """Write bench.json into a folder, and for networks the figure as PNG and SVG."""
    written = [out / "bench.json"]
    save_text(written[0], json.dumps([asdict(result) for result in results], indent=2) + "\n")
    networks = [result for result in results if isinstance(result, NetworkBench)]
    if networks:
        figure = draw_bench(networks)
        for suffix in ("png", "svg"):
            written.append(out / f"bench.{suffix}")
            save_figure(figure, written[-1])
    return written


def _bench_data(
    source: str, recipe: Recipe, image_size: int | None, progress: Progress
) -> LoadBench:
    data = recipe.data.model_copy(update={} if image_size is None else {"image_size": image_size})
    sized = recipe.model_copy(update={"data": data})
    workers = choose_placement(sized).num_workers
    return bench_loading(
        read_table(source, task=recipe.task), sized, num_workers=workers, progress=progress
    )


def _with_network(recipe: Recipe, name: str, image_size: int | None) -> Recipe:
    size = find_model(name).image_size if image_size is None else image_size
    model = recipe.model.model_copy(update={"name": name, "pretrained": False, "weights": None})
    data = recipe.data.model_copy(update={"image_size": size})
    return recipe.model_copy(update={"model": model, "data": data})
