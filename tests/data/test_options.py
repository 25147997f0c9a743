import dataclasses

import pytest

from jaxgan.config import from_dict, to_dict
from jaxgan.data import options
from jaxgan.data.options import DataConfig

PAIRED = DataConfig(source="a", target="b")


def problems(config, *, crop_size=8, **changes):
    return options.problems(dataclasses.replace(config, **changes), crop_size=crop_size)


def test_paired_folders_and_aligned_images_are_in_order():
    assert problems(PAIRED) == []
    assert problems(PAIRED, val_source="c", val_target="d") == []
    assert problems(PAIRED, source="a,c", one_hot=True, resize="8,16") == []
    assert problems(DataConfig(aligned="ab"), val_source="cd") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": ""}, ["--source is missing"]),
        ({"source": "", "target": ""}, ["--source", "--target"]),
        ({"aligned": "ab"}, ["--aligned takes the place of --source", "--target"]),
        ({"val_source": "c"}, ["--val_source and --val_target"]),
        ({"val_target": "c"}, ["--val_source and --val_target"]),
        ({"source_range": "3,2"}, ["--source_range"]),
        ({"target_range": "x"}, ["--target_range"]),
        ({"resize": "8"}, ["--resize"]),
        ({"resize": "8,0"}, ["--resize"]),
        ({"resize": "7,16"}, ["--resize=7,16 is below --crop_size=8"]),
        ({"val_fraction": 1.0}, ["--val_fraction=1.0"]),
        ({"val_fraction": -0.1}, ["--val_fraction=-0.1"]),
        ({"one_hot": True}, ["--one_hot"]),
        ({"one_hot": True, "source": "a,b", "target": "c,d"}, ["--one_hot"]),
        ({"resize": "x", "val_fraction": 2.0}, ["--resize", "--val_fraction"]),
    ],
)
def test_every_contradiction_names_its_flag(changes, words):
    found = problems(PAIRED, **changes)
    assert len(found) == len(words)
    for problem, word in zip(found, words, strict=True):
        assert word in problem


def test_parse_size():
    assert options.parse_size("") is None
    assert options.parse_size("512, 256") == (512, 256)


def test_axes_may_differ_between_source_and_target():
    source, target = options.train_sides(dataclasses.replace(PAIRED, axes="TCYX"))
    assert (source.axes, target.axes) == ("TCYX", "TCYX")
    source, target = options.train_sides(dataclasses.replace(PAIRED, axes="TCYX,TYX"))
    assert (source.axes, target.axes) == ("TCYX", "TYX")


def test_only_the_side_of_several_folders_is_one_hot():
    config = DataConfig(source="a", target="b,c", one_hot=True, resize="4,6")
    source, target = options.train_sides(config)
    assert (source.one_hot, target.one_hot) == (False, True)
    assert source.resize == target.resize == (4, 6)
    held = dataclasses.replace(config, val_source="d", val_target="e,f")
    assert [s.spec for s in options.val_sides(held)] == ["d", "e,f"]
    assert [s.one_hot for s in options.val_sides(held)] == [False, True]


def test_aligned_images_are_cut_in_halves():
    config = DataConfig(aligned="ab", val_source="cd")
    assert [s.half for s in options.train_sides(config)] == ["left", "right"]
    assert [s.spec for s in options.val_sides(config)] == ["cd", "cd"]
    assert options.input_side(config, "x").half == ""  # an input is a source by itself


def test_an_input_is_opened_as_the_sources_were():
    config = DataConfig(
        source="a,b", target="c", one_hot=True, axes="TYX", resize="4,4"
    )
    side = options.input_side(config, "x,y")
    assert (side.flag, side.spec, side.axes) == ("--input", "x,y", "TYX")
    assert side.one_hot and side.resize == (4, 4)
    assert options.input_side(config, "x,y", axes="ZYX").axes == "ZYX"


def test_every_option_is_described_and_survives_json():
    for field in dataclasses.fields(DataConfig):
        assert field.metadata["help"]
    config = dataclasses.replace(PAIRED, val_fraction=0.2, one_hot=True)
    assert from_dict(DataConfig, to_dict(config)) == config
