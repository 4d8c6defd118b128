"""The loss landscape of small and large batches, with and without the IFA head.

    python benchmarks/landscape_study.py [--seeds 3] [--out FOLDER]

ViT-tiny is fine-tuned on 12 leaf species at 64 px: four variants that differ in the head and the
batch size alone, over seeds. A seed gives all four the same split, order and images to measure
on. Trained runs, measured figures and points of the landscape are kept in FOLDER and not computed
again. The table goes to standard output, the figure to FOLDER/landscape-study.png. The data and
weights lie in a folder `shared` beside the project.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

import fieldmark as fm
from fieldmark.data.table import Table
from fieldmark.inspection.landscape.directions import draw_plane
from fieldmark.inspection.landscape.losses import draw_sample
from fieldmark.inspection.landscape.points import PointStore
from fieldmark.inspection.landscape.sharpness import measure_sharpness
from fieldmark.inspection.landscape.surface import Surface, compute_surface
from fieldmark.inspection.landscape.weights import is_moved
from fieldmark.inspection.subject import Subject
from fieldmark.verbs.run import Run, load_run

SHARED = Path(__file__).resolve().parents[2] / "shared"
VIT = SHARED / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"
NUM_CLASSES, IMAGES_PER_CLASS, EPOCHS = 12, 40, 5
NUM_IMAGES, POINTS, DISTANCE = 64, 17, 0.5
COMMON = (
    "model.name=vit_tiny_patch16_224",
    "model.pretrained=false",
    f"model.weights={VIT}",
    "data.image_size=64",
    "data.normalize=half",
    "optim.name=adamw",
    "optim.lr=2e-4",
    "optim.weight_decay=0.05",
    "optim.schedule=cosine",
    "optim.warmup=0.1",
    f"optim.epochs={EPOCHS}",
    "device=cpu",
    "precision=fp32",
    "workers=0",
)
VARIANTS = {
    f"{head}, batch {batch}": (
        f"model.head={head}",
        f"model.head_zero_init={str(head == 'linear').lower()}",
        f"optim.batch_size={batch}",
    )
    for batch in (8, 64)
    for head in ("linear", "ifa")
}
FIGURES = ("test_accuracy", "loss", "top_eigenvalue", "sam_rise", "filter_rise")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/landscape-study"))
    options = parser.parse_args(arguments)
    table = read_leaves()
    results = load_results(options.out)
    for seed in range(options.seeds):
        for name, overrides in VARIANTS.items():
            if (name, seed) not in results:
                results[name, seed] = study_one(table, name, overrides, seed, options.out)
                save_results(options.out, results)
    surfaces = {name: compute_plane(table, name, options.out) for name in VARIANTS}
    save_surfaces(options.out, surfaces)
    draw(surfaces, options.out / "landscape-study.png")
    print(render_table(results))


def read_leaves() -> Table:
    """The first images of the largest classes, in the table's order."""
    table = fm.read_table(SHARED / "data" / "leaves" / "train.csv")
    largest = [name for name, _ in table.class_counts().most_common(NUM_CLASSES)]
    seen = dict.fromkeys(largest, 0)
    rows = []
    for row in table.rows:
        if row.label in seen and seen[row.label] < IMAGES_PER_CLASS:
            seen[row.label] += 1
            rows.append(row)
    return Table(tuple(rows), table.store, table.source, table.task, tuple(sorted(largest)))


def study_one(
    table: Table, name: str, overrides: Sequence[str], seed: int, out: Path
) -> dict[str, Any]:
    """Train and measure one variant."""
    started = time.time()
    path = run_path(out, name, seed)
    run = fm.train(
        table, overrides=(*COMMON, *overrides, f"seed={seed}"), out=path, resume=path.exists()
    )
    trained = time.time()
    accuracy = Run(run.folder, table).evaluate().metrics["accuracy"]
    subject, sample = open_subject(table, path, seed)
    sharpness = measure_sharpness(subject.classifier, sample, seed=seed, max_steps=14)
    found = {
        "variant": name,
        "seed": seed,
        "test_accuracy": accuracy,
        "train_seconds": round(trained - started, 1),
        "seconds": round(time.time() - started, 1),
        **asdict(sharpness),
    }
    print(json.dumps(found), flush=True)
    return found


def open_subject(table: Table, path: Path, seed: int) -> tuple[Subject, Any]:
    """The run, and the training images that its figures are measured on."""
    run = load_run(path)
    own = run.folder.restore_table(table)
    subject = Subject(run.folder, run.predictor(), own)
    return subject, draw_sample(subject, own, split="train", num_images=NUM_IMAGES, seed=seed)


def compute_plane(table: Table, name: str, out: Path) -> Surface:
    """The landscape of a variant's first seed."""
    subject, sample = open_subject(table, run_path(out, name, 0), 0)
    named = dict(subject.classifier.named_parameters())
    plane = draw_plane({n: p for n, p in named.items() if is_moved(n, p)}, seed=0)
    return compute_surface(
        subject.classifier,
        sample,
        plane,
        points=POINTS,
        distance=DISTANCE,
        few=None,
        store=PointStore.inside(
            subject.folder.figures_dir,
            {"points": POINTS, "distance": DISTANCE, "images": NUM_IMAGES, "seed": 0},
        ),
    )


def run_path(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-').replace(' ', '')}-s{seed}"


def load_results(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    path = out / "results.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {(line["variant"], line["seed"]): line for line in map(json.loads, lines)}


def save_results(out: Path, results: dict[tuple[str, int], dict[str, Any]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in results.values())
    )


def save_surfaces(out: Path, surfaces: dict[str, Surface]) -> None:
    np.savez(out / "surfaces.npz", **{name: s.losses for name, s in surfaces.items()})


def render_table(results: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
    lines = [f"| variant | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    for name in VARIANTS:
        rows = [line for (variant, _), line in results.items() if variant == name]
        cells = [say([row[figure] for row in rows]) for figure in FIGURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def say(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.3g}" if len(values) > 1 else ""
    return f"{mean(values):.3g}{spread}"


def draw(surfaces: dict[str, Surface], path: Path) -> None:
    from fieldmark.inspection.landscape.drawing import draw_side_by_side

    subtitle = (
        f"{NUM_IMAGES} fixed training images, seed 0, evaluation mode; one scale of loss. At 1 "
        "every filter would have moved by its own length."
    )
    figure = draw_side_by_side(
        surfaces, title="Loss landscape of ViT-tiny on leaves", subtitle=subtitle
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
