"""The options of a data set, and what they mean for the folders that they name."""

import dataclasses

from jaxgan.config import option
from jaxgan.data import normalise
from jaxgan.data.folders import Side, Size


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the images are and how they are read."""

    source: str = option(
        "", "folder of input images; several by commas: channels of one"
    )
    target: str = option("", "folder of target images, paired with source by file stem")
    aligned: str = option(
        "", "folder of side-by-side images: source left, target right"
    )
    val_source: str = option("", "folder of held-out inputs (or of aligned images)")
    val_target: str = option("", "folder of held-out targets")
    val_stems: str = option(
        "", "held-out files of the training folders, stems by commas: 13,14,15"
    )
    val_fraction: float = option(0.1, "part held out where no folder is; 0 for none")
    axes: str = option("", "axes of stacks, e.g. TCYX; SOURCE,TARGET where they differ")
    source_range: str = option(
        "percentile", "becomes -1 to 1: percentile[:LOW,HIGH], dtype or LOW,HIGH"
    )
    target_range: str = option("percentile", "the same for the target images")
    one_hot: bool = option(
        False, "the side of several folders holds masks: one class each, and background"
    )
    resize: str = option("", "HEIGHT,WIDTH of whole images after an area mean")
    skip_bad_files: bool = option(False, "leave out files at fault instead of stopping")


def problems(config: DataConfig, *, crop_size: int) -> list[str]:
    """Returns what is wrong with the options of pairs, before any file is read."""
    found = _place_problems(config)
    if config.val_stems and config.val_source:
        found.append("--val_stems and --val_source both say what is held out")
    for flag in ("source_range", "target_range"):
        try:
            normalise.parse(getattr(config, flag))
        except ValueError as error:
            found.append(f"--{flag}: {error}")
    try:
        size = parse_size(config.resize)
        if size and min(size) < crop_size:
            found.append(f"--resize={config.resize} is below --crop_size={crop_size}")
    except ValueError as error:
        found.append(f"--resize: {error}")
    if not 0 <= config.val_fraction < 1:
        found.append(f"--val_fraction={config.val_fraction} is not in [0, 1)")
    if config.one_hot and _is_several(config.source) == _is_several(config.target):
        found.append("--one_hot: one of --source and --target must be several folders")
    return found


def _place_problems(config: DataConfig) -> list[str]:
    if config.aligned:
        twice = [f for f in ("source", "target", "val_target") if getattr(config, f)]
        return [f"--aligned takes the place of --{flag}" for flag in twice]
    found = [
        f"--{f} is missing" for f in ("source", "target") if not getattr(config, f)
    ]
    if bool(config.val_source) != bool(config.val_target):
        found.append("--val_source and --val_target go together")
    return found


def parse_size(text: str) -> Size | None:
    """Reads HEIGHT,WIDTH, None if empty; raises `ValueError` for anything else."""
    if not text:
        return None
    numbers = text.split(",")
    if len(numbers) != 2 or not all(n.strip().isdigit() and int(n) for n in numbers):
        raise ValueError(f"expected HEIGHT,WIDTH in pixels, got {text!r}")
    return int(numbers[0]), int(numbers[1])


def train_sides(config: DataConfig) -> list[Side]:
    """Returns the sides of the training images, source and target."""
    if config.aligned:
        return _halves(config, "--aligned", config.aligned)
    return [
        _side(config, "source", "--source", config.source),
        _side(config, "target", "--target", config.target),
    ]


def val_sides(config: DataConfig) -> list[Side]:
    """Returns the sides of the held-out images, source and target."""
    if config.aligned:
        return _halves(config, "--val_source", config.val_source)
    return [
        _side(config, "source", "--val_source", config.val_source),
        _side(config, "target", "--val_target", config.val_target),
    ]


def input_side(
    config: DataConfig, spec: str, *, flag: str = "--input", axes: str = ""
) -> Side:
    """Returns the side that opens `spec` as training opened its sources.

    `axes` overrides those of the configuration.
    """
    side = _side(config, "source", flag, spec)
    return dataclasses.replace(side, axes=axes) if axes else side


def _side(config: DataConfig, role: str, flag: str, spec: str) -> Side:
    source_axes, _, target_axes = config.axes.partition(",")
    return Side(
        flag,
        spec,
        axes=target_axes if role == "target" and target_axes else source_axes,
        one_hot=is_one_hot(config, role),
        resize=parse_size(config.resize),
    )


def is_one_hot(config: DataConfig, role: str) -> bool:
    """Whether the images of "source" or "target" are classes."""
    return config.one_hot and _is_several(getattr(config, role))


def _halves(config: DataConfig, flag: str, spec: str) -> list[Side]:
    side = _side(config, "source", flag, spec)
    return [dataclasses.replace(side, half=half) for half in ("left", "right")]


def _is_several(spec: str) -> bool:
    return "," in spec
