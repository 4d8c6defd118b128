from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fieldmark.data.tags import TagVocabulary
from fieldmark.errors import RunError, WeightsError
from fieldmark.runs.best import check_start, load_best, save_best


@pytest.mark.parametrize("tokenizer", ["whole", "wordpiece"])
def test_a_network_with_tags_comes_back_with_its_vocabulary(
    build, tokenizer: str, tmp_path: Path
) -> None:
    classifier, identity = build(tokenizer=tokenizer, propose="full")
    save_best(tmp_path / "best", classifier, identity, {"epoch": 1})
    loaded, found = load_best(tmp_path / "best")
    assert found == identity
    images, ids = torch.randn(2, 3, 32, 32), torch.tensor([[2, 5, 7, 3, 0, 0, 0, 0]] * 2)
    with torch.no_grad():
        assert torch.equal(loaded(images, ids), classifier(images, ids))
        mine, theirs = classifier(images, ids, full=True), loaded(images, ids, full=True)
        assert torch.equal(mine.tag_logits, theirs.tag_logits)


def test_a_network_without_tags_has_no_vocabulary(build, tmp_path: Path) -> None:
    classifier, identity = build()
    save_best(tmp_path / "best", classifier, identity, {})
    assert not (tmp_path / "best" / "tags.json").exists()
    assert load_best(tmp_path / "best")[1].vocabulary is None


def test_weights_with_tags_say_that_only_fieldmark_loads_them(build, tmp_path: Path) -> None:
    save_best(tmp_path / "best", *build(tokenizer="whole"), {})
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    assert config["fieldmark"]["layout"] == "fieldmark"
    assert config["fieldmark"]["tag_vocabulary"]["file"] == "tags.json"
    assert config["fieldmark"]["tag_vocabulary"]["size"] == 9


@pytest.mark.parametrize(
    "tags",
    [["hat", "long hair", "smile", "cat ears"], ["long hair", "hat", "smile"]],
    ids=["another order", "one less"],
)
def test_another_vocabulary_than_the_weights_were_trained_with_is_refused(
    build, tags: list[str], tmp_path: Path
) -> None:
    save_best(tmp_path / "best", *build(tokenizer="whole"), {})
    path = tmp_path / "best" / "tags.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tags": tags}))
    with pytest.raises(RunError, match=r"tags\.json: this vocabulary of \d entries is not the one"):
        load_best(tmp_path / "best")


def test_weights_of_another_vocabulary_are_no_start(build, tmp_path: Path) -> None:
    classifier, identity = build(tokenizer="whole")
    save_best(tmp_path / "best", classifier, identity, {})
    weights = tmp_path / "best" / "model.safetensors"
    check_start(weights, identity.vocabulary)
    other = TagVocabulary("whole", tuple(reversed(identity.vocabulary.tags)))
    with pytest.raises(
        WeightsError, match=r"another tag vocabulary.*model\.tags\.vocabulary="
    ) as told:
        check_start(weights, other)
    assert str(tmp_path / "best" / "tags.json") in str(told.value)
    check_start(tmp_path / "plain.pth", other)
    (tmp_path / "best" / "tags.json").write_text("{}")
    with pytest.raises(WeightsError, match="is not a tag vocabulary"):
        check_start(weights, other)


def test_a_lost_or_broken_vocabulary_is_told(build, tmp_path: Path) -> None:
    save_best(tmp_path / "best", *build(tokenizer="whole"), {})
    path = tmp_path / "best" / "tags.json"
    path.write_text("{}")
    with pytest.raises(RunError, match="does not hold a classifier of fieldmark"):
        load_best(tmp_path / "best")
    path.unlink()
    with pytest.raises(RunError, match=r"tags\.json: the vocabulary of its tags is gone"):
        load_best(tmp_path / "best")
