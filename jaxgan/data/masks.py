"""Masks of classes: opened from folders, split, and written as folders again.

A class map is `[H, W, C]`, uint8 1 in the channel of a pixel's class and 0 elsewhere;
the last class is the background. A label map is `[H, W]`, the number of that channel.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan.config import option
from jaxgan.data import options, pairs, scan, writers
from jaxgan.data.folders import Budget, Side
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.readers import Meta
from jaxgan.errors import UserError

BACKGROUND = "background"
LABELS = "labels"


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """Where the masks are and how they are read."""

    source: str = option("", "folders of masks by commas, one class each; first wins")
    val_stems: str = option("", "held-out files, stems by commas: 13,14,15")
    val_fraction: float = option(0.1, "part held out where no stems are; 0 for none")
    resize: str = option("", "HEIGHT,WIDTH of whole masks: the most frequent class")
    skip_bad_files: bool = option(False, "leave out files at fault instead of stopping")


@dataclasses.dataclass(frozen=True)
class Masks:
    """Class maps to train on and to be judged by."""

    train: ImageSet
    val: ImageSet | None  # None: nothing is held out
    classes: tuple[str, ...]  # the name of each channel, the background last
    skipped: tuple[str, ...] = ()  # what is wrong with the files that were left out


def open_masks(config: MaskConfig, *, crop_size: int) -> Masks:
    """Opens the folders that a configuration names, whose files match by stem.

    Raises `UserError` with all that is wrong with options and files. With
    `config.skip_bad_files`, what is wrong with single files goes to `skipped` instead.
    """
    size = _resize(config, crop_size)
    side = Side("--source", config.source, one_hot=True, resize=size)
    report = scan.Report(skip_bad_files=config.skip_bad_files)
    opened = scan.open_sides(
        [side], report=report, budget=Budget(), crop_size=crop_size
    )
    skipped = report.close()
    masks = split(opened[0], _names(config.source), config)
    return dataclasses.replace(masks, skipped=skipped)


def split(images: ImageSet, classes: Sequence[str], config: MaskConfig) -> Masks:
    """Holds out the class maps that a configuration says, none at `val_fraction` 0."""
    held = pairs.hold_out(
        images.files,
        stems=config.val_stems.split(",") if config.val_stems else (),
        fraction=config.val_fraction,
    )
    kept = [i for i in range(len(images)) if i not in held]
    val = images.subset(sorted(held)) if held else None
    return Masks(images.subset(kept), val, (*classes, BACKGROUND))


def _resize(config: MaskConfig, crop_size: int) -> tuple[int, int] | None:
    problems = [] if config.source else ["--source is missing: folders of masks"]
    if not 0 <= config.val_fraction < 1:
        problems.append(f"--val_fraction={config.val_fraction} is not in [0, 1)")
    size = None
    try:
        size = options.parse_size(config.resize)
    except ValueError as error:
        problems.append(f"--resize: {error}")
    if size and min(size) < crop_size:
        problems.append(f"--resize={config.resize} is below --crop_size={crop_size}")
    if problems:
        raise UserError(problems)
    return size


def _names(source: str) -> list[str]:
    """Returns the folders' own names, numbered if two are the same."""
    names = [Path(part.strip()).name for part in source.split(",")]
    unique = len({*names, BACKGROUND, LABELS}) == len(names) + 2
    return names if unique else [f"{i}-{name}" for i, name in enumerate(names)]


def write_masks(
    folder: str | os.PathLike,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    first: int = 0,
) -> list[Path]:
    """Writes label maps `[N, H, W]` and returns their paths.

    `folder/labels` gets them as they are, and a folder for each class but the
    background gets its masks, 255 where a pixel is of the class: the folders that
    `--source` and `--input` take. Files are numbered from `first`.
    """
    folder = Path(folder)
    meta = Meta("YX", labels.shape[1:])
    paths = []
    for number, label in enumerate(labels, first):
        name = f"{number:05d}.tif"
        planes = {LABELS: label}
        for index, class_ in enumerate(classes[:-1]):
            planes[class_] = np.where(label == index, 255, 0)
        for kind, plane in planes.items():
            plane = plane.astype(np.uint8)[None, ..., None]
            writers.write_tiff(folder / kind / name, plane, like=meta)
        paths.append(folder / LABELS / name)
    return paths
