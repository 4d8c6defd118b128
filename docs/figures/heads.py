"""Sections 8 and 10: the IFA head, and learning from a teacher."""

from __future__ import annotations

from typing import Literal

import torch
from canvas import Figure

from fieldmark.data.loaders import Batch
from fieldmark.models.heads import DistilledHead
from fieldmark.models.ifa_head import IfaHead
from fieldmark.training.distillation import Distillation

Mode = Literal["hard", "soft"]
DEPTH, WIDTH, CLASSES = 12, 768, 3263


def draw_ifa() -> Figure:
    """The head with the parameters of ViT-B on DAF:re."""
    head = IfaHead((WIDTH,) * DEPTH, CLASSES)
    figure = Figure(
        304,
        title="The IFA head",
        text="The class token of every block is kept; one linear layer over the layers joins them, "
        "then ReLU, layer norm and a linear layer.",
    )
    figure.text(20, 30, "class tokens of the L blocks, (B, D, L)", bold=True)
    for layer in range(DEPTH):
        x = 24 + layer * 20
        figure.rect(x, 66, 15, 130, "class", radius=2)
        figure.text(x + 7.5, 58, str(layer + 1), size=11, anchor="middle", kind="muted")
    figure.text(20, 216, "each block's output at token 0, after both", size=12)
    figure.text(20, 232, "additions, without the encoder's last norm", size=12)
    figure.rect(20, 118, 244, 14, "head", form="open", radius=2)
    figure.text(20, 264, "the same L weights and one bias", size=12, kind="head")
    figure.text(20, 280, "for each of the D channels (frame)", size=12, kind="head")
    figure.arrow([(270, 125), (292, 125)], "head")
    steps = (
        ("linear", "L to 1", sum(p.numel() for p in head.join.parameters())),
        ("ReLU", "", 0),
        ("layer norm", "D", sum(p.numel() for p in head.norm.parameters())),
        ("linear", "D to K", sum(p.numel() for p in head.output.parameters())),
    )
    shapes = ("(B, D)", "(B, D)", "(B, D)", "(B, K)")
    for index, ((name, shape, count), out) in enumerate(zip(steps, shapes, strict=True)):
        x = 294 + index * 110
        lines = [line for line in (name, shape) if line]
        figure.box(x, 96, 88, 58, "head", *lines)
        figure.text(x + 44, 176, f"{count:,}" if count else "none", size=12.5, anchor="middle")
        figure.arrow([(x + 88, 125), (x + 108, 125)], "head")
        figure.text(x + 99, 84, out, size=11.5, anchor="middle", kind="muted")
    total = sum(p.numel() for p in head.parameters())
    figure.text(294, 58, "parameters for D = 768, L = 12, K = 3,263", size=12.5)
    figure.text(294, 216, f"in all {total:,}", bold=True)
    figure.text(294, 236, f"{DEPTH + 1} more than layer norm and linear layer alone", size=12.5)
    figure.text(294, 264, "CNN: the mean of each stage's map in place of the class token,", size=12)
    figure.text(294, 280, "each stage projected to the widest first", size=12)
    return figure


def draw_distillation() -> Figure:
    """DeiT's two tokens and their losses, and what a teacher says hard and soft."""
    head = DistilledHead(2 * 192, 1000)
    figure = Figure(
        436,
        title="Learning from a teacher",
        text="The class token learns from the label, the distillation token from the teacher. "
        "Hard: the teacher's first class. Soft: its probabilities, flatter at a larger tau.",
    )
    count = sum(p.numel() for p in head.class_token.parameters())
    figure.box(20, 40, 90, 74, "image", "image", "the student's", "view")
    figure.arrow([(110, 77), (136, 77)])
    figure.rect(138, 40, 150, 74, "image")
    figure.text(213, 62, "student", anchor="middle", bold=True)
    figure.rect(150, 76, 40, 26, "class")
    figure.text(170, 93, "CLS", size=12, anchor="middle")
    figure.rect(194, 76, 40, 26, "teacher")
    figure.text(214, 93, "DIST", size=12, anchor="middle")
    figure.rect(238, 76, 40, 26, "plain")
    figure.text(258, 93, "patch", size=11.5, anchor="middle")
    figure.arrow([(288, 60), (330, 60)], "class")
    figure.arrow([(288, 96), (330, 96)], "teacher")
    figure.box(332, 42, 168, 34, "class", f"linear, {count:,}")
    figure.box(332, 82, 168, 34, "teacher", f"linear, {count:,}")
    figure.arrow([(500, 59), (538, 59)], "class")
    figure.arrow([(500, 99), (538, 99)], "teacher")
    figure.text(542, 63, "(1 - alpha) x label loss", size=12.5, kind="class")
    figure.text(542, 103, "alpha x teacher loss", size=12.5, kind="teacher")
    figure.arrow([(65, 114), (65, 162), (136, 162)], "teacher")
    figure.box(138, 140, 150, 44, "teacher", "teacher", "a run or a timm name")
    figure.arrow([(288, 162), (640, 162), (640, 112)], "teacher")
    figure.text(332, 156, "logits, without gradient", size=12)
    figure.text(
        20,
        210,
        "Prediction: the mean of both logits. Without such a token both losses take the same.",
        size=12.5,
    )
    figure.line([(20, 228), (740, 228)], "rule", form="thin")
    logits = torch.tensor([[4.0, 3.0, 1.5, 0.5, -1.0]])
    figure.text(
        20, 254, "What the teacher answers to one image (logits 4, 3, 1.5, 0.5, -1)", bold=True
    )
    answers: tuple[tuple[Mode, float], ...] = (
        ("hard", 1.0),
        ("soft", 1.0),
        ("soft", 2.0),
        ("soft", 4.0),
    )
    for index, (mode, tau) in enumerate(answers):
        shares = _answer(logits, mode, tau)
        title = "mode: hard" if mode == "hard" else f"mode: soft, tau: {tau:g}"
        _draw_answer(figure, 20 + index * 184, title, shares)
    return figure


def _answer(logits: torch.Tensor, mode: Mode, tau: float) -> list[float]:
    asked = Distillation(
        ask=lambda _: logits,
        is_stored=False,
        mode=mode,
        alpha=0.5,
        tau=tau,
    )
    nothing = Batch(torch.zeros(1, 3, 1, 1), torch.zeros(1).long(), torch.zeros(1).long())
    return asked.answer(nothing)[0].tolist()


def _draw_answer(figure: Figure, left: float, title: str, shares: list[float]) -> None:
    figure.text(left, 280, title, size=12.5, mono=True)
    for index, share in enumerate(shares):
        x, height = left + index * 32, 100 * share
        figure.rect(x, 410 - height, 24, max(height, 1), "teacher", form="full", radius=1)
        figure.text(x + 12, 404 - height, f"{share:.2f}", size=11, anchor="middle")
        figure.text(x + 12, 426, str(index), size=11, anchor="middle", kind="muted")
