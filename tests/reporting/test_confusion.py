from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from fieldmark.reporting import confusion
from fieldmark.reporting.confusion import build_confusion, count_confusions, order_by_confusion
from fieldmark.reporting.material import gather


def test_counts_are_those_of_scikit_learn(drawn: SimpleNamespace) -> None:
    from sklearn.metrics import confusion_matrix

    predictions = drawn.invent_predictions(
        drawn.draw_table([f"c{i}" for i in range(7)], 40), skill=2.0
    )
    true = [targets[0] for targets in predictions.targets]
    guess = [chosen[0] for chosen in predictions.predicted]
    expected = confusion_matrix(true, guess, labels=range(7))
    assert np.array_equal(count_confusions(predictions), expected)


def test_classes_taken_for_each_other_become_neighbours() -> None:
    share = np.eye(8) * 0.7
    for one, other in ((0, 5), (2, 7), (1, 6)):
        share[one, other] = share[other, one] = 0.3
    order = order_by_confusion(share).tolist()
    for one, other in ((0, 5), (2, 7), (1, 6)):
        assert abs(order.index(one) - order.index(other)) == 1
    assert sorted(order) == list(range(8))


def test_shares_are_of_the_true_class(drawn: SimpleNamespace, tmp_path) -> None:
    table = drawn.draw_table(["a", "b", "c"], 60)
    folder = drawn.save_run(tmp_path / "run", table)
    found = build_confusion(gather(folder, None, drawn.predict_test(folder, table, skill=1.5)))
    assert found is not None
    for row, support in enumerate(found.support):
        cells = [cell for cell in found.cells if cell.row == row]
        assert sum(cell.count for cell in cells) == support
        assert sum(cell.share for cell in cells) == 1.0 or support == 0
    worst = found.pairs[0]
    assert worst.count == max(cell.count for cell in found.cells if cell.row != cell.column)


def test_of_too_many_classes_those_with_most_mistakes_are_drawn(
    drawn: SimpleNamespace, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(confusion, "MAX_CLASSES", 4)
    table = drawn.draw_table([f"c{i}" for i in range(9)], 60)
    folder = drawn.save_run(tmp_path / "run", table)
    found = build_confusion(gather(folder, None, drawn.predict_test(folder, table, skill=1.5)))
    assert found is not None
    assert len(found.names) == 4 and found.num_classes == 9


def test_perfect_predictions_keep_the_order_of_the_classes(
    drawn: SimpleNamespace, tmp_path
) -> None:
    table = drawn.draw_table(["c", "a", "b"], 40)
    folder = drawn.save_run(tmp_path / "run", table)
    predictions = drawn.predict_test(folder, table)
    perfect = replace(predictions, predicted=predictions.targets)
    found = build_confusion(gather(folder, None, perfect))
    assert found is not None
    assert found.names == ("c", "a", "b") and not found.is_clustered and found.pairs == ()
