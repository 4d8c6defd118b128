from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fieldmark.data.tags import TagVocabulary
from fieldmark.training.moments import Moment
from fieldmark.training.tag_masking import NOT_ASKED, Plan, TagMasking, sigmoid_share, tag_loss

VOCABULARY = TagVocabulary("whole", tuple(f"tag {number}" for number in range(50)))
SPECIALS = range(5)


def some_tags(count: int = 400) -> Tensor:
    tags = torch.randint(
        5, VOCABULARY.size, (count, 16), generator=torch.Generator().manual_seed(1)
    )
    tags[:, 0], tags[:, 12] = VOCABULARY.cls_id, VOCABULARY.sep_id
    tags[:, 5], tags[:, 13:] = VOCABULARY.unk_id, VOCABULARY.pad_id
    return tags


def hide(plan: Plan, share_done: float = 0.0, *, epoch: int = 0, batch: int = 0):
    masking = TagMasking(plan, VOCABULARY, seed=3)
    return masking.mask(some_tags(), Moment(epoch, batch, share_done))


@pytest.mark.parametrize("plan", ["bert", "full", "sigmoid"])
def test_special_tokens_are_never_replaced_and_never_asked(plan: Plan) -> None:
    tags, masked = some_tags(), hide(plan, 0.9)
    special = torch.isin(tags, torch.tensor(SPECIALS))
    assert torch.equal(masked.shown[special], tags[special])
    assert (masked.wanted[special] == NOT_ASKED).all()


@pytest.mark.parametrize("plan", ["bert", "full", "sigmoid"])
def test_what_is_asked_is_what_stood_there(plan: Plan) -> None:
    tags, masked = some_tags(), hide(plan, 0.3)
    is_asked = masked.wanted != NOT_ASKED
    assert is_asked.any()
    assert torch.equal(masked.wanted[is_asked], tags[is_asked])
    assert torch.equal(masked.shown[~is_asked], tags[~is_asked])


def test_bert_hides_fifteen_percent_and_replaces_eight_in_ten() -> None:
    tags, masked = (
        some_tags(4000),
        TagMasking("bert", VOCABULARY, seed=0).mask(some_tags(4000), Moment(0, 0, 0.0)),
    )
    ordinary = ~torch.isin(tags, torch.tensor(SPECIALS))
    is_asked = masked.wanted != NOT_ASKED
    assert is_asked.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.01)
    shown, stood = masked.shown[is_asked], tags[is_asked]
    is_mask = shown == VOCABULARY.mask_id
    assert is_mask.float().mean() == pytest.approx(0.8, abs=0.02)
    # One in fifty of the random ones hits the tag that stood there.
    assert (shown == stood).float().mean() == pytest.approx(0.1 + 0.1 / 50, abs=0.02)
    assert not torch.isin(shown[~is_mask], torch.tensor(SPECIALS)).any()


def test_full_hides_all_from_the_first_step() -> None:
    tags, masked = some_tags(), hide("full")
    ordinary = ~torch.isin(tags, torch.tensor(SPECIALS))
    assert torch.equal(masked.wanted != NOT_ASKED, ordinary)
    assert set(masked.shown[ordinary].tolist()) == {VOCABULARY.mask_id}


@pytest.mark.parametrize(
    ("done", "share"),
    [(0.0, 0.0), (0.05, 0.0), (0.1, 0.0), (0.3, 0.5), (0.5, 1.0), (0.75, 1.0), (1.0, 1.0)],
)
def test_sigmoid_shows_all_then_ever_less_then_nothing(done: float, share: float) -> None:
    assert sigmoid_share(done) == pytest.approx(share)
    masked = hide("sigmoid", done)
    ordinary = ~torch.isin(some_tags(), torch.tensor(SPECIALS))
    found = (masked.wanted != NOT_ASKED).sum() / ordinary.sum()
    assert found == pytest.approx(share, abs=0.03 if 0 < share < 1 else 0.0)


def test_sigmoid_rises_along_a_cosine() -> None:
    visible = 0.5 * (1 + math.cos(math.pi * (0.2 - 0.1) / (1 - 0.1 - 0.5)))
    assert sigmoid_share(0.2) == pytest.approx(1 - visible)


def test_masking_depends_on_its_address_alone() -> None:
    first = hide("bert", epoch=1, batch=2)
    torch.rand(7)
    again = hide("bert", epoch=1, batch=2)
    assert torch.equal(first.shown, again.shown) and torch.equal(first.wanted, again.wanted)
    for other in (hide("bert", epoch=2, batch=2), hide("bert", epoch=1, batch=3)):
        assert not torch.equal(first.shown, other.shown)


def test_loss_counts_asked_tokens_alone() -> None:
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([[NOT_ASKED, 4, NOT_ASKED], [7, NOT_ASKED, 5]])
    rows = torch.stack([logits[0, 1], logits[1, 0], logits[1, 2]])
    expected = functional.cross_entropy(rows, torch.tensor([4, 7, 5]))
    assert tag_loss(logits, wanted).item() == pytest.approx(expected.item())


def test_loss_of_no_question_is_zero_and_not_lost() -> None:
    logits = torch.randn(2, 3, 9).requires_grad_()
    value = tag_loss(logits, torch.full((2, 3), NOT_ASKED))
    value.backward()
    assert value.item() == 0.0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_vocabulary_without_ordinary_tokens_only_masks() -> None:
    empty = TagVocabulary("whole", ())
    tags = torch.full((2, 4), empty.unk_id)
    masked = TagMasking("bert", empty, seed=0).mask(tags, Moment(0, 0, 0.0))
    assert torch.equal(masked.shown, tags)
