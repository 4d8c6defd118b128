"""The pictures that figures are drawn of."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fieldmark.inspection.options import InspectOptions
from fieldmark.inspection.pictures import choose_pictures, name_apart


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["set/ash/1.jpg"], ["1.jpg"]),
        (["ash/1.jpg", "beech/1.jpg", "ash/2.jpg"], ["ash-1.jpg", "beech-1.jpg", "2.jpg"]),
        (["a/x/1.jpg", "b/x/1.jpg"], ["a-x-1.jpg", "b-x-1.jpg"]),
        (["leaf.jpg", "leaf.png"], ["1-leaf.jpg", "2-leaf.png"]),
    ],
)
def test_images_of_one_name_get_names_apart(images: list[str], names: list[str]) -> None:
    assert name_apart(images) == names


def test_no_two_pictures_share_a_figure(inspected, tmp_path: Path) -> None:
    images = [tmp_path / "ash" / "1.png", tmp_path / "beech" / "1.png"]
    for image in images:
        image.parent.mkdir()
        Image.new("RGB", (9, 9), "teal").save(image)
    subject = inspected.make_subject(
        tmp_path / "run", inspected.build("test_vit", 32), list(map(str, images))
    )
    stems = [picture.stem for picture in choose_pictures(subject, InspectOptions())]
    assert stems == ["ash-1", "beech-1"]
