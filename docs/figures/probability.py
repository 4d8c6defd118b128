"""Section 2: scores, probabilities and their loss."""

from __future__ import annotations

import numpy as np
import torch
from canvas import WIDTH, Figure

from fieldmark.models.probabilities import log_probabilities
from fieldmark.training.losses import negative_log_likelihood


def draw_softmax() -> Figure:
    """The lecture's ten logits (its figure 4) and what softmax and sigmoids make of them."""
    logits = torch.tensor(np.random.RandomState(123).normal(size=10) * 2)
    softmax = log_probabilities(logits[None], "multiclass").exp()[0]
    sigmoid = log_probabilities(logits[None], "multilabel").exp()[0]
    figure = Figure(
        272,
        title="Scores, softmax and sigmoid",
        text="Ten scores of one image as bars; the same as softmax probabilities, which sum to "
        "one; the same as ten sigmoid probabilities, each for itself.",
    )
    panels = (
        ("scores z", logits, (-5.0, 5.0), "plain", "any real number"),
        ("softmax: one label of ten", softmax, (0.0, 1.0), "head", f"sum {softmax.sum():.3f}"),
        ("sigmoid: ten yes-or-no", sigmoid, (0.0, 1.0), "head", f"sum {sigmoid.sum():.3f}"),
    )
    width = (WIDTH - 56) / 3
    for index, (title, values, limits, kind, note) in enumerate(panels):
        left = 44 + index * width
        figure.text(left - 14, 30, title, bold=True)
        figure.text(left - 14, 48, note, size=12, kind="muted")
        _draw_bars(figure, left, values.tolist(), limits, kind)
    return figure


def _draw_bars(
    figure: Figure, left: float, values: list[float], limits: tuple[float, float], kind: str
) -> None:
    top, height, step = 70.0, 160.0, 19.0
    low, high = limits

    def place(value: float) -> float:
        return top + height * (high - value) / (high - low)

    for tick in (low, (low + high) / 2, high):
        figure.line([(left, place(tick)), (left + step * 10, place(tick))], "rule", form="thin")
        figure.text(left - 4, place(tick) + 4, f"{tick:g}", size=11, anchor="end", kind="muted")
    best = max(range(10), key=lambda index: values[index])
    for index, value in enumerate(values):
        x = left + step * index + 3
        y, end = sorted((place(value), place(max(low, 0.0))))
        figure.rect(x, y, step - 6, max(end - y, 0.8), kind, form="full", radius=1)
        figure.text(x + 6.5, 250, str(index), size=11, anchor="middle", kind="muted")
        if index == best:
            text = f"{value:.2f}" if high > 1 else f"{value:.3f}"
            figure.text(x + 6.5, y - 5, text, size=11.5, anchor="middle", bold=True)


def draw_cross_entropy() -> Figure:
    """-log p of the true class, in nats."""
    shares = np.linspace(0.005, 1.0, 200)
    losses = [
        float(negative_log_likelihood(torch.tensor([[p, 1 - p]]), torch.tensor([[1.0, 0.0]])))
        for p in shares
    ]
    figure = Figure(
        250,
        title="Cross-entropy of one image",
        text="The loss falls from above 5 nats at probability 0.005 to 0 at probability 1.",
    )
    left, right, top, bottom = 70.0, 730.0, 30.0, 200.0

    def at(p: float, loss: float) -> tuple[float, float]:
        return left + (right - left) * p, bottom - (bottom - top) * loss / 5.5

    for tick in range(6):
        figure.line([at(0, tick), at(1, tick)], "rule", form="thin")
        figure.text(left - 8, at(0, tick)[1] + 4, str(tick), size=12, anchor="end", kind="muted")
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, _ = at(share, 0)
        figure.text(x, bottom + 18, f"{share:g}", size=12, anchor="middle", kind="muted")
    figure.line([at(p, loss) for p, loss in zip(shares, losses, strict=True)], "head", form="curve")
    figure.text(left + 4, 20, "loss, nats", size=12, kind="muted")
    middle = (left + right) / 2
    figure.text(middle, 238, "probability of the true class", size=12, anchor="middle")
    marks = (
        (0.1, "one of ten classes by chance", -9),
        (0.766526, "the lecture's figure 5", -31),  # clear of the curve and of the rule at 1
    )
    for share, words, above in marks:
        loss = -float(np.log(share))
        x, y = at(share, loss)
        figure.dot(x, y, 5, "head")
        start = min(x + 10, 436)
        figure.text(start, y + above, f"{words}: p = {share:.3f}, loss {loss:.3f}", size=12.5)
    return figure
