"""CPU seconds of a head on stored features, against running the frozen backbone each epoch.

python benchmarks/stored_features.py --images 600 --rounds 2

ViT-tiny on the leaves in ../shared; seconds count from the built network to the last saved weights,
with evaluation and checkpoints. Where the backbone runs in each epoch, two epochs are trained and
the second is counted 19 times. Then a linear head on 100,000 random features of width 192.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from figures import Figure, tell
from torch import nn

import fieldmark as fm
from fieldmark.data.columns import Labels
from fieldmark.data.sampling import EpochOrder
from fieldmark.data.sources import build_table
from fieldmark.data.stores import MemoryStore
from fieldmark.data.table import Row, Table
from fieldmark.models.classifier import HeadOnly, build_classifier
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.recipes.schema import Data
from fieldmark.runs.feature_store import FeatureStore, Origin
from fieldmark.training.devices import Placement, build_accelerator
from fieldmark.training.events import EpochDone, Event, ModelReady
from fieldmark.training.frozen import FeatureLoader
from fieldmark.training.loop import Parts, Progress, fit
from fieldmark.training.losses import build_loss
from fieldmark.training.objectives import ClassificationObjective
from fieldmark.training.optimizers import build_optimizer
from fieldmark.training.schedules import Schedule

SHARED = Path(__file__).resolve().parents[2] / "shared"
LEAVES = SHARED / "data" / "leaves" / "train.csv"
WEIGHTS = SHARED / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"


def measure_run(
    table: Table, *, views: int, precision: str, epochs: int, seed: int = 0
) -> tuple[float, float]:
    """CPU seconds and test accuracy; the accuracy is nan where epochs were extrapolated."""
    marks: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, ModelReady | EpochDone):
            marks.append(time.process_time())

    trained = epochs if views else min(2, epochs)
    settings = [
        *("model.name=vit_tiny_patch16_224", f"model.weights={WEIGHTS}", "data.normalize=half"),
        *(f"optim.epochs={trained}", f"views={views}", f"precision={precision}", "workers=0"),
        *("data.split.near_duplicates=false", "optim.lr=1e-3", f"seed={seed}"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        recipe = read_recipe("leaves-deit-frozen", ["model.pretrained=false", *settings])
        run = fm.train(table, recipe=recipe, out=Path(folder) / "run", listener=listen)
        if not views:
            last = marks[-1] - marks[-2]
            return marks[-1] - marks[0] + (epochs - trained) * last, float("nan")
        return marks[-1] - marks[0], run.evaluate().metrics["accuracy"]


def measure_head(num_images: int, *, batch_size: int, epochs: int, precision: str) -> float:
    """CPU seconds in which a head learns from random features of width 192, without evaluation."""
    generator = np.random.default_rng(0)
    names = tuple(f"class {index}" for index in range(100))
    labels = generator.integers(0, 100, num_images)
    rows = tuple(Row(image=str(i), labels=(names[k],), split="train") for i, k in enumerate(labels))
    recipe = Recipe.model_validate(
        {
            "model": {"name": "vit_tiny_patch16_224", "freeze": "backbone"},
            "optim": {"batch_size": batch_size, "epochs": epochs},
            "precision": precision,
        }
    )
    table = Table(rows=rows, class_names=names, store=MemoryStore({}), source="random")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(
            Path(folder), Origin("random", "none", "none", "pooled", precision, (192,))
        )
        keys = np.arange(num_images, dtype=np.uint64)
        store.add(keys, [torch.from_numpy(generator.standard_normal((num_images, 192)))])
        order = EpochOrder.for_training(table, seed=0, sampling="natural")
        loader = FeatureLoader(
            store, store.find(keys[:, None]), Labels(table), order, batch_size, seed=0
        )
        parts = _build_parts(recipe, loader, np.bincount(labels, minlength=100).tolist())
        start = time.process_time()
        for _ in fit(parts, recipe, Progress()):
            pass
        return time.process_time() - start


def _build_parts(recipe: Recipe, loader: FeatureLoader, counts: list[int]) -> Parts:
    classifier, _ = build_classifier(recipe.model, num_classes=len(counts), image_size=224)
    accelerator = build_accelerator(Placement("cpu", recipe.precision, 0))
    model: nn.Module
    model, optimizer = accelerator.prepare(
        HeadOnly(classifier), build_optimizer(classifier, recipe.optim)
    )
    return Parts(
        model=model,
        optimizer=optimizer,
        schedule=Schedule(recipe.optim, loader.num_batches),
        objective=ClassificationObjective(
            build_loss(recipe.loss, task="multiclass", class_counts=counts)
        ),
        mixing=None,
        averaged=None,
        train_loader=loader,
        evaluate=None,
        accelerator=accelerator,
    )


def compare(num_images: int, epochs: int, rounds: int) -> None:
    table = build_table(Data(source=str(LEAVES)), "multiclass")
    chosen = np.random.default_rng(0).permutation(len(table))[:num_images]
    table = replace(table, rows=tuple(table.rows[place] for place in sorted(chosen)))
    kinds = [(0, "fp32"), (0, "bf16"), (1, "bf16"), (2, "bf16"), (1, "fp32")]
    seconds: dict[tuple[int, str], list[float]] = {kind: [] for kind in kinds}
    print("| round | views (0: backbone each epoch) | precision | CPU s | test accuracy |")
    for number in range(rounds):
        for views, precision in kinds:
            taken, accuracy = measure_run(table, views=views, precision=precision, epochs=epochs)
            seconds[views, precision].append(taken)
            print(f"| {number + 1} | {views} | {precision} | {taken:.1f} | {accuracy:.3f} |")
    figures = []
    for base in kinds[:2]:
        for kind in kinds[2:]:
            ratios = [a / b for a, b in zip(seconds[base], seconds[kind], strict=True)]
            print(
                f"each epoch in {base[1]} / {kind[0]} views in {kind[1]}: "
                f"{min(ratios):.1f}-{max(ratios):.1f}x"
            )
            product, peer = (f"{median(seconds[k]):.0f} CPU s" for k in (kind, base))
            what = f"{epochs} epochs from features of {kind[0]} view(s) in {kind[1]}, against the "
            what += f"backbone in each epoch in {base[1]}"
            figures.append(Figure(what, product, peer, median(ratios), 20.0))
    tell(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600, help="of the leaves")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--head-only", action="store_true", help="leave out the backbone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = []
    for batch_size in (256, 1024, 4096):
        for precision in ("fp32", "bf16"):
            taken = measure_head(
                100_000, batch_size=batch_size, epochs=options.epochs, precision=precision
            )
            print(
                f"head of 100,000 x 192, {options.epochs} epochs, batches of {batch_size}, "
                f"{precision}: {taken:.1f} CPU s"
            )
            what = (
                f"head of 100,000 x 192, {options.epochs} epochs, batch {batch_size}, {precision}"
            )
            figures.append(Figure(what, f"{taken:.1f} CPU s", "-", taken, 10.0, is_ceiling=True))
    tell(figures)
    if options.head_only:
        return
    if not (LEAVES.is_file() and WEIGHTS.is_file()):
        print(f"skipped: {LEAVES} and {WEIGHTS} are not both here")
        return
    compare(options.images, options.epochs, options.rounds)


if __name__ == "__main__":
    main()
