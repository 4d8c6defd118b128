"""`fieldmark inspect --what attention`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fieldmark.data.tags import TagEncoder
from fieldmark.errors import InspectionError, hint
from fieldmark.inspection.asking import find_verdict
from fieldmark.inspection.attention.figures import (
    plot_heads,
    plot_overview,
    plot_reading,
    plot_words,
)
from fieldmark.inspection.attention.numbers import (
    class_maps,
    patch_share,
    rollout_map,
    tag_maps,
    tags_read,
)
from fieldmark.inspection.attention.weights import (
    AttentionWeights,
    find_attention,
    read_attention,
)
from fieldmark.inspection.hooks import short_name
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import Picture, choose_pictures
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import Drawing

MOST_LAYERS = 12


def draw_attention(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """Draw rollout, the class token's maps by layer and head, and, with tags, words and patches.

    `options.layers` names blocks ("blocks.11" or "11"), `options.heads` heads by number.
    """
    num_layers = len(find_attention(subject.classifier))
    chosen = _choose_layers(options.layers, num_layers)
    pictures = choose_pictures(subject, options)
    for index, picture in enumerate(pictures):
        options.progress("attention", index, len(pictures))
        read = read_attention(subject.classifier, picture.pixels, picture.tag_ids)
        where = find_verdict(subject.predictor, picture, options.target).words
        yield _draw_overview(subject, picture, read, where)
        yield _draw_heads(subject, picture, read, chosen, options)
        yield from _draw_tags(subject, picture, read, chosen)
    options.progress("attention", len(pictures), len(pictures))


def _choose_layers(names: Sequence[str], num_layers: int) -> list[int]:
    """Indices of the blocks asked for; none: all of them, or twelve evenly spaced."""
    if not names:
        count = min(num_layers, MOST_LAYERS)
        steps = max(1, count - 1)
        return [round(index * (num_layers - 1) / steps) for index in range(count)]
    known = [f"blocks.{index}" for index in range(num_layers)]
    chosen = []
    for name in names:
        block = f"blocks.{name}" if name.isdecimal() else short_name(name)
        if block not in known:
            raise InspectionError(
                f"--layers {name}: attention is shown by block, {known[0]} to {known[-1]}."
                f"{hint(block, known)}"
            )
        chosen.append(known.index(block))
    return chosen


def _draw_overview(
    subject: Subject, picture: Picture, read: AttentionWeights, verdict: str
) -> Drawing:
    last = f"blocks.{len(read.weights) - 1}"
    reader = _reader(read)
    title = f"Where {subject.model} looks in {picture.name}"
    figure = plot_overview(
        picture.shown,
        rollout_map(read).cpu().numpy(),
        class_maps(read)[-1].mean(dim=0).cpu().numpy(),
        reader=reader,
        title=title,
        subtitle=f"{subject.model} · all layers, {last} · {picture.words} · predicted {verdict}",
    )
    caption = (
        f"{subject.model}, {picture.words}: attention rollout over all {len(read.weights)} layers "
        f"(what reaches {reader} through attention and residuals), and the mean of all heads in "
        f"{last}; the brighter, the more, each from 0 to its own 95th percentile. "
        f"Predicted: {verdict}."
    )
    detail = f"rollout-{picture.stem}"
    return Drawing("attention", subject.model, detail, title, caption, figure)


def _draw_heads(
    subject: Subject,
    picture: Picture,
    read: AttentionWeights,
    layers: list[int],
    options: InspectOptions,
) -> Drawing:
    num_heads = read.weights.shape[1]
    wrong = [head for head in options.heads if not 0 <= head < num_heads]
    if wrong:
        raise InspectionError(
            f"--heads {wrong[0]}: '{subject.model}' has {num_heads} heads, 0 to {num_heads - 1}"
        )
    heads = list(options.heads) or list(range(num_heads))
    reader = _reader(read)
    title = f"What {reader} of {subject.model} reads, by layer and head"
    figure = plot_heads(
        class_maps(read)[layers][:, heads].cpu().numpy(),
        patch_share(read)[layers][:, heads].cpu().numpy(),
        layers=[f"blocks.{layer}" for layer in layers],
        heads=heads,
        title=title,
        subtitle=f"{subject.model} · attn of each block · {picture.words}",
    )
    caption = (
        f"{subject.model}, attention of {len(layers)} blocks and {len(heads)} heads, "
        f"{picture.words}: how much {reader} reads of each patch, each map from 0 to its own "
        "95th percentile; below it the share that goes to patches at all"
        + (" (the rest goes to itself and other tokens)." if read.first_patch else ".")
    )
    return Drawing("attention", subject.model, f"heads-{picture.stem}", title, caption, figure)


def _draw_tags(
    subject: Subject, picture: Picture, read: AttentionWeights, layers: list[int]
) -> Iterator[Drawing]:
    encoder = subject.predictor.encode_tags
    if encoder is None or picture.tag_ids is None or not read.num_tags:
        return
    places, words = name_tokens(encoder, picture)
    if not words:
        return
    maps = tag_maps(read)[layers].mean(dim=0)[places]  # (T', h, w)
    title = f"Where each tag looks in {picture.name}"
    figure = plot_words(
        picture.shown,
        maps.cpu().numpy(),
        words,
        title=title,
        subtitle=f"{subject.model} · mean of {len(layers)} blocks and all heads · {picture.words}",
    )
    caption = (
        f"{subject.model}, {picture.words}: how much the token of each tag reads of each patch, "
        f"mean over {len(layers)} blocks and all heads, on one scale for all tags."
    )
    yield Drawing("attention", subject.model, f"tags-{picture.stem}", title, caption, figure)
    reader = _reader(read)
    title = f"Which tags {reader} reads in {picture.name}"
    figure = plot_reading(
        tags_read(read)[layers][:, places].cpu().numpy(),
        words,
        [f"blocks.{layer}" for layer in layers],
        reader=reader,
        title=title,
        subtitle=f"{subject.model} · mean of all heads · {picture.words}",
    )
    caption = (
        f"{subject.model}, {picture.words}: the share of its attention that {reader} gives to "
        "each tag, by block, mean over heads."
    )
    yield Drawing("attention", subject.model, f"words-{picture.stem}", title, caption, figure)


def name_tokens(encoder: TagEncoder, picture: Picture) -> tuple[list[int], list[str]]:
    """Places of the tokens that are parts of tags, and what each of them says."""
    vocabulary = encoder.vocabulary
    ids = [] if picture.tag_ids is None else picture.tag_ids.tolist()
    places = [place for place, id_ in enumerate(ids) if id_ not in vocabulary.special_ids]
    return places, [" ".join(vocabulary.decode([ids[place]])) for place in places]


def _reader(read: AttentionWeights) -> str:
    return "the class token" if read.has_class_token else "the mean patch"
