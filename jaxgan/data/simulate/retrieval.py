"""From a hologram back to the specimen, with the twin image and without.

A hologram keeps the light's intensity and loses its phase. Propagated back as it is, it
shows the specimen and over it a twin: the out-of-focus image of a mirror object as far
behind the camera. Both explain the recording, and only what else is known of the
specimen tells them apart. Intensities are `[..., H, W]`, with the illumination as 1.
"""

import numpy as np

from jaxgan.data.simulate.optics import Optics, blur, propagate, transfer_function

# The support is found anew every few steps and drawn more sharply as the twin fades: by
# the contrast |field - 1|, after a blur in pixels, at the first step and in the end.
_STEPS_PER_SUPPORT = 5
_BLUR = (3.0, 1.0)
_CONTRAST = (0.25, 0.06)


def back_propagate(intensity: np.ndarray, optics: Optics) -> np.ndarray:
    """Returns the field at the specimen with its twin image, complex64 `[..., H, W]`.

    The camera's phase is taken to be zero, so that a weak object and its twin have half
    the contrast each.
    """
    return propagate(_amplitude(intensity), optics, distance=-optics.distance)


def retrieve(intensity: np.ndarray, optics: Optics, *, steps: int) -> np.ndarray:
    """Returns the field at the specimen without its twin, complex64 `[..., H, W]`.

    Every step gives the light at the camera the amplitude that was recorded, and the
    light at the specimen what is known of specimens: outside a support, which is found
    on the way, nothing changes the illumination; inside, matter absorbs (no amplitude
    above 1) and delays (no phase in (-pi/2, 0); beyond that it is one above pi). After
    0 steps the twin is still there, as after any number without these constraints.

    Fienup, 1982, "Phase retrieval algorithms: a comparison", error reduction;
    Latychevskaia and Fink, 2007, "Solution to the twin image problem in holography",
    absorption; Marchesini et al., 2003, "X-ray image reconstruction from a diffraction
    pattern alone", support. Unlike the papers, every step starts from an estimate
    extrapolated with Nesterov's momentum: a third of the steps suffice.
    """
    amplitude = _amplitude(intensity)
    shape = amplitude.shape[-2:]
    to_camera = transfer_function(shape, optics, distance=optics.distance)
    to_specimen = transfer_function(shape, optics, distance=-optics.distance)

    field = np.fft.ifft2(np.fft.fft2(amplitude) * to_specimen)
    estimate = start = field
    for step in range(steps):
        if step % _STEPS_PER_SUPPORT == 0:
            support = _find_support(field, progress=step / steps)
        at_camera = np.fft.ifft2(np.fft.fft2(start) * to_camera)
        at_camera *= amplitude / np.maximum(np.abs(at_camera), 1e-6)
        field = np.fft.ifft2(np.fft.fft2(at_camera) * to_specimen)
        previous, estimate = estimate, _constrain(field, support)
        start = estimate + step / (step + 3) * (estimate - previous)
    return estimate


def _amplitude(intensity: np.ndarray) -> np.ndarray:
    """Returns the light's amplitude; noise below zero counts as darkness."""
    return np.sqrt(np.maximum(intensity, 0)).astype(np.float32)


def _constrain(field: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Returns the closest field that a specimen can leave behind."""
    absorbed = field / np.maximum(np.abs(field), 1)
    advanced = (absorbed.imag < 0) & (absorbed.real > 0)
    return np.where(support, np.where(advanced, absorbed.real, absorbed), 1)


def _find_support(field: np.ndarray, *, progress: float) -> np.ndarray:
    """Returns where there seems to be matter, after `progress` in [0, 1] of the steps.

    The last quarter of the steps keeps the final sharpness.
    """
    sharpness = min(1.0, progress / 0.75)
    sigma, contrast = (a * (b / a) ** sharpness for a, b in (_BLUR, _CONTRAST))
    return blur(np.abs(field - 1), sigma=sigma) > contrast
