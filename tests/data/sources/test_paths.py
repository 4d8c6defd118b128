from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.data.sources.paths import ImagePaths
from fieldmark.errors import UnsafePathError

LEAVING = ["../b.jpg", "a/../../b.jpg", "/etc/passwd", "//etc/passwd", "C:\\b.jpg", "c:/b.jpg"]
LEAVING += [
    "\\\\host\\share\\b.jpg",
    "..\\b.jpg",
    " ../b.jpg",
    "\ufeff/etc/passwd",
    "..",
    "a/../..",
]
URLS = ["http://169.254.169.254/x", "file:///etc/passwd", "file:/etc/passwd", "HTTPS://a/b.jpg"]
URLS += ["s3://bucket/b.jpg", "data:image/png;base64,AAAA", " http://a/b.jpg"]


@pytest.mark.parametrize("text", LEAVING)
def test_paths_out_of_the_root_are_refused_unless_allowed(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnsafePathError):
        ImagePaths(tmp_path).key(text)
    ImagePaths(tmp_path, allow_outside=True).key(text)


@pytest.mark.parametrize("text", [*URLS, "a\0b.jpg"])
def test_urls_are_refused_always(tmp_path: Path, text: str) -> None:
    for allow_outside in (False, True):
        with pytest.raises(UnsafePathError):
            ImagePaths(tmp_path, allow_outside=allow_outside).key(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a/../a//b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        (" a/b.jpg \t", "a/b.jpg"),
        ("\ufeffa/b.jpg", "a/b.jpg"),
        ("..a/b.jpg", "..a/b.jpg"),
        ("a/missing.jpg", "a/missing.jpg"),
        ("no\\such.jpg", "no/such.jpg"),
        ("a:b.jpg", "a:b.jpg"),
    ],
)
def test_key_is_the_plain_path_below_the_root(make_images, text: str, key: str) -> None:
    assert ImagePaths(make_images(["a/b.jpg"])).key(text) == key


@pytest.mark.parametrize("name", ["a\\b.jpg", " a.jpg", "a.jpg ", "cafe\u0301.jpg"])
def test_file_with_exactly_this_name_comes_first(make_images, name: str) -> None:
    root = make_images([name, "a/b.jpg", "a.jpg", "caf\u00e9.jpg"])
    assert ImagePaths(root).key(name) == name


def test_other_unicode_form_of_a_name_is_found(make_images) -> None:
    paths = ImagePaths(make_images(["cafe\u0301.jpg"]))
    assert paths.key("caf\u00e9.jpg") == "cafe\u0301.jpg"
    assert paths.key("th\u00e9.jpg") == "th\u00e9.jpg"


def test_absolute_path_inside_the_root_is_relative(make_images, tmp_path: Path) -> None:
    root = make_images(["a/b.jpg"], "real")
    link = tmp_path / "link"
    link.symlink_to(root)
    assert ImagePaths(root).key(f"{root}/a/b.jpg") == "a/b.jpg"
    assert ImagePaths(link).key(f"{link}/a/b.jpg") == "a/b.jpg"
    assert ImagePaths(link).key(f"{root}/a/b.jpg") == "a/b.jpg"
    with pytest.raises(UnsafePathError, match="absolute"):
        ImagePaths(root).key(f"{root}-other/b.jpg")


def test_links_that_leave_the_root_are_refused(make_images, tmp_path: Path) -> None:
    outside = make_images(["secret.jpg"], "outside")
    root = make_images(["a.jpg"], "root")
    (root / "out.jpg").symlink_to(outside / "secret.jpg")
    (root / "folder").symlink_to(outside)
    (root / "in.jpg").symlink_to(root / "a.jpg")
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert ImagePaths(root).key("in.jpg") == "in.jpg"
    for text in ("out.jpg", "folder/secret.jpg", "gone.jpg"):
        with pytest.raises(UnsafePathError, match="link"):
            ImagePaths(root).key(text)
        assert ImagePaths(root, allow_outside=True).key(text) == text
