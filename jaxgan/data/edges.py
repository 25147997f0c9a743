"""Edges of images: thin lines, as bright as the step that they mark.

Canny's lines times Sobel's magnitude, as MEGAN uses them (Uzunova et al., 2019). What
was found is kept in a cache, which lies outside the data and knows images by content.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

_LOW, _HIGH = 0.1, 0.2  # thresholds, of the largest gradient
_VERSION = 1  # of the formula, part of the cache's names


def find_edges(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """Returns edges `[H, W, 1]`, uint8, of an image `[H, W, C]` (the mean of C).

    `sigma` is the blur before, in pixels. The strongest edge is 255.
    """
    from scipy import ndimage
    from skimage import feature, filters

    grey = np.asarray(image, np.float32).mean(axis=-1)
    smooth = ndimage.gaussian_filter(grey, sigma, mode="nearest")
    steepest = np.hypot(*(ndimage.sobel(smooth, axis) for axis in (0, 1))).max()
    if steepest == 0:  # a flat image has none
        return np.zeros((*grey.shape, 1), np.uint8)
    # Scaled so that thresholds are relative to the steepest slope, as in MATLAB.
    lines = feature.canny(
        grey / steepest, sigma, low_threshold=_LOW, high_threshold=_HIGH, mode="nearest"
    )
    strength = filters.sobel(grey)
    strength /= max(strength[lines].max(initial=0), np.finfo(np.float32).tiny)
    found = np.where(lines, np.clip(strength, 0, 1), 0)
    return np.rint(255 * found).astype(np.uint8)[..., None]


def cached_edges(
    image: np.ndarray, *, sigma: float, cache: str | os.PathLike[str]
) -> np.ndarray:
    """Returns `find_edges`, from the cache if it is there; "" is no cache.

    What comes from the cache is mapped, not read: it takes memory only where it is
    used.
    """
    if not cache:
        return find_edges(image, sigma=sigma)
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
    digest.update(repr((_VERSION, image.shape, str(image.dtype), sigma)).encode())
    path = Path(cache).expanduser() / f"{digest.hexdigest()[:32]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
        np.save(temporary, find_edges(image, sigma=sigma))
        os.replace(temporary, path)
    return np.load(path, mmap_mode="r")


def coarser(edges: np.ndarray, factor: int) -> np.ndarray:
    """Returns edges `[H, W, 1]` on a grid `factor` times as coarse.

    The sum of a square over its side, at most 255: a straight line stays as bright as
    it is, however thin it has become.
    """
    if factor == 1:
        return edges
    height, width = (n // factor for n in edges.shape[:2])
    cut = edges[: height * factor, : width * factor, 0].astype(np.uint32)
    sums = cut.reshape(height, factor, width, factor).sum(axis=(1, 3))
    return np.minimum(sums // factor, 255).astype(np.uint8)[..., None]


def fold(edges: np.ndarray) -> np.ndarray:
    """Returns edges `[2H, 2W, 1]` as squares of pixels, `[H, W, 4]`."""
    height, width = (n // 2 for n in edges.shape[:2])
    squares = edges.reshape(height, 2, width, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(squares.reshape(height, width, 4))
