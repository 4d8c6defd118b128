"""Whole training, process start to saved model: fieldmark against timm, transformers and fastai.

python benchmarks/peers.py [--models resnet18 vit_tiny_patch16_224] [--epochs 3] [--repeats 5]
    [--train 2016] [--val 400] [--photos FOLDER] [--timm-train TRAIN.PY] [--workers 2]
    [--only WHO ...] [--json FILE]

Everybody trains the same network from scratch at 128 px, batch 32, with SGD and a cosine schedule,
on the same generated JPEGs of 500 x 375 in train/ and val/, and takes turns: A B A B. The number of
training images should be whole batches, because timm and fastai leave out what is over. Told are
wall and CPU seconds with all child processes, MB of the largest process, and accuracy on val.

What each is given beside network, size, batch, epochs, rate and weight decay:
- fieldmark: random crops of 8 to 100% of the area, flips, no other change to images, no search for
  near duplicates, which the others have none of. Nothing of precision, layout, workers or cache.
- timm: its train.py with the command that its users give, which jitters colours and smooths labels.
  It is not in timm's wheel: get it from timm's repository at the tag of the version installed (one
  file), and name it: --timm-train train.py. Without it "timm (loop)" stands for it, a plain loop
  over timm's own dataset, loader, augmentation, optimizer and schedule, which does less: no colour
  jitter, no logging, no averages, one checkpoint at the end. "+bf16 cl" are both with its flags
  --amp --amp-dtype bfloat16 --channels-last, which its users must know of.
- transformers: its Trainer with torchvision's RandomResizedCrop and flips, as its examples have;
  it clips gradients unless told otherwise.
- fastai: its Learner with RandomResizedCrop, no flips, and its one-cycle schedule.
The last two are measured where they are installed. The peers get loader processes (--workers).
--json keeps each turn; a later call with the same file adds its turns to those.
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
from importlib.util import find_spec
from pathlib import Path

from figures import Figure, tell
from peer_loops import LOOPS
from photos import draw_photos

NUM_CLASSES = 10
SIZE, BATCH = 128, 32
Turn = dict[str, dict[str, float]]
RATES = {"resnet18": 0.05, "vit_tiny_patch16_224": 0.01}


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as place:
        data: Path = options.photos or Path(place) / "photos"
        if options.photos is None:
            print(f"drawing {options.train} + {options.val} photographs ...", flush=True)
            draw_photos(data, train=options.train, val=options.val, num_classes=NUM_CLASSES)
        for model in options.models:
            measure_model(model, data, Path(place), options)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(RATES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--train", type=int, default=2016)
    parser.add_argument("--val", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the peers")
    parser.add_argument("--only", nargs="+", help="contestants by name")
    parser.add_argument("--photos", type=Path, help="what photos.py drew, instead of drawing")
    parser.add_argument("--timm-train", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure_model(model: str, data: Path, place: Path, options: argparse.Namespace) -> None:
    """Run every contestant in turn, and print the medians."""
    commands = build_commands(model, data, options)
    key = f"{model}, {SIZE} px, batch {BATCH}, {options.train} images, {options.epochs} epochs"
    turns = Turns(options.json, key)
    for turn in range(options.repeats):
        spent = {}
        for name, command in commands.items():
            out = place / f"{model}-{turn}-{name.replace(' ', '-')}"
            spent[name] = run([word.replace("{out}", str(out)) for word in command], out)
            print(f"  {model} turn {turn + 1} {name}: {spent[name]}", flush=True)
        turns.add(spent)
    tell_medians(model, key, turns.done, options.epochs)


class Turns:
    """The turns of one comparison: those of this call, and those that an earlier one left."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        kept = path is not None and path.is_file()
        self.all: dict[str, list[Turn]] = json.loads(path.read_text()) if path and kept else {}
        self.done = self.all.setdefault(key, [])

    def add(self, spent: Turn) -> None:
        self.done.append(spent)
        if self.path is not None:
            self.path.write_text(json.dumps(self.all, indent=1) + "\n")


def tell_medians(model: str, key: str, turns: list[Turn], epochs: int) -> None:
    """Print the medians, and the ratios of each turn, in which the machine is equally busy."""
    print(f"\n{key}\n")
    print("| who | turns | wall s | CPU s | peak MB | val accuracy | wall / ours | CPU / ours |")
    print("|---|---|---|---|---|---|---|---|")
    figures = []
    for name in dict.fromkeys(name for turn in turns for name in turn):
        both = [(turn[name], turn["fieldmark"]) for turn in turns if name in turn]
        middle = {key: statistics.median(run[key] for run, _ in both) for key in both[0][0]}
        own = {key: statistics.median(own[key] for _, own in both) for key in middle}
        ratios = {
            key: statistics.median(run[key] / own[key] for run, own in both)
            for key in ("wall", "cpu")
        }
        figures += compare_costs(model, epochs, name, own, middle, ratios)
        print(
            f"| {name} | {len(both)} | {middle['wall']:.1f} | {middle['cpu']:.1f} | "
            f"{middle['peak_mb']:.0f} | {middle['accuracy']:.3f} | {ratios['wall']:.2f} | "
            f"{ratios['cpu']:.2f} |"
        )
    tell(figures)


def compare_costs(
    model: str,
    epochs: int,
    name: str,
    own: dict[str, float],
    peer: dict[str, float],
    ratios: dict[str, float],
) -> list[Figure]:
    """CPU and wall seconds of a peer over ours, beside what was promised."""
    if name == "fieldmark":
        return []
    limit = 1.2 if "bf16" in name else 2.5 if epochs >= 20 else 1.9 if "vit" in model else 2.0
    what = f"{model}, {epochs} epochs, against {name}"
    return [
        Figure(what, f"{own[key]:.1f} {key} s", f"{peer[key]:.1f} {key} s", ratios[key], limit)
        for key in ratios
    ]


def build_commands(model: str, data: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Command lines by contestant, ours first; "{out}" stands for a new folder."""
    commands = {"fieldmark": command_of_fieldmark(model, data, options.epochs)}
    for name, flags in (("timm", []), ("timm +bf16 cl", ["bf16"])):
        if options.timm_train is not None:
            commands[name] = command_of_timm(model, data, options, flags)
        else:
            commands[f"{name} (loop)"] = command_of_loop("timm", model, data, options, flags)
    for name in ("transformers", "fastai"):
        if find_spec(name) is None:
            print(f"{name}: skipped, it is not installed")
        else:
            commands[name] = command_of_loop(name, model, data, options, [])
    if options.only:
        commands = {k: v for k, v in commands.items() if k in {"fieldmark", *options.only}}
    return commands


def command_of_fieldmark(model: str, data: Path, epochs: int) -> list[str]:
    """As its users run it: no precision, layout, workers or cache is named."""
    settings = {
        "model.name": model,
        "data.image_size": SIZE,
        "data.augment.crop_scale": "[0.08,1.0]",
        "data.augment.rotation_degrees": 0,
        "data.augment.color_jitter": "[0,0,0,0]",
        "optim.name": "sgd",
        "optim.lr": RATES[model],
        "optim.weight_decay": 2e-5,
        "optim.warmup": 0,
        "optim.batch_size": BATCH,
        "optim.epochs": epochs,
        "data.split.near_duplicates": "false",
    }
    given = [f"{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "fieldmark", "train", str(data), "--recipe", "quick"]
    return [*command, "--no-evaluate", "--json", "--out", "{out}", "--set", *given]


def command_of_timm(
    model: str, data: Path, options: argparse.Namespace, flags: list[str]
) -> list[str]:
    words = f"--train-split train --val-split val --model {model} --num-classes {NUM_CLASSES}"
    words += f" --img-size {SIZE} -b {BATCH} --epochs {options.epochs} --warmup-epochs 0"
    words += f" --sched cosine --opt sgd --lr {RATES[model]} -j {options.workers} --device cpu"
    if model.startswith("vit"):  # whose position embeddings are of one size
        words += f" --model-kwargs img_size={SIZE}"
    if flags:
        words += " --amp --amp-dtype bfloat16 --channels-last"
    script = str(options.timm_train)
    return [sys.executable, script, str(data), *words.split(), "--output", "{out}"]


def command_of_loop(
    name: str, model: str, data: Path, options: argparse.Namespace, flags: list[str]
) -> list[str]:
    assert name in LOOPS
    script = Path(__file__).with_name("peer_loops.py")
    plan = {"model": model, "data": str(data), "epochs": options.epochs, "lr": RATES[model]}
    plan |= {"size": SIZE, "batch": BATCH, "workers": options.workers, "bf16": bool(flags)}
    return [sys.executable, str(script), name, json.dumps(plan), "{out}"]


def run(command: list[str], out: Path) -> dict[str, float]:
    """Wall and CPU seconds, MB of the largest process, accuracy; children's children count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # By a process in between, whose own record of children begins empty: the peak is this run's.
    watcher = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True); "
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss; "
        "print(done.stdout); print('PEAK', peak); sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", watcher, *command],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, key) - getattr(before, key) for key in ("ru_utime", "ru_stime"))
    peak = float(done.stdout.rpartition("PEAK")[2]) * 1024 / 1e6  # Linux counts in KiB
    return {"wall": wall, "cpu": cpu, "peak_mb": peak, "accuracy": read_accuracy(done.stdout, out)}


def read_accuracy(stdout: str, out: Path) -> float:
    """Of the last epoch on val, by what each contestant leaves."""
    if (out / "metrics.jsonl").is_file():
        last = (out / "metrics.jsonl").read_text().splitlines()[-1]
        return float(json.loads(last)["val_accuracy"])
    summaries = sorted(out.rglob("summary.csv"))
    if summaries:  # timm's train.py, in percent
        header, *_, last = summaries[0].read_text().splitlines()
        values = dict(zip(header.split(","), last.split(","), strict=True))
        return float(values["eval_top1"]) / 100
    return float(stdout.split("ACCURACY")[1].split()[0])


if __name__ == "__main__":
    main()
