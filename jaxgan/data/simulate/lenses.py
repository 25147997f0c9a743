"""One specimen seen through two lenses: what a higher aperture would have shown.

Light is incoherent, as in fluorescence: a lens of numerical aperture NA passes no
frequency beyond 2 NA / wavelength, and ever less of those below. Brightness is in units
of which most of a specimen has less than 1; lengths are in metres. Every image is a
function of seed, index and settings alone, and the scene repeats beyond its borders.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from jaxgan.data.simulate.optics import blur


@dataclass(frozen=True)
class Lenses:
    """Two lenses that look at one specimen.

    At the default pixel the high aperture is sampled at 1.7 times its Nyquist rate, and
    the low one, on a grid four times as coarse, just at its own.
    """

    low_na: float = 0.3
    high_na: float = 0.7
    wavelength: float = 532e-9
    pixel: float = 0.11e-6  # of the high aperture's image
    photons: float = 1000.0  # per pixel of brightness 1, in either image

    @property
    def low_cutoff(self) -> float:
        """The highest frequency that the low aperture passes, in cycles per metre."""
        return cutoff(self.low_na, self.wavelength)

    @property
    def high_cutoff(self) -> float:
        """The same of the high aperture."""
        return cutoff(self.high_na, self.wavelength)


@dataclass(frozen=True)
class LensPair:
    """Images of one specimen, `[H, W]`, or of several, `[N, H, W]`; float32."""

    low: np.ndarray  # through the low aperture; coarser by the scale, with noise
    high: np.ndarray  # through the high aperture, with noise
    truth: np.ndarray  # through the high aperture, without noise


def cutoff(numerical_aperture: float, wavelength: float) -> float:
    """Returns 2 NA / wavelength, the highest frequency that incoherent light passes."""
    return 2 * numerical_aperture / wavelength


def lens_pair(
    index: int,
    *,
    seed: int = 0,
    size: int = 256,
    scale: int = 1,
    lenses: Lenses | None = None,
) -> LensPair:
    """Returns pair `index` of an endless series, `size` x `size` fine pixels.

    Pixels of the low aperture's image are `scale` times as wide, as those of a camera
    behind a smaller magnification are. Without `lenses`, those of `Lenses()`. Raises
    `ValueError` if `size` does not divide by `scale`.
    """
    if size % scale:
        raise ValueError(f"size {size} does not divide by scale {scale}")
    lenses = lenses or Lenses()
    rng = np.random.default_rng([seed, index])
    specimen = draw_fluorescence(rng, size=size, pixel=lenses.pixel)
    through = partial(image_through, specimen, pixel=lenses.pixel)
    low = through(transfer=_transfer(lenses.low_na, lenses))
    truth = through(transfer=_transfer(lenses.high_na, lenses))
    low = low.reshape(size // scale, scale, size // scale, scale).mean(axis=(1, 3))
    # In this order, so that the fine image is the same at any scale.
    high = record(rng, truth, photons=lenses.photons)
    return LensPair(record(rng, low, photons=lenses.photons), high, truth)


def lens_pairs(count: int, *, start: int = 0, **settings) -> LensPair:
    """Returns pairs `start` to `start + count - 1`, stacked; `settings` as above."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = list(
            threads.map(partial(lens_pair, **settings), range(start, start + count))
        )
    names = ("low", "high", "truth")
    return LensPair(*(np.stack([getattr(p, name) for p in made]) for name in names))


def optical_transfer(
    frequency: np.ndarray, *, numerical_aperture: float, wavelength: float
) -> np.ndarray:
    """Returns the part of each frequency (cycles per metre) that a lens passes.

    A circular pupil without aberrations, in focus; the Fourier transform of Airy's
    pattern. Goodman, 2005, "Introduction to Fourier Optics", 3rd ed., eq. 6-32.
    """
    x = np.clip(frequency / cutoff(numerical_aperture, wavelength), 0, 1)
    return 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x**2))


def image_through(
    specimen: np.ndarray, *, pixel: float, transfer: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns the light `[H, W]` that arrives in the image of a specimen, float32.

    `transfer` maps frequencies in cycles per metre to the part that passes.
    """
    rows = np.fft.fftfreq(specimen.shape[0], pixel)
    columns = np.fft.rfftfreq(specimen.shape[1], pixel)
    passed = transfer(np.hypot(rows[:, np.newaxis], columns))
    spectrum = np.fft.rfft2(specimen) * passed
    image = np.fft.irfft2(spectrum, s=specimen.shape)
    return np.maximum(image, 0).astype(np.float32)  # below zero by rounding alone


def _transfer(numerical_aperture: float, lenses: Lenses) -> Callable:
    return partial(
        optical_transfer,
        numerical_aperture=numerical_aperture,
        wavelength=lenses.wavelength,
    )


def record(
    rng: np.random.Generator, image: np.ndarray, *, photons: float
) -> np.ndarray:
    """Returns an image as a camera counts it, with shot noise, in the same unit."""
    return (rng.poisson(photons * image) / photons).astype(np.float32)


def draw_fluorescence(
    rng: np.random.Generator, *, size: int, pixel: float
) -> np.ndarray:
    """Draws cells full of filaments, vesicles and grains; brightness `[size, size]`.

    Filaments are 0.15 um wide, vesicles 0.2 to 1 um: part of the detail lies beyond
    what an aperture of 0.3 passes.
    """
    micron = 1e-6 / pixel
    cells = blur(rng.normal(size=(size, size)), sigma=2.5 * micron)
    cells = np.clip(0.6 + 0.5 * (cells - cells.mean()) / cells.std(), 0, 1)
    filaments, vesicles, grains = np.zeros((3, size, size), np.float32)
    area = (size / micron) ** 2  # square microns
    for _ in range(rng.poisson(0.08 * area) + 1):
        _draw_filament(rng, filaments, micron)
    for _ in range(rng.poisson(0.08 * area) + 1):
        _draw_vesicle(rng, vesicles, micron)
    places = rng.integers(0, size, (2, rng.poisson(0.3 * area) + 1))
    np.add.at(grains, tuple(places), rng.gamma(2.0, 0.5, places.shape[1]))
    width = 0.15 * micron / 2.355  # full width at half maximum, of a Gaussian
    # Each is scaled to a brightness of about one where it is.
    fine = blur(filaments, sigma=width) * 2.5 * width
    fine += blur(grains, sigma=1.5 * width) * 2 * np.pi * (1.5 * width) ** 2
    soft = blur(vesicles, sigma=0.05 * micron)
    specimen = 0.04 + cells * (0.06 + 0.7 * fine + 0.7 * soft)
    return np.maximum(specimen, 0).astype(np.float32)


def _draw_filament(rng: np.random.Generator, image: np.ndarray, micron: float) -> None:
    """Adds a winding line that counts one per pixel of length."""
    steps = int(rng.uniform(2, 8) * micron)
    bend = rng.normal(0, 0.02) + 0.05 * rng.normal(size=steps) / np.sqrt(micron)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend)
    path = np.stack([np.sin(heading), np.cos(heading)])
    path = rng.uniform(0, len(image), (2, 1)) + np.cumsum(path, axis=1)
    np.add.at(image, tuple(np.rint(path).astype(int) % len(image)), 1.0)


def _draw_vesicle(rng: np.random.Generator, image: np.ndarray, micron: float) -> None:
    """Draws a ball or a shell."""
    radius = rng.uniform(0.1, 0.5) * micron
    reach = min(int(radius) + 2, (len(image) - 1) // 2)
    center = rng.uniform(0, len(image), 2)
    rows, columns = np.rint(center).astype(int)[:, None] + np.arange(-reach, reach + 1)
    distance = np.hypot((rows - center[0])[:, None], columns - center[1])
    body = np.clip(radius - distance + 0.5, 0, 1)
    if rng.random() < 0.5:
        body *= np.clip(distance - 0.6 * radius + 0.5, 0, 1)
    where = np.ix_(rows % len(image), columns % len(image))
    image[where] = np.maximum(image[where], rng.uniform(0.4, 1.2) * body)
