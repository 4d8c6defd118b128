"""Ways to compute a classifier on one thread, in CPU time and in agreement with eager fp32.

python benchmarks/inference.py backends [--batch-sizes 1 16 64] [--rounds 5] [--json OUT]
python benchmarks/inference.py agreement RUN ... [--json OUT]
python benchmarks/inference.py int8 [RUN ...] [--batch-sizes 1 32] [--rounds 5] [--json OUT]
python benchmarks/inference.py operations [--batch-sizes 32] [--rounds 5]

backends: what `--backend` can name against eager fp32 on ResNet-18 and ViT-tiny with random
weights, in CPU time.

agreement: what bf16, and what `predict` takes by itself, do to the answers of trained runs on their
test images: how many are computed twice, how many decisions move, how many probabilities differ by
more than the bound.

int8: each run's export in int8, as `fieldmark export --precision int8` proves it, and every runtime
of the file against the run in eager fp32, in CPU time. Without a run: ResNet-18 and ViT-tiny with
random weights, where only the speed means something.

operations: where the time of these two int8 files goes, by OpenVINO's own counters, the rest in
bf16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from figures import Figure, tell

import fieldmark as fm

NETWORKS = {
    "ViT-tiny": "vit_tiny_patch16_224",
    "ResNet-18": "resnet18",
}
BATCH_SIZES = {"backends": (1, 16, 64), "int8": (1, 32), "operations": (32,)}
NUM_CLASSES = 10
SIZE = 224


def measure_backends(rounds: int, sizes: Sequence[int]) -> list[dict[str, object]]:
    """Every backend against eager fp32, alternating."""
    from fieldmark.exporting import building

    rows = []
    for name, model in NETWORKS.items():
        predictor, _ = build_predictor(model)
        ways = {
            "eager": lambda images, _, network=predictor.classifier: network(images),
            "eager, oneDNN's linear": building.build_eager(predictor),
            "bf16": building.build_bf16(predictor),
            "onnxruntime": building.build_onnxruntime(predictor),
            "openvino": building.build_openvino(predictor),
            "openvino-bf16": building.build_openvino_bf16(predictor),
        }
        for size in sizes:
            images = torch.randn(size, 3, SIZE, SIZE)
            calls = {way: partial(compute, images, None) for way, compute in ways.items()}
            rows += [
                {"network": name, "batch_size": size, **row}
                for row in time_in_turn(calls, rounds, size)
            ]
    show_ratios(rows)
    return rows


def measure_agreement(runs: list[Path]) -> list[dict[str, object]]:
    """What faster ways do to the answers of trained runs on their test images."""
    from fieldmark.data.loaders import build_loader
    from fieldmark.exporting.backends import PREDICT_BOUND, choose_backend

    rows = []
    for path in runs:
        run = fm.load_run(path)
        predictor, table = run.predictor(), run.select_images("test")
        loader = build_loader(
            table, predictor.transform, batch_size=32, order=None, seed=0, num_workers=0
        )
        batches = [batch.images for batch in loader.epoch(0)]
        eager = answer(predictor.classifier, batches)
        for wanted in ("bf16", "openvino-bf16", "auto"):
            choice = choose_backend(predictor, table, wanted, bound=PREDICT_BOUND)
            found = answer(choice.backend, batches)
            difference = (found - eager).abs().max(dim=1).values
            again = choice.trials[-1].again if choice.trials else 0.0
            rows.append(
                {
                    "run": path.name,
                    "way": choice.name if wanted != "auto" else f"auto: {choice.name}",
                    "images": len(difference),
                    "calibrated_twice": f"{again:.0%}",
                    "moved": int((found.argmax(dim=1) != eager.argmax(dim=1)).sum()),
                    f"over_{PREDICT_BOUND}": int((difference > PREDICT_BOUND).sum()),
                    "largest": round(float(difference.max()), 4),
                }
            )
    return rows


@torch.inference_mode()
def answer(backend: Callable[..., torch.Tensor], batches: list[torch.Tensor]) -> torch.Tensor:
    """Probabilities (N, K) of classes that exclude each other."""
    return torch.cat([backend(images, None).float().softmax(dim=1) for images in batches])


def measure_int8(runs: list[Path], rounds: int, sizes: Sequence[int]) -> list[dict[str, object]]:
    """Exports in int8: agreement by the proof, and speed of each runtime."""
    from fieldmark.verbs.exporting import export

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in runs:
            run, before = fm.load_run(path), time.process_time()
            made = export(run, precision="int8", out=Path(folder) / path.name, tell=print)
            spent = round(time.process_time() - before)
            parity = made.parity
            print(
                f"{path.name}: {parity.num_images} images of {parity.images_from}; "
                f"{len(parity.kept_fp32)} layers in fp32; {spent} CPU s"
            )
            agreements = {runtime.name: runtime.agreement for runtime in parity.runtimes}
            rows += [
                {"network": path.name, **row, **told_of(agreements.get(str(row["way"])))}
                for row in time_file(made.file, run.predictor().classifier, rounds, sizes)
            ]
        for name, model in NETWORKS.items() if not runs else ():
            path = Path(folder) / f"{model}.onnx"
            network = export_int8(model, path)
            rows += [
                {"network": f"{name}, random", **row, **told_of(None)}
                for row in time_file(path, network, rounds, sizes)
            ]
    show_ratios(rows)
    tell(
        [
            Figure(
                f"int8 of {row['network']}, {row['way']}, batch {row['batch_size']}",
                f"{row['cpu_ms_per_image']} CPU ms",
                "eager fp32",
                float(str(row["ratio"])),
                7.0 if "ResNet" in str(row["network"]) else 4.0,
            )
            for row in rows
            if row["way"] != "eager"
        ]
    )
    return rows


def told_of(agreement) -> dict[str, object]:
    if agreement is None:
        return dict.fromkeys(("agreement", "accuracy"), "-")
    change = f"{agreement.before or 0:.3f} -> {agreement.after or 0:.3f}"
    return {"agreement": f"{agreement.top1:.4f}", "accuracy": change}


def export_int8(model: str, path: Path) -> torch.nn.Module:
    """Write a network of random weights with all layers in int8 but the head; the fp32 network."""
    import onnx

    from fieldmark.exporting.onnx_export import export_onnx
    from fieldmark.exporting.quantization import quantize

    predictor, record = build_predictor(model)
    export_onnx(predictor.classifier, record, path)
    noise = torch.randn(16, 3, SIZE, SIZE).numpy()
    onnx.save(next(quantize(onnx.load(path), noise)).model, path)
    return predictor.classifier


def time_file(
    path: Path, network: torch.nn.Module, rounds: int, sizes: Sequence[int]
) -> list[dict[str, object]]:
    from fieldmark.exporting.runtimes import run_with_onnxruntime, run_with_openvino

    threads = torch.get_num_threads()
    ways = {
        "eager": lambda images: network(torch.from_numpy(images)),
        "onnxruntime": run_with_onnxruntime(path, threads=threads),
        "openvino": run_with_openvino(path, threads=threads, exact=True),
        "openvino-bf16": run_with_openvino(path, threads=threads, exact=False),
    }
    rows = []
    for size in sizes:
        images = torch.randn(size, 3, SIZE, SIZE).numpy()
        calls = {way: partial(compute, images) for way, compute in ways.items()}
        rows += [{"batch_size": size, **row} for row in time_in_turn(calls, rounds, size)]
    return rows


def measure_operations(rounds: int, sizes: Sequence[int]) -> list[dict[str, object]]:
    """Milliseconds an image of each kind of operation, the most costly first."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16", "PERF_COUNT": True}
    core = openvino.Core()
    rows: list[dict[str, object]] = []
    for name, model in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{model}.onnx"
            export_int8(model, path)
            request = core.compile_model(path, "CPU", settings).create_infer_request()
        for size in sizes:
            images = torch.randn(size, 3, SIZE, SIZE).numpy()
            spent: dict[str, list[float]] = {}
            for _ in range(rounds):
                request.infer([images])
                for kind, seconds in sum_by_kind(request.profiling_info).items():
                    spent.setdefault(kind, []).append(1e3 * seconds / size)
            medians = {kind: statistics.median(found) for kind, found in spent.items()}
            medians["all"] = sum(medians.values())
            rows += [
                {
                    "network": name,
                    "batch_size": size,
                    "operation": kind,
                    "ms_per_image": f"{ms:.2f}",
                }
                for kind, ms in sorted(medians.items(), key=lambda one: -one[1])
                if ms > 0.005
            ]
    return rows


def sum_by_kind(profile: Iterable[Any]) -> dict[str, float]:
    """Seconds by kind of operation and the kernel's numbers, as "FullyConnected i8"."""
    seconds: dict[str, float] = {}
    for node in profile:
        kind = f"{node.node_type} {node.exec_type.rpartition('_')[2]}"
        seconds[kind] = seconds.get(kind, 0.0) + node.real_time.total_seconds()
    return seconds


def time_in_turn(
    calls: dict[str, Callable[[], object]], rounds: int, size: int
) -> list[dict[str, object]]:
    """Median CPU milliseconds per image, alternating; small batches take more turns."""
    turns = rounds * max(1, 8 // size)
    seconds: dict[str, list[float]] = {way: [] for way in calls}
    with torch.inference_mode():
        for turn in range(turns + 1):
            for way, compute in calls.items():
                start = time.process_time()
                compute()
                if turn:
                    seconds[way].append(time.process_time() - start)
    medians = {way: statistics.median(spent) for way, spent in seconds.items()}
    return [
        {
            "way": way,
            "cpu_ms_per_image": round(median / size * 1e3, 2),
            "ratio": round(medians["eager"] / median, 2),
        }
        for way, median in medians.items()
    ]


def build_predictor(model: str):
    from fieldmark.exporting.record import ArtifactRecord
    from fieldmark.models.classifier import build_classifier
    from fieldmark.recipes.schema import Augment, Model
    from fieldmark.runs.predictor import Predictor
    from fieldmark.transforms import TransformRecord, build_eval_transform

    torch.manual_seed(0)
    classifier, _ = build_classifier(Model(name=model), num_classes=NUM_CLASSES, image_size=SIZE)
    half = (0.5, 0.5, 0.5)
    transform = TransformRecord(SIZE, "squash", 1.0, "bicubic", half, half, Augment())
    names = tuple(map(str, range(NUM_CLASSES)))
    predictor = Predictor(classifier.eval(), "multiclass", names, build_eval_transform(transform))
    record = ArtifactRecord(
        "multiclass", names, transform.to_json(), model, "fp32", 20, None, "", ""
    )
    return predictor, record


def show_ratios(rows: list[dict[str, object]]) -> None:
    """One line a network: eager in ms an image, the others as times faster; by batch size."""
    ways = list(dict.fromkeys(str(row["way"]) for row in rows))
    sizes = " / ".join(dict.fromkeys(str(row["batch_size"]) for row in rows))
    heads = [f"{way}, CPU ms an image" if way == "eager" else way for way in ways]
    print(f"\nbatch {sizes}, against eager fp32\n")
    print(f"| network | {' | '.join(heads)} |\n|{'---|' * (len(ways) + 1)}")
    for network in dict.fromkeys(row["network"] for row in rows):
        of_network = [row for row in rows if row["network"] == network]
        cells = [
            " / ".join(
                f"{row['cpu_ms_per_image']}" if way == "eager" else f"{row['ratio']}x"
                for row in of_network
                if row["way"] == way
            )
            for way in ways
        ]
        print(f"| {network} | {' | '.join(cells)} |")
    print(flush=True)


def show(rows: list[dict[str, object]], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(rows, indent=2) + "\n")
    header = list(rows[0])
    print(" | ".join(header))
    for row in rows:
        print(" | ".join(str(row[key]) for key in header))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=(*BATCH_SIZES, "agreement"))
    parser.add_argument("runs", nargs="*", type=Path, help="of int8 and agreement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help=f"by default {BATCH_SIZES}")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "agreement":
        if not given.runs:
            parser.error("agreement: name trained runs")
        show(measure_agreement(given.runs), given.json)
        return
    sizes = given.batch_sizes or BATCH_SIZES[given.what]
    if given.what == "int8":
        show(measure_int8(given.runs, given.rounds, sizes), given.json)
    else:
        measure = {"backends": measure_backends, "operations": measure_operations}[given.what]
        show(measure(given.rounds, sizes), given.json)


if __name__ == "__main__":
    main()
