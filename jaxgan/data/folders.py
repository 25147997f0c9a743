"""One folder of images: its files, decoded once, and what is wrong with each of them.

A file goes by its stem, its path below the folder without the suffix, so that
"a/07.ome.tif" and "b/07.png" are the images 07 of two folders.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxgan.data import imagesets, readers
from jaxgan.data.imagesets import Plane
from jaxgan.errors import UserError

Size = tuple[int, int]  # height, width
Key = tuple[str, int]  # the stem of a file and the number of a plane in it

_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|png)$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Side:
    """What a flag names, and how its files become images."""

    flag: str  # "--source"
    spec: str  # its value: a folder, a file, or several by commas
    axes: str = ""  # of stacks, as in `readers.read`
    half: Literal["", "left", "right"] = ""  # of side-by-side images
    one_hot: bool = False  # masks become classes; their values stay as they are here
    resize: Size | None = None
    may_be_constant: bool = False  # nothing is learnt from such images, but translated
    only: frozenset[str] | None = None  # the stems that are wanted; None: all


@dataclasses.dataclass
class Folder:
    """The files of a folder, or one file by itself, and what was decoded of them."""

    path: Path
    side: Side
    files: dict[str, Path]  # by stem, in the order of the stems
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # of planes
    planes: dict[Key, Plane] = dataclasses.field(default_factory=dict)  # without fault
    high: float = -np.inf  # the largest value

    def where(self, key: Key) -> str:
        """Returns the words for a plane in a message."""
        stem, number = key
        several = self.counts.get(stem, 1) > 1
        return f"{self.files[stem]}" + (f", plane {number}" if several else "")


class Budget:
    """Bytes of memory that decoded images may take, over all folders that share it."""

    def __init__(self, size: int | None = None):
        """Takes a number of bytes; by default a quarter of the machine's memory."""
        self._left = _quarter_of_memory() if size is None else size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether `size` bytes were left; if so, they are taken."""
        with self._lock:
            fits = size <= self._left
            self._left -= size if fits else 0
            return fits


def _quarter_of_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return 2**32


def find(path: Path, side: Side) -> Folder:
    """Lists the images below a folder, or takes the one file that `path` is.

    Raises `UserError` if there are none, or two of one stem.
    """
    if path.is_file():
        return Folder(path, side, {_SUFFIX.sub("", path.name): path})
    if not path.is_dir():
        raise UserError(f"{side.flag}: there is no folder or file {path}")
    found = [p for p in sorted(path.rglob("*")) if not (p.is_dir() or _hidden(p, path))]
    images = [p for p in found if p.suffix.lower() in readers.SUFFIXES]
    if not images:
        others = ", ".join(sorted({p.suffix or p.name for p in found})) or "nothing"
        raise UserError(f"{side.flag}: {path} holds no TIFF or PNG (found: {others})")
    by_stem = collections.defaultdict(list)
    for image in images:
        by_stem[_SUFFIX.sub("", image.relative_to(path).as_posix())].append(image)
    twins = [" and ".join(map(str, same)) for same in by_stem.values() if same[1:]]
    if twins:
        raise UserError([f"{side.flag}: {pair} have one name" for pair in twins])
    wanted = [
        stem for stem in sorted(by_stem) if side.only is None or stem in side.only
    ]
    return Folder(path, side, {stem: by_stem[stem][0] for stem in wanted})


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def decode(folder: Folder, stems: Sequence[str], budget: Budget) -> list[str]:
    """Decodes the files of these stems into `folder`; returns what is wrong with them.

    Faults: unreadable, truncated, NaN or infinity, a constant image (where that
    matters), other channels or another dtype than most files have.
    """
    problems = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda stem: _decode_file(folder, stem, budget), stems)
        for stem, (planes, high, faults) in zip(stems, decoded, strict=True):
            problems += faults
            folder.high = max(folder.high, high)
            if planes:
                folder.counts[stem] = len(planes)
            for number, plane in enumerate(planes):
                if plane is not None:
                    folder.planes[stem, number] = plane
    problems += _drop_unusual(folder, lambda plane: f"{plane.shape[-1]} channel(s)")
    return problems + _drop_unusual(folder, lambda plane: f"{plane.dtype} values")


def _decode_file(
    folder: Folder, stem: str, budget: Budget
) -> tuple[list[Plane | None], float, list[str]]:
    """Returns a file's planes (None if at fault), its largest value, the faults."""
    side, path = folder.side, folder.files[stem]
    try:
        image = readers.read(path, axes=side.axes)
        halves = [_halve(plane, side, path) for plane in image.planes]
    except UserError as error:
        return [], -np.inf, error.problems
    constant_fails = not (side.one_hot or side.may_be_constant)
    faults = [_fault(half, constant_fails=constant_fails) for half in halves]
    sound = [i for i, fault in enumerate(faults) if not fault]
    arrays = {i: _resized(halves[i], side) for i in sound}
    in_memory = budget.take(sum(array.nbytes for array in arrays.values()))
    planes: list[Plane | None] = [None] * len(halves)
    for i, array in arrays.items():
        name = stem if len(halves) == 1 else f"{stem}[{i}]"
        source = array if in_memory else functools.partial(_read_again, path, side, i)
        planes[i] = Plane(name, stem, array.shape, array.dtype, source, image.meta)
    high = max((float(halves[i].max()) for i in sound), default=-np.inf)
    several = ", plane {}" if len(halves) > 1 else ""
    texts = [
        f"{path}{several.format(i)}: {fault}" for i, fault in enumerate(faults) if fault
    ]
    return planes, high, texts


def _halve(image: np.ndarray, side: Side, path: Path) -> np.ndarray:
    if not side.half:
        return image
    half, odd = divmod(image.shape[1], 2)
    if odd:
        raise UserError(
            f"{path} is {image.shape[1]} pixels wide; {side.flag} expects source and"
            " target side by side, in halves of equal width"
        )
    return image[:, :half] if side.half == "left" else image[:, half:]


def _resized(image: np.ndarray, side: Side) -> np.ndarray:
    if side.resize and not side.one_hot:
        image = imagesets.resize(image, side.resize)
    image = np.ascontiguousarray(image)
    image.flags.writeable = False
    return image


def _read_again(path: Path, side: Side, number: int) -> np.ndarray:
    plane = readers.read(path, axes=side.axes, plane=number).planes[0]
    return _resized(_halve(plane, side, path), side)


def _fault(image: np.ndarray, *, constant_fails: bool) -> str:
    """Returns what is wrong with the values of an image, "" if nothing is."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = np.argwhere(~np.isfinite(image))
        y, x, channel = bad[0]
        return (
            f"{len(bad)} value(s) are NaN or infinite, the first at row {y}, column"
            f" {x}, channel {channel}"
        )
    if constant_fails and (image == image[0, 0]).all():
        values = ", ".join(f"{value:g}" for value in image[0, 0])
        return (
            f"the image is constant ({values} everywhere); remove it or leave such"
            " images out by --skip_bad_files"
        )
    return ""


def _drop_unusual(folder: Folder, describe: Callable[[Plane], str]) -> list[str]:
    """Drops the files that are not as most are; returns what is wrong with them."""
    kinds = {stem: describe(plane) for (stem, _), plane in folder.planes.items()}
    if len(set(kinds.values())) < 2:
        return []
    ((usual, count),) = collections.Counter(kinds.values()).most_common(1)
    for key in list(folder.planes):
        if kinds[key[0]] != usual:
            del folder.planes[key]
    return [
        f"{folder.files[stem]}: {kind}, but {count} of {len(kinds)} files of"
        f" {folder.path} have {usual}"
        for stem, kind in kinds.items()
        if kind != usual
    ]
