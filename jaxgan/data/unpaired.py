"""Two kinds of images that have nothing to do with each other, one by one."""

import dataclasses

from jaxgan.data import normalise, options, pairs, scan
from jaxgan.data.folders import Budget
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.options import DataConfig
from jaxgan.data.pairs import Pairs
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """Images of two kinds, in number and size as they come."""

    source: ImageSet
    target: ImageSet

    def __len__(self) -> int:
        """Returns the images of an epoch: of the kind with more."""
        return max(len(self.source), len(self.target))


@dataclasses.dataclass(frozen=True)
class UnpairedSplit:
    """What a run trains on and is judged by."""

    train: Unpaired
    val: Pairs | None  # pairs to score, if there are any: nothing was trained on them
    source_range: Range  # of the training images, as is the other
    target_range: Range
    skipped: tuple[str, ...] = ()  # what is wrong with the files that were left out


def open_unpaired(config: DataConfig, *, crop_size: int) -> UnpairedSplit:
    """Opens the folders --source and --target, whose files need not match.

    Only --val_source and --val_target are pairs, to score with. Raises `UserError` with
    all that is wrong with options and files.
    """
    problems = options.problems(config, crop_size=crop_size)
    if config.aligned or config.val_stems or config.one_hot:
        problems.append(
            "--aligned, --val_stems and --one_hot are for pairs: name held-out pairs by"
            " --val_source and --val_target"
        )
    if problems:
        raise UserError(problems)
    report, budget = scan.Report(skip_bad_files=config.skip_bad_files), Budget()
    shared = {"report": report, "budget": budget, "crop_size": crop_size}
    # One at a time: what is opened together must match.
    sides = [scan.open_sides([side], **shared) for side in options.train_sides(config)]
    val = (
        scan.open_sides(options.val_sides(config), **shared)
        if config.val_source
        else ()
    )
    skipped = report.close()
    (source,), (target,) = sides
    trained_sides = (source, target)
    for role, trained, held in zip(
        ("source", "target"), trained_sides, val, strict=False
    ):
        if (trained.channels, trained.dtype) != (held.channels, held.dtype):
            raise UserError(
                f"--val_{role}: images are {held.dtype} with {held.channels} channel(s)"
                f", --{role}: {trained.dtype} with {trained.channels} channel(s)"
            )
    split = unpair(source, target, config, val=Pairs(*val) if val else None)
    return dataclasses.replace(split, skipped=skipped)


def unpair(
    source: ImageSet, target: ImageSet, config: DataConfig, *, val: Pairs | None = None
) -> UnpairedSplit:
    """Returns images that are open already, or simulated, as two kinds."""
    return UnpairedSplit(
        Unpaired(source, target),
        val,
        normalise.fit(config.source_range, source),
        normalise.fit(config.target_range, target),
    )


def separate(images: Pairs, config: DataConfig) -> UnpairedSplit:
    """Makes of pairs two kinds of images of which none has its partner.

    A part `config.val_fraction` stays paired, to score with; of the others the first
    half gives sources and the second half targets. Raises `UserError` for fewer than
    two pairs to train on.
    """
    files, fraction = images.source.files, config.val_fraction
    held = pairs.hold_out(files, stems=(), fraction=fraction)
    kept = [i for i in range(len(images)) if i not in held]
    if len(kept) < 2:
        raise UserError(f"two images or more are needed to train on, got {len(kept)}")
    half = len(kept) // 2
    return unpair(
        images.source.subset(kept[:half]),
        images.target.subset(kept[half:]),
        config,
        val=images.subset(sorted(held)) if held else None,
    )
