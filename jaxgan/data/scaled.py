"""Images on a fine grid, alone or with partners on a coarser one."""

import dataclasses
from collections.abc import Sequence

from jaxgan.data import normalise, options, pairs, scan
from jaxgan.data.folders import Budget
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.options import DataConfig
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class ScaledPairs:
    """Images of one scene: `target[i]` is `scale` times as fine as `source[i]`."""

    source: ImageSet
    target: ImageSet
    scale: int

    def __post_init__(self):
        """Raises `ValueError` unless sizes differ by the scale, image by image."""
        expected = [(h * self.scale, w * self.scale) for h, w in self.source.shapes]
        if list(self.target.shapes) != expected:
            raise ValueError(
                f"targets must be {self.scale} times as large as their sources, got"
                f" {self.source.shapes} and {self.target.shapes}"
            )

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.source)

    def subset(self, indices: Sequence[int]) -> "ScaledPairs":
        """Returns these pairs, in this order."""
        sides = (side.subset(indices) for side in (self.source, self.target))
        return ScaledPairs(*sides, self.scale)


Images = ScaledPairs | ImageSet  # an `ImageSet`: of targets, whose sources are made


@dataclasses.dataclass(frozen=True)
class ScaledSplit:
    """What a run trains on and is judged by."""

    train: Images
    val: Images | None  # None: nothing is held out
    source_range: Range  # of the training images, as is the other
    target_range: Range
    skipped: tuple[str, ...] = ()  # what is wrong with the files that were left out


def open_scaled(config: DataConfig, *, crop_size: int, scale: int) -> ScaledSplit:
    """Opens fine images (--target), alone or with coarse ones (--source).

    Raises `UserError` with all that is wrong with options and files.
    """
    alone = dataclasses.replace(
        config,
        source=config.source or config.target,
        val_source=config.val_source or config.val_target,
    )
    problems = options.problems(alone, crop_size=crop_size)
    if config.aligned or config.one_hot:
        problems.append("--aligned and --one_hot do not go with two sizes")
    if config.source and config.resize:
        problems.append("--resize would make --source and --target equal in size")
    if config.source and bool(config.val_target) != bool(config.val_source):
        problems.append("--val_source and --val_target go together")
    if problems:
        raise UserError(problems)
    report, budget = scan.Report(skip_bad_files=config.skip_bad_files), Budget()
    shared = {"report": report, "budget": budget}

    def open_all(sides: Sequence[scan.Side]) -> list[ImageSet]:
        # One at a time: what is opened together must be of one size.
        sizes = (crop_size // scale, crop_size)[-len(sides) :]
        return [
            opened
            for side, size in zip(sides, sizes, strict=True)
            for opened in scan.open_sides([side], crop_size=size, **shared)
        ]

    first = 0 if config.source else 1
    train = open_all(options.train_sides(alone)[first:])
    val = open_all(options.val_sides(alone)[first:]) if config.val_target else None
    skipped = report.close()
    split = scale_images(
        match(train, scale, ("--source", "--target")),
        config,
        val=match(val, scale, ("--val_source", "--val_target")) if val else None,
    )
    return dataclasses.replace(split, skipped=skipped)


def match(sides: Sequence[ImageSet], scale: int, flags: tuple[str, str]) -> Images:
    """Pairs sources and targets by name, or returns the targets if they are alone.

    `flags` are their names in a `UserError`, where partners or sizes do not fit.
    """
    if len(sides) == 1:
        return sides[0]
    named = [dict(zip(side.names, range(len(side)), strict=True)) for side in sides]
    common = [name for name in named[0] if name in named[1]]
    problems = [
        f"{flag}: no partner named {name}"
        for flag, here, there in zip(flags, named, reversed(named), strict=True)
        for name in here
        if name not in there
    ]
    source, target = (
        side.subset([places[name] for name in common]) if common else side
        for side, places in zip(sides, named, strict=True)
    )
    for name, small, large in zip(common, source.shapes, target.shapes, strict=False):
        if large != (small[0] * scale, small[1] * scale):
            problems.append(
                f"{name}: {flags[0]} is {small[0]}x{small[1]} and {flags[1]} is "
                f"{large[0]}x{large[1]}, not {scale} times as large (--scale)"
            )
    if problems:
        raise UserError(problems)
    return ScaledPairs(source, target, scale)


def scale_images(
    images: Images, config: DataConfig, *, val: Images | None = None
) -> ScaledSplit:
    """Splits images that are open already, or simulated.

    Without `val`, `config.val_stems` or a part `config.val_fraction` are held out, as
    in `pairs.pair_images`.
    """
    held = set()
    if val is None:
        files = (images.target if isinstance(images, ScaledPairs) else images).files
        stems = config.val_stems.split(",") if config.val_stems else ()
        held = pairs.hold_out(files, stems=stems, fraction=config.val_fraction)
    if held:
        kept = [i for i in range(len(images)) if i not in held]
        images, val = images.subset(kept), images.subset(sorted(held))
    target = images.target if isinstance(images, ScaledPairs) else images
    target_range = normalise.fit(config.target_range, target)
    source_range = target_range
    if isinstance(images, ScaledPairs):
        source_range = normalise.fit(config.source_range, images.source)
    return ScaledSplit(images, val, source_range, target_range)
