import dataclasses

import pytest

from jaxgan import cli
from jaxgan.config import option
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """Numbers of a method."""

    width: int = option(64, "channels")
    rate: float = option(0.5, "of learning")
    norm: str = option("batch", "which norm", choices=("batch", "none"))
    flip: bool = option(True, "random flips")

    def __post_init__(self):
        """Refuses a width that no network has."""
        if self.width < 1:
            raise ValueError(f"--width={self.width} is below 1")


@dataclasses.dataclass(frozen=True)
class Options:
    """Where to read."""

    workdir: tuple[str, ...] = option((), "several may be given")


SECTIONS = {"config": Config, "options": Options}


def parse(*flags):
    return cli.parse(["program", *flags], SECTIONS)


def test_defaults_are_those_of_the_dataclasses():
    assert parse() == {"config": Config(), "options": Options()}


def test_values_have_the_types_of_the_fields():
    options = parse("--width=8", "--rate=1e-3", "--noflip", "--norm=none")
    assert options["config"] == Config(8, 1e-3, "none", False)


def test_a_flag_that_repeats_becomes_a_tuple():
    assert parse("--workdir=a", "--workdir=b")["options"].workdir == ("a", "b")


@pytest.mark.parametrize("order", [0, 1])
def test_command_line_wins_over_flagfile_in_any_order(tmp_path, order):
    path = tmp_path / "recipe.flags"
    path.write_text("# a recipe\n--width=8\n--rate=0.25\n")
    flags = [f"--flagfile={path}", "--width=4"]
    config = parse(*flags[:: -1 if order else 1])["config"]
    assert (config.width, config.rate) == (4, 0.25)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--widht=3", "Did you mean: width"),
        ("--width=x", "width"),
        ("--norm=group", "batch|none"),
        ("--width=0", "--width=0 is below 1"),
        ("stray", "not flags: stray"),
        ("--flagfile=/nowhere", "/nowhere"),
    ],
)
def test_bad_flags_are_user_errors(flag, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        parse(flag)


def test_help_lists_every_flag_with_default_and_choices(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse("--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--norm=batch|none" in text
    assert "channels (default: 64)" in text


def test_two_mains_can_be_parsed_in_one_process():
    assert parse("--width=2")["config"].width == 2
    assert parse()["config"].width == 64
