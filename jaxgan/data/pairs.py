"""Pairs of images, split into those to train on and those to be judged by."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxgan.data import normalise, options, scan
from jaxgan.data.folders import Budget
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.options import DataConfig
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images that belong together: `source[i]` and `target[i]`, of one size."""

    source: ImageSet
    target: ImageSet

    def __post_init__(self):
        """Raises `ValueError` unless there are as many of both, of equal sizes."""
        if self.source.shapes != self.target.shapes:
            raise ValueError(
                "source and target must be equal in number and sizes, got"
                f" {self.source.shapes} and {self.target.shapes}"
            )

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.source)

    def subset(self, indices: Sequence[int]) -> "Pairs":
        """Returns these pairs, in this order."""
        return Pairs(self.source.subset(indices), self.target.subset(indices))


@dataclasses.dataclass(frozen=True)
class Split:
    """What a run trains on and is judged by."""

    train: Pairs
    val: Pairs | None  # None: nothing is held out
    source_range: Range  # of the training images, as is the other
    target_range: Range
    target_outside: float  # part of the training targets' values beyond their range
    skipped: tuple[str, ...] = ()  # what is wrong with the files that were left out


def open_paired(config: DataConfig, *, crop_size: int) -> Split:
    """Opens the pairs that a configuration names and fits their ranges.

    Raises `UserError` with all that is wrong with options and files. With
    `config.skip_bad_files`, what is wrong with single files goes to `skipped` instead.
    """
    problems = options.problems(config, crop_size=crop_size)
    if problems:
        raise UserError(problems)
    report = scan.Report(skip_bad_files=config.skip_bad_files)
    shared = {"report": report, "budget": Budget(), "crop_size": crop_size}
    train = scan.open_sides(options.train_sides(config), **shared)
    val = []
    if config.val_source:
        val = scan.open_sides(options.val_sides(config), **shared)
    for role, trained, held in zip(("source", "target"), train, val, strict=False):
        kinds = [f"{s.dtype} with {s.channels} channel(s)" for s in (trained, held)]
        if kinds[0] != kinds[1]:
            report.whole(f"--val_{role}: images are {kinds[1]}, --{role}: {kinds[0]}")
    skipped = report.close()
    split = pair_images(
        *train,
        val=Pairs(*val) if val else None,
        val_stems=config.val_stems.split(",") if config.val_stems else (),
        val_fraction=config.val_fraction,
        source_range=_range(config, "source"),
        target_range=_range(config, "target"),
    )
    return dataclasses.replace(split, skipped=skipped)


def _range(config: DataConfig, role: str) -> str:
    classes = options.is_one_hot(config, role)
    return "0,1" if classes else getattr(config, f"{role}_range")


def pair_images(
    source: ImageSet,
    target: ImageSet,
    *,
    val: Pairs | None = None,
    val_stems: Sequence[str] = (),
    val_fraction: float = 0.1,
    source_range: str = "percentile",
    target_range: str = "percentile",
) -> Split:
    """Pairs images that are open already, or simulated; ranges are as in `normalise`.

    Without `val`, the files `val_stems` are held out, or else a part `val_fraction`, at
    least one image, and none if it is 0: whole files where there are several, and of a
    single stack its last planes. Which ones does not depend on any seed. Ranges are
    those of the training images.
    """
    train = Pairs(source, target)
    held = set()
    if val is None:
        held = hold_out(source.files, stems=val_stems, fraction=val_fraction)
    if held:
        kept = [i for i in range(len(source)) if i not in held]
        train, val = train.subset(kept), train.subset(sorted(held))
    fitted = normalise.fit(target_range, train.target)
    return Split(
        train,
        val,
        normalise.fit(source_range, train.source),
        fitted,
        normalise.fraction_outside(fitted, train.target),
    )


def hold_out(
    files: Sequence[str], *, stems: Sequence[str], fraction: float
) -> set[int]:
    """Returns the indices of the files to hold out: `stems`, or else a `fraction`."""
    if stems:
        return _named(files, stems)
    return _drawn(files, fraction) if fraction > 0 else set()


def _named(files: Sequence[str], stems: Sequence[str]) -> set[int]:
    """Returns the indices of the files with these stems."""
    absent = [stem for stem in stems if stem not in files]
    if absent or set(files) <= set(stems):
        fault = f"no file is called {', '.join(absent)}" if absent else "none is left"
        raise UserError(
            f"--val_stems={','.join(stems)}: {fault}; the files are {_some(files)}"
        )
    return {i for i, file in enumerate(files) if file in stems}


def _some(files: Sequence[str]) -> str:
    names = sorted(set(files))
    return ", ".join(names[:5]) + (f" ... {names[-1]}" if len(names) > 5 else "")


def _drawn(files: Sequence[str], fraction: float) -> set[int]:
    """Returns the indices of a fraction of the files."""
    if len(files) < 2:
        raise UserError(
            "there is but one image and so none to hold out: name others by"
            " --val_source and --val_target, or go without by --val_fraction=0"
        )
    names = sorted(set(files))
    order = np.random.default_rng(0).permutation(names).tolist()
    if len(names) == 1:  # neighbours in a stack are alike: hold out a block at its end
        files = range(len(files))
        order = list(reversed(files))
    count = min(max(1, round(fraction * len(order))), len(order) - 1)
    held = set(order[:count])
    return {i for i, file in enumerate(files) if file in held}
