"""Configurations keep their help, and survive JSON and newer versions."""

import dataclasses
import json

import pytest

from jaxgan import config


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A configuration of every kind of field."""

    steps: int = config.option(10, "how long")
    rate: float = config.option(0.5, "how fast")
    flip: bool = config.option(False, "whether")
    norm: str = config.option("batch", "which", choices=["batch", "none"])


def test_options_carry_help_and_choices():
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    assert fields["steps"].metadata["help"] == "how long"
    assert fields["steps"].metadata["choices"] is None
    assert fields["norm"].metadata["choices"] == ("batch", "none")
    assert Recipe() == Recipe(10, 0.5, False, "batch")


def test_json_round_trip():
    recipe = Recipe(steps=3, rate=1e-4, flip=True, norm="none")
    text = json.dumps(config.to_dict(recipe))
    assert config.from_dict(Recipe, json.loads(text)) == recipe


def test_an_older_file_takes_the_defaults_of_what_it_lacks():
    assert config.from_dict(Recipe, {"steps": 3}) == Recipe(steps=3)


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match="Recipe has no field named colour, taste"):
        config.from_dict(Recipe, {"taste": 1, "steps": 3, "colour": 2})


def test_replace_takes_only_its_own_fields():
    replaced = config.replace(Recipe(rate=0.1), {"steps": 3, "colour": 2})
    assert replaced == Recipe(steps=3, rate=0.1)
