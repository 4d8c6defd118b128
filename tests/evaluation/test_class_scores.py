from __future__ import annotations

import numpy as np
import pytest

from fieldmark.evaluation.class_scores import score_groups
from fieldmark.evaluation.predictions import Predictions


def predictions_of(true: list[int], guess: list[int], num_classes: int) -> Predictions:
    count = len(true)
    return Predictions(
        task="multiclass",
        class_names=tuple(f"c{k}" for k in range(num_classes)),
        images=tuple(f"{i}.png" for i in range(count)),
        labels=tuple(f"c{k}" for k in true),
        targets=tuple((k,) for k in true),
        predicted=tuple((k,) for k in guess),
        top_index=np.array(guess, np.int32)[:, None],
        top_probability=np.full((count, 1), 0.5, np.float32),
        true_probability=np.full(count, 0.5, np.float32),
        loss=np.full(count, 0.7),
    )


def test_part_without_a_tested_class_has_no_score() -> None:
    predictions = predictions_of([0, 0, 1], [0, 1, 1], 3)
    head, middle, tail = score_groups(predictions, [100, 50, 3])
    assert (head.part, head.recall, head.support) == ("head", 0.5, 2)
    assert (middle.recall, middle.f1) == (1.0, pytest.approx(2 / 3))
    assert (tail.num_classes, tail.num_tested, tail.recall, tail.f1) == (1, 0, None, None)
    assert (tail.fewest_trained, tail.most_trained) == (3, 3)
