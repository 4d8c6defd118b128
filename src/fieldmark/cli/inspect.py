"""`fieldmark inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fieldmark.cli.output import Output, stdout_for_results

Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
Numbers = Annotated[tuple[int, ...], Parameter(consume_multiple=True)]


def inspect(
    run: Path,
    /,
    *,
    image: Words = (),
    what: Words = (),
    tags: Words = (),
    images: int = 2,
    split: str = "test",
    layers: Words = (),
    channels: Numbers = (),
    heads: Numbers = (),
    methods: Words = (),
    target: str | None = None,
    steps: int = 20,
    other: Annotated[str | None, Parameter(name="--with")] = None,
    points: int = 51,
    distance: float = 1.0,
    loss_split: str = "val",
    loss_images: int = 256,
    exact: bool = False,
    neighbours: int = 6,
    classes: Words = (),
    seed: int = 0,
    output: Output = Output(),
) -> None:
    """Look inside a run: figures as PNG and SVG in its folder `figures`.

    Parameters
    ----------
    run
        A run folder.
    image
        Pictures to look at. Default: some of the run's own.
    what
        Kinds of figures, separated by commas: filters, features, attention, saliency, layers,
        landscape, neighbours, mistakes, classes. Default: all that fit the network and take
        seconds.
    tags
        Tags of the pictures, for a run that takes tags; several words of one tag in quotes.
    images
        How many of the run's own pictures, where --image names none.
    split
        The split that they are taken from: train, val or test.
    layers
        Layers by name, e.g. blocks.11 or conv2 (`fieldmark summary` lists them).
    channels
        Channels of feature maps; input channels of filters.
    heads
        Attention heads. Default: all.
    methods
        Of saliency: grad-cam, integrated-gradients, occlusion. Default: all.
    target
        The class whose evidence is shown. Default: the most probable one.
    steps
        Steps of deletion and insertion, and of integrated gradients.
    other
        A second run: similarity of the layers of both, and the loss on the line between both.
    points
        Points of each side of the loss landscape, an odd number.
    distance
        How far the landscape reaches, in lengths of each filter.
    loss_split
        The split whose loss it shows.
    loss_images
        How many images of that split, 0 for all.
    exact
        Let every point see every image: five times the cost.
    neighbours
        How many nearest training images are shown.
    classes
        Classes whose field marks are drawn, separated by commas. Default: two that are taken for
        each other.
    seed
        Of the choice of pictures and of everything random.
    """
    from fieldmark.verbs import load_run
    from fieldmark.verbs.inspecting import inspect as draw

    opened = load_run(run)
    notes: list[str] = []
    with stdout_for_results(), output.counting("drawing") as counter:
        entries = draw(
            opened,
            images=image,
            what=_split_words(what),
            tags=_split_words(tags, ";"),
            num_images=images,
            split=split,
            layers=_split_words(layers),
            channels=channels,
            heads=heads,
            methods=_split_words(methods),
            target=target,
            steps=steps,
            other=other,
            points=points,
            distance=distance,
            loss_split=loss_split,
            loss_images=loss_images,
            exact=exact,
            neighbours=neighbours,
            classes=_split_words(classes),
            seed=seed,
            progress=counter.show,
            note=notes.append,
        )
    folder = opened.folder.figures_dir
    result = {
        "figures": [
            {
                "png": str(folder / f"{entry.stem}.png"),
                "svg": str(folder / f"{entry.stem}.svg"),
                "page": str(folder / f"{entry.stem}.html") if entry.has_page else None,
                "what": entry.what,
                "title": entry.title,
                "caption": entry.caption,
            }
            for entry in entries
        ],
        "notes": notes,
    }
    shown = [f"note     {note}" for note in notes]
    for entry in entries:
        shown.append(f"figure   {entry.stem}.png  {entry.title}")
        shown += [f"page     {entry.stem}.html"] if entry.has_page else []
    output.answer(result, *shown, f"stored   {folder}")


def _split_words(words: tuple[str, ...], separator: str = ",") -> tuple[str, ...]:
    """Words that stand apart, or together with a separator between them."""
    parts = (part.strip() for word in words for part in word.split(separator))
    return tuple(part for part in parts if part)
