"""`draw_landscape`: the figures of a run's loss landscape, with their numbers in the captions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from fieldmark.errors import InspectionError
from fieldmark.inspection.landscape.directions import draw_plane
from fieldmark.inspection.landscape.drawing import draw_line, draw_surface
from fieldmark.inspection.landscape.line import compute_line
from fieldmark.inspection.landscape.losses import Sample, draw_sample, trained_part
from fieldmark.inspection.landscape.points import PointStore
from fieldmark.inspection.landscape.sharpness import Sharpness, measure_sharpness
from fieldmark.inspection.landscape.surface import Surface, compute_surface, fastest_precision
from fieldmark.inspection.landscape.weights import is_moved
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.others import load_other
from fieldmark.inspection.readings import need_table
from fieldmark.inspection.subject import Subject
from fieldmark.runs.checkpoints import WEIGHTS_NAME
from fieldmark.runs.figures import Drawing

SHARPNESS_IMAGES = 128
FEW = 40


def draw_landscape(subject: Subject, options: InspectOptions) -> Iterator[Drawing]:
    """The plane around the weights with its sharpness and, with `other`, the line to that run.

    The loss is that of `loss_images` fixed images of `loss_split`, in evaluation mode.
    """
    if options.points < 3 or options.points % 2 == 0:
        raise InspectionError(
            f"--points {options.points}: expected an odd number from 3, such as 51: then the "
            "middle one is the network itself"
        )
    table = need_table(subject, "compute a loss of")
    sample = draw_sample(
        subject,
        table,
        split=options.loss_split,
        num_images=options.loss_images,
        seed=options.seed,
    )
    yield draw_plane_figure(subject, sample, options)
    if options.other is not None:
        yield draw_line_figure(subject, sample, options.other)


def draw_plane_figure(subject: Subject, sample: Sample, options: InspectOptions) -> Drawing:
    """Contour and surface around the weights, with the sharpness figures."""
    network, read = trained_part(subject.classifier, sample)
    surface = _compute(subject, network, read, options)
    sharpness = measure_sharpness(
        network,
        read.first(SHARPNESS_IMAGES),
        seed=options.seed,
        count=lambda done, total: options.progress("Lanczos", done, total),
    )
    part = "head" if subject.classifier.is_frozen else "network"
    title = f"Loss landscape of {subject.model}"
    subtitle = (
        f"{sample.describe}, evaluation mode. Largest Hessian eigenvalue "
        f"{sharpness.top_eigenvalue:.3g}, SAM rise {sharpness.sam_rise:.3g}, rise at "
        f"{sharpness.radius:g} of every filter {sharpness.filter_rise:.3g}"
    )
    figure = draw_surface(
        surface, title=title, subtitle=subtitle, guess=math.log(len(subject.predictor.class_names))
    )
    caption = (
        f"{subject.model}, {describe_surface(surface, sample, part, options)} "
        f"{describe_sharpness(sharpness)}"
    )
    detail = f"plane-{options.loss_split}-seed{options.seed}"
    return Drawing("landscape", subject.model, detail, title, caption, figure)


def draw_line_figure(subject: Subject, sample: Sample, other: str) -> Drawing:
    """The loss on the way from this run to another one."""
    loaded = load_other(other, subject)
    names = (subject.folder.path.name, loaded.folder.path.name)
    line = compute_line(subject.classifier, loaded.classifier, sample, names=names)
    title = f"From {names[0]} to {names[1]}"
    words = f"barrier {line.barrier:.3g} nats" if line.barrier > 0 else "no barrier between them"
    figure = draw_line(line, title=title, subtitle=f"{sample.describe}: {words}", names=names)
    caption = (
        f"{subject.model}: loss of {sample.describe} at (1 - t) x {names[0]} + t x {names[1]}, "
        f"evaluation mode, all weights and moving statistics: {words} (Frankle et al. 2020)."
    )
    return Drawing("landscape", subject.model, f"line-{names[1]}", title, caption, figure)


def describe_surface(surface: Surface, sample: Sample, part: str, options: InspectOptions) -> str:
    """How the surface was computed, in sentences."""
    count = len(surface.steps)
    text = (
        f"{count} x {count} points around the {part}'s weights (the cross; loss "
        f"{surface.centre:.4g}, in float32 {surface.exact_centre:.4g}) on {sample.describe}, "
        f"evaluation mode, {surface.precision}. Gaussian directions (seed {options.seed}), "
        "orthogonal and normalised filter by filter (Li et al. 2018): at 1 every filter has "
        "moved by its own length. Moved are the weights of linear layers and convolutions; biases, "
        "norms with their statistics, class token and positions stay."
    )
    if surface.interpolation is None:
        return f"{text} Every point saw all {surface.num_images} images."
    done = surface.interpolation
    return (
        f"{text} Every point saw {done.few} images, {done.num_full} points all "
        f"{surface.num_images}; between those the ratio of both losses is interpolated, which at "
        f"{done.num_checks} random points is wrong by {done.mean_error:.1%} on average and "
        f"{done.max_error:.1%} at most."
    )


def describe_sharpness(sharpness: Sharpness) -> str:
    """The sharpness figures in a sentence."""
    return (
        f"Sharpness on {sharpness.num_images} of the images, float32: largest eigenvalue of the "
        f"Hessian {sharpness.top_eigenvalue:.4g} ({sharpness.num_steps} steps of Lanczos), loss "
        f"{sharpness.sam_rise:+.3g} at the worst step of length {sharpness.rho:g} (SAM, to first "
        f"order), {sharpness.filter_rise:+.3g} at random steps of {sharpness.radius:g} of every "
        f"filter; seed {sharpness.seed}."
    )


def _compute(
    subject: Subject, network: nn.Module, sample: Sample, options: InspectOptions
) -> Surface:
    named = {n: p for n, p in network.named_parameters() if p.requires_grad and is_moved(n, p)}
    precision = fastest_precision(sample.inputs[0].device)
    few = None if options.exact else FEW
    about = {
        "weights": _digest(subject.folder.find_best() / WEIGHTS_NAME),
        "points": options.points,
        "distance": options.distance,
        "split": options.loss_split,
        "images": len(sample),
        "few": few,
        "seed": options.seed,
        "precision": str(precision),
    }
    return compute_surface(
        network,
        sample,
        draw_plane(named, seed=options.seed),
        points=options.points,
        distance=options.distance,
        few=few,
        precision=precision,
        store=PointStore.inside(subject.folder.figures_dir, about),
        count=lambda done, total: options.progress("landscape, image passes", done, total),
    )


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
