from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldmark.data.loaders import Batch
from fieldmark.data.tags import TagVocabulary
from fieldmark.errors import RecipeError
from fieldmark.models.classifier import Outputs, build_classifier
from fieldmark.models.features import Features
from fieldmark.recipes import Recipe, read_recipe
from fieldmark.recipes.schema import Loss
from fieldmark.training.distillation import Distillation
from fieldmark.training.losses import build_loss, measure_exclusion
from fieldmark.training.moments import Moment
from fieldmark.training.objectives import (
    ClassificationObjective,
    ComposedObjective,
    Exclusion,
    check_layers,
    check_objective,
)
from fieldmark.training.tag_masking import TagMasking, tag_loss

START = Moment(0, 0, 0.0)
VOCABULARY = TagVocabulary("whole", ("red", "green", "blue"))
TARGETS = torch.tensor([0, 2])
TEACHER = torch.tensor([[0.2, 1.4, -0.3], [2.0, 0.1, 0.3]])
LOSS = build_loss(Loss(), task="multiclass", class_counts=[1, 1, 1])


class StandIn(nn.Module):
    """A network whose outputs are given; it keeps the tags that it was shown."""

    def __init__(self, *, branches: bool = False) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[2.0, 1.0, 0.1], [0.5, 2.5, -1.0]]))
        self.second = nn.Parameter(torch.tensor([[0.3, 0.2, 0.9], [1.5, 0.5, 1.0]]))
        self.layers = nn.Parameter(torch.randn(2, 7, 5))
        self.tag_logits = nn.Parameter(torch.randn(2, 4, VOCABULARY.size))
        self.has_branches = branches
        self.shown: Tensor | None = None

    def forward(
        self, images: Tensor, tags: Tensor | None = None, *, full: bool = False
    ) -> Tensor | Outputs:
        self.shown = tags
        both = (self.logits, self.second)
        logits = (both[0] + both[1]) / 2 if self.has_branches else self.logits
        if not full:
            return logits
        features = Features(logits, logits[:, None], (1, 1), layers=self.layers)
        branches = both if self.has_branches else ()
        return Outputs(logits, features, branches, None if tags is None else self.tag_logits)


def make_batch(tags: Tensor | None = None) -> Batch:
    return Batch(torch.zeros(2, 3, 4, 4), TARGETS, torch.arange(2), tags=tags)


def teach(mode: str, *, alpha: float = 0.5, tau: float = 1.0, stored: bool = True) -> Distillation:
    return Distillation(lambda batch: TEACHER, stored, mode, alpha, tau)  # type: ignore[arg-type]


def measure(objective: ComposedObjective | ClassificationObjective, model: nn.Module, batch: Batch):
    return objective(model, batch, objective.shares(batch), START)


@pytest.mark.parametrize("stored", [True, False])
def test_hard_distillation_at_half_is_the_mean_of_two_cross_entropies(stored: bool) -> None:
    model = StandIn()
    value = measure(ComposedObjective(LOSS, teach("hard", stored=stored)), model, make_batch())
    labels = functional.cross_entropy(model.logits, TARGETS)
    teacher = functional.cross_entropy(model.logits, TEACHER.argmax(dim=1))
    assert value.item() == pytest.approx((labels + teacher).item() / 2)


def test_distillation_token_learns_from_the_teacher_and_class_token_from_labels() -> None:
    model = StandIn(branches=True)
    value = measure(ComposedObjective(LOSS, teach("hard")), model, make_batch())
    labels = functional.cross_entropy(model.logits, TARGETS)
    teacher = functional.cross_entropy(model.second, TEACHER.argmax(dim=1))
    assert value.item() == pytest.approx((labels + teacher).item() / 2)


def test_notebook_smooths_the_labels_and_not_the_teacher() -> None:
    smooth = build_loss(Loss(label_smoothing=0.1), task="multiclass", class_counts=[1, 1, 1])
    model = StandIn(branches=True)
    value = measure(ComposedObjective(smooth, teach("hard")), model, make_batch())
    labels = functional.cross_entropy(model.logits, TARGETS, label_smoothing=0.1)
    teacher = functional.cross_entropy(model.second, TEACHER.argmax(dim=1))
    assert value.item() == pytest.approx((labels + teacher).item() / 2)


def test_soft_distillation_by_the_official_formula() -> None:
    model, tau, alpha = StandIn(branches=True), 3.0, 0.3
    objective = ComposedObjective(LOSS, teach("soft", alpha=alpha, tau=tau))
    official = functional.kl_div(
        functional.log_softmax(model.second / tau, dim=1),
        functional.log_softmax(TEACHER / tau, dim=1),
        reduction="sum",
        log_target=True,
    ) * (tau * tau / model.second.numel())
    labels = functional.cross_entropy(model.logits, TARGETS)
    expected = (1 - alpha) * labels + alpha * official
    assert measure(objective, model, make_batch()).item() == pytest.approx(expected.item())


def test_alpha_1_ignores_the_labels() -> None:
    model, objective = StandIn(), ComposedObjective(LOSS, teach("hard", alpha=1.0))
    expected = functional.cross_entropy(model.logits, TEACHER.argmax(dim=1))
    assert measure(objective, model, make_batch()).item() == pytest.approx(expected.item())


def test_stored_answers_are_mixed_as_labels_are() -> None:
    model, objective = StandIn(), ComposedObjective(LOSS, teach("hard"))
    shares = objective.shares(make_batch())  # (B, 2 K)
    mixed = torch.lerp(shares.flip(0), shares, 0.7)
    value = objective(model, make_batch(), mixed, START)
    labels = functional.cross_entropy(model.logits, mixed[:, :3])
    teacher = functional.cross_entropy(model.logits, mixed[:, 3:])
    assert value.item() == pytest.approx((labels + teacher).item() / 2)
    assert mixed[:, 3:].tolist()[0] == pytest.approx([0.3, 0.7, 0.0])


def test_exclusion_lowers_the_loss_by_its_weight() -> None:
    model = StandIn()
    value = measure(ComposedObjective(LOSS, exclusion=Exclusion(0.01, 2, 1.5)), model, make_batch())
    labels = functional.cross_entropy(model.logits, TARGETS)
    measured = measure_exclusion(model.layers, distance=2, tau=1.5)
    assert measured > 0
    assert value.item() == pytest.approx((labels - 0.01 * measured).item())


def test_composition_of_nothing_is_the_loss_of_the_labels() -> None:
    model, batch = StandIn(), make_batch()
    plain = measure(ClassificationObjective(LOSS), model, batch)
    assert torch.equal(measure(ComposedObjective(LOSS), model, batch), plain)


def test_masked_tags_are_shown_masked_and_asked_for() -> None:
    tags = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    model, masking = StandIn(), TagMasking("sigmoid", VOCABULARY, seed=0)
    objective, late = ComposedObjective(LOSS, masking=masking), Moment(0, 0, 0.8)
    batch = make_batch(tags)
    value = objective(model, batch, objective.shares(batch), late)
    assert model.shown is not None
    assert model.shown.tolist() == [[2, 1, 1, 3], [2, 1, 3, 0]]
    wanted = torch.tensor([[-100, 5, 6, -100], [-100, 7, -100, -100]])
    labels = functional.cross_entropy(model.logits, TARGETS)
    expected = labels + tag_loss(model.tag_logits, wanted)
    assert value.item() == pytest.approx(expected.item())


def test_network_without_tags_is_called_without_them() -> None:
    class ImagesOnly(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 3)

    value = measure(ClassificationObjective(LOSS), ImagesOnly(), make_batch())
    assert value.item() == pytest.approx(torch.tensor(3.0).log().item())


def recipe_with(*overrides: str) -> Recipe:
    return read_recipe("quick", ["data.image_size=32", *overrides])


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["loss.exclusion=0.01"], "model.head is linear. Set model.head=ifa"),
        (["task=binary", "loss.distill=x"], "multiclass, not binary"),
        (["model.tags.propose=bert"], "there are no tags"),
        (["model.tags=whole", "loss.cutmix=1"], "not their tags"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(overrides: list[str], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        check_objective(recipe_with(*overrides))


def test_faults_are_told_together() -> None:
    with pytest.raises(RecipeError) as told:
        check_objective(recipe_with("loss.exclusion=0.01", "model.tags.propose=bert"))
    assert len(str(told.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "distance", "text"),
    [("test_vit", 6, "not below the 6 layers"), ("resnet10t", 1, "differ in width")],
)
def test_layers_that_cannot_be_compared_are_refused(name: str, distance: int, text: str) -> None:
    overrides = [f"model.name={name}", "model.head=ifa", "loss.exclusion=0.01"]
    recipe = recipe_with(*overrides, f"loss.exclusion_distance={distance}")
    classifier, _ = build_classifier(recipe.model, num_classes=3, image_size=32)
    with pytest.raises(RecipeError, match=text):
        check_layers(recipe, classifier)
