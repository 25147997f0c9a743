"""The files of a prediction: what is read, by which job, and what it is written to.

Files of ordinary size are scanned together before any work begins, so that every
problem is known at once; a file too large for memory is opened where it lies.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan.data import folders, readers, scan, writers
from jaxgan.data.folders import Side
from jaxgan.errors import UserError

_CHUNK = 256  # rows of a large image that are checked at once


@dataclasses.dataclass(frozen=True)
class File:
    """A file to translate."""

    output: Path
    meta: readers.Meta
    planes: Sequence[Callable[[], Any]]  # each returns an image [H, W, C]

    def __len__(self) -> int:
        """Returns the number of planes."""
        return len(self.planes)

    def load(self, plane: int) -> Any:
        """Returns an image `[H, W, C]`, or what reads its slices from disk."""
        return self.planes[plane]()

    def create(
        self, scale: int, channels: int, dtype: np.dtype
    ) -> contextlib.AbstractContextManager[writers.Rows]:
        """Opens the output, which appears whole when its context ends."""
        size = [scale * length for length in self.load(0).shape[:2]]
        shape = (len(self), *size, channels)
        return writers.open_rows(self.output, shape, dtype, like=self.meta)


def find(side: Side, output: str, *, shard: str = "", channels: int) -> list[File]:
    """Lists the files to translate.

    Args:
      side: the input.
      output: folder of the results.
      shard: "I/N": every N-th file from the I-th on, without those that are finished;
        of a single stack, the I-th of N parts, in a file that its planes name.
      channels: that the model takes.

    Raises `UserError` with everything that is wrong with the files or the output.
    """
    first, count = parse_shard(shard)

    def mine(names: Sequence[str]) -> list[str]:
        chosen = list(names)[first::count]
        places = {name: place(output, name) for name in chosen}
        return [n for n in chosen if not (shard and places[n].exists())]

    paths = [Path(path.strip()) for path in side.spec.split(",")]
    found = [folders.find(path, side) for path in paths]
    _check_apart(found, output)
    plain = "," not in side.spec and not (side.one_hot or side.resize or side.half)
    if not plain:
        images = _scanned(side, output, channels, wanted=None)
        wanted = mine(list(images))
        return [images[name] for name in wanted]
    (folder,) = found
    alone = count > 1 and len(folder.files) == 1
    wanted = list(folder.files) if alone else mine(list(folder.files))
    large = {
        name: _large(folder.files[name], side, output, name, channels)
        for name in wanted
    }
    small = [name for name in wanted if large[name] is None]
    images = _scanned(side, output, channels, wanted=small) if small else {}
    opened = [large[name] or images[name] for name in wanted]
    return _part(opened[0], first, count) if alone else opened


def _part(stack: File, index: int, count: int) -> list[File]:
    """Returns part `index` of `count` of a stack, unless it is empty or finished."""
    number, meta = len(stack), stack.meta
    low, high = number * index // count, number * (index + 1) // count
    axis = next((a for a in "TZ" if meta.length(a) == number), "")
    if not axis:
        raise UserError("--shard cannot split a stack of both T and Z; split it by T")
    lengths = zip(meta.axes, meta.shape, strict=True)
    shape = tuple(high - low if name == axis else n for name, n in lengths)
    path = stack.output
    path = path.with_name(f"{path.stem}_{low:04d}-{high - 1:04d}{path.suffix}")
    if low == high or path.exists():
        return []
    meta = dataclasses.replace(meta, shape=shape)
    return [File(path, meta, stack.planes[low:high])]


def parse_shard(text: str) -> tuple[int, int]:
    """Reads I/N; raises `UserError` for anything else. Nothing stands for 0/1."""
    index, slash, count = (text or "0/1").partition("/")
    numbers = slash and index.isdigit() and count.isdigit()
    if not numbers or not 0 <= int(index) < int(count):
        raise UserError(f"--shard={text}: expected I/N with I from 0 to N - 1")
    return int(index), int(count)


def place(output: str, name: str) -> Path:
    """Returns where a file's result goes; raises `UserError` if not below `output`."""
    root = Path(output).resolve()
    path = root / f"{name}.tif"
    if not path.parent.resolve().is_relative_to(root):
        raise UserError(
            f"--output={output}: {path.parent} is a link to another place; remove it"
        )
    return Path(output) / f"{name}.tif"


def _check_apart(inputs: Sequence[folders.Folder], output: str) -> None:
    """Raises `UserError` if a result would take the place of an image."""
    sources = {path.resolve() for folder in inputs for path in folder.files.values()}
    names = [name for folder in inputs for name in folder.files]
    for path in (place(output, name) for name in names):
        if path.resolve() in sources:
            raise UserError(
                f"{path} is an input and would be overwritten: use another --output"
            )


def _scanned(
    side: Side, output: str, channels: int, *, wanted: Sequence[str] | None
) -> dict[str, File]:
    """Returns the files that are scanned together, by name."""
    only = None if wanted is None else frozenset(wanted)
    images = scan.open_images(dataclasses.replace(side, only=only), channels=channels)
    found = {}
    groups = itertools.groupby(range(len(images)), key=lambda i: images.files[i])
    for name, group in groups:
        numbers = list(group)
        loads = [lambda i=i: images.load(i) for i in numbers]
        found[name] = File(place(output, name), images.meta(numbers[0]), loads)
    return found


def _large(
    path: Path, side: Side, output: str, name: str, channels: int
) -> File | None:
    """Opens a file where it lies if it is too large for memory."""
    try:
        opened = readers.open_planes(path, axes=side.axes)
    except UserError:
        return None  # the scan says what is wrong, with all else that is
    if opened is None:
        return None
    planes, meta = opened
    if planes[0].shape[-1] != channels:
        raise UserError(
            f"{path} has {planes[0].shape[-1]} channel(s), but the model was trained on"
            f" {channels}"
        )
    loads = [lambda plane=plane: _finite(plane, path) for plane in planes]
    return File(place(output, name), meta, loads)


def _finite(plane: readers.OnDisk, path: Path) -> readers.OnDisk:
    if plane.dtype.kind == "f":
        for y in range(0, plane.shape[0], _CHUNK):
            if not np.isfinite(plane[y : y + _CHUNK, :]).all():
                raise UserError(f"{path}: NaN or infinity below row {y}")
    return plane
