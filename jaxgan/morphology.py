"""Numbers that tell generated ultrastructure from real: sizes, holes, repetition.

Label maps are `[H, W]` integers, images `[H, W]` or `[H, W, C]`; lengths are in pixels.
NumPy and SciPy, which JAX itself brings, on the host.
"""

import numpy as np

_EIGHT_NEIGHBOURS = np.ones((3, 3))


def fractions(labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Returns the part of the pixels that each class takes, `[classes]`."""
    return np.bincount(labels.ravel(), minlength=classes) / labels.size


def areas(mask: np.ndarray, *, smallest: int = 16) -> np.ndarray:
    """Returns the areas of the connected objects of a boolean mask.

    Pixels that touch at a corner are connected; objects below `smallest` pixels are
    speckle and do not count.
    """
    from scipy import ndimage

    objects, _ = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    found = np.bincount(objects.ravel())[1:]
    return found[found >= smallest]


def euler_number(mask: np.ndarray) -> int:
    """Returns the number of a boolean mask's objects minus that of their holes.

    A hole is background that nothing connects, by sides, with the image's border.
    """
    from scipy import ndimage

    _, objects = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    # A frame joins all background that reaches the border into one.
    _, backgrounds = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return objects - (backgrounds - 1)


def holes(mask: np.ndarray) -> int:
    """Returns the number of holes in the objects of a boolean mask."""
    from scipy import ndimage

    _, objects = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    return objects - euler_number(mask)


def thickness(mask: np.ndarray) -> float:
    """Returns the mean thickness of the bands that a boolean mask consists of.

    In a straight band of w pixels the distance to its edge averages to w / 4 + 1 / 2,
    for even w exactly. Weighted by area; NaN for an empty mask.
    """
    from scipy import ndimage

    if not mask.any():
        return float("nan")
    if mask.all():
        return float(min(mask.shape))
    return float(4 * ndimage.distance_transform_edt(mask)[mask].mean() - 2)


def repetition(image: np.ndarray, *, beyond: int = 24) -> float:
    """Returns how well an image matches itself when it is moved, 1 at most.

    The largest value of the circular autocorrelation, 1 at no move, for moves by more
    than `beyond` pixels. Copies of a shape raise it; 0 for an image without contrast.
    """
    image = image[..., None] if image.ndim == 2 else image
    contrast = image - image.mean(axis=(0, 1))
    power = np.sum(np.abs(np.fft.fft2(contrast, axes=(0, 1))) ** 2, axis=-1)
    correlation = np.fft.ifft2(power).real
    if correlation[0, 0] <= 0:
        return 0.0
    rows, columns = (np.fft.fftfreq(n, 1 / n) for n in image.shape[:2])
    far = np.hypot(rows[:, None], columns) > beyond
    return float(correlation[far].max() / correlation[0, 0])


def grid_power(
    image: np.ndarray,
    *,
    inside: np.ndarray | None = None,
    periods: tuple[int, ...] = (2, 4, 8, 16),
) -> float:
    """Returns how far upsampling's grid stands out of an image's spectrum; 1: not.

    The largest ratio of the power at a frequency 1 / period along an axis to the mean
    power of the frequencies around it. `inside`, a boolean mask, leaves the rest out of
    account. The sides are cropped to multiples of the largest period; NaN where nothing
    is inside or the image is smaller than four periods.
    """
    height, width = (n - n % max(periods) for n in image.shape[:2])
    if min(height, width) < 4 * max(periods):
        return float("nan")
    image = np.asarray(image, np.float64)[:height, :width]
    inside = np.ones((height, width), bool) if inside is None else inside
    inside = inside[:height, :width]
    if not inside.any():
        return float("nan")
    contrast = np.where(inside, image - image[inside].mean(), 0)
    taper = np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(np.fft.fft2(contrast * taper)) ** 2
    peaks = [(height // p, 0) for p in periods] + [(0, width // p) for p in periods]
    return max(_prominence(power, row, column) for row, column in peaks)


def _prominence(power: np.ndarray, row: int, column: int) -> float:
    """Returns the power at a frequency, taper included, over that around it."""
    rows = (row + np.arange(-4, 5)) % power.shape[0]
    columns = (column + np.arange(-4, 5)) % power.shape[1]
    around = power[np.ix_(rows, columns)]
    near = np.zeros(around.shape, bool)
    near[3:6, 3:6] = True
    return float(around[near].mean() / max(around[~near].mean(), np.finfo(float).tiny))


def describe(
    labels: np.ndarray, *, classes: tuple[str, ...], objects: int = 0, bands: int = 1
) -> dict[str, float]:
    """Returns the statistics of a label map by name.

    Class `objects` holds what has size, number and holes (mitochondria), class `bands`
    what has thickness (membranes). Counts are per 512x512 pixels.
    """
    mask = labels == objects
    per_section = 512**2 / labels.size
    found = areas(mask)
    parts = fractions(labels, classes=len(classes))
    one_hot = labels[..., None] == np.arange(len(classes))
    name, band = classes[objects], classes[bands]
    return {
        **{f"{c} fraction": float(x) for c, x in zip(classes, parts, strict=True)},
        f"{name} count": len(found) * per_section,
        f"{name} area": float(found.mean()) if len(found) else float("nan"),
        f"{name} holes": holes(mask) * per_section,
        f"{band} thickness": thickness(labels == bands),
        "repetition": repetition(one_hot.astype(np.float64)),
        "grid power": grid_power((labels == bands).astype(np.float64)),
    }
