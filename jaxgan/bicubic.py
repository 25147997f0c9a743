"""Bicubic resampling as MATLAB's `imresize` does it, borders included.

Images are `[..., H, W, C]` floats. Keys' kernel with a = -1/2, as wide as the coarser
grid asks, weights that sum to one, and images mirrored at their borders. Papers on
super-resolution make their low-resolution images so; `jax.image.resize` agrees inside
and differs in the outer two pixels, by up to 3 % of the range.
"""

import jax
import jax.numpy as jnp
import numpy as np


def resize(image: jax.Array, *, factor: float) -> jax.Array:
    """Returns images with H and W `factor` times as large, rounded up.

    Below 1 the kernel widens, so that what the new grid cannot hold is filtered out.
    """
    sizes = [int(np.ceil(n * factor - 1e-9)) for n in image.shape[-3:-1]]
    rows, columns = (
        jnp.asarray(weights(n, size, factor=factor), jnp.float32)
        for n, size in zip(image.shape[-3:-1], sizes, strict=True)
    )
    # A hundredth of what tensor cores round away would be seen.
    precision = jax.lax.Precision.HIGHEST
    image = jnp.einsum("Hh,...hwc->...Hwc", rows, image, precision=precision)
    return jnp.einsum("Ww,...hwc->...hWc", columns, image, precision=precision)


def weights(size: int, new_size: int, *, factor: float) -> np.ndarray:
    """Returns what each of `size` samples weighs in each new one, `[new, old]`."""
    stretch = max(1.0, 1 / factor)
    # The centres of old and new samples, in units of old ones.
    centers = (np.arange(new_size) + 0.5) / factor - 0.5
    reach = int(np.ceil(2 * stretch)) + 1
    taps = np.floor(centers).astype(int)[:, None] + np.arange(-reach, reach + 1)
    values = _keys((taps - centers[:, None]) / stretch)
    values /= values.sum(axis=1, keepdims=True)
    # Mirrored, the edge itself repeated: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    taps %= 2 * size
    taps = np.minimum(taps, 2 * size - 1 - taps)
    result = np.zeros((new_size, size))
    np.add.at(result, (np.arange(new_size)[:, None], taps), values)
    return result


def _keys(x: np.ndarray) -> np.ndarray:
    """The cubic kernel; Keys, 1981, "Cubic Convolution Interpolation", eq. 15."""
    x = np.abs(x)
    near = 1 + x**2 * (1.5 * x - 2.5)
    far = 2 + x * (-4 + x * (2.5 - 0.5 * x))
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
