"""What a split that ignores copies does to a score: naive against leak-proof, on the real leaves.

Frozen ViT-tiny features, computed once and kept in a file, with a logistic regression on top; for
each seed a plain stratified random split and fieldmark's own, both 0.7 / 0.1 / 0.2.

python benchmarks/leak_study.py [--seeds 5] [--features FILE.npz]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fieldmark as fm
from fieldmark.data.audit.deep import Network
from fieldmark.data.duplicates import Duplicates, drop_conflicts, find_duplicates
from fieldmark.data.scan import scan_table
from fieldmark.data.splits import split_table
from fieldmark.data.table import Row, Table
from fieldmark.planning.embeddings import embed_images
from fieldmark.recipes.schema import Split

SHARED = Path(__file__).resolve().parents[2] / "shared"
WEIGHTS = SHARED / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"
Vectors = Mapping[str, np.ndarray]


def load_vectors(table: Table, cache: Path) -> Vectors:
    """Features by image name, computed once."""
    if not cache.is_file():
        images = list(dict.fromkeys(row.image for row in table.rows))
        start = time.process_time()
        found = embed_images(table, images, Network(weights=str(WEIGHTS)))
        print(f"features: {len(images):,} images, {time.process_time() - start:.0f} CPU s")
        np.savez(cache, images=np.array(found.images), vectors=found.vectors)
    stored = np.load(cache)
    return dict(zip(stored["images"].tolist(), stored["vectors"], strict=True))


def naive_split(table: Table, seed: int) -> Table:
    """Rows dealt one by one, classes in proportion."""
    places = list(range(len(table)))
    labels = [row.label for row in table.rows]
    rest, test = train_test_split(places, test_size=0.2, stratify=labels, random_state=seed)
    rest_labels = [labels[place] for place in rest]
    train, _ = train_test_split(rest, test_size=0.125, stratify=rest_labels, random_state=seed)
    side_of = dict.fromkeys(test, "test") | dict.fromkeys(train, "train")
    rows = [replace(row, split=side_of.get(k, "val")) for k, row in enumerate(table.rows)]
    return table.with_rows(rows)


def score(split: Table, vectors: Vectors, duplicates: Duplicates) -> tuple[float, float, float]:
    """Accuracy and macro-F1 on test, and the share of test images with a copy in train."""

    def select(side: str) -> tuple[list[Row], np.ndarray, list[str]]:
        rows = [row for row in split.rows if row.split == side]
        return rows, np.stack([vectors[row.image] for row in rows]), [row.label for row in rows]

    train_rows, features, labels = select("train")
    test_rows, test_features, test_labels = select("test")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    predicted = head.fit(features, labels).predict(test_features)
    group_of = {image: k for k, group in enumerate(duplicates.groups()) for image in group}
    trained = {group_of[row.image] for row in train_rows if row.image in group_of}
    leaked = mean(group_of.get(row.image) in trained for row in test_rows)
    accuracy = float(np.mean(predicted == np.array(test_labels)))
    return accuracy, float(f1_score(test_labels, predicted, average="macro")), leaked


def measure(seeds: int, cache: Path) -> None:
    table = fm.read_table(SHARED / "data" / "leaves")
    duplicates = find_duplicates(scan_table(table))
    vectors = load_vectors(table, cache)
    agreed, _ = drop_conflicts(table, duplicates)
    results: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        kept_apart = Split(ratios=(0.7, 0.1, 0.2))

        def leak_proof(rows: Table, seed: int = seed, rule: Split = kept_apart) -> Table:
            return split_table(rows, rule, min_images=2, seed=seed, duplicates=duplicates)

        ways = {
            "naive, all rows": naive_split(table, seed),
            "leak-proof, all rows": leak_proof(table),
            "naive, contradictions dropped": naive_split(agreed, seed),
            "leak-proof, contradictions dropped": leak_proof(agreed),
        }
        for name, split in ways.items():
            results.setdefault(name, []).append(score(split, vectors, duplicates))
            print(seed, name, *(f"{value:.4f}" for value in results[name][-1]), flush=True)
    print("\n| split | test images with a copy in train | accuracy (sd) | macro-F1 (sd) |")
    print("|---|---|---|---|")
    for name, rows in results.items():
        accuracy, macro_f1, leaked = (list(column) for column in zip(*rows, strict=True))
        print(
            f"| {name} | {mean(leaked):.1%} | {mean(accuracy):.4f} ({stdev(accuracy):.4f}) "
            f"| {mean(macro_f1):.4f} ({stdev(macro_f1):.4f}) |"
        )
    for kind in ("all rows", "contradictions dropped"):
        pairs = zip(results[f"naive, {kind}"], results[f"leak-proof, {kind}"], strict=True)
        gaps = [naive[0] - proof[0] for naive, proof in pairs]
        half = student.ppf(0.975, len(gaps) - 1) * stdev(gaps) / len(gaps) ** 0.5
        print(
            f"naive - leak-proof, {kind}: {mean(gaps):+.4f} accuracy, sd {stdev(gaps):.4f}, "
            f"95% {mean(gaps) - half:+.4f} to {mean(gaps) + half:+.4f} "
            f"({len(gaps)} seeds, paired)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--features", type=Path, default=Path("leaves-vit-tiny.npz"))
    given = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit("leak_study: nothing to measure: no folder 'shared' beside the project")
    measure(given.seeds, given.features)
