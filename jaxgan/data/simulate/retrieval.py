"""From a recorded hologram back to the object, with its twin image and without.

A hologram keeps the light's intensity and loses its phase. Propagated back as it is, it
shows the object and over it a twin: the out-of-focus image of a mirrored object as far
behind the camera. Both explain the recording equally well, and only what is known of
the object tells them apart. Intensities are `[..., H, W]` in units of the illumination.
"""

import numpy as np

from jaxgan.data.simulate.optics import Optics, blur, propagate, transfer_function

# The support is estimated anew every few steps, and sharper as the twin fades: the
# contrast |field - 1| blurred by so many pixels, above so much, at first and at last.
_STEPS_PER_SUPPORT = 5
_BLUR = (3.0, 1.0)
_CONTRAST = (0.25, 0.06)


def back_propagate(intensity: np.ndarray, optics: Optics) -> np.ndarray:
    """Returns the field at the object with the twin image, complex64 `[..., H, W]`."""
    return propagate(_amplitude(intensity), optics, distance=-optics.distance)


def retrieve(intensity: np.ndarray, optics: Optics, *, steps: int) -> np.ndarray:
    """Returns the field at the object without the twin image, complex64 `[..., H, W]`.

    Each step replaces the amplitude at the camera by the recorded one and imposes on
    the object what is known of it: outside its support the illumination is untouched;
    inside, matter absorbs (amplitude at most 1) and slows the light down (no phase in
    [-pi/2, 0); beyond, it stands for one above pi). The support is found on the way.
    No `steps` at all leave the twin image where it is.

    Error reduction: Fienup, 1982, "Phase retrieval algorithms: a comparison", sec. II.
    Absorption: Latychevskaia and Fink, 2007, "Solution to the Twin Image Problem in
    Holography". Support: Marchesini et al., 2003, "X-ray image reconstruction from a
    diffraction pattern alone". Unlike the papers, each step starts from an estimate
    extrapolated by Nesterov's momentum, which takes a third of the steps.
    """
    amplitude = _amplitude(intensity)
    shape = amplitude.shape[-2:]
    to_camera = transfer_function(shape, optics, distance=optics.distance)
    to_object = to_camera.conj()
    estimate = field = start = np.fft.ifft2(np.fft.fft2(amplitude) * to_object)
    for step in range(steps):
        if step % _STEPS_PER_SUPPORT == 0:
            support = _support(field, progress=step / steps)
        at_camera = np.fft.ifft2(np.fft.fft2(start) * to_camera)
        at_camera *= amplitude / np.maximum(np.abs(at_camera), 1e-6)
        field = np.fft.ifft2(np.fft.fft2(at_camera) * to_object)
        previous, estimate = estimate, _constrain(field, support)
        momentum = np.float32(step / (step + 3))
        start = estimate + momentum * (estimate - previous)
    return estimate


def _amplitude(intensity: np.ndarray) -> np.ndarray:
    """Returns the amplitude; noise below zero counts as dark."""
    return np.sqrt(np.maximum(intensity, 0)).astype(np.float32)


def _constrain(field: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Returns the nearest field that the object may have."""
    absorbing = field / np.maximum(np.abs(field), 1)
    leading = (absorbing.imag < 0) & (absorbing.real > 0)
    return np.where(support, np.where(leading, absorbing.real, absorbing), 1)


def _support(field: np.ndarray, *, progress: float) -> np.ndarray:
    """Returns where there is matter, after `progress` in [0, 1] of the steps."""
    sharpness = min(1, 1.3 * progress)  # the last quarter keeps the final values
    sigma, contrast = (a * (b / a) ** sharpness for a, b in (_BLUR, _CONTRAST))
    return blur(np.abs(field - 1), sigma=sigma) > contrast
