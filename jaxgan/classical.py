"""Denoising without learning: filters whose one parameter is chosen on other images.

Images are numpy floats `[H, W, C]`, intensities mostly in [0, 1], filtered channel by
channel. SciPy comes with JAX; total variation and non-local means need scikit-image
(the extra `classical`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxgan.errors import UserError

Plane = np.ndarray  # [H, W]


class Filter(NamedTuple):
    """A filter of one parameter, and the values of it that are tried."""

    apply: Callable[[Plane, float], Plane]
    parameters: tuple[float, ...]

    def __call__(self, image: np.ndarray, parameter: float) -> np.ndarray:
        """Returns the filtered image, float32 `[H, W, C]`."""
        planes = np.moveaxis(np.asarray(image, np.float64), -1, 0)
        filtered = [self.apply(plane, parameter) for plane in planes]
        return np.stack(filtered, axis=-1).astype(np.float32)


def filters() -> dict[str, Filter]:
    """Returns the filters by name; `UserError` if scikit-image is not installed."""
    try:
        from skimage import restoration
    except ImportError as error:
        raise UserError(
            "total variation and non-local means need scikit-image: "
            'pip install "jaxgan[classical]"'
        ) from error
    from scipy import ndimage, signal

    def wiener(plane: Plane, size: float) -> Plane:
        with np.errstate(divide="ignore", invalid="ignore"):  # where it is constant
            return np.nan_to_num(signal.wiener(plane, int(size)))

    def non_local_means(plane: Plane, h: float) -> Plane:
        return restoration.denoise_nl_means(
            plane, patch_size=5, patch_distance=6, h=h, fast_mode=True
        )

    levels = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
    return {
        "constant": Filter(lambda plane, _: np.full_like(plane, plane.mean()), (0.0,)),
        "Gaussian blur": Filter(
            lambda plane, sigma: ndimage.gaussian_filter(plane, sigma, mode="reflect"),
            (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0),
        ),
        "Wiener": Filter(wiener, (3, 5, 7, 9, 13, 17, 25)),
        "wavelet": Filter(_wavelet, levels),
        "total variation": Filter(
            lambda plane, weight: restoration.denoise_tv_chambolle(plane, weight),
            (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0),
        ),
        "non-local means": Filter(non_local_means, levels),
    }


def _wavelet(plane: Plane, sigma: float) -> Plane:
    """Shrinks wavelet coefficients softly by twice what noise of `sigma` has in them.

    Starck and Murtagh, 2006, "Astronomical Image and Data Analysis", ch. 1 and 2: the
    isotropic undecimated transform with a cubic spline, and white noise's deviation on
    each of its scales.
    """
    from scipy import ndimage

    smooth, kept = plane, np.zeros_like(plane)
    for level, deviation in enumerate((0.889, 0.200, 0.086, 0.041, 0.020)):
        kernel = np.zeros(4 * 2**level + 1)
        kernel[:: 2**level] = np.array([1, 4, 6, 4, 1]) / 16
        next_ = smooth
        for axis in (0, 1):
            next_ = ndimage.convolve1d(next_, kernel, axis=axis, mode="reflect")
        detail, threshold = smooth - next_, 2 * sigma * deviation
        kept += np.sign(detail) * np.maximum(np.abs(detail) - threshold, 0)
        smooth = next_
    return smooth + kept


def denoise_each(
    filter_: Filter,
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    *,
    finish: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> tuple[list[np.ndarray], list[float]]:
    """Filters each image with the parameter that suits all the *others* best.

    Best is the least sum of squared errors to the truth, which a filter of one image
    never sees of that image. `finish` is what is done to an image after the filter,
    such as undoing the bias of clipped counts. Returns the images and the parameters;
    raises `ValueError` for fewer than two images.
    """
    if len(noisy) < 2:
        raise ValueError("a parameter is chosen on other images: give two or more")
    made = [[finish(filter_(x, p)) for x in noisy] for p in filter_.parameters]
    errors = np.array(
        [
            [np.mean((a - b) ** 2) for a, b in zip(row, clean, strict=True)]
            for row in made
        ]
    )
    others = errors.sum(axis=1, keepdims=True) - errors
    chosen = np.argmin(others, axis=0)
    images = [made[number][i] for i, number in enumerate(chosen)]
    return images, [filter_.parameters[number] for number in chosen]
