"""Compare variants of one recipe over seeds: patches, heads at three batch sizes, crops, tags.

    python benchmarks/variants.py STUDY [--seeds 3] [--epochs N] [--out FOLDER]

Each run is trained once: results stand in FOLDER/<study>.jsonl, and runs found there are not
repeated. The table of means and standard deviations over the seeds goes to standard output. The
data and weights lie in a folder `shared` beside the project; without it nothing is run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import fieldmark as fm
from fieldmark.training.events import Event, Finished

SHARED = Path(__file__).resolve().parents[2] / "shared"
VIT = SHARED / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"
METRICS = ("accuracy", "macro_f1", "nll")


@dataclass(frozen=True)
class Study:
    """Variants by name, each as overrides on top of what all of them share."""

    data: Path | str
    recipe: str
    epochs: int
    common: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]


FINETUNE = (
    "model.name=vit_tiny_patch16_224",
    "model.pretrained=false",
    f"model.weights={VIT}",
    "data.image_size=64",
    "data.normalize=half",
)

ADAMW = (
    "optim.name=adamw",
    "optim.lr=3e-4",
    "optim.weight_decay=0.05",
    "optim.schedule=cosine",
    "optim.warmup=0.1",
)

CROPS = {
    "crops of the whole image": ("data.augment.crop_from=whole",),
    "crops of the shrunk image": ("data.augment.crop_from=shrunk",),
}

STUDIES = {
    "patches": Study(
        data=SHARED / "data" / "cifar10",
        recipe="vit-small-cifar10",
        epochs=10,
        common=("data.image_size=36", "optim.batch_size=64"),
        variants={
            "plain": ("model.patches=plain",),
            "shifted": ("model.patches=shifted",),
            "shifted, local attention": ("model.patches=shifted", "model.attention=local"),
            "rotated": ("model.patches=rotated",),
        },
    ),
    "heads": Study(
        data=SHARED / "data" / "leaves" / "train.csv",
        recipe="animesion-vit-b16",
        epochs=4,
        common=(*FINETUNE, "data.min_images=2", "optim.schedule=cosine", "optim.warmup=0.1"),
        variants={
            f"{head}, batch {batch}": (
                f"model.head={head}",
                f"model.head_zero_init={str(head == 'linear').lower()}",
                f"optim.batch_size={batch}",
            )
            for batch in (16, 64, 256)
            for head in ("linear", "ifa")
        },
    ),
    "heads-adamw": Study(
        data=SHARED / "data" / "leaves" / "train.csv",
        recipe="animesion-vit-b16",
        epochs=4,
        common=(*FINETUNE, "data.min_images=2", *ADAMW, "optim.batch_size=64"),
        variants={
            "linear": ("model.head=linear",),
            "ifa": ("model.head=ifa", "model.head_zero_init=false"),
            "ifa, token norm": (
                "model.head=ifa",
                "model.head_zero_init=false",
                "model.head_token_norm=true",
            ),
        },
    ),
    "crops": Study(
        data=SHARED / "data" / "leaves" / "train.csv",
        recipe="leaves-deit-finetune",
        epochs=3,
        common=FINETUNE,
        variants=CROPS,
    ),
    "crops-scratch": Study(
        data=SHARED / "data" / "leaves" / "train.csv",
        recipe="leaves-resnet18",
        epochs=12,
        common=(
            "model.pretrained=false",
            "data.normalize=imagenet",
            "data.image_size=64",
            *ADAMW,
            "optim.lr=1e-3",
            "optim.batch_size=32",
            "precision=bf16",
        ),
        variants=CROPS,
    ),
    "crops-drawn": Study(
        data="sample:leaves", recipe="quick", epochs=26, common=(), variants=CROPS
    ),
    "tags": Study(
        data=SHARED / "data" / "emoji" / "table.csv",
        recipe="animesion-vit-b16",
        epochs=8,
        common=(
            *FINETUNE,
            "data.min_images=10",
            "data.augment.horizontal_flip=0",
            *ADAMW,
            "optim.batch_size=32",
        ),
        variants={
            "image only": (),
            "tags only": ("model.tags=wordpiece", "model.tags.image=false", "model.tags.hide=0"),
            "image and tags": ("model.tags=wordpiece",),
        },
    ),
}


def run_study(name: str, *, epochs: int | None, num_seeds: int, out: Path) -> None:
    """Train what is not trained yet, then print the table."""
    study = STUDIES[name]
    out.mkdir(parents=True, exist_ok=True)
    results_path = out / f"{name}.jsonl"
    done = _read_results(results_path)
    num_epochs = epochs or study.epochs
    for seed in range(num_seeds):
        for variant, overrides in study.variants.items():
            if any((r["variant"], r["seed"]) == (variant, seed) for r in done):
                continue
            result = _run(study, variant, overrides, seed=seed, epochs=num_epochs, out=out / name)
            done.append(result)
            with results_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
    print(_render(study, done))


def _read_results(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _run(
    study: Study, variant: str, overrides: Sequence[str], *, seed: int, epochs: int, out: Path
) -> dict[str, Any]:
    finished: list[Finished] = []

    def listen(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event)

    path = out / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"
    run = fm.train(
        study.data,
        recipe=study.recipe,
        overrides=[*study.common, f"optim.epochs={epochs}", f"seed={seed}", *overrides],
        out=path,
        resume=(path / "recipe.yaml").is_file(),
        listener=listen,
    )
    told = {
        "seconds": round(finished[0].seconds, 1),
        "images_per_second": round(finished[0].images_per_second, 1),
    }
    evaluation = run.evaluate()
    scores = {f"test_{key}": round(evaluation.metrics[key], 4) for key in METRICS}
    if evaluation.without_tags is not None:
        scores["without_tags_accuracy"] = round(evaluation.without_tags.metrics["accuracy"], 4)
    return {
        "variant": variant,
        "seed": seed,
        "images": evaluation.num_images,
        **scores,
        **told,
    }


def _render(study: Study, results: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: mean and standard deviation over seeds."""
    every = dict.fromkeys(key for result in results for key in result)
    keys = [key for key in every if key not in {"variant", "seed", "images"}]
    lines = [f"| variant | seeds | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for variant in study.variants:
        rows = [row for row in results if row["variant"] == variant]
        cells = [_spread([row[key] for row in rows if key in row]) for key in keys]
        lines.append(f"| {variant} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    digits = 3 if max(values) < 10 else 0
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/variants"))
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit("variants: nothing to run: no folder 'shared' beside the project")
    run_study(
        arguments.study,
        epochs=arguments.epochs,
        num_seeds=arguments.seeds,
        out=arguments.out,
    )
