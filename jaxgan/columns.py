"""Atomic columns: where they are in an image, and how many of the true ones are found.

Images are numpy floats `[H, W]`, positions `[N, 2]` of (row, column) in pixels. This is
what microscopists want of a denoised lattice image, and no PSNR tells it.
"""

from typing import NamedTuple

import numpy as np


class Match(NamedTuple):
    """How found columns compare with true ones."""

    recall: float  # part of the true columns that were found, NaN if there are none
    precision: float  # part of the found columns that are true, NaN if none was found
    error: float  # mean distance of matched pairs, in pixels, NaN if there are none


def find(
    image: np.ndarray,
    *,
    sigma: float = 1.0,
    spacing: float = 3.0,
    contrast: float = 0.3,
    dark: bool = False,
) -> np.ndarray:
    """Returns the centres of bright (or dark) spots, with fractions of a pixel.

    Args:
      image: on any scale.
      sigma: of the Laplacian of a Gaussian that sees spots of 1.4 sigma in radius.
      spacing: half of the least distance between two spots, about; in pixels.
      contrast: a spot's response over the mean of the strongest twentieth's, at least.
      dark: look for dark spots on a bright ground.

    A spot is a maximum of the response; its centre is that of a parabola through its
    neighbours.
    """
    from scipy import ndimage

    image = np.asarray(image, np.float64)
    sign = 1.0 if dark else -1.0
    response = sign * ndimage.gaussian_laplace(image, sigma, mode="nearest")
    size = 2 * int(np.ceil(spacing / 2)) + 1
    peaks = response == ndimage.maximum_filter(response, size, mode="nearest")
    peaks[[0, -1]] = peaks[:, [0, -1]] = False
    # Of neighbours that are exactly equal, the first is the maximum.
    groups, _ = ndimage.label(peaks & (response > 0), np.ones((3, 3)))
    _, firsts = np.unique(groups, return_index=True)
    places = np.stack(np.unravel_index(firsts[1:], image.shape), axis=1)
    if not len(places):
        return np.zeros((0, 2))
    heights = response[tuple(places.T)]
    strong = np.sort(heights)[-max(1, len(heights) // 20) :].mean()
    places = places[heights > contrast * strong]
    return places + np.stack([_offset(response, places, axis) for axis in (0, 1)], 1)


def _offset(response: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Returns how far the vertex of a parabola is from each maximum, in [-.5, .5]."""
    step = np.eye(2, dtype=int)[axis]
    before, here, after = (response[tuple((places + s * step).T)] for s in (-1, 0, 1))
    bend = before - 2 * here + after
    bend = np.where(bend < 0, bend, -np.inf)
    return np.clip((before - after) / (2 * bend), -0.5, 0.5)


def match(truth: np.ndarray, found: np.ndarray, *, radius: float = 1.5) -> Match:
    """Pairs each true position with at most one found within `radius` pixels.

    The pairs have the least total distance.
    """
    if not len(truth) or not len(found):
        recall = 0.0 if len(truth) else np.nan
        return Match(recall, 0.0 if len(found) else np.nan, np.nan)
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(truth[:, None] - found[None], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(distance, 2 * radius))
    pairs = distance[rows, columns]
    pairs = pairs[pairs <= radius]
    error = float(pairs.mean()) if len(pairs) else np.nan
    return Match(len(pairs) / len(truth), len(pairs) / len(found), error)
