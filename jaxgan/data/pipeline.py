"""Batches: order, crops, prefetch.

A batch is a dict of images `[B, h, w, C]` in the dtype they are stored in; they become
floats on the device. Batch i is a pure function of (seed, i), so that a resumed run
needs no state of the pipeline but its step.
"""

import functools
import sys
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np

from jaxgan.data.imagesets import ImageSet
from jaxgan.data.labels import Labelled
from jaxgan.data.pairs import Pairs
from jaxgan.data.scaled import ScaledPairs
from jaxgan.data.unpaired import Unpaired

Batch = dict[str, np.ndarray]
Images = Pairs | ScaledPairs | Unpaired | Labelled | ImageSet


class _Side(NamedTuple):
    """One image of a batch, and how it is cut from its set."""

    images: ImageSet
    size: int  # of the crop
    grid: int = 1  # pixels: crops begin at multiples of it
    order: int = 0  # sides of one order show the same images at the same places


def batches(
    images: Images,
    *,
    crop_size: int,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Returns batches by number: `[i]` is `{"source": [b, h, w, C], "target": ...}`.

    Images without partners make batches `{"image": [b, h, w, C]}`, labelled ones with a
    "condition" `[b, K]` each. All images come once
    before any comes again, each time in another order and cropped elsewhere, both
    images of a pair at the same place; unpaired ones have two orders and places. Of
    images on two grids, `crop_size` counts pixels of the finer one. `shard` is (index,
    count): of each batch of `batch_size`, process `index` of `count` gets its
    contiguous part.
    """
    index, count = shard
    if batch_size % count:
        raise ValueError(
            f"batch_size {batch_size} does not divide by {count} processes"
        )
    sides = _sides(images, crop_size)
    for side in sides.values():
        smallest = min(min(shape) for shape in side.images.shapes)
        if smallest < side.size:
            raise ValueError(
                f"crop_size {side.size} exceeds an image side of {smallest}"
            )
    part = slice(index * batch_size // count, (index + 1) * batch_size // count)

    def batch(step: int) -> Batch:
        turns = range(step * batch_size, (step + 1) * batch_size)[part]
        crops = {}
        for name, side in sides.items():
            # Drawn for the whole batch, so that it is the same however many share it.
            order = (side.order,) if side.order else ()
            rng = np.random.default_rng((seed, 1, step, *order))
            corners = rng.random((batch_size, 2))[part]
            number = len(side.images)
            chosen = [_shuffled(turn, number, seed, order) for turn in turns]
            crops[name] = _crop(side, chosen, corners)
            if isinstance(images, Labelled):
                crops["condition"] = images.labels[chosen]
        return crops

    return grain.MapDataset.range(sys.maxsize).map(batch)


def _sides(images: Images, size: int) -> dict[str, _Side]:
    if isinstance(images, Labelled):
        images = images.images
    if isinstance(images, ImageSet):
        return {"image": _Side(images, size)}
    source, target = _Side(images.source, size), _Side(images.target, size)
    if isinstance(images, ScaledPairs):
        source = source._replace(size=size // images.scale)
        target = target._replace(grid=images.scale)
    if isinstance(images, Unpaired):
        target = target._replace(order=1)
    return {"source": source, "target": target}


def _shuffled(turn: int, count: int, seed: int, order: tuple[int, ...]) -> int:
    """Returns the image that comes at a turn: each once in every `count` turns."""
    epoch, place = divmod(turn, count)
    return int(_order(seed, epoch, count, order)[place])


# Unlike grain's shuffle: its index cipher takes 2 ms for each turn of 16 images.
@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int, order: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch, *order)).permutation(count)


def _crop(side: _Side, chosen: list[int], corners: np.ndarray) -> np.ndarray:
    """Cuts `[b, size, size, C]` from images; corners `[b, 2]` lie in [0, 1)."""
    images, size, grid, _ = side
    crops = np.empty((len(chosen), size, size, images.channels), images.dtype)
    for crop, index, corner in zip(crops, chosen, corners, strict=True):
        image = images.load(index)
        free = (np.array(image.shape[:2]) - size) // grid + 1
        top, left = (corner * free).astype(int) * grid
        crop[...] = image[top : top + size, left : left + size]
    return crops


def host_batches(
    dataset: grain.MapDataset,
    *,
    start_step: int = 0,
    steps: int,
    steps_per_call: int = 1,
    num_threads: int = 1,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Yields batches `start_step` to `steps` - 1, stacked for calls of K steps.

    Args:
      dataset: of `batches`.
      start_step: the step that a run resumes at.
      steps: of the whole run.
      steps_per_call: K; images are `[K, b, h, w, C]`, the last ones perhaps with less.
      num_threads: that prepare calls ahead; 0 prepares each when it is asked for.
      prefetch: calls that are prepared ahead.
    """
    if start_step >= steps:
        return
    calls = dataset[start_step:steps].batch(steps_per_call)
    ahead = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=max(prefetch, num_threads)
    )
    iterator = iter(calls.to_iter_dataset(ahead))
    try:
        yield from iterator
    finally:
        iterator.close()
