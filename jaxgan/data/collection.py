"""One kind of images, without partners: what a generator of images learns from."""

import dataclasses

import numpy as np

from jaxgan.config import option
from jaxgan.data import normalise, options, pairs, scan
from jaxgan.data.folders import Budget, Side
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.labels import Coding, Labelled, read_labels
from jaxgan.data.normalise import Range
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class CollectionConfig:
    """Where the images are and how they are read."""

    source: str = option("", "folder of images; several by commas: channels of one")
    axes: str = option("", "axes of stacks, e.g. TYX")
    source_range: str = option(
        "percentile", "becomes -1 to 1: percentile[:LOW,HIGH], dtype or LOW,HIGH"
    )
    val_stems: str = option("", "held-out files, stems by commas: 13,14,15")
    val_fraction: float = option(0.1, "part held out where no stems are; 0 for none")
    resize: str = option("", "HEIGHT,WIDTH of whole images after an area mean")
    skip_bad_files: bool = option(False, "leave out files at fault instead of stopping")


@dataclasses.dataclass(frozen=True)
class Collection:
    """Images to train on and to be judged by; labelled ones where labels were given."""

    train: ImageSet | Labelled
    val: ImageSet | Labelled | None  # None: nothing is held out
    range: Range  # of the training images
    coding: Coding | None = None  # how labels became numbers
    skipped: tuple[str, ...] = ()  # what is wrong with the files that were left out


def open_collection(
    config: CollectionConfig, *, crop_size: int, labels: str = ""
) -> Collection:
    """Opens the folder that a configuration names and fits its range.

    `labels` is what `labels.read_labels` takes, "" for images without. Raises
    `UserError` with all that is wrong with options and files. With
    `config.skip_bad_files`, what is wrong with single files goes to `skipped` instead.
    """
    problems = _problems(config, crop_size)
    if problems:
        raise UserError(problems)
    side = Side(
        "--source",
        config.source,
        axes=config.axes,
        resize=options.parse_size(config.resize),
    )
    report = scan.Report(skip_bad_files=config.skip_bad_files)
    opened = scan.open_sides(
        [side], report=report, budget=Budget(), crop_size=crop_size
    )
    skipped = report.close()
    given, coding = read_labels(labels, opened[0].files) if labels else (None, None)
    split = divide(opened[0], config, labels=given)
    return dataclasses.replace(split, coding=coding, skipped=skipped)


def divide(
    images: ImageSet, config: CollectionConfig, *, labels: np.ndarray | None = None
) -> Collection:
    """Holds out what a configuration says, of images that are open already.

    `labels` `[N, K]` go with the images.
    """
    held = pairs.hold_out(
        images.files,
        stems=config.val_stems.split(",") if config.val_stems else (),
        fraction=config.val_fraction,
    )
    kept = [i for i in range(len(images)) if i not in held]
    known = images if labels is None else Labelled(images, labels)
    range_ = normalise.fit(config.source_range, images.subset(kept))
    val = known.subset(sorted(held)) if held else None
    return Collection(known.subset(kept), val, range_)


def _problems(config: CollectionConfig, crop_size: int) -> list[str]:
    problems = [] if config.source else ["--source is missing: a folder of images"]
    if not 0 <= config.val_fraction < 1:
        problems.append(f"--val_fraction={config.val_fraction} is not in [0, 1)")
    try:
        normalise.parse(config.source_range)
    except ValueError as error:
        problems.append(f"--source_range: {error}")
    try:
        size = options.parse_size(config.resize)
        if size and min(size) < crop_size:
            problems.append(
                f"--resize={config.resize} is below --crop_size={crop_size}"
            )
    except ValueError as error:
        problems.append(f"--resize: {error}")
    return problems
