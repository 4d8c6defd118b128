"""How long the intervals of all metrics take: `python benchmarks/intervals.py`.

Predictions are drawn, not trained. One thread is used whatever the machine has, if the command is
given OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fieldmark.evaluation.intervals import compute_intervals
from fieldmark.evaluation.predictions import Predictions


def main() -> None:
    """Draw predictions, time the intervals, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=10_000)
    chosen = parser.parse_args()
    predictions = draw_predictions(chosen.images, chosen.classes)
    wall, cpu = time.perf_counter(), time.process_time()
    intervals = compute_intervals(predictions, num_resamples=chosen.resamples)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{chosen.images:,} images, {chosen.classes} classes, {chosen.resamples:,} resamples")
    print(f"{wall:.1f} s, {cpu:.1f} s of CPU, {len(intervals)} metrics together")
    for name, (low, high) in intervals.items():
        print(f"  {name:<18} {low:.5f} - {high:.5f}")


def draw_predictions(num_images: int, num_classes: int) -> Predictions:
    """A model that is right in about four of five images."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, num_classes, num_images)
    right = generator.random(num_images) < 0.8
    guess = np.where(right, true, generator.integers(0, num_classes, num_images))
    others = (guess[:, None] + np.arange(1, 10)) % num_classes
    confidence = generator.uniform(0.4, 1.0, num_images)
    rest = np.repeat((1 - confidence)[:, None] / 9, 9, axis=1)
    true_probability = np.where(guess == true, confidence, (1 - confidence) / 9)
    return Predictions(
        task="multiclass",
        class_names=tuple(f"class {k}" for k in range(num_classes)),
        images=tuple(f"{i}.jpg" for i in range(num_images)),
        labels=tuple(f"class {k}" for k in true),
        targets=tuple((int(k),) for k in true),
        predicted=tuple((int(k),) for k in guess),
        top_index=np.concatenate([guess[:, None], others], axis=1).astype(np.int32),
        top_probability=np.concatenate([confidence[:, None], rest], axis=1).astype(np.float32),
        true_probability=true_probability.astype(np.float32),
        loss=-np.log(true_probability),
        squared_error=1 - 2 * true_probability + confidence**2 + (1 - confidence) ** 2 / 9,
    )


if __name__ == "__main__":
    main()
