"""How far apart two sets of samples lie, and when a run has settled.

Samples are `[N, D]`, N of them with D features each; the arithmetic is NumPy's, in
float64, on the host.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the Fréchet distance between Gaussians fitted to two sets of samples.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), the last from the eigenvalues of
    S1^1/2 S2 S1^1/2, which are real where those of S1 S2 are so only in theory. With
    fewer samples than features it still separates sets, but its value depends on their
    number: compare sets of equal sizes. Heusel et al., 2017, eq. 6.

    Raises `ValueError` for fewer than two samples or another number of features.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            "the Fréchet distance needs two samples or more of equal features on both "
            f"sides, got {first.shape} and {second.shape}"
        )
    offset = first.mean(axis=0) - second.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second))
    root = _square_root(a)
    eigenvalues = np.linalg.eigvalsh(root @ b @ root)
    overlap = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    distance = offset @ offset + np.trace(a) + np.trace(b) - 2 * overlap
    return float(max(distance, 0.0))  # equal sets come out at a rounding error


def _square_root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


class Basis(NamedTuple):
    """Principal axes of a set of samples."""

    mean: np.ndarray  # [D]
    axes: np.ndarray  # [K, D], orthonormal, the widest first
    explained: np.ndarray  # [K], part of the set's variance along each


def principal_axes(samples: np.ndarray, *, count: int = 2) -> Basis:
    """Returns the `count` axes along which samples vary most.

    Sets that are to be compared are projected on the axes of one of them, or of all
    together: say which.
    """
    samples = np.asarray(samples, np.float64)
    mean = samples.mean(axis=0)
    _, widths, axes = np.linalg.svd(samples - mean, full_matrices=False)
    variances = widths**2
    return Basis(mean, axes[:count], variances[:count] / variances.sum())


def project(basis: Basis, samples: np.ndarray) -> np.ndarray:
    """Returns the coordinates `[N, K]` of samples along the axes of a basis."""
    return (np.asarray(samples, np.float64) - basis.mean) @ basis.axes.T


def running_mean(values: Sequence[float], *, window: int = 5) -> np.ndarray:
    """Returns the mean of every `window` values in a row, `[N - window + 1]`.

    Raises `ValueError` for fewer values than a window.
    """
    if len(values) < window:
        raise ValueError(
            f"a mean over {window} needs as many values, got {len(values)}"
        )
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def settled(
    values: Sequence[float], *, window: int = 5, tolerance: float = 0.05
) -> int:
    """Returns the index at which a curve first comes near where it ends.

    That is the first whose mean over `window` values, itself the last of them, is
    within `tolerance` of the last such mean: "needs half the epochs" means that this
    epoch is half as large.
    """
    means = running_mean(values, window=window)
    near = np.abs(means - means[-1]) <= tolerance * np.abs(means[-1])
    return int(np.argmax(near)) + window - 1
