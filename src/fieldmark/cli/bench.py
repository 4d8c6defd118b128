"""`fieldmark bench`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich import box
from rich.table import Table
from rich.text import Text

from fieldmark.cli.output import Output, stdout_for_results

if TYPE_CHECKING:
    from fieldmark.planning.bench.records import LoadBench, NetworkBench

WHY_STOPPED = {
    "asked": "",
    "memory": "a larger batch would not fit in memory",
    "time": "the time is up (--seconds)",
    "flat": "larger batches are no faster",
}


def bench(
    names: Annotated[list[str], Parameter(name="NAME")],
    /,
    *,
    mode: Literal["infer", "train", "load"] = "infer",
    image_size: int | None = None,
    classes: int = 1000,
    batch_size: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    seconds: float = 60.0,
    recipe: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)] = (),
    out: Path | None = None,
    output: Output = Output(),
) -> None:
    """Measure images a second, latency and memory on this machine, beside the machine's limit.

    The limit is measured on the spot: the rate of matrix products in the same precision, and of
    copying memory. Medians of at least five repeats after a warm-up, quartiles in brackets.

    Parameters
    ----------
    names
        Networks (`fieldmark models` lists them); for --mode load labelled images, as for train.
    mode
        infer: forward. train: forward, backward and optimizer. load: read, decode, augment.
    image_size
        Side of the images, px. Default: each network's own, or the recipe's.
    classes
        Number of classes.
    batch_size
        Batch sizes to measure. Default: 1, 2, 4 ... to the limit of memory or time, or until
        larger ones are no faster.
    seconds
        At most about so long for each network.
    recipe
        Where optimizer, head, precision, workers and cache come from.
    set_
        Keys of the recipe: precision=fp32 model.head=ifa optim.name=sgd ...
    out
        Folder for bench.json and the figure.
    """
    from fieldmark.planning.bench.records import NetworkBench
    from fieldmark.verbs.bench import bench as bench_verb
    from fieldmark.verbs.bench import save_bench

    with stdout_for_results():
        found = bench_verb(
            names,
            mode=mode,
            recipe=recipe,
            overrides=set_,
            image_size=image_size,
            num_classes=classes,
            batch_sizes=batch_size,
            seconds=seconds,
            progress=output.tell,
        )
        written = [] if out is None else save_bench(found, out)
    shown: list[str | Table | Text] = []
    for one in found:
        shown += _show_network(one) if isinstance(one, NetworkBench) else _show_loading(one)
    result = {
        "mode": mode,
        "results": [_as_json(one) for one in found],
        "files": [str(path) for path in written],
    }
    output.answer(result, *shown, *(f"written  {path}" for path in written))


def _show_network(bench: NetworkBench) -> list[str | Table | Text]:
    limits = bench.limits
    table = Table(box=box.SIMPLE_HEAD, title=None, pad_edge=False)
    for name in ("batch", "images/s", "(quartiles)", "ms a batch", "of the limit", "peak MB"):
        table.add_column(name, justify="right")
    for point in bench.points:
        share = "" if point.share_of_limit is None else f"{point.share_of_limit:.0%}"
        table.add_row(
            str(point.batch_size),
            _say(point.images_per_second),
            f"({_say(point.low)}-{_say(point.high)})",
            f"{point.latency_ms:,.1f}",
            share,
            f"{point.peak_memory_mb:,.0f}",
            style="bold" if point is bench.best else None,
        )
    head = (
        f"{bench.name}  {bench.mode}, {bench.image_size} px, {bench.parameters:,} parameters, "
        f"{bench.mult_adds / 1e6:,.0f} M mult-adds"
    )
    machine = (
        f"limit    {_say(bench.limit_images_per_second)} images/s: matrix products alone, at the "
        f"{limits.matmul_gflops:,.0f} GFLOP/s of this machine ({limits.device}, "
        f"{limits.precision}, {limits.said_threads}); it copies "
        f"{limits.memory_gb_per_second:,.1f} GB/s"
    )
    why = WHY_STOPPED[bench.stopped]
    return [Text(head, style="bold"), machine, table, *([f"ended    {why}"] if why else [])]


def _show_loading(bench: LoadBench) -> list[str | Table | Text]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("epoch", "images", "images/s", "images per CPU second"):
        table.add_column(name, justify="right")
    for epoch in bench.epochs:
        table.add_row(
            str(epoch.epoch),
            f"{epoch.num_images:,}",
            _say(epoch.images_per_second),
            _say(epoch.images_per_cpu_second),
        )
    kept = "decoded images are kept after the first epoch" if bench.keeps_decoded else "cache=off"
    head = (
        f"{bench.source}  load, {bench.image_size} px, batches of {bench.batch_size}, "
        f"{bench.num_workers} workers, {kept}"
    )
    return [Text(head, style="bold"), table, f"memory   {bench.peak_memory_mb:,.0f} MB at the most"]


def _say(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _as_json(bench: NetworkBench | LoadBench) -> dict[str, object]:
    from fieldmark.planning.bench.records import NetworkBench

    result: dict[str, object] = asdict(bench)
    if isinstance(bench, NetworkBench):
        result["best"] = asdict(bench.best)
        result["limit_images_per_second"] = bench.limit_images_per_second
    else:
        result["epochs"] = [
            {
                **asdict(epoch),
                "images_per_second": epoch.images_per_second,
                "images_per_cpu_second": epoch.images_per_cpu_second,
            }
            for epoch in bench.epochs
        ]
    return result
