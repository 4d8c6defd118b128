"""`fieldmark predict` against timm's inference, and the backends against eager fp32.

python benchmarks/inference.py endtoend [RUN FOLDER] [--images 2000] [--rounds 5] [--json OUT]
    [--timm-inference INFERENCE.PY]
python benchmarks/inference.py backends [--batch-sizes 1 16 64] [--rounds 5] [--json OUT]
python benchmarks/inference.py int8 [RUN ...] [--batch-sizes 1 32] [--rounds 5] [--json OUT]
python benchmarks/inference.py operations [--batch-sizes 32] [--rounds 5]
python benchmarks/inference.py peer MODEL FOLDER   what `endtoend` runs for want of timm's script

endtoend: whole processes, from start to the written table of predictions, on JPEGs of 500 x 375.
timm's `inference.py` is not in its wheel: take the one of the installed version's tag from its
repository (one file), and name it: --timm-inference inference.py. Without it "timm (loop)" stands
for it: create_model, create_dataset, create_loader with 2 workers and batches of 256, a loop with
softmax and top-k, a CSV. The product runs a run folder with the same architecture and random
weights, on which bf16 always agrees, or RUN, a trained one, on the JPEGs of FOLDER (timm: random
weights, which take as long): `predict` with --backend auto; with --backend openvino (fp32); with an
exported ONNX file; and in int8 (left out where int8 does not agree: random weights decide by a
hair). CPU and wall seconds, alternating, medians.

backends: what `--backend` can name against eager fp32 on ResNet-18 and ViT-tiny with random
weights, in CPU time.

int8: each run's export in int8, as `fieldmark export --precision int8` proves it, and every runtime
of the file against the run in eager fp32, in CPU time. Without a run: ResNet-18 and ViT-tiny with
random weights, where only the speed means something.

operations: where the time of these two int8 files goes, by OpenVINO's own counters, the rest in
bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

sys.path.insert(0, str(Path(__file__).parent))
from figures import Figure, tell
from loading import draw_photos

import fieldmark as fm

NETWORKS = {
    "ViT-tiny": "vit_tiny_patch16_224",
    "ResNet-18": "resnet18",
}
BATCH_SIZES = {"backends": (1, 16, 64), "int8": (1, 32), "operations": (32,)}
NUM_CLASSES = 10
SIZE = 224


def measure_end_to_end(given: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        for name, model, run in prepare_runs(given, photos):
            commands = list_commands(run, photos, model, Path(folder), given)
            measured = alternate(commands, given.rounds, given.images)
            rows += [{"network": name, **row} for row in measured]
    tell(
        [
            Figure(
                f"predict {given.images:,} images, {row['network']}, {row['way']}",
                f"{row['cpu_seconds']} CPU s",
                f"{row['peer_cpu_seconds']} CPU s",
                float(str(row["cpu_ratio"])),
                2.0,
            )
            for row in rows
            if not str(row["way"]).startswith("timm")
        ]
    )
    return rows


def prepare_runs(given: argparse.Namespace, photos: Path) -> Iterator[tuple[str, str, Path]]:
    """Fill `photos`; give name, timm's name and run folder of each network."""
    if given.words:
        source, images = map(Path, given.words)
        photos.mkdir()
        for path in sorted(images.rglob("*.jpg"))[: given.images]:
            shutil.copy(path, photos)
        run = photos.parent / source.name
        shutil.copytree(source, run)  # exports go into it
        model = fm.load_run(run).recipe.model.name
        yield f"{model}, trained", model, run
        return
    draw_photos(photos, given.images)
    for name, model in NETWORKS.items():
        yield name, model, make_run(photos.parent / name, photos, model)


def list_commands(
    run: Path, photos: Path, model: str, folder: Path, given: argparse.Namespace
) -> dict[str, list[str]]:
    predict = [sys.executable, "-m", "fieldmark", "predict"]
    out = ["--out", str(folder / "out.csv"), "--quiet"]
    commands = {"timm (loop)": [sys.executable, __file__, "peer", model, str(photos)]}
    if given.timm_inference is not None:
        words = f"--model {model} --num-classes {NUM_CLASSES} --device cpu --topk 5"
        words += " --label-type none --include-index --no-console-results"
        script = [sys.executable, str(given.timm_inference), *words.split()]
        places = ["--data-dir", str(photos), "--results-dir", str(folder / "timm")]
        weights = folder / f"{model}.pth"  # without one it would fetch the published ones
        torch.save(timm.create_model(model, num_classes=NUM_CLASSES).state_dict(), weights)
        commands = {"timm": [*script, *places, "--checkpoint", str(weights)]}
    commands["fieldmark, auto"] = [*predict, str(run), str(photos), *out]
    commands["fieldmark, openvino"] = [*commands["fieldmark, auto"], "--backend", "openvino"]
    for precision in ("fp32",) if given.without_int8 else ("fp32", "int8"):
        export = [sys.executable, "-m", "fieldmark", "export", str(run), "--images", "32"]
        done = subprocess.run([*export, "--precision", precision], capture_output=True, text=True)
        if done.returncode:
            print(f"{model} {precision}: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        artifact = run / "export" / f"onnx-{precision}"
        commands[f"fieldmark, ONNX {precision}"] = [*predict, str(artifact), str(photos), *out]
    return commands


def alternate(
    commands: dict[str, list[str]], rounds: int, num_images: int
) -> list[dict[str, object]]:
    """Run all commands in turn, `rounds` times."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(spend(command))
    peer_wall, peer_cpu = (
        statistics.median(s) for s in zip(*next(iter(seconds.values())), strict=True)
    )
    rows = []
    for name, spent in seconds.items():
        wall, cpu = (statistics.median(s) for s in zip(*spent, strict=True))
        rows.append(
            {
                "way": name,
                "wall_seconds": round(wall, 2),
                "cpu_seconds": round(cpu, 2),
                "peer_cpu_seconds": round(peer_cpu, 2),
                "images_per_second": round(num_images / wall, 1),
                "wall_ratio": round(peer_wall / wall, 2),
                "cpu_ratio": round(peer_cpu / cpu, 2),
            }
        )
    return rows


def spend(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_run(path: Path, photos: Path, model: str) -> Path:
    """A run folder with random weights, its split made of the photos."""
    from fieldmark.data.prepare import hash_table
    from fieldmark.data.sources import read_table
    from fieldmark.models.classifier import build_classifier
    from fieldmark.recipes.schema import Data, Model, Recipe, Statistics
    from fieldmark.runs.best import Identity, save_best
    from fieldmark.runs.folder import RunFolder
    from fieldmark.transforms import build_transform_record

    names = sorted(file.name for file in photos.glob("*.jpg"))
    lines = [f"photos/{name},{place % NUM_CLASSES}" for place, name in enumerate(names)]
    listing = photos.parent / "table.csv"
    listing.write_text("\n".join(["image,label", *lines]) + "\n")
    table = read_table(listing)
    splits = ("train", "train", "val", "test")
    rows = [type(r)(r.image, r.labels, split=splits[i % 4]) for i, r in enumerate(table.rows)]
    table = table.with_rows(rows)
    section = Model(name=model)
    recipe = Recipe(data=Data(source=str(listing), image_size=SIZE), model=section)
    torch.manual_seed(0)
    classifier, _ = build_classifier(section, num_classes=NUM_CLASSES, image_size=SIZE)
    statistics_of_half = Statistics(mean=(0.5,) * 3, std=(0.5,) * 3)
    record = build_transform_record(
        recipe.data,
        model_statistics=statistics_of_half,
        dataset_statistics=lambda: statistics_of_half,
        interpolation="bicubic",
    )
    folder = RunFolder.create(path)
    folder.save_recipe(recipe)
    folder.save_classes(table)
    folder.save_split(table, hash_table(table))
    identity = Identity("multiclass", table.class_names, section, record)
    save_best(folder.best_dir, classifier.eval(), identity, {"epoch": 0})
    return folder.path


def run_peer(model: str, photos: Path) -> None:
    """Inference as timm's users run it: default options of its script, on the CPU, fp32."""
    from timm.data import create_dataset, create_loader, resolve_data_config

    network = timm.create_model(model, pretrained=False, num_classes=NUM_CLASSES).eval()
    config = resolve_data_config({}, model=network)
    dataset = create_dataset(root=str(photos), name="")
    loader = create_loader(
        dataset,
        batch_size=256,  # the default of its script
        use_prefetcher=False,
        num_workers=2,
        device=torch.device("cpu"),
        **config,
    )
    lines = ["filename,label"]
    names = dataset.filenames(basename=True)
    with torch.inference_mode():
        for images, _ in loader:
            values, indices = network(images).softmax(-1).topk(5, dim=1)
            for row in zip(indices.tolist(), values.tolist(), strict=True):
                lines.append(f"{names[len(lines) - 1]},{row}")
    Path(os.devnull).write_text("\n".join(lines))


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
    parser.add_argument("what", choices=(*BATCH_SIZES, "endtoend", "peer"))
    parser.add_argument(
        "words",
        nargs="*",
        help="of int8: runs; of endtoend: run and folder; of peer: model and folder",
    )
    parser.add_argument("--timm-inference", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help=f"by default {BATCH_SIZES}")
    parser.add_argument("--without-int8", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.what == "peer":
        run_peer(given.words[0], Path(given.words[1]))
        return
    if given.what == "endtoend":
        show(measure_end_to_end(given), given.json)
        return
    sizes = given.batch_sizes or BATCH_SIZES[given.what]
    if given.what == "int8":
        show(measure_int8(list(map(Path, given.words)), given.rounds, sizes), given.json)
    else:
        measure = {"backends": measure_backends, "operations": measure_operations}[given.what]
        show(measure(given.rounds, sizes), given.json)


if __name__ == "__main__":
    main()
