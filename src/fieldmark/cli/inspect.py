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
    steps: int = 24,
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
        Tags of the pictures, for a run that takes tags.
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
            tags=_split_words(tags),
            num_images=images,
            split=split,
            layers=_split_words(layers),
            channels=channels,
            heads=heads,
            methods=_split_words(methods),
            target=target,
            steps=steps,
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
                "what": entry.what,
                "title": entry.title,
                "caption": entry.caption,
            }
            for entry in entries
        ],
        "notes": notes,
    }
    shown = [f"note     {note}" for note in notes]
    shown += [f"figure   {entry.stem}.png  {entry.title}" for entry in entries]
    output.answer(result, *shown, f"stored   {folder}")


def _split_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words separated by commas or by blanks."""
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())
