"""Large images from overlapping patches, row by row, in memory that rows bound."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile

Place = tuple[int, int]  # top, left
_TILE = 256  # pixels


def places(length: int, patch: int, core: int) -> list[int]:
    """Returns where patches begin along an axis, the last one flush with its end."""
    last = length - patch
    return [*range(0, last, core), last]


def window(patch: int, core: int) -> np.ndarray:
    """Returns the weights of a patch's pixels, `[patch, patch, 1]`.

    They fall linearly over the margin that a neighbour shares, so that one patch turns
    into the next without a step.
    """
    margin = patch - core
    ramp = np.arange(1, patch + 1) / (margin + 1)
    line = np.minimum(np.minimum(ramp, ramp[::-1]), 1.0)
    return np.outer(line, line)[..., None].astype(np.float32)


def stitch(
    size: tuple[int, int],
    make: Callable[[Sequence[Place]], np.ndarray],
    *,
    patch: int,
    core: int,
) -> Iterator[np.ndarray]:
    """Yields an image from top to bottom, some rows `[h, W, C]` at a time.

    `make` returns the patches `[N, patch, patch, C]` of places in one row; each pixel
    is the weighted mean of the patches that show it. Unlike the published code, which
    keeps the cores of patches and averages those that overlap, weights fall towards
    the margin. Held at once: `patch` rows of the image.
    """
    height, width = size
    if min(size) < patch:
        raise ValueError(f"an image of {height}x{width} is smaller than a patch")
    weights = window(patch, core)
    lefts, tops = places(width, patch, core), places(height, patch, core)
    total, weight = None, np.zeros((patch, width, 1), np.float32)
    for top, after in zip(tops, [*tops[1:], height], strict=True):
        made = make([(top, left) for left in lefts])
        if total is None:
            total = np.zeros((patch, width, made.shape[-1]), np.float32)
        for image, left in zip(made, lefts, strict=True):
            total[:, left : left + patch] += weights * image
            weight[:, left : left + patch] += weights
        done = after - top
        yield total[:done] / weight[:done]
        for array in (total, weight):
            array[: patch - done] = array[done:].copy()
            array[patch - done :] = 0


def write_tiled(
    path: str | os.PathLike[str],
    rows: Iterator[np.ndarray],
    *,
    shape: tuple[int, int, int],
    dtype: np.dtype,
) -> None:
    """Writes rows `[h, W, C]`, as they come, into a tiled TIFF of `shape` `[H, W, C]`.

    Held at once: one row of tiles. The file gets its name only when it is whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    colour = shape[-1] in (3, 4)
    try:
        tifffile.imwrite(
            partial,
            _tiles(rows, shape, np.dtype(dtype)),
            shape=shape if shape[-1] > 1 else shape[:2],
            dtype=dtype,
            tile=(_TILE, _TILE),
            photometric="rgb" if colour else "minisblack",
            planarconfig="contig" if shape[-1] > 1 else None,
            bigtiff=np.prod(shape) * np.dtype(dtype).itemsize > 2**31,
            software="jaxgan",
            metadata=None,
        )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _tiles(
    rows: Iterator[np.ndarray], shape: tuple[int, int, int], dtype: np.dtype
) -> Iterator[np.ndarray]:
    height, width, channels = shape
    padded = -(-width // _TILE) * _TILE
    band, filled, seen = np.zeros((_TILE, padded, channels), dtype), 0, 0
    for part in rows:
        while len(part):
            count = min(_TILE - filled, len(part))
            band[filled : filled + count, :width] = part[:count]
            part, filled, seen = part[count:], filled + count, seen + count
            if filled == _TILE or seen == height:
                band[filled:] = 0
                for left in range(0, padded, _TILE):
                    tile = band[:, left : left + _TILE].copy()
                    yield tile if channels > 1 else tile[..., 0]
                filled = 0


def seam_ratio(image: np.ndarray, *, patch: int, core: int) -> float:
    """Returns the mean gradient where patches begin and end over that elsewhere.

    Of an image `[H, W, C]`, across rows and columns; 1 where no seam shows.
    """
    ratios = []
    for axis in (0, 1):
        slopes = np.abs(np.diff(image, axis=axis)).mean(axis=(1 - axis, 2))
        starts = np.array(places(image.shape[axis], patch, core))
        ends = np.concatenate([starts, starts + patch])
        ends = np.unique(ends[(ends > 0) & (ends < image.shape[axis])]) - 1
        inside = np.setdiff1d(np.arange(len(slopes)), ends)
        ratios.append(slopes[ends].mean() / slopes[inside].mean())
    return float(np.mean(ratios))
