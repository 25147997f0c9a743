"""Classical answers to what a better lens would have shown, by scikit-image.

Images are numpy `[H, W]` brightnesses on the fine grid. Both know the lens, estimate
the specimen, and are then blurred as the better lens would do; both get the setting
that suits the images they are scored on, to their advantage.
"""

from collections.abc import Callable, Iterator

import numpy as np

from jaxgan.data.simulate import lenses as simulated
from jaxgan.data.simulate.lenses import Lenses

_ITERATIONS = (3, 6, 12, 25, 50)
_BALANCES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_REACH = 24  # pixels: half the width of the pattern of a point

Estimate = Callable[[np.ndarray], np.ndarray]


def estimators(lenses: Lenses) -> dict[str, list[Estimate]]:
    """Returns the ways to estimate, by name, each with all of its settings."""
    psf = point_spread(lenses)
    return {
        "Richardson-Lucy": [
            _through_high(lenses, richardson_lucy(psf, count)) for count in _ITERATIONS
        ],
        "Wiener": [
            _through_high(lenses, wiener(psf, balance)) for balance in _BALANCES
        ],
    }


def point_spread(lenses: Lenses) -> np.ndarray:
    """Returns what the low aperture makes of a point, `[h, w]`, of sum 1."""
    size = 2 * _REACH + 1
    point = np.zeros((8 * _REACH, 8 * _REACH))
    point[4 * _REACH, 4 * _REACH] = 1
    image = simulated.image_through(
        point,
        pixel=lenses.pixel,
        transfer=lambda f: simulated.optical_transfer(
            f, numerical_aperture=lenses.low_na, wavelength=lenses.wavelength
        ),
    )
    middle = slice(4 * _REACH - _REACH, 4 * _REACH - _REACH + size)
    psf = image[middle, middle].astype(np.float64)
    return psf / psf.sum()


def richardson_lucy(psf: np.ndarray, iterations: int) -> Estimate:
    """Returns the most likely specimen under shot noise, after some iterations.

    Richardson, 1972; Lucy, 1974. The scene repeats beyond its borders.
    """

    def estimate(image: np.ndarray) -> np.ndarray:
        from skimage import restoration

        padded = np.pad(np.maximum(image, 1e-4), _REACH, mode="wrap")
        specimen = restoration.richardson_lucy(
            padded.astype(np.float64), psf, num_iter=iterations, clip=False
        )
        return specimen[_REACH:-_REACH, _REACH:-_REACH]

    return estimate


def wiener(psf: np.ndarray, balance: float) -> Estimate:
    """Returns the smoothest specimen that explains an image well enough."""

    def estimate(image: np.ndarray) -> np.ndarray:
        from skimage import restoration

        padded = np.pad(image.astype(np.float64), _REACH, mode="wrap")
        specimen = restoration.wiener(padded, psf, balance, clip=False)
        return specimen[_REACH:-_REACH, _REACH:-_REACH]

    return estimate


def _through_high(lenses: Lenses, estimate: Estimate) -> Estimate:
    def seen(image: np.ndarray) -> np.ndarray:
        return simulated.image_through(
            estimate(image),
            pixel=lenses.pixel,
            transfer=lambda f: simulated.optical_transfer(
                f, numerical_aperture=lenses.high_na, wavelength=lenses.wavelength
            ),
        )

    return seen


def best(settings: list[Estimate], images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the estimates `[N, H, W]` of the setting with the least squared error."""

    def apply() -> Iterator[np.ndarray]:
        for setting in settings:
            yield np.stack([setting(image) for image in images])

    return min(apply(), key=lambda made: float(np.mean((made - truth) ** 2)))
