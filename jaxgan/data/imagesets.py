"""Sets of images with random access, and what makes one set of several.

An image is `[H, W, C]` in the dtype it is stored in. All images of a set have the same
channels and dtype; their sizes may differ.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from jaxgan.data.readers import Meta

Source = np.ndarray | Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Plane:
    """One image of a set: in memory, or read again each time that it is asked for."""

    name: str  # unique in its set: "cells/07", or "cells/stack[3]" in a stack
    file: str  # "cells/stack": the same for all planes of a file
    shape: tuple[int, int, int]  # H, W, C
    dtype: np.dtype
    source: Source  # the image, or what reads it
    meta: Meta | None = None  # of the file

    def load(self) -> np.ndarray:
        """Returns the image `[H, W, C]`, not to be written to."""
        return self.source() if callable(self.source) else self.source


class ImageSet:
    """Random access to images of equal channels and dtype."""

    def __init__(self, planes: Sequence[Plane]):
        """Takes one plane or more; raises `ValueError` if they are of several kinds."""
        kinds = {(plane.shape[-1], plane.dtype) for plane in planes}
        if len(kinds) != 1:
            found = ", ".join(f"{dtype} with {c} channels" for c, dtype in kinds)
            raise ValueError(f"an ImageSet holds images of one kind, got {found or 0}")
        self._planes = tuple(planes)
        ((self.channels, self.dtype),) = kinds

    @classmethod
    def from_arrays(
        cls, arrays: Sequence[np.ndarray], names: Sequence[str] | None = None
    ) -> "ImageSet":
        """Makes a set of images `[H, W]` or `[H, W, C]` that are in memory."""
        names = names or [f"{i:05d}" for i in range(len(arrays))]
        planes = []
        for name, array in zip(names, arrays, strict=True):
            image = np.asarray(array).view()
            image = image[..., None] if image.ndim == 2 else image
            if image.ndim != 3:
                raise ValueError(f"images are [H, W] or [H, W, C], got {image.shape}")
            image.flags.writeable = False
            planes.append(Plane(name, name, image.shape, image.dtype, image))
        return cls(planes)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self._planes)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each image."""
        return tuple(plane.name for plane in self._planes)

    @property
    def files(self) -> tuple[str, ...]:
        """The name of each image's file; planes of one stack share it."""
        return tuple(plane.file for plane in self._planes)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The height and width of each image."""
        return tuple(plane.shape[:2] for plane in self._planes)

    def load(self, index: int) -> np.ndarray:
        """Returns image `index`, `[H, W, C]`, not to be written to."""
        return self._planes[index].load()

    def meta(self, index: int) -> Meta | None:
        """Returns what image `index`'s file says of itself, None if it has no file."""
        return self._planes[index].meta

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Returns the set of these images, in this order."""
        return ImageSet([self._planes[i] for i in indices])


def merge(
    parts: Sequence[Plane],
    function: Callable[..., np.ndarray],
    *,
    shape: tuple[int, int, int],
    dtype: np.dtype,
) -> Plane:
    """Returns the image that `function` makes of several, under the name of the first.

    It is made once and kept if all `parts` are in memory, and else each time anew.
    """

    def make() -> np.ndarray:
        image = function(*(part.load() for part in parts))
        image.flags.writeable = False
        return image

    in_memory = not any(callable(part.source) for part in parts)
    source = make() if in_memory else make
    return dataclasses.replace(parts[0], shape=shape, dtype=dtype, source=source)


def stack(*images: np.ndarray) -> np.ndarray:
    """Returns images of equal size as the channels of one, `[H, W, C1 + C2 ...]`."""
    return images[0] if len(images) == 1 else np.concatenate(images, axis=-1)


def classes(*masks: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Returns masks `[H, W, 1]` as classes `[H, W, len(masks) + 1]`, uint8 0 and 1.

    A pixel belongs to the first mask that exceeds its threshold there, and to the last
    class, the background, if none does.
    """
    over = [mask[..., 0] > low for mask, low in zip(masks, thresholds, strict=True)]
    over.append(np.ones_like(over[0]))
    return _one_hot(np.argmax(over, axis=0), len(over))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an image `[H, W, C]` at another size: means over each new pixel's area.

    Integers are rounded. Exact where sizes divide; elsewhere a pixel on a border counts
    by the part that lies inside. Enlarging repeats pixels.
    """
    mean = _area_mean(image, size)
    rounded = np.rint(mean) if image.dtype.kind in "iu" else mean
    return rounded.astype(image.dtype, order="C")


def resize_classes(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns classes `[H, W, C]` at another size: the largest in each new pixel."""
    largest = np.argmax(_area_mean(image, size), axis=-1)
    return _one_hot(largest, image.shape[-1])


def _one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return (labels[..., None] == np.arange(count)).astype(np.uint8)


def _area_mean(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns `[H, W, C]` float64 means."""
    height, width = image.shape[:2]
    sums = _area_sum(_area_sum(image, size[0], axis=0), size[1], axis=1)
    return sums / (height / size[0] * (width / size[1]))


def _area_sum(image: np.ndarray, length: int, *, axis: int) -> np.ndarray:
    """Resizes one axis: differences of its running sum, interpolated at the edges."""
    image = np.moveaxis(image, axis, 0)
    total = np.zeros((len(image) + 1, *image.shape[1:]))
    np.cumsum(image, axis=0, out=total[1:])
    edges = np.arange(length + 1) * len(image) / length
    below = np.minimum(edges.astype(int), len(image) - 1)
    inside = (edges - below).reshape(-1, *[1] * (image.ndim - 1))
    sums = np.diff(total[below] + inside * image[below], axis=0)
    return np.moveaxis(sums, 0, axis)
