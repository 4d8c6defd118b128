"""The report of one run: a single HTML file that holds all it shows and asks nothing of a network.

A page is a list of sections, in reading order. A section is a builder in its own module, which
makes a plain record from the run's `Material`, and a template that lays the record out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fieldmark.data.table import Table
from fieldmark.evaluation.predictions import Predictions
from fieldmark.reporting.classes import build_classes
from fieldmark.reporting.confusion import build_confusion
from fieldmark.reporting.curves import build_curves
from fieldmark.reporting.dataset import build_dataset
from fieldmark.reporting.inside import build_inside
from fieldmark.reporting.making import build_making
from fieldmark.reporting.material import Material, gather
from fieldmark.reporting.mistakes import build_mistakes
from fieldmark.reporting.nearest import Nearest
from fieldmark.reporting.page import render_page
from fieldmark.reporting.reliability import build_reliability
from fieldmark.reporting.scores import build_scores
from fieldmark.runs.files import save_text
from fieldmark.runs.folder import RunFolder

REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Section:
    """A part of the page: its place in the address, its heading, and what makes its content.

    The template is `<anchor>.html.j2`; a section whose builder gives None is left out.
    """

    anchor: str
    title: str
    build: Callable[[Material], object | None]


SECTIONS = (
    Section("scores", "Scores", build_scores),
    Section("data", "What it was trained on", build_dataset),
    Section("curves", "How it learned", build_curves),
    Section("confusion", "What it confuses", build_confusion),
    Section("classes", "Class by class", build_classes),
    Section("mistakes", "Most confident mistakes", build_mistakes),
    Section("reliability", "How far to trust its probabilities", build_reliability),
    Section("inside", "Inside the network", build_inside),
    Section("making", "How it was made", build_making),
)


def render_report(
    folder: RunFolder,
    table: Table | None,
    predictions: Predictions | None,
    nearest: Nearest | str | None = None,
) -> str:
    """The page about a run, as HTML.

    `table` gives the pictures; without it the page says that they are gone and shows everything
    else. `predictions` are those to score; without them the page shows what the run was made
    from and how it learned, and says how to get the rest. `nearest`: what `find_nearest` gave.
    """
    material = gather(folder, table, predictions, nearest)
    contents = [(section, section.build(material)) for section in SECTIONS]
    return render_page(
        "report.html.j2",
        material=material,
        sections=[(section, content) for section, content in contents if content is not None],
    )


def save_report(folder: RunFolder, page: str) -> Path:
    """Write the page into the run folder and return its path."""
    path = folder.path / REPORT_NAME
    save_text(path, page)
    return path
