"""What the pieces of this project cost: IFA head, rotated patches (RPT), tags.

python benchmarks/pieces.py [ifa] [rpt] [tags] [--repeats 15] [--threads 1] [--json FILE]

Each table compares variants that take turns, A B A B, in one process; cells are medians, and
ratios are medians of the ratios within a turn, with their quartiles, because a busy machine slows
neighbours alike. IFA and tags: one training step (forward, backward, AdamW). "kept" is what
autograd holds for the backward pass, MB of 10^6 bytes. RPT: one training step and one inference
pass; its exactness, and the formulations against each other, are in `patches.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from figures import Figure, tell
from torch import Tensor, nn

from fieldmark.cli.program import keep_freed_memory
from fieldmark.data.tags import TagEncoder, TagVocabulary
from fieldmark.models.classifier import Classifier, build_classifier
from fieldmark.recipes.schema import Model, Optim, Tags
from fieldmark.training.optimizers import build_optimizer

Step = Callable[[], None]
TINY, BASE = "vit_tiny_patch16_224", "vit_base_patch16_224"
NUM_CLASSES = 100
MAX_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["ifa", "rpt", "tags"])
    parser.add_argument("--repeats", type=int, default=15, help="turns of each comparison")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the program does
    measure = {"ifa": measure_ifa, "rpt": measure_rpt, "tags": measure_tags}
    rows: list[dict[str, object]] = []
    for what in options.what:
        rows += measure[what](options.repeats, options.precision)
    tell([figure for row in rows for figure in bound(row, options.precision)])
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def bound(row: dict[str, object], precision: str) -> Iterator[Figure]:
    """The promised limits of a row: of time, and of memory for IFA."""
    if row["piece"] == "tags":
        return
    limit = 1.01
    if row["piece"] == "rpt":
        limit = 1.03 if row["px"] != 224 else 1.08 if row["pass"] == "training" else 1.17
        if row["px"] != 224 and row["pass"] == "inference":
            return
    what = f"{row['piece']}, {row.get('network', TINY)}, {row['px']} px, "
    what += f"{row.get('pass', 'training')}, {precision}"
    product, peer = (f"{row[key]:.0f} ms" for key in ("piece_ms", "plain_ms"))
    yield Figure(what, product, peer, float(str(row["ratio"])), limit, is_ceiling=True)
    if row["piece"] == "ifa":
        more = float(str(row["more_mb"]))
        yield Figure(f"{what}, more MB kept", f"{more:+.1f} MB", "-", more, 10, is_ceiling=True)


def measure_ifa(repeats: int, precision: str) -> list[dict[str, object]]:
    """IFA against the linear head, with the layers that each needs; target 1%, 10 MB."""
    print(f"\nIFA against the linear head, training step, {precision}\n")
    print("| network, px, batch | linear ms | ifa ms | more time | kept MB | more MB |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name, size, batch in ((TINY, 224, 8), (BASE, 224, 2)):
        nets = [build(Model(name=name, head=head), size) for head in ("linear", "ifa")]  # type: ignore[arg-type]
        images = torch.randn(batch, 3, size, size)
        row = {"piece": "ifa", "network": name, "px": size, "batch": batch}
        row |= race([train_step(net, (images,), precision) for net in nets], repeats)
        kept = [measure_kept(net, (images,), precision) for net in nets]
        row |= {"kept_mb": kept[0], "more_mb": kept[1] - kept[0]}
        rows.append(row)
        kept_cells = (f"{kept[0]:.0f}", f"{kept[1] - kept[0]:+.2f}")
        print_row((f"{name}, {size}, {batch}",), row, kept_cells)
    return rows


def measure_rpt(repeats: int, precision: str) -> list[dict[str, object]]:
    """Rotated patches against plain ones; targets 3% of training at 32/64 px, 8% and 17% at 224."""
    print(f"\nRPT against plain patches, ViT-tiny, {precision}\n")
    print("| px/patch, batch | pass | plain ms | rpt ms | more time |\n|---|---|---|---|---|")
    rows = []
    for size, patch, batch in ((32, 4, 24), (64, 8, 24), (224, 16, 8)):
        names = ("plain", "rotated")
        nets = [build_patched(name, size, patch) for name in names]
        images = torch.randn(batch, 3, size, size)
        for way, make in (("training", train_step), ("inference", inference_pass)):
            row = {"piece": "rpt", "px": size, "batch": batch, "pass": way}
            row |= race([make(net, (images,), precision) for net in nets], repeats)
            rows.append(row)
            print_row((f"{size}/{patch}, {batch}", way), row)
    return rows


def measure_tags(repeats: int, precision: str) -> list[dict[str, object]]:
    """Cost against the tokens that are there: with 0, 4, 8, 16 and 30 tags of at most 32 tokens."""
    print(f"\nTags, ViT-tiny 128 px, batch 16, at most {MAX_TOKENS} tokens, {precision}\n")
    print("| tags per image | tokens in the batch | ms | more than no tags | untrimmed |")
    print("|---|---|---|---|---|")
    names = tuple(f"tag{number}" for number in range(MAX_TOKENS))
    section = Tags(tokenizer="whole", max_tokens=MAX_TOKENS)
    encoder = TagEncoder(TagVocabulary("whole", names), section)
    plain = build(Model(name=TINY), 128)
    tagged = build(Model(name=TINY, tags=section), 128, encoder)
    images = torch.randn(16, 3, 128, 128)
    counts = (0, 4, 8, 16, MAX_TOKENS - 2)
    encoded = {count: torch.stack([encoder(names[:count])] * 16) for count in counts}
    steps = [train_step(plain, (images,), precision)]
    for ids in encoded.values():
        steps.append(train_step(tagged, (images, encoder.trim(ids)), precision))
        steps.append(train_step(tagged, (images, ids), precision))
    times = take_turns(steps, repeats)
    rows = []
    for index, (count, ids) in enumerate(encoded.items()):
        trimmed, whole = (compare(times[0], times[1 + 2 * index + side]) for side in (0, 1))
        row = {"piece": "tags", "tags": count, "tokens": encoder.trim(ids).shape[1], **trimmed}
        row |= {"untrimmed_ratio": whole["ratio"]}
        rows.append(row)
        print(
            f"| {count} | {row['tokens']} | {row['piece_ms']:.0f} | {describe(row)} | "
            f"{whole['ratio'] - 1:+.1%} |",
            flush=True,
        )
    return rows


def build(model: Model, size: int, encoder: TagEncoder | None = None) -> Classifier:
    torch.manual_seed(0)
    vocabulary = None if encoder is None else encoder.vocabulary
    net, _ = build_classifier(
        model,
        num_classes=NUM_CLASSES,
        image_size=size,
        tag_vocabulary_size=0 if vocabulary is None else vocabulary.size,
        tag_pad_id=0 if vocabulary is None else vocabulary.pad_id,
    )
    return net


def build_patched(kind: str, size: int, patch: int) -> nn.Module:
    """ViT-tiny with patches of another size than its name's, which no recipe asks for."""
    import timm

    from fieldmark.models.vit.patches import replace_patch_embedding
    from fieldmark.recipes.schema import Patches

    torch.manual_seed(0)
    net: nn.Module = timm.create_model(TINY, img_size=size, patch_size=patch, num_classes=100)
    if kind != "plain":
        replace_patch_embedding(net, Patches.model_validate({"kind": kind, "form": "published"}))
    return net


def train_step(net: nn.Module, inputs: tuple[Tensor, ...], precision: str) -> Step:
    """Forward, backward and update."""
    if isinstance(net, Classifier):
        optimizer = build_optimizer(net, Optim(lr=1e-4))
    else:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    net.train()
    # As the product trains in bf16 on a CPU (docs/decisions/0010).
    fuse_attention(net, precision != "bf16")
    targets = torch.arange(len(inputs[0])) % NUM_CLASSES

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(*inputs)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference_pass(net: nn.Module, inputs: tuple[Tensor, ...], precision: str) -> Step:
    net.eval()
    fuse_attention(net, True)

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
            net(*inputs)

    return step


def fuse_attention(net: nn.Module, is_fused: bool) -> None:
    for layer in net.modules():
        if hasattr(layer, "fused_attn"):
            layer.fused_attn = is_fused  # type: ignore[assignment]


def take_turns(steps: list[Step], repeats: int) -> list[list[float]]:
    """CPU seconds of each step in each turn; a first turn warms up. Every other turn goes back."""
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(repeats + 1):
        places = range(len(steps)) if turn % 2 else reversed(range(len(steps)))
        for place in places:
            start = time.process_time()
            steps[place]()
            if turn:
                seconds[place].append(time.process_time() - start)
    return seconds


def compare(plain: list[float], piece: list[float]) -> dict[str, float]:
    """Medians in ms, and the median ratio with its quartiles."""
    ratios = [one / other for one, other in zip(piece, plain, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "plain_ms": 1000 * statistics.median(plain),
        "piece_ms": 1000 * statistics.median(piece),
        "ratio": middle,
        "low": low,
        "high": high,
    }


def race(steps: list[Step], repeats: int) -> dict[str, float]:
    """The plain step against that with the piece."""
    plain, piece = take_turns(steps, repeats)
    return compare(plain, piece)


def print_row(first: tuple[str, ...], row: dict[str, object], last: tuple[str, ...] = ()) -> None:
    times = (f"{row['plain_ms']:.0f}", f"{row['piece_ms']:.0f}", describe(row))
    print(f"| {' | '.join((*first, *times, *last))} |", flush=True)


def describe(row: dict[str, object]) -> str:
    low, middle, high = (float(row[key]) - 1 for key in ("low", "ratio", "high"))  # type: ignore[arg-type]
    return f"{middle:+.1%} ({low:+.1%} .. {high:+.1%})"


def measure_kept(net: nn.Module, inputs: tuple[Tensor, ...], precision: str) -> float:
    """MB that autograd keeps for the backward pass beside the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        loss = net.train()(*inputs).float().logsumexp(1).sum()
    del loss
    return sum(kept.values()) / 1e6


if __name__ == "__main__":
    main()
