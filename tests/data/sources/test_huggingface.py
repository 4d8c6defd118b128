from __future__ import annotations

import builtins
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fieldmark.data.sources import huggingface, read_table
from fieldmark.errors import TableError, UnreadableImageError, UnsafePathError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` prepares out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), value).save(file, "PNG")
    return file.getvalue()


def make_dataset(labels: list[Any], label: Any = None, image: str = "image", **more: Any) -> Any:
    features = {image: datasets.Image(), "label": label or datasets.ClassLabel(names=["b", "a"])}
    values = {image: [{"bytes": png(i), "path": None} for i in range(len(labels))]}
    plain = datasets.Dataset.from_dict({**values, "label": labels, **more})
    for name, feature in features.items():
        plain = plain.cast_column(name, feature)
    return plain


def save(folder: Path, **splits: Any) -> str:
    datasets.DatasetDict(splits).save_to_disk(folder / "saved")
    return f"hf:{folder / 'saved'}"


def test_saved_splits_classes_and_tags_are_read(tmp_path: Path) -> None:
    source = save(
        tmp_path,
        train=make_dataset([0, 1, 0], tags=["red;round", "", "red"]),
        validation=make_dataset([1], tags=["x"]),
        test=make_dataset([0], tags=[""]),
    )
    table = read_table(source)
    assert table.class_names == ("b", "a")
    assert [(r.image, r.label, r.split) for r in table.rows[2:]] == [
        ("train/2", "b", "train"),
        ("val/0", "a", "val"),
        ("test/0", "b", "test"),
    ]
    assert table.rows[0].tags == ("red", "round")
    store = pickle.loads(pickle.dumps(table.store))
    assert store.read("train/2") == png(2)
    for key in ("train/9", "extra/0", "x"):
        with pytest.raises(UnreadableImageError):
            store.read(key)


def test_one_saved_dataset_has_no_splits(tmp_path: Path) -> None:
    make_dataset([0, 1]).save_to_disk(tmp_path / "one")
    table = read_table(f"hf:{tmp_path / 'one'}")
    assert [(row.image, row.split) for row in table.rows] == [("/0", None), ("/1", None)]
    assert table.store.read("/1") == png(1)


def test_unlabelled_rows_are_left_out_with_a_note(tmp_path: Path) -> None:
    source = save(tmp_path, train=make_dataset([0, 1]), test=make_dataset([-1, 0, -1]))
    table = read_table(source)
    assert [row.image for row in table.select("test").rows] == ["test/1"]
    assert any(note.startswith("2 rows without a label left out") for note in table.notes)
    assert len(read_table(source, labelled=False)) == 5


def test_labels_may_be_text_or_lists(tmp_path: Path) -> None:
    text = make_dataset(["NA", "7", "NA"], datasets.Value("string"))
    assert read_table(save(tmp_path / "text", train=text)).class_names == ("7", "NA")
    names = datasets.Sequence(datasets.ClassLabel(names=["b", "a"]))
    many = make_dataset([[0, 1], [], [1]], names)
    table = read_table(save(tmp_path / "many", train=many), task="multilabel")
    assert [row.labels for row in table.rows] == [("b", "a"), (), ("a",)]


def test_columns_are_found_by_type_or_given(tmp_path: Path) -> None:
    dataset = make_dataset([0, 1], image="picture", kind=["u", "v"])
    source = save(tmp_path, train=dataset)
    assert read_table(source).class_names == ("b", "a")
    assert read_table(source, columns={"label": "kind"}).class_names == ("u", "v")
    with pytest.raises(TableError, match=r"no column 'kid'.*Did you mean 'kind'"):
        read_table(source, columns={"label": "kid"})
    with pytest.raises(TableError, match="column 'kind' holds no images"):
        read_table(source, columns={"image": "kind"})


def test_dataset_without_images_or_labels_is_explained(tmp_path: Path) -> None:
    plain = datasets.Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(TableError, match="has no image column"):
        read_table(save(tmp_path, train=plain))
    two = make_dataset([0, 1]).add_column("second", [{"bytes": png(0), "path": None}] * 2)
    two = two.cast_column("second", datasets.Image())
    with pytest.raises(TableError, match="2 columns that may be the image"):
        read_table(save(tmp_path / "two", train=two))


def test_splits_of_other_names_are_left_out_or_refused(tmp_path: Path) -> None:
    part = make_dataset([0, 1])
    table = read_table(save(tmp_path / "a", train=part, extra=part))
    assert len(table) == 2 and any("'extra'" in note for note in table.notes)
    with pytest.raises(TableError, match="none of which is train"):
        read_table(save(tmp_path / "b", left=part, right=part))
    with pytest.raises(TableError, match="several splits that mean 'val'"):
        read_table(save(tmp_path / "c", train=part, val=part, valid=part))


def test_folder_of_images_is_read_through_datasets(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("elm", "oak"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(png(9))
    table = read_table(f"hf:{tmp_path / 'set'}")
    assert table.class_names == ("elm", "oak")
    assert {row.split for row in table.rows} == {"train", "test"}
    assert table.store.read("train/0") == png(9)


def test_folder_of_parquet_files_is_read_through_datasets(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    make_dataset([0, 1]).to_parquet(tmp_path / "set" / "train-00000.parquet")
    table = read_table(f"hf:{tmp_path / 'set'}")
    assert table.class_names == ("b", "a") and table.store.read("/1") == png(1)


def test_images_stored_as_paths_elsewhere_are_refused(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_dict(
        {"image": [{"bytes": None, "path": "/etc/passwd"}] * 2, "label": ["x", "y"]}
    ).cast_column("image", datasets.Image(decode=False))
    (tmp_path / "set").mkdir()
    dataset.to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(UnsafePathError, match="2 rows, at row 1 \\('/etc/passwd'"):
        read_table(f"hf:{tmp_path / 'set'}")


@pytest.mark.parametrize("broken", ["state.json", "dataset_dict.json", "dataset_info.json"])
def test_broken_dataset_folder_is_explained(tmp_path: Path, broken: str) -> None:
    source = save(tmp_path, train=make_dataset([0, 1]))
    for path in (tmp_path / "saved").rglob(broken):
        path.write_text("[")
    with pytest.raises(TableError, match="cannot be read as a Hugging Face dataset"):
        read_table(source)


def test_empty_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="cannot be read as a Hugging Face dataset"):
        read_table(f"hf:{tmp_path / 'empty'}")


def test_hub_that_cannot_be_reached_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_hub_answers", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(TableError, match=r"hf:owner/name: .*offline.*HF_HUB_OFFLINE=1"):
        read_table("hf:owner/name")


def test_hub_is_asked_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(TableError, match="cannot be reached"):
        read_table("hf:owner/name")


def test_name_that_cannot_be_on_the_hub_is_explained() -> None:
    with pytest.raises(TableError, match="named owner/name"):
        read_table("hf:../no/such/folder")


def test_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_datasets(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(TableError, match=r"pip install 'fieldmark\[hf\]'"):
        read_table("hf:owner/name")
