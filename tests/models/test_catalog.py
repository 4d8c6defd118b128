from __future__ import annotations

import fnmatch
from importlib import resources

import pytest
import timm

from fieldmark.errors import UnknownModelError
from fieldmark.models.catalog import CATALOG, find_model, list_models
from fieldmark.models.timm_zoo import render_timm_names


def test_own_networks_come_first() -> None:
    names = [model.name for model in list_models()]
    assert names[: len(CATALOG)] == list(CATALOG)
    assert len(names) == len(set(names)) > 1000


def test_pattern_is_part_of_a_name_or_a_glob() -> None:
    assert "resnet18" in [model.name for model in list_models("resnet18")]
    found = [model.name for model in list_models("vit_*_patch16_224")]
    assert found
    assert all(fnmatch.fnmatch(name, "vit_*_patch16_224") for name in found)
    found = [model.name for model in list_models("cnn-base*")]
    assert found == ["cnn-baseline", "cnn-baseline-plain"]


def test_pattern_without_match_suggests_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'resnet18'"):
        list_models("resnet18q")


def test_line_says_size_and_weights() -> None:
    summary = next(model for model in list_models("deit_tiny_patch16_224"))
    assert summary.source == "timm"
    assert summary.line == "224 px; weights: fb_in1k"


def test_every_listed_name_can_be_found() -> None:
    installed = set(timm.list_models())
    for model in list_models()[::40]:
        if model.source != "timm" or model.name in installed:
            assert find_model(model.name).name == model.name


def test_shipped_names_are_those_of_timm() -> None:
    """The list is made with one version of timm; any other only adds or lacks names."""
    shipped = resources.files("fieldmark.models").joinpath("timm_names.tsv").read_text("utf-8")
    made_with = shipped.split()[2].rstrip(":")
    if made_with == timm.__version__:
        assert shipped == render_timm_names()
        return
    listed = {line.split("\t")[0] for line in shipped.splitlines()[1:]}
    lacking = set(timm.list_models()) - listed
    pytest.skip(
        f"timm {timm.__version__} has {len(lacking)} names that the list of {made_with} lacks; "
        "fieldmark.models.timm_zoo.render_timm_names() writes it anew"
    )


def test_name_without_its_ending_suggests_the_whole() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'resnet20-cifar'"):
        find_model("resnet20")
