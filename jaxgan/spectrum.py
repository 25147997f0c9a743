"""Which frequencies an image holds, and which of them it has in common with another.

Images are numpy `[H, W]` floats; frequencies are in cycles per pixel, averaged over
rings one wave per shorter side wide, from the second ring on (the first is the mean) up
to 1/2. Images are tapered towards their borders first, which would otherwise count as
edges.
"""

import numpy as np


def frequencies(shape: tuple[int, int]) -> np.ndarray:
    """Returns the frequency of each ring, `[R]`."""
    size = min(shape)
    return np.arange(1, size // 2 + 1) / size


def radial_power(image: np.ndarray) -> np.ndarray:
    """Returns the mean power in each ring, `[R]`, in squared units of the image."""
    return _ring_means(np.abs(_transform(image)) ** 2, image.shape) / image.size


def ring_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the Fourier ring correlation `[R]` of two images of one shape.

    1 where a ring is the same in both but for a positive factor, about 0 where the two
    have nothing in common; nan in rings that one of them leaves empty. Saxton &
    Baumeister, 1982, "The correlation averaging of a regularly arranged bacterial cell
    envelope protein".
    """
    if first.shape != second.shape:
        raise ValueError(f"images differ in size: {first.shape} and {second.shape}")
    a, b = _transform(first), _transform(second)
    cross = _ring_means((a * b.conj()).real, first.shape)
    powers = [_ring_means(np.abs(x) ** 2, first.shape) for x in (a, b)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return cross / np.sqrt(powers[0] * powers[1])


def _transform(image: np.ndarray) -> np.ndarray:
    taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    mean = np.sum(taper * image) / np.sum(taper)
    return np.fft.fft2(taper * (image - mean)) / np.sqrt(np.mean(taper**2))


def _ring_means(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.fft.fftfreq(n) for n in shape)
    rings = np.rint(np.hypot(rows[:, None], columns) * min(shape)).astype(int).ravel()
    count = len(frequencies(shape)) + 1
    inside = rings < count
    sums = np.bincount(rings[inside], values.ravel()[inside], minlength=count)
    return sums[1:] / np.bincount(rings[inside], minlength=count)[1:]


def checkerboard(image: np.ndarray) -> float:
    """Returns how far the power at a period of two pixels rises over its surroundings.

    The mean power at a frequency of 1/2 along either axis, over that of the band from
    0.40 to 0.47: near or below 1 for images, which hold less the finer it gets, and
    above where a network repeats every second pixel.
    """
    power = np.abs(_transform(image)) ** 2
    ratios = []
    for axis in (0, 1):
        frequency = np.abs(np.fft.fftfreq(image.shape[axis]))
        line = np.mean(power, axis=1 - axis)
        step = 1 / image.shape[axis]
        peak = line[frequency > 0.5 - 1.5 * step].mean()
        ratios.append(peak / line[(frequency > 0.40) & (frequency < 0.47)].mean())
    return float(np.mean(ratios))
