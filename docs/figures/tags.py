"""Section 9: tags in the sequence, and how many of them are masked."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from canvas import Figure
from PIL import Image

from fieldmark.data.samples import draw_sample
from fieldmark.data.tags import TagEncoder, TagVocabulary, build_tag_vocabulary
from fieldmark.models.vit.tags import TagEmbedding
from fieldmark.recipes.schema import Tags
from fieldmark.training.moments import Moment
from fieldmark.training.tag_masking import NOT_ASKED, Plan, TagMasking, sigmoid_share

SHOWN = ("kuro", 3)
MAX_TOKENS = 10
SPECIALS = {0: "[PAD]", 1: "[MASK]", 2: "[CLS]", 3: "[SEP]", 4: "[UNK]"}


def draw_sequence() -> Figure:
    """A drawn character, its tags as tokens, the mask, and the same with hidden tags."""
    table = draw_sample("characters", num_images=60)
    section = Tags(tokenizer="whole", max_tokens=MAX_TOKENS)
    vocabulary = build_tag_vocabulary(section, [row.tags or () for row in table.rows])
    encoder = TagEncoder(vocabulary, section)
    row = next(row for row in table.rows if row.labels == (SHOWN[0],) and len(row.tags or ()) > 5)
    pixels = np.asarray(Image.open(BytesIO(table.store.read(row.image))).convert("RGB"))
    figure = Figure(
        396,
        title="Image and tags in one sequence",
        text="Class token, then the tags with their own class and separator tokens and padding, "
        "then the patches. Attention leaves padding out. Hidden tags are all padding.",
    )
    figure.picture(20, 46, 128, pixels, label=f"a drawn character, {SHOWN[0]}")
    figure.text(20, 34, "image", bold=True)
    figure.text(170, 34, "tags", bold=True)
    for index, tag in enumerate(row.tags or ()):
        x, y = 170 + index % 4 * 142, 48 + index // 4 * 34
        figure.rect(x, y, 132, 26, "tags")
        figure.text(x + 66, y + 17.5, tag, size=12.5, anchor="middle")
    figure.text(
        170,
        138,
        f"vocabulary: {vocabulary.size} entries, tags of at least "
        f"{section.min_count} training images and five special ones",
        size=12.5,
    )
    figure.text(170, 158, f"max_tokens: {MAX_TOKENS} here, [CLS] and [SEP] among them", size=12.5)
    _draw_row(figure, 214, "as given", encoder(row.tags), vocabulary)
    _draw_row(figure, 312, "hidden", encoder(()), vocabulary)
    return figure


def _draw_row(
    figure: Figure, top: float, title: str, ids: torch.Tensor, vocabulary: TagVocabulary
) -> None:
    embedding = TagEmbedding(
        vocabulary.size,
        8,
        max_tokens=MAX_TOKENS,
        dropout=0.0,
        pad_id=vocabulary.pad_id,
        type_embedding=True,
    )
    visible = embedding.visible(ids[None])[0].tolist()
    figure.text(20, top + 4, title, size=12.5, bold=True)
    figure.text(20, top + 62, "mask", size=12.5)
    figure.rect(86, top - 14, 48, 58, "class")
    figure.text(110, top + 12, "CLS", size=12, anchor="middle", bold=True)
    figure.text(110, top + 32, "type 0", size=11, anchor="middle")
    for index, token in enumerate(ids.tolist()):
        x = 138 + index * 49
        kind = "tags" if visible[index] else "plain"
        figure.rect(x, top - 14, 46, 58, kind, form="box" if visible[index] else "dashed")
        name = SPECIALS.get(token, "tag")
        figure.text(x + 23, top + 4, name, size=11, anchor="middle", bold=token > 4)
        figure.text(x + 23, top + 19, f"id {token}", size=11, anchor="middle")
        figure.text(x + 23, top + 35, "type 1", size=11, anchor="middle")
        _draw_flag(figure, x + 23, top + 58, visible[index])
    _draw_flag(figure, 110, top + 58, True)
    figure.rect(630, top - 14, 110, 58, "image")
    figure.text(685, top + 12, "N patches", size=12, anchor="middle", bold=True)
    figure.text(685, top + 32, "type 0", size=11, anchor="middle")
    _draw_flag(figure, 685, top + 58, True)


def _draw_flag(figure: Figure, x: float, y: float, is_open: bool) -> None:
    figure.dot(x, y, 5, "tags" if is_open else "plain", form="full" if is_open else "open")


def draw_schedules() -> Figure:
    """Share of tags that each plan masks over a run: drawn curves and measured batches."""
    figure = Figure(
        304,
        title="How many tags are masked",
        text="bert masks 15% throughout; sigmoid none in the first tenth, all from the half on; "
        "full all of them, always.",
    )
    left, top, bottom, width = 58.0, 56.0, 232.0, 176.0
    plans: tuple[Plan, ...] = ("bert", "full", "sigmoid")
    vocabulary = TagVocabulary("whole", tuple(f"tag {index}" for index in range(40)))
    for index, plan in enumerate(plans):
        x0 = left + index * 240

        def at(done: float, share: float, x0: float = x0) -> tuple[float, float]:
            return x0 + width * done, bottom - (bottom - top) * share

        figure.text(x0 - 8, 32, f"propose: {plan}", bold=True, mono=True)
        for tick in (0.0, 0.5, 1.0):
            figure.line([at(0, tick), at(1, tick)], "rule", form="thin")
            figure.text(
                x0 - 8, at(0, tick)[1] + 4, f"{tick:.0%}", size=11.5, anchor="end", kind="muted"
            )
            figure.text(
                at(tick, 0)[0], bottom + 18, f"{tick:.0%}", size=11.5, anchor="middle", kind="muted"
            )
        if plan == "sigmoid":
            steps = [step / 100 for step in range(101)]
            figure.line([at(step, sigmoid_share(step)) for step in steps], "tags", form="curve")
        for done, share in _measure(TagMasking(plan, vocabulary, seed=0)):
            figure.dot(*at(done, share), 3.2, "tags")
    figure.text(380, 272, "share of the training that is done", size=12.5, anchor="middle")
    figure.text(
        380,
        292,
        "dots: measured batches of 32 images of 20 tags each",
        size=12,
        anchor="middle",
        kind="muted",
    )
    return figure


def _measure(masking: TagMasking) -> list[tuple[float, float]]:
    """Share of masked tags in 25 batches along a run."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for step in range(25):
        tags = torch.randint(5, 45, (32, 20), generator=generator)
        wanted = masking.mask(tags, Moment(epoch=0, batch=step, share_done=step / 24)).wanted
        found.append((step / 24, (wanted != NOT_ASKED).float().mean().item()))
    return found
