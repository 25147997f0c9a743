"""Batches: order, crops, prefetch.

A batch is a dict of images `[B, h, w, C]` in the dtype they are stored in; they become
floats on the device. Batch i is a pure function of (seed, i), so that a resumed run
needs no state of the pipeline but its step.
"""

import functools
import sys
from collections.abc import Iterator

import grain
import numpy as np

from jaxgan.data.imagesets import ImageSet
from jaxgan.data.pairs import Pairs

Batch = dict[str, np.ndarray]


def batches(
    images: Pairs | ImageSet,
    *,
    crop_size: int,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Returns batches by number: `[i]` is `{"source": [b, h, w, C], "target": ...}`.

    Images without partners make batches `{"image": [b, h, w, C]}`. All images come once
    before any comes again, each time in another order and cropped elsewhere, both
    images of a pair at the same place. `shard` is (index, count): of each batch of
    `batch_size`, process `index` of `count` gets its contiguous part.
    """
    index, count = shard
    if batch_size % count:
        raise ValueError(
            f"batch_size {batch_size} does not divide by {count} processes"
        )
    sides = {"image": images}
    if isinstance(images, Pairs):
        sides = {"source": images.source, "target": images.target}
    smallest = min(min(shape) for side in sides.values() for shape in side.shapes)
    if smallest < crop_size:
        raise ValueError(f"crop_size {crop_size} exceeds an image side of {smallest}")
    part = slice(index * batch_size // count, (index + 1) * batch_size // count)

    def batch(step: int) -> Batch:
        # Drawn for the whole batch, so that it is the same however many share it.
        corners = np.random.default_rng((seed, 1, step)).random((batch_size, 2))
        turns = range(step * batch_size, (step + 1) * batch_size)[part]
        chosen = [_shuffled(turn, len(images), seed) for turn in turns]
        return {
            name: _crop(side, chosen, corners[part], crop_size)
            for name, side in sides.items()
        }

    return grain.MapDataset.range(sys.maxsize).map(batch)


def _shuffled(turn: int, count: int, seed: int) -> int:
    """Returns the image that comes at a turn: each once in every `count` turns."""
    epoch, place = divmod(turn, count)
    return int(_order(seed, epoch, count)[place])


# Unlike grain's shuffle: its index cipher takes 2 ms for each turn of 16 images.
@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def _crop(
    images: ImageSet, chosen: list[int], corners: np.ndarray, size: int
) -> np.ndarray:
    """Cuts `[b, size, size, C]` from images; corners `[b, 2]` lie in [0, 1)."""
    crops = np.empty((len(chosen), size, size, images.channels), images.dtype)
    for crop, index, corner in zip(crops, chosen, corners, strict=True):
        image = images.load(index)
        free = np.array(image.shape[:2]) - size + 1
        top, left = (corner * free).astype(int)
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
