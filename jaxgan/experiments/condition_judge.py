"""Whether images show what they were asked for: a class, or a microscope's parameter.

A linear probe, fitted on real images in one step, reads the condition off an image; on
samples, it tells whether the generator obeys. Images are `[N, S, S, C]` in [-1, 1],
conditions `[N, K]` as `jaxgan.data.labels.Coding` makes them.
"""

from collections.abc import Callable

import numpy as np

from jaxgan.data.labels import Coding

_RIDGE = 1.0  # weight of the probe's squared norm, per image
_FLOOR = 1e-2  # added to amplitudes, of which the logarithm is taken


class Probe:
    """Ridge regressions from images to their conditions.

    Classes are read off features alone, parameters off features and spectra, which
    show a defocus far better. Of classes spectra say less: one flaw that all samples
    share, such as a chequered texture, outweighs there all that tells classes apart.
    """

    def __init__(
        self,
        images: np.ndarray,
        features: np.ndarray,
        conditions: np.ndarray,
        coding: Coding,
    ):
        """Fits the conditions of real images, which have features `[N, D]`."""
        self._coding = coding
        count = len(coding.classes)
        both = np.concatenate([features, _spectra(images)], axis=1)
        self._read_classes = _fit(features, conditions[:, :count])
        self._read_parameters = _fit(both, conditions[:, count:])

    def score(
        self, images: np.ndarray, features: np.ndarray, conditions: np.ndarray
    ) -> dict[str, float]:
        """Returns how well conditions are read off images.

        "accuracy" is the part of images whose class is read as it should be; for each
        parameter, "r_NAME" is the correlation and "rmse_NAME" the error in its units.
        """
        count, scores = len(self._coding.classes), {}
        if count:
            read, wanted = self._read_classes(features), conditions[:, :count]
            right = np.argmax(read, axis=1) == np.argmax(wanted, axis=1)
            scores["accuracy"] = float(np.mean(right))
        both = np.concatenate([features, _spectra(images)], axis=1)
        read, wanted = self._read_parameters(both), conditions[:, count:]
        errors = np.sqrt(np.mean((read - wanted) ** 2, axis=0))
        for i, name in enumerate(self._coding.parameters):
            scores[f"r_{name}"] = _correlation(wanted[:, i], read[:, i])
            scores[f"rmse_{name}"] = float(errors[i] * self._coding.deviation[i])
        return scores


def _fit(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what reads `[N, K]` off inputs `[N, D]`, fitted to `x` and `y`."""
    mean, scale, offset = x.mean(axis=0), x.std(axis=0) + 1e-6, y.mean(axis=0)
    x = (x - mean) / scale
    # As many unknowns as images, which are fewer than their pixels.
    gram = x @ x.T + _RIDGE * len(x) * np.eye(len(x))
    weights = x.T @ np.linalg.solve(gram, y - offset)
    return lambda inputs: (inputs - mean) / scale @ weights + offset


def _spectra(images: np.ndarray) -> np.ndarray:
    """Returns the logarithms of tapered images' amplitudes, `[N, F]`."""
    taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in images.shape[1:3]))
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    spectra = np.abs(np.fft.rfft2(taper[None, :, :, None] * centred, axes=(1, 2)))
    return np.log(spectra + _FLOOR).reshape(len(images), -1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(np.sum(a * b) / max(np.sqrt(np.sum(a**2) * np.sum(b**2)), 1e-12))
