"""The scan before training: opens folders that belong together, and says what is wrong.

A side is what one flag names: a folder, one file, or several folders by commas whose
images become the channels of one. Every problem goes to a `Report`, so that one look
mends them all.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan.data import folders, imagesets
from jaxgan.data.folders import Budget, Folder, Key, Side
from jaxgan.data.imagesets import ImageSet, Plane
from jaxgan.errors import UserError


class Report:
    """What is wrong so far: with single files, and with the whole."""

    def __init__(self, *, skip_bad_files: bool = False):
        """With `skip_bad_files`, files at fault are left out and the run goes on."""
        self.skip_bad_files = skip_bad_files
        # Ordered sets: the two halves of an aligned image share their problems.
        self._files: dict[str, None] = {}
        self._whole: dict[str, None] = {}

    def files(self, problems: Sequence[str]) -> None:
        """Notes why files cannot be used."""
        self._files |= dict.fromkeys(problems)

    def whole(self, problem: str) -> None:
        """Notes why nothing can be done."""
        self._whole[problem] = None

    @property
    def failed(self) -> bool:
        """Whether something ails the whole."""
        return bool(self._whole)

    def close(self) -> tuple[str, ...]:
        """Returns the problems of files left out; raises `UserError` for all others."""
        if self._whole or (self._files and not self.skip_bad_files):
            raise UserError([*self._whole, *self._files])
        return tuple(self._files)


def open_images(side: Side, *, channels: int | None = None) -> ImageSet:
    """Opens images to apply a model to; raises `UserError` with all that is wrong.

    `channels` is the number that the model was trained on. Constant images are fine.
    """
    side = dataclasses.replace(side, may_be_constant=True)
    report = Report()
    opened = open_sides([side], report=report, budget=Budget())
    if opened and channels not in (None, opened[0].channels):
        report.whole(
            f"{side.flag}={side.spec}: image {opened[0].names[0]} has"
            f" {opened[0].channels} channel(s), but the model was trained on {channels}"
        )
    report.close()
    return opened[0]


def open_sides(
    sides: Sequence[Side], *, report: Report, budget: Budget, crop_size: int = 1
) -> list[ImageSet]:
    """Opens sides that belong together: image i of one set is that of the others.

    What is wrong goes to `report`; the list is empty if nothing is right.
    """
    found = [parts for side in sides if (parts := _find(side, report))]
    flat = [folder for side in found for folder in side]
    stems = _match(flat, report)
    for folder in flat:
        report.files(folders.decode(folder, stems, budget))
    keys = _usable(found, stems, crop_size, report)
    if not keys and report.skip_bad_files:
        flags = " and ".join(side.flag for side in sides)
        report.whole(f"{flags}: no image is left without the bad files")
    for parts in found:
        _check_kinds(parts, report)
    if not keys or report.failed:
        return []
    return [_assemble(parts, keys) for parts in found]


def _find(side: Side, report: Report) -> list[Folder]:
    found = []
    for path in side.spec.split(","):
        try:
            found.append(folders.find(Path(path.strip()), side))
        except UserError as error:
            for problem in error.problems:
                report.whole(problem)
    return found


def _match(flat: Sequence[Folder], report: Report) -> list[str]:
    """Returns the stems that all folders have; reports the files without partner."""
    if len(flat) > 1 and all(folder.path.is_file() for folder in flat):
        stem = next(iter(flat[0].files))  # files named one by one match as they are
        for folder in flat:
            folder.files = {stem: folder.path}
    every = sorted({stem for folder in flat for stem in folder.files})
    common = [stem for stem in every if all(stem in f.files for f in flat)]
    if every and not common:
        examples = " and ".join(str(next(iter(f.files.values()))) for f in flat)
        report.whole(f"no file has a partner of its name in the others: {examples}")
        return []
    for stem in every:
        lacking = [str(f.path) for f in flat if stem not in f.files]
        if lacking:
            here = next(f.files[stem] for f in flat if stem in f.files)
            where = " and ".join(lacking)
            report.files([f"{here}: no partner named {stem} in {where}"])
    return common


def _usable(
    found: Sequence[Sequence[Folder]],
    stems: Sequence[str],
    crop_size: int,
    report: Report,
) -> list[Key]:
    """Returns the planes that are sound in all folders and of one size in all."""
    flat = [folder for parts in found for folder in parts]
    keys = []
    for stem in stems:
        counts = {
            folder.counts[stem]: folder for folder in flat if stem in folder.counts
        }
        if len(counts) > 1:
            texts = [
                f"{f.files[stem]} has {count} planes" for count, f in counts.items()
            ]
            report.files([", but ".join(texts)])
            continue
        for number in range(min(counts, default=0)):
            key = stem, number
            if all(key in folder.planes for folder in flat):
                problem = _size_problem(found, key, crop_size)
                report.files([problem] if problem else [])
                keys += [] if problem else [key]
    return keys


def _size_problem(
    found: Sequence[Sequence[Folder]], key: Key, crop_size: int
) -> str | None:
    # Masks must agree as they are stored, all images as they are after --resize.
    groups = [[(f, None) for f in parts] for parts in found if parts[0].side.one_hot]
    groups.append([(f, f.side.resize) for parts in found for f in parts])
    for group in groups:
        sizes = {resize or f.planes[key].shape[:2]: f for f, resize in group}
        if len(sizes) > 1:
            texts = [f"{f.where(key)} is {h}x{w}" for (h, w), f in sizes.items()]
            return f"{', but '.join(texts)}; they must be of one size (see --resize)"
    (((height, width), folder),) = sizes.items()
    if min(height, width) < crop_size:
        return f"{folder.where(key)} is {height}x{width}, below --crop_size={crop_size}"
    return None


def _check_kinds(parts: Sequence[Folder], report: Report) -> None:
    """Reports folders whose images cannot become the channels of one."""
    kinds = {}
    for folder in parts:
        for plane in folder.planes.values():
            kinds[folder.path] = plane
    for path, plane in kinds.items():
        if parts[0].side.one_hot and plane.shape[-1] != 1:
            report.whole(f"--one_hot: {path} has images of {plane.shape[-1]} channels")
    dtypes = {plane.dtype.name: path for path, plane in kinds.items()}
    if len(dtypes) > 1 and not parts[0].side.one_hot:
        texts = [f"{path} has {dtype} values" for dtype, path in dtypes.items()]
        report.whole(f"{parts[0].side.flag} stacks folders, but {', '.join(texts)}")


def _assemble(parts: Sequence[Folder], keys: Sequence[Key]) -> ImageSet:
    """Makes one set of a side's folders."""
    merge = _merge_masks if parts[0].side.one_hot else _merge_channels
    # Threads help: NumPy works outside the interpreter's lock.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return ImageSet(list(pool.map(functools.partial(merge, parts), keys)))


def _merge_channels(parts: Sequence[Folder], key: Key) -> Plane:
    planes = [folder.planes[key] for folder in parts]
    if len(planes) == 1:
        return planes[0]
    channels = sum(plane.shape[-1] for plane in planes)
    shape = (*planes[0].shape[:2], channels)
    return imagesets.merge(planes, imagesets.stack, shape=shape, dtype=planes[0].dtype)


def _merge_masks(parts: Sequence[Folder], key: Key) -> Plane:
    planes = [folder.planes[key] for folder in parts]
    thresholds = [folder.high / 2 for folder in parts]
    size = parts[0].side.resize

    def to_classes(*masks: np.ndarray) -> np.ndarray:
        image = imagesets.classes(*masks, thresholds=thresholds)
        return imagesets.resize_classes(image, size) if size else image

    shape = (*(size or planes[0].shape[:2]), len(planes) + 1)
    return imagesets.merge(planes, to_classes, shape=shape, dtype=np.dtype(np.uint8))
