"""`fieldmark predict` against timm's inference, whole processes from start to written table.

python benchmarks/predicting.py [RUN FOLDER] [--images 2000] [--rounds 5] [--without-int8]
    [--timm-inference INFERENCE.PY] [--json OUT]
python benchmarks/predicting.py --peer MODEL FOLDER   what runs for want of timm's script

timm's `inference.py` is not in its wheel: take the one of the installed version's tag from its
repository (one file), and name it: --timm-inference inference.py. Without it "timm (loop)" stands
for it: create_model, create_dataset, create_loader with 2 workers and batches of 256, a loop with
softmax and top-k, a CSV. The product runs a run folder with the same architecture and random
weights on drawn JPEGs of 500 x 375, on which bf16 always agrees, or RUN, a trained one, on the
JPEGs of FOLDER (timm: random weights, which take as long): `predict` with --backend auto; with
--backend openvino (fp32); with an exported ONNX file; and in int8 (left out where int8 does not
agree: random weights decide by a hair). CPU and wall seconds, alternating, medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from figures import Figure, tell
from inference import NETWORKS, NUM_CLASSES, SIZE, show
from loading import draw_photos

import fieldmark as fm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="a trained run and a folder of images")
    parser.add_argument("--peer", nargs=2, metavar=("MODEL", "FOLDER"))
    parser.add_argument("--timm-inference", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-int8", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if len(given.words) not in (0, 2):
        parser.error("name a trained run and a folder of images, or neither")
    if given.peer:
        run_peer(given.peer[0], Path(given.peer[1]))
    else:
        show(measure_end_to_end(given), given.json)


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
    commands = {"timm (loop)": [sys.executable, __file__, "--peer", model, str(photos)]}
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


if __name__ == "__main__":
    main()
