from __future__ import annotations

import inspect
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.data.sources import read_table
from fieldmark.data.sources.torchvision_sets import SETS
from fieldmark.errors import TableError, UnreadableImageError


def write_mnist(root: Path, pixels: np.ndarray) -> None:
    """Write MNIST's own files: 2 training and 2 test images, of the digits 3 and 8."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, 2, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 2) + b"\3\x08")


def test_pictures_in_arrays_are_given_as_png_without_loss(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path, pixels)
    table = read_table("torchvision:MNIST", image_root=tmp_path)
    assert [row.image for row in table.rows] == ["train/0", "train/1", "test/0", "test/1"]
    assert table.class_names == ("3 - three", "8 - eight")
    assert any("8 classes without images left out" in note for note in table.notes)
    store = pickle.loads(pickle.dumps(table.store))
    with Image.open(io.BytesIO(store.read("test/1"))) as image:
        assert np.array_equal(np.asarray(image), pixels[1])
    for key in ("test/2", "val/0", "nonsense"):
        with pytest.raises(UnreadableImageError):
            store.read(key)


def test_pictures_in_files_are_read_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "dtd" / "dtd"
    for kind in ("banded", "dotted"):
        (folder / "images" / kind).mkdir(parents=True)
        for split in ("train", "val", "test"):
            (folder / "images" / kind / f"{split}.jpg").write_bytes(f"{kind} {split}".encode())
    (folder / "labels").mkdir()
    for split in ("train", "val", "test"):
        (folder / "labels" / f"{split}1.txt").write_text(
            f"banded/{split}.jpg\ndotted/{split}.jpg\n"
        )
    table = read_table("torchvision:DTD", image_root=tmp_path)
    assert [row.split for row in table.rows] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert table.store.read(table.rows[3].image) == b"dotted val"
    assert table.class_names == ("banded", "dotted")


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(TableError, match="Did you mean 'CIFAR10'"):
        read_table("torchvision:cifar10")


@pytest.mark.parametrize("name", sorted(SETS))
def test_absent_files_are_never_downloaded(name: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="download=True") as caught:
        read_table(f"torchvision:{name}", image_root=tmp_path)
    assert f"torchvision:{name}" in str(caught.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("name", sorted(SETS))
def test_listed_sets_take_the_arguments_they_are_given(name: str) -> None:
    import torchvision

    parameters = inspect.signature(getattr(torchvision.datasets, name).__init__).parameters
    accepted = set(parameters) | ({"download"} if "kwargs" in parameters else set())
    needed = {"root", "download"} | {key for args in SETS[name].splits.values() for key in args}
    assert needed | ({"loader"} if SETS[name].files == "loader" else set()) <= accepted


def test_damaged_files_are_explained(tmp_path: Path) -> None:
    write_mnist(tmp_path, np.zeros((2, 28, 28), np.uint8))
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\3")
    with pytest.raises(TableError, match="not complete"):
        read_table("torchvision:MNIST", image_root=tmp_path)
