"""What is measured of one image: scores, maps, spectra.

Images are `[H, W, C]` floats in [-1, 1] and scores are those of `metrics` with a peak
of 2, once as the image is and once after `metrics.affine_match`.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxgan import bicubic, metrics, spectrum
from jaxgan.evaluate import PEAK

SCORES = ("psnr", "ssim", "nrmse")
MATCHED = tuple(f"{name}_affine" for name in SCORES)
HIGHER_IS_BETTER = {"psnr": True, "ssim": True, "nrmse": False}
THRESHOLD = 1 / 7  # of a ring correlation: below, two images have little in common


class Spectra(NamedTuple):
    """Radial spectra, `[R]` each, means over images; frequencies in cycles a pixel."""

    frequencies: np.ndarray
    power: dict[str, np.ndarray]  # of "input", "prediction" and "target"
    correlation: dict[str, np.ndarray]  # of "input" and "prediction" with the target


def score(image: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Returns `SCORES` and `MATCHED` of an image against a target."""
    scores = _scores(image[None], target[None])  # in the order of the alphabet
    return {name: float(scores[name][0]) for name in (*SCORES, *MATCHED)}


@jax.jit
def _scores(image: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
    scores = {}
    matched = metrics.affine_match(target, image)
    for names, compared in ((SCORES, image), (MATCHED, matched)):
        values = (
            metrics.psnr(target, compared, peak=PEAK),
            metrics.ssim(target, compared, peak=PEAK),
            metrics.nrmse(target, compared),
        )
        scores |= dict(zip(names, values, strict=True))
    return scores


def ssim_map(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns `[H, W, C]`, nan in the border that no window of the metric fits."""
    inner = np.asarray(_ssim_map(image[None], target[None]))[0]
    rows, columns = (
        (whole - part) // 2
        for whole, part in zip(target.shape[:2], inner.shape[:2], strict=True)
    )
    pads = (rows, rows), (columns, columns), (0, 0)
    return np.pad(inner, pads, constant_values=np.nan)


@jax.jit
def _ssim_map(image: jax.Array, target: jax.Array) -> jax.Array:
    return metrics.ssim_map(target, image, peak=PEAK)


def spectra(examples: list[dict[str, np.ndarray]]) -> Spectra:
    """Returns the spectra of images by "input" (if any), "prediction" and "target".

    Of channels the mean counts. Images of other sizes than the smallest are
    interpolated to its rings.
    """
    shapes = [example["target"].shape[:2] for example in examples]
    grid = spectrum.frequencies(min(shapes, key=min))
    power: dict[str, list[np.ndarray]] = {}
    correlation: dict[str, list[np.ndarray]] = {}
    for example, shape in zip(examples, shapes, strict=True):
        own = spectrum.frequencies(shape)
        flat = {name: np.mean(image, axis=-1) for name, image in example.items()}
        for name, image in flat.items():
            rings = np.interp(grid, own, spectrum.radial_power(image))
            power.setdefault(name, []).append(rings)
            if name != "target":
                rings = spectrum.ring_correlation(image, flat["target"])
                correlation.setdefault(name, []).append(np.interp(grid, own, rings))
    return Spectra(grid, _means(power), _means(correlation))


def _means(curves: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean(np.nan_to_num(rows), axis=0) for name, rows in curves.items()}


def common_until(frequencies: np.ndarray, correlation: np.ndarray) -> float | None:
    """Returns the first frequency with a correlation below `THRESHOLD`, if any."""
    below = np.flatnonzero(correlation < THRESHOLD)
    return float(frequencies[below[0]]) if len(below) else None


def fraction_outside(image: np.ndarray) -> float:
    """Returns the part of an image's values beyond [-1, 1], a little rounding aside."""
    return float(np.mean(np.abs(image) > 1 + 1e-6))


def on_target_grid(image: np.ndarray, *, scale: int) -> np.ndarray:
    """Returns a source as it is, or enlarged bicubically by the scale."""
    return image if scale == 1 else np.asarray(bicubic.resize(image, factor=scale))
