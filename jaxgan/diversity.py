"""How varied a set of images is, beside a set of real ones.

A generator that has collapsed makes the same few images again and again; its samples
lie nearer to each other than real images do. Images are `[N, H, W, C]`; distances are
root mean squared differences. The arithmetic is NumPy's, on the host.
"""

import numpy as np


def pairwise_distances(images: np.ndarray) -> np.ndarray:
    """Returns the distances `[N, N]` between images; N is two or more."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    squares = np.sum(flat**2, axis=1)
    gram = squares[:, None] + squares[None] - 2 * flat @ flat.T
    return np.sqrt(np.maximum(gram, 0) / flat.shape[1])


def spread(images: np.ndarray, real: np.ndarray) -> float:
    """Returns the mean distance between images, 1 where it is that of the real ones."""
    means = [_mean(pairwise_distances(x)) for x in (images, real)]
    return float(means[0] / max(means[1], 1e-12))


def duplicates(images: np.ndarray, real: np.ndarray) -> float:
    """Returns the part of images that have a near copy among them.

    Near is nearer than any but the nearest twentieth of real images are to their
    nearest neighbours, in sets of equal size.
    """
    count = min(len(images), len(real))
    images, real = images[:count], real[:count]
    nearest = [_nearest(pairwise_distances(x)) for x in (images, real)]
    return float(np.mean(nearest[0] < np.quantile(nearest[1], 0.05)))


def _mean(distances: np.ndarray) -> float:
    count = len(distances)
    return distances.sum() / (count * (count - 1))


def _nearest(distances: np.ndarray) -> np.ndarray:
    return np.min(distances + np.diag(np.full(len(distances), np.inf)), axis=1)
