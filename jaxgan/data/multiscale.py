"""Images with their edges at several scales, each half as fine as the next."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxgan.config import option
from jaxgan.data import edges, normalise
from jaxgan.data.imagesets import ImageSet, resize
from jaxgan.data.normalise import Range
from jaxgan.data.pairs import Pairs

EDGE_RANGE = "0,255"  # stored edges that become -1 and 1


@dataclasses.dataclass(frozen=True)
class EdgeConfig:
    """Where edges are kept once they are found."""

    edge_cache: str = option(
        "~/.cache/jaxgan/edges", "folder that keeps the edges of images; empty: none"
    )


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """Images and their edges, from the lowest scale to the full one."""

    scales: tuple[Pairs, ...]  # source: edges, target: images
    target_range: Range

    @property
    def edge_range(self) -> Range:
        """The range of the edges, alike at all scales but for channels."""
        return normalise.fit(EDGE_RANGE, self.scales[-1].source)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.scales[0])


def build(
    images: ImageSet,
    range_: Range,
    *,
    num_scales: int,
    sigma: float,
    edge_factor: int = 1,
    cache: str = "",
) -> Pyramid:
    """Finds the edges of images and makes all of their scales.

    Images lose what does not divide at the bottom and on the right. Edges are found on
    the full images, and made coarser from there, so that drawn edges can take their
    place. With `edge_factor` 2 those of the lowest scale are twice as fine, folded.
    """
    factor = 16 * 2 ** (num_scales - 1)
    fine, found = [], []
    for index in range(len(images)):
        image = images.load(index)
        height, width = (n - n % factor for n in image.shape[:2])
        fine.append(image[:height, :width])
        found.append(edges.cached_edges(fine[-1], sigma=sigma, cache=cache))
    return _scales(fine, found, images.names, range_, num_scales, edge_factor)


def _scales(
    fine: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    names: Sequence[str],
    range_: Range,
    num_scales: int,
    edge_factor: int,
) -> Pyramid:
    scales = []
    for factor in (2**k for k in reversed(range(num_scales))):
        lines = [edge_scale(e, factor, edge_factor, num_scales) for e in found]
        images = [
            x if factor == 1 else resize(x, tuple(n // factor for n in x.shape[:2]))
            for x in fine
        ]
        both = (ImageSet.from_arrays(x, names) for x in (lines, images))
        scales.append(Pairs(*both))
    return Pyramid(tuple(scales), range_)


def edge_scale(
    found: np.ndarray, factor: int, edge_factor: int, num_scales: int
) -> np.ndarray:
    """Returns full edges as the scale that is `factor` times as coarse takes them."""
    lowest = factor == 2 ** (num_scales - 1)
    if lowest and edge_factor == 2:
        return edges.fold(edges.coarser(found, factor // 2))
    return edges.coarser(found, factor)
