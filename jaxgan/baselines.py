"""What a network has to beat: the best linear filter from source to target.

Images are numpy floats `[H, W, C]` on any one scale and may differ in size. A filter
takes an image for the tile of an endless plane: its borders meet the opposite ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RIDGES = tuple(10.0**exponent for exponent in range(-5, 4))


@dataclass(frozen=True)
class LinearFilter:
    """Estimates a target as a convolution of the source, plus an offset.

    The kernel's origin is its first pixel and negative shifts come last, as in
    `numpy.fft`.
    """

    kernel: np.ndarray  # [h, w, C_in, C_out]
    source_mean: np.ndarray  # [C_in]
    target_mean: np.ndarray  # [C_out]

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Returns the estimate `[H, W, C_out]`, float32, for `[H, W, C_in]`."""
        shape = source.shape[:2]
        transfer = np.fft.rfft2(self._kernel_on(shape), axes=(0, 1))
        spectrum = np.fft.rfft2(source - self.source_mean, axes=(0, 1))
        product = np.einsum("hwi,hwio->hwo", spectrum, transfer)
        estimate = np.fft.irfft2(product, s=shape, axes=(0, 1))
        return (estimate + self.target_mean).astype(np.float32)

    def _kernel_on(self, shape: tuple[int, int]) -> np.ndarray:
        """Returns the kernel on a plane of this shape, wrapped round a smaller one."""
        rows, columns = (
            np.rint(np.fft.fftfreq(n, 1 / n)).astype(int) % size
            for n, size in zip(self.kernel.shape[:2], shape, strict=True)
        )
        kernel = np.zeros((*shape, *self.kernel.shape[2:]))
        np.add.at(kernel, np.ix_(rows, columns), self.kernel)
        return kernel


def fit_linear(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    ridges: Sequence[float] = RIDGES,
    tile: int = 128,
) -> list[LinearFilter]:
    """Returns, for each ridge, the filter with the least squared error on the images.

    A filter reaches across `tile` pixels, or across the smallest image if that is less;
    larger images are cut into tapered tiles. A ridge is a positive number: so much of
    the source's mean power is added to its power at every frequency, which keeps the
    filter from amplifying what is hardly there. To favour the filter, take the ridge
    that scores best on the images that are scored: `max(filters, key=score)`.

    Wiener, 1949, "Extrapolation, Interpolation, and Smoothing of Stationary Time
    Series"; several channels make it a small least-squares problem per frequency.

    Raises `ValueError` if images are missing, or a pair differs in height or width.
    """
    _check_pairs(sources, targets)
    sides = np.min([source.shape[:2] for source in sources], axis=0)
    height, width = np.minimum(sides, tile).tolist()
    source_mean, target_mean = _pixel_mean(sources), _pixel_mean(targets)

    power = cross = 0.0
    for source, target in zip(sources, targets, strict=True):
        pair = np.concatenate([source - source_mean, target - target_mean], axis=-1)
        for window in _tiles(pair, height, width):
            spectrum = np.fft.rfft2(window, axes=(0, 1))
            x, y = np.split(spectrum, [len(source_mean)], axis=-1)
            power = power + x.conj()[..., :, np.newaxis] * x[..., np.newaxis, :]
            cross = cross + x.conj()[..., :, np.newaxis] * y[..., np.newaxis, :]

    identity = np.eye(len(source_mean))
    mean_power = np.mean(np.sum(power * identity, axis=(-2, -1)).real) / len(identity)
    transfers = (
        np.linalg.solve(power + ridge * mean_power * identity, cross)
        for ridge in ridges
    )
    kernels = (np.fft.irfft2(t, s=(height, width), axes=(0, 1)) for t in transfers)
    return [LinearFilter(kernel, source_mean, target_mean) for kernel in kernels]


def _check_pairs(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    """Raises `ValueError` unless there are pairs of images, alike in H and W."""
    if not len(sources) or len(sources) != len(targets):
        raise ValueError(
            "A filter is fitted on pairs of images; got "
            f"{len(sources)} sources and {len(targets)} targets."
        )
    for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if source.ndim != 3 or target.ndim != 3 or source.shape[:2] != target.shape[:2]:
            raise ValueError(
                f"Source and target must be `[H, W, C]` of the same H and W; pair "
                f"{number} has shapes {source.shape} and {target.shape}."
            )


def _pixel_mean(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean over all pixels of all images, `[C]`."""
    total = sum(np.sum(image, axis=(0, 1), dtype=np.float64) for image in images)
    return total / sum(image.shape[0] * image.shape[1] for image in images)


def _tiles(image: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """Yields the image itself if it is one tile, else half-overlapping tapered ones.

    Within a tile the filter would otherwise see the borders as edges of the image.
    """
    if image.shape[:2] == (height, width):
        yield image
        return
    taper = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    for top in range(0, image.shape[0] - height + 1, max(height // 2, 1)):
        for left in range(0, image.shape[1] - width + 1, max(width // 2, 1)):
            window = image[top : top + height, left : left + width]
            yield window * taper[..., np.newaxis]
