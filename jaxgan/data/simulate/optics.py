"""Scalar wave optics: how light changes on its way from one plane to another.

A field is complex, `[..., H, W]`, one sample a pixel. Its unit is the undisturbed
illumination, a plane wave along +z whose own phase `k z` is left out: empty space is 1
at every plane, and matter denser than its surroundings has a positive phase. Lengths
are in metres.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Optics:
    """An in-line holographic microscope, seen from its object plane.

    The defaults are those of a small digital one: a green laser, a camera of 5 um
    pixels behind a 10x objective, focused 60 um beyond the specimen.
    """

    wavelength: float = 532e-9  # metres, in the medium
    pixel: float = 0.5e-6  # metres: the camera's, divided by the magnification
    distance: float = 60e-6  # metres, from the specimen to the plane that is recorded
    photons: float = 4000.0  # electrons per pixel of undisturbed illumination
    read_noise: float = 10.0  # electrons, standard deviation


def propagate(field: np.ndarray, optics: Optics, *, distance: float) -> np.ndarray:
    """Returns the field `distance` metres further along z, or back if negative.

    It is exact for a scene that repeats beyond the borders of the image: light that
    leaves on one side enters on the other, energy is conserved, and going back is the
    inverse. Waves finer than the wavelength are dropped, for they decay within it;
    pixels of 0.71 wavelengths or more have none.

    Goodman, 2005, "Introduction to Fourier Optics", 3rd ed., eq. 3-74.
    """
    transfer = transfer_function(field.shape[-2:], optics, distance=distance)
    return np.fft.ifft2(np.fft.fft2(field) * transfer)


def transfer_function(
    shape: tuple[int, int], optics: Optics, *, distance: float
) -> np.ndarray:
    """Returns the factor of `propagate` on each plane wave, complex64 `[H, W]`."""
    rows, columns = (np.fft.fftfreq(n, optics.pixel) for n in shape)
    squared_sine = optics.wavelength**2 * (rows[:, np.newaxis] ** 2 + columns**2)
    cosine = np.sqrt(np.maximum(1 - squared_sine, 0))
    # (cosine - 1), the phase against the illumination's, without its cancellation.
    phase = 2 * np.pi * distance / optics.wavelength * -squared_sine / (1 + cosine)
    return np.where(squared_sine < 1, np.exp(1j * phase), 0).astype(np.complex64)


def blur(image: np.ndarray, *, sigma: float) -> np.ndarray:
    """Returns real images `[..., H, W]` under a Gaussian of `sigma` pixels, float32.

    As everywhere here, the scene repeats beyond the borders.
    """
    height, width = image.shape[-2:]
    rows, columns = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    squared_frequency = rows[:, np.newaxis] ** 2 + columns**2
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * squared_frequency)
    spectrum = np.fft.rfft2(image) * transfer.astype(np.float32)
    return np.fft.irfft2(spectrum, s=(height, width)).astype(np.float32)
