"""Mistakes, plates, neighbours, maps and landscapes of a whole run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fieldmark.data.stores import MemoryStore
from fieldmark.errors import InspectionError, ModelError
from fieldmark.evaluation.predictions import Predictions
from fieldmark.inspection.atlas import Spot, compute_atlas, draw_atlas, render_atlas
from fieldmark.inspection.classes import describe_class, draw_classes
from fieldmark.inspection.classes.marks import find_look_alike
from fieldmark.inspection.kinds import load_kind
from fieldmark.inspection.landscape.figures import draw_landscape
from fieldmark.inspection.mistakes import draw_mistakes, find_pairs
from fieldmark.inspection.neighbours import draw_neighbours
from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.specimens import find_evidence, read_predictions, see
from fieldmark.inspection.subject import Subject
from fieldmark.runs.figures import save_drawings

MakeSubject = Callable[..., Subject]
NAMES = ("ash", "beech", "cedar")


def invent(pairs: list[tuple[int, int, float]]) -> Predictions:
    """(given, chosen, probability) of each image."""
    count = len(pairs)
    order = np.array([[chosen, given, 2] for given, chosen, _ in pairs], np.int32)
    probability = np.array([[p, 0.9 * (1 - p), 0.0] for *_, p in pairs], np.float32)
    return Predictions(
        "multiclass",
        NAMES,
        tuple(f"{number}.png" for number in range(count)),
        tuple(NAMES[given] for given, *_ in pairs),
        tuple((given,) for given, *_ in pairs),
        tuple((chosen,) for _, chosen, _ in pairs),
        order,
        probability,
        probability[:, 1],
        np.zeros(count),
    )


def test_mistakes_are_grouped_by_pair_the_surest_first() -> None:
    pairs = find_pairs(
        invent([(0, 1, 0.6), (0, 0, 0.9), (1, 0, 0.7), (0, 1, 0.8), (2, 2, 0.5), (0, 2, 0.5)])
    )
    assert [(p.given, p.chosen, len(p.mistakes)) for p in pairs] == [
        ("ash", "beech", 2),
        ("beech", "ash", 1),
        ("ash", "cedar", 1),
    ]
    assert [m.image for m in pairs[0].mistakes] == ["3.png", "0.png"]
    assert (pairs[0].num_given, pairs[0].share) == (4, 0.5)


def test_the_look_alike_is_the_class_it_is_confused_with_either_way() -> None:
    assert find_look_alike(invent([(0, 2, 0.6), (1, 0, 0.7), (1, 0, 0.8)]), "ash") == ("beech", 2)
    never = invent([(0, 0, 0.9), (1, 1, 0.9)])
    never = replace(never, top_index=np.array([[0, 2, 1], [1, 2, 0]], np.int32))
    assert find_look_alike(never, "ash") == ("cedar", 0)


def test_typical_is_nearest_to_the_centre_and_unusual_farthest(make_subject: MakeSubject) -> None:
    subject = make_subject()
    assert subject.table is not None
    predictions = read_predictions(subject, "test")
    marks = describe_class(subject, subject.table, predictions, "beech", split="test")
    similarity = [specimen.similarity for specimen in marks.typical]
    assert similarity == sorted(similarity, reverse=True)
    assert marks.atypical[0] == marks.typical[-1]
    assert marks.num_images == {"train": 6, "val": 2, "test": 4}
    assert {specimen.row.label for specimen in marks.typical} == {"beech"}
    assert all(s.taken_for != "beech" for s in marks.confused)
    with pytest.raises(InspectionError, match=r"none of the run's 3 classes. Did you mean 'beech'"):
        describe_class(subject, subject.table, predictions, "beeech", split="test")


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_every_sheet_is_drawn_and_names_model_and_split(
    make_subject: MakeSubject, name: str
) -> None:
    subject = make_subject(name)
    options = InspectOptions(neighbours=2, classes=("cedar",))
    drawings = [
        *draw_mistakes(subject, options),
        *draw_classes(subject, options),
        *draw_neighbours(subject, options),
    ]
    assert {d.what for d in drawings} == {"mistakes", "classes", "neighbours"}
    for drawing in drawings:
        assert name in drawing.caption
        assert "split" in drawing.caption
        assert isinstance(drawing.figure, Figure)
    (entry,) = save_drawings(subject.folder, drawings[1:2])
    assert entry.stem == f"classes-{name}-cedar"


def test_what_separates_two_classes_is_not_what_speaks_for_one(make_subject: MakeSubject) -> None:
    subject = make_subject("test_resnet")
    assert subject.table is not None
    seen = see(subject, subject.table.rows[0])
    assert seen is not None
    maps = [find_evidence(subject, seen, 0, rival) for rival in (None, 1)]
    assert all(m is None or (m.shape == (32, 32) and m.max() == 1.0) for m in maps)
    assert maps[0] is None or maps[1] is None or not np.allclose(*maps)


def test_sheets_say_that_the_images_are_gone(make_subject: MakeSubject) -> None:
    subject = replace(make_subject(), table=None)
    for kind in ("mistakes", "classes", "neighbours", "landscape", "layers"):
        with pytest.raises(InspectionError, match="are gone"):
            list(load_kind(kind)(subject, InspectOptions()))


def test_a_single_image_that_is_gone_leaves_its_place_empty(make_subject: MakeSubject) -> None:
    subject = make_subject()
    assert subject.table is not None
    images = {k: v for k, v in subject.table.store.images.items() if "ash" not in k}  # type: ignore[attr-defined]
    poorer = replace(subject, table=replace(subject.table, store=MemoryStore(images)))
    (drawing,) = draw_mistakes(poorer, InspectOptions())
    texts = [text.get_text() for axes in drawing.figure.axes for text in axes.texts]
    assert "image is gone" in texts or "ash" not in drawing.figure.texts[2].get_text()


def test_the_map_is_self_contained_and_escapes_names(make_subject: MakeSubject) -> None:
    subject = make_subject()
    assert subject.table is not None
    spots = compute_atlas(subject, subject.table.select("test"))
    assert len(spots) == 12
    assert all(0 <= value <= 1 for spot in spots for value in (spot.x, spot.y))
    evil = Spot("</script><b>.png", "<i>\"'&", 0.5, 0.5)
    page = render_atlas([*spots, evil], subject.table.store, title="<map>")
    assert "<i>" not in page and "<b>." not in page and "<map>" not in page
    assert page.count("</script>") == 2
    assert not re.search(r"(?:src|href)=[\"']?http", page)
    match = re.search(r'json">(.*?)</script>', page)
    assert match is not None
    content = json.loads(match.group(1))
    assert content[-1]["image"] == "</script><b>.png"
    assert all(entry["src"].startswith("data:image/jpeg;base64,") for entry in content)


def test_the_map_is_a_page_that_runs_in_a_browser(
    make_subject: MakeSubject, open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page_path = tmp_path / "map.html"
    drawing = draw_atlas(make_subject(), InspectOptions())
    assert drawing.page is not None
    page_path.write_text(drawing.page, encoding="utf-8")
    page = open_page(page_path)
    assert page.locator(".spot").count() == 12
    page.locator(".atlas svg").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".atlas-card img").is_visible()


def test_too_few_images_make_no_map(make_subject: MakeSubject) -> None:
    subject = make_subject()
    assert subject.table is not None
    few = subject.table.with_rows(subject.table.rows[:4])
    with pytest.raises(InspectionError, match="4 images are too few for a map"):
        compute_atlas(subject, few)


def test_the_landscape_of_a_run_says_how_it_was_made(make_subject: MakeSubject) -> None:
    first, second = make_subject(), make_subject(run="second")
    options = InspectOptions(points=5, loss_images=4, other=str(second.folder.path))
    plane, line = draw_landscape(first, options)
    assert "5 x 5 points around the network's weights" in plane.caption
    assert "4 fixed images of the val split" in plane.caption
    assert "biases, norms with their statistics" in plane.caption
    assert "from run to second" in line.title.lower()
    assert list(first.folder.figures_dir.glob("landscape-*.json"))


def test_the_line_between_different_networks_is_refused(make_subject: MakeSubject) -> None:
    first, second = make_subject(), make_subject("test_resnet", run="cnn")
    options = InspectOptions(points=3, loss_images=4, other=str(second.folder.path))
    with pytest.raises(ModelError, match="no line between run and cnn: they are different netw"):
        list(draw_landscape(first, options))


def test_an_even_number_of_points_is_refused(make_subject: MakeSubject) -> None:
    with pytest.raises(InspectionError, match="--points 50: expected an odd number"):
        list(draw_landscape(make_subject(), InspectOptions(points=50)))
