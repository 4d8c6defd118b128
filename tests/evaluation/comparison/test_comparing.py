from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import fieldmark as fm
from fieldmark.cli import main
from fieldmark.data.table import Table
from fieldmark.errors import DataError, FieldmarkError, RunChangedError, RunError
from fieldmark.evaluation.predictions import load_predictions, save_predictions

InventRun = Callable[..., Path]


def test_clear_difference_is_called_better(invent: InventRun) -> None:
    found = fm.compare([invent("weak", skill=0.5), invent("strong", head="mlp", skill=4.0)])
    assert [row.name for row in found.rows] == ["strong", "weak"]
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.verdict, pair.images_needed) == ("strong", "weak", "better", None)
    assert pair.test == "McNemar exact"
    assert pair.interval[0] < pair.difference < pair.interval[1]
    scores = [row.metrics["accuracy"] for row in found.rows]
    assert pair.difference == pytest.approx(scores[0] - scores[1])
    assert pair.relative_change == pytest.approx((scores[0] - scores[1]) / scores[1])


def test_open_difference_says_how_many_images_would_tell(invent: InventRun) -> None:
    found = fm.compare([invent("one"), invent("two", head="mlp", skill=2.1)])
    (pair,) = found.pairs
    assert pair.difference > 0
    assert pair.images_needed is not None and pair.images_needed > 120
    about = f"; about {pair.images_needed:,} would be needed"
    assert pair.verdict == f"cannot be told apart on 120 images{about}"


def test_equal_models_are_said_to_score_the_same(invent: InventRun) -> None:
    (pair,) = fm.compare([invent("one"), invent("two", head="mlp")]).pairs
    assert pair.verdict == "cannot be told apart on 120 images: they score the same"
    assert pair.p_value == 1 and pair.images_needed is None
    assert pair.interval[0] < 0 < pair.interval[1], "agreement on 120 images is no certainty"


def test_an_ensemble_is_no_seed_of_its_first_member(invent: InventRun) -> None:
    member, ensemble = invent("member", seed=0), invent("ensemble", seed=1)
    (ensemble / "ensemble.json").write_text("{}")
    assert [row.num_seeds for row in fm.compare([member, ensemble]).rows] == [1, 1]


def test_order_of_the_runs_plays_no_part(invent: InventRun) -> None:
    runs = [invent("a"), invent("b", head="mlp", skill=3.0), invent("c", head="ifa", skill=1.0)]
    assert fm.compare(runs) == fm.compare(runs[::-1]) == fm.compare([runs[1], *runs])


def test_baseline_is_what_all_others_are_held_against(invent: InventRun) -> None:
    runs = [invent("a", skill=3.5), invent("b", head="mlp", skill=1.0), invent("c", head="ifa")]
    found = fm.compare(runs[:2], baseline=runs[2])
    assert {(pair.a, pair.b) for pair in found.pairs} == {("a", "c"), ("b", "c")}
    assert {pair.a: pair.verdict for pair in found.pairs} == {"a": "better", "b": "worse"}


def test_many_pairs_are_corrected(invent: InventRun) -> None:
    runs = [invent("a", skill=3.0), invent("b", head="mlp"), invent("c", head="ifa", skill=1.5)]
    found = fm.compare(runs)
    pairs = found.pairs
    assert any("corrected for all 3 pairs (Holm)" in note for note in found.notes)
    p_values = sorted(pair.p_value for pair in pairs)
    corrected = sorted(pair.p_adjusted for pair in pairs)
    assert corrected[0] == pytest.approx(min(1, 3 * p_values[0]))
    assert all(p.p_adjusted >= p.p_value for p in pairs)


@pytest.mark.parametrize("metric", ["macro_f1", "nll", "ece", "brier", "sum"])
def test_any_metric_is_permuted(metric: str, invent: InventRun) -> None:
    runs = [invent("weak", skill=0.5), invent("strong", head="mlp", skill=4.0)]
    (pair,) = fm.compare(runs, metric=metric).pairs
    assert (pair.test, pair.metric) == ("permutation", metric)
    assert (pair.a, pair.verdict) == ("strong", "better") or metric == "ece"


def test_seeds_of_one_recipe_are_one_row(invent: InventRun, invented_table: Callable) -> None:
    table = invented_table(120)
    runs = [invent(f"m-s{s}", head="mlp", skill=3.5, seed=s, table=table) for s in range(3)]
    runs += [invent(f"l-s{s}", skill=1.5, seed=s, table=table) for s in range(3)]
    found = fm.compare(runs)
    assert [(row.name, row.num_seeds) for row in found.rows] == [("m", 3), ("l", 3)]
    best = found.rows[0]
    own = [fm.compare([run, runs[3]]).rows[0].metrics["accuracy"] for run in runs[:3]]
    assert best.metrics["accuracy"] == pytest.approx(np.mean(own))
    assert best.spread is not None
    assert best.spread["accuracy"] == pytest.approx(np.std(own, ddof=1))
    low, high = best.intervals["accuracy"]
    assert low < best.metrics["accuracy"] < high
    (pair,) = found.pairs
    assert (pair.test, pair.verdict) == ("t over seeds and images", "better")
    assert not any("single seed" in note for note in found.notes)


def test_single_seed_is_called_that(invent: InventRun) -> None:
    found = fm.compare([invent("one"), invent("two", head="mlp")])
    assert [row.spread for row in found.rows] == [None, None]
    assert any("one, two are single seeds" in note for note in found.notes)
    assert any("differ in model.head" in note for note in found.notes)


def test_seeds_with_test_splits_of_their_own_are_compared_seed_by_seed(
    invent: InventRun, invented_table: Callable
) -> None:
    runs = []
    for seed in range(3):
        table = invented_table(120, split_seed=seed)
        runs.append(invent(f"m-s{seed}", head="mlp", skill=4.0, seed=seed, table=table))
        runs.append(invent(f"l-s{seed}", skill=1.0, seed=seed, table=table))
    found = fm.compare(runs)
    (pair,) = found.pairs
    assert (pair.test, pair.verdict) == ("t over seeds, paired", "better")
    assert any("seed by seed over 3 seeds" in note for note in found.notes)
    # Each s^2 counts 1 / n + n_test / n_train, not 1 / n: the training sets overlap.
    gaps = [fm.compare(runs[2 * seed : 2 * seed + 2]).pairs[0].difference for seed in range(3)]
    variance = np.var(gaps, ddof=1) + 1 / 122**2
    half = 4.302653 * np.sqrt(variance * (1 / 3 + 120 / 280))
    assert pair.difference == pytest.approx(np.mean(gaps))
    assert pair.interval[1] - pair.difference == pytest.approx(half, rel=1e-4)


def test_seeds_without_a_common_split_are_compared_by_their_means(
    invent: InventRun, invented_table: Callable
) -> None:
    tables = [invented_table(120, split_seed=seed) for seed in range(6)]
    runs = [invent(f"l-s{s}", skill=1.0, seed=s, table=tables[s]) for s in range(3)]
    runs += [invent(f"m-s{s}", head="mlp", seed=s, skill=4.0, table=tables[s]) for s in (3, 4, 5)]
    found = fm.compare(runs)
    assert found.pairs[0].test == "t over seeds"
    assert any("no two of their runs" in note for note in found.notes)


def test_groups_are_resampled_and_permuted_as_a_whole(
    invent: InventRun, invented_table: Callable
) -> None:
    table: Table = invented_table(120)
    rows = tuple(
        fm.Row(r.image, r.labels, split=r.split, group=f"{r.label}-{int(r.image[:4]) // 50}")
        for r in table.rows
    )
    grouped = Table(rows, table.store, "invented", class_names=table.class_names)
    runs = [invent("one", table=grouped), invent("two", head="mlp", skill=2.4, table=grouped)]
    (pair,) = fm.compare(runs).pairs
    assert pair.test == "permutation"
    assert "group" in (runs[0] / "split.csv").read_text().splitlines()[0]


def test_runs_over_different_images_are_refused(
    invent: InventRun, invented_table: Callable
) -> None:
    one = invent("one")
    own_split = invent("two", head="mlp", seed=1, table=invented_table(120, split_seed=1))
    with pytest.raises(DataError, match=r"not tested on the same images.*divide the same data"):
        fm.compare([one, own_split])
    with pytest.raises(DataError, match="have the same name and other content"):
        fm.compare([one, invent("changed", head="mlp", content="x")])
    other_data = invented_table(120, num_images=500)
    with pytest.raises(DataError, match=r"Their data differ.*evaluate RUN --data"):
        fm.compare([one, invent("three", head="mlp", table=other_data)])


def test_other_classes_are_refused(invent: InventRun, invented_table: Callable) -> None:
    table = invented_table(120)
    wider = Table(table.rows, table.store, "t", class_names=(*table.class_names, "zebra"))
    with pytest.raises(DataError, match="1 classes are known to one alone: zebra"):
        fm.compare([invent("one", table=table), invent("two", head="mlp", table=wider)])


def test_predictions_cut_short_are_told(invent: InventRun) -> None:
    one, two = invent("one"), invent("two", head="mlp")
    path = two / "predictions" / "test.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cut short"):
        fm.compare([one, two])
    path.write_bytes(whole)
    predictions = load_predictions(path)
    shorter = take(predictions, range(100))
    save_predictions(shorter, path)
    with pytest.raises(RunError, match=r"cut short: it holds 100 of the 120 .*evaluate .*two"):
        fm.compare([one, two])


def take(predictions, rows):  # type: ignore[no-untyped-def]
    from fieldmark.evaluation.comparison.contenders import select_rows

    return select_rows(predictions, list(rows))


def test_predictions_of_another_split_are_told(invent: InventRun, invented_table: Callable) -> None:
    one, two = invent("one"), invent("two", head="mlp", table=invented_table(120, split_seed=3))
    (two / "predictions" / "test.parquet").write_bytes(
        (one / "predictions" / "test.parquet").read_bytes()
    )
    with pytest.raises(RunChangedError, match="of other images than"):
        fm.compare([one, two])


def test_missing_predictions_name_the_command(invent: InventRun) -> None:
    one, two = invent("one"), invent("two", head="mlp")
    with pytest.raises(RunError, match=r"It holds predictions of: test.*--split val"):
        fm.compare([one, two], split="val")


def test_probabilities_that_are_not_finite_are_refused(invent: InventRun) -> None:
    one, two = invent("one"), invent("two", head="mlp")
    path = two / "predictions" / "test.parquet"
    predictions = load_predictions(path)
    values = predictions.top_probability.copy()
    values[3] = np.nan
    save_predictions(type(predictions)(**{**vars(predictions), "top_probability": values}), path)
    with pytest.raises(RunError, match=r"two.*: 1 of 120 images have .* not finite"):
        fm.compare([one, two])


def test_one_recipe_alone_has_nothing_to_be_held_against(invent: InventRun) -> None:
    with pytest.raises(FieldmarkError, match="nothing to hold it against"):
        fm.compare([invent("s0", seed=0), invent("s1", seed=1)])


def test_repetition_of_a_run_is_no_second_seed(invent: InventRun) -> None:
    found = fm.compare([invent("once"), invent("again")])
    assert [row.num_seeds for row in found.rows] == [1, 1]
    assert any("seed 0 more than once" in note for note in found.notes)


def test_unknown_metric_names_the_nearest(invent: InventRun) -> None:
    with pytest.raises(FieldmarkError, match="Did you mean 'macro_f1'"):
        fm.compare([invent("one"), invent("two", head="mlp")], metric="macro-f1")
    with pytest.raises(FieldmarkError, match="do not tell it"):
        fm.compare([invent("three"), invent("four", head="mlp")], metric="auroc")


def test_classes_with_one_image_and_classes_never_trained_are_named(
    invent: InventRun, invented_table: Callable
) -> None:
    table: Table = invented_table(120)
    names = (*table.class_names, "lonely")
    lonely = fm.Row("0401.png", ("lonely",), split="test")
    odd = Table((*table.rows, lonely), table.store, "invented", class_names=names)
    found = fm.compare([invent("one", table=odd), invent("two", head="mlp", table=odd)])
    told = " ".join(found.notes)
    assert "1 class in this split that training never saw count as wrong: lonely" in told
    assert "1 class with one image in this split: lonely" in told


def test_costs_are_columns(invent: InventRun) -> None:
    costs = (("seconds", 10.0), ("images_per_second", 500.0), ("peak_memory_mb", 900.0))
    found = fm.compare([invent("one", environment=costs), invent("two", head="mlp")])
    row = next(row for row in found.rows if row.name == "one")
    assert (row.seconds, row.images_per_second, row.peak_memory_mb) == (10.0, 500.0, 900.0)
    assert row.parameters is None


def test_command_answers_in_json(invent: InventRun, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = invent("one"), invent("two", head="mlp", skill=3.5)
    main(["compare", str(one), str(two), "--baseline", str(one), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["num_images"] == 120
    assert [row["name"] for row in result["rows"]] == ["two", "one"]
    pair = result["pairs"][0]
    assert {"difference", "interval", "p_value", "verdict"} <= pair.keys()
    expected = asdict(fm.compare([one, two], baseline=one))
    assert result["pairs"] == json.loads(json.dumps(expected["pairs"]))


def test_command_prints_both_tables(invent: InventRun, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", str(invent("one")), str(invent("two", head="mlp", skill=3.5))])
    shown = capsys.readouterr().out
    for part in ("accuracy", "relative", "p (Holm)", "verdict", "better", "12 s", "single seeds"):
        assert part in shown
