"""`fieldmark predict` against timm's inference, and the backends against eager fp32.

python benchmarks/inference.py endtoend [--images 2000] [--rounds 5] [--json OUT]
python benchmarks/inference.py backends [--rounds 5] [--json OUT]
python benchmarks/inference.py peer MODEL FOLDER   what `endtoend` runs as the peer

endtoend: whole processes, from start to the written table of predictions, on JPEGs of 500 x 375.
timm's `inference.py` is not in its wheel; the peer here does what that script does: create_model,
create_dataset, create_loader with 2 workers, a loop with softmax and top-k, a CSV. The product runs
a run folder with the same architecture and weights (random: speed does not depend on them) in three
ways: `predict` with --backend auto, with an exported ONNX file, and in int8. Wall and CPU seconds,
alternating, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from loading import draw_photos

NETWORKS = {
    "ViT-tiny": "vit_tiny_patch16_224",
    "ResNet-18": "resnet18",
}
NUM_CLASSES = 10
SIZE = 224


def measure_end_to_end(num_images: int, rounds: int, with_int8: bool) -> list[dict[str, object]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        draw_photos(photos, num_images)
        for name, model in NETWORKS.items():
            run = make_run(Path(folder) / name, photos, model)
            commands = list_commands(run, photos, model, Path(folder), with_int8)
            rows += [{"network": name, **row} for row in alternate(commands, rounds, num_images)]
    return rows


def list_commands(
    run: Path, photos: Path, model: str, folder: Path, with_int8: bool
) -> dict[str, list[str]]:
    predict = [sys.executable, "-m", "fieldmark", "predict"]
    out = ["--out", str(folder / "out.csv"), "--quiet"]
    peer = [sys.executable, __file__, "peer", model, str(photos)]
    commands = {"timm": peer, "fieldmark, auto": [*predict, str(run), str(photos), *out]}
    for precision in ("fp32", "int8") if with_int8 else ("fp32",):
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
    peer_wall, peer_cpu = (statistics.median(s) for s in zip(*seconds["timm"], strict=True))
    rows = []
    for name, spent in seconds.items():
        wall, cpu = (statistics.median(s) for s in zip(*spent, strict=True))
        rows.append(
            {
                "way": name,
                "wall_seconds": round(wall, 2),
                "cpu_seconds": round(cpu, 2),
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
    import timm
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


def measure_backends(rounds: int) -> list[dict[str, object]]:
    """Every backend against eager fp32, one thread, alternating, batches of 1 and 32."""
    from fieldmark.exporting import building
    from fieldmark.exporting.onnx_export import export_onnx
    from fieldmark.exporting.runtimes import run_with_openvino

    rows = []
    for name, model in NETWORKS.items():
        predictor, record = build_predictor(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(predictor.classifier, record, path)
            sped = run_with_openvino(path, threads=torch.get_num_threads(), exact=False)
        ways: dict[str, Callable[..., torch.Tensor]] = {
            "eager": lambda images, _, network=predictor.classifier: network(images),
            "eager, oneDNN's linear": building.build_eager(predictor),
            "bf16": building.build_bf16(predictor),
            "onnxruntime": building.build_onnxruntime(predictor),
            "openvino": building.build_openvino(predictor),
            "openvino, bf16": lambda images, _, run=sped: torch.from_numpy(run(images.numpy())),
        }
        for size in (1, 32):
            images = torch.randn(size, 3, SIZE, SIZE)
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            with torch.inference_mode():
                for turn in range(rounds + 1):
                    for way, compute in ways.items():
                        start = time.perf_counter()
                        compute(images, None)
                        if turn:
                            seconds[way].append(time.perf_counter() - start)
            eager = statistics.median(seconds["eager"])
            rows += [
                {
                    "network": name,
                    "batch_size": size,
                    "way": way,
                    "ms_per_image": round(statistics.median(spent) / size * 1e3, 2),
                    "ratio": round(eager / statistics.median(spent), 2),
                }
                for way, spent in seconds.items()
            ]
    return rows


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


def show(rows: list[dict[str, object]], out: Path | None) -> None:
    if out is not None:
        out.write_text(json.dumps(rows, indent=2) + "\n")
    header = list(rows[0])
    print(" | ".join(header))
    for row in rows:
        print(" | ".join(str(row[key]) for key in header))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("endtoend", "backends", "peer"))
    parser.add_argument("peer", nargs="*")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-int8", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.what == "peer":
        run_peer(given.peer[0], Path(given.peer[1]))
    elif given.what == "endtoend":
        show(measure_end_to_end(given.images, given.rounds, not given.without_int8), given.json)
    else:
        show(measure_backends(given.rounds), given.json)


if __name__ == "__main__":
    main()
