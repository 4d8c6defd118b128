from __future__ import annotations

import pytest
import yaml

from fieldmark.recipes import Recipe
from fieldmark.recipes.values import merge_values, parse_yaml, render_values, sort_values


def test_merge_goes_key_by_key_and_changes_neither() -> None:
    below, above = {"a": {"b": 1, "c": [1, 2]}, "d": 0}, {"a": {"c": [3]}, "e": {}}
    assert merge_values(below, above) == {"a": {"b": 1, "c": [3]}, "d": 0, "e": {}}
    assert below == {"a": {"b": 1, "c": [1, 2]}, "d": 0} and above == {"a": {"c": [3]}, "e": {}}


def test_rendered_values_read_back_equal() -> None:
    values = {
        "a": {"b": {"c": [1, 0.5]}, "word": "off", "text": "yes: no #"},
        "none": None,
        "e": {},
    }
    assert parse_yaml("\n".join(render_values(values))) == values


def test_shared_parts_may_be_written_once() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}")["b"] == {"x": 1, "y": 3}


def test_key_written_twice_is_told() -> None:
    with pytest.raises(yaml.YAMLError, match="written twice: x"):
        parse_yaml("x: 1\nx: 2")


def test_values_stand_in_the_order_of_the_schema_and_none_is_lost() -> None:
    values = {"nonsense": 1, "optim": {"epochs": 2, "lr": 1, "name": "sgd"}, "data": {"crop": 1}}
    found = sort_values(values, Recipe)
    assert found == values
    assert list(found) == ["data", "optim", "nonsense"]
    assert list(found["optim"]) == ["name", "lr", "epochs"]
