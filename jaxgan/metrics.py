"""How close an image comes to its target: error, signal-to-noise, similarity.

Images are floats `[B, H, W, C]` (batch, height, width, channels) and every metric
returns `[B]`, one number an image, over all its pixels and channels. Target and image
share one scale and nothing here guesses it: `peak` is the width of the range that the
target can take, so 2 for [-1, 1], 1 for [0, 1], 255 for 8 bits. Nothing is clipped.
The target comes first and matters: PSNR's reference, NRMSE's range and the fit of
`affine_match` are taken from it. The arithmetic is at least float32; all is pure and
can be jitted.
"""

from collections.abc import Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def mse(target: jax.Array, image: jax.Array) -> jax.Array:
    """Returns the mean squared error, in squared units of the images."""
    target, image = _as_pair(target, image)
    return jnp.mean(jnp.square(image - target), axis=(1, 2, 3))


def psnr(
    target: jax.Array, image: jax.Array, *, peak: float | Literal["reference"]
) -> jax.Array:
    """Returns the peak signal-to-noise ratio in decibels, `inf` for equal images.

    `peak="reference"` takes the maximum of each target as its peak, which has a meaning
    only for images whose black is zero.
    """
    target, image = _as_pair(target, image)
    if isinstance(peak, str):
        if peak != "reference":
            raise ValueError(f'`peak` must be a number or "reference"; got "{peak}".')
        peak = jnp.max(target, axis=(1, 2, 3))
    return 20 * jnp.log10(peak) - 10 * jnp.log10(mse(target, image))


def nrmse(target: jax.Array, image: jax.Array) -> jax.Array:
    """Returns the root mean squared error over (max - min) of the target.

    A flat target has no range to compare with: `inf`, or `nan` if the image equals it.
    """
    target, image = _as_pair(target, image)
    extent = jnp.max(target, axis=(1, 2, 3)) - jnp.min(target, axis=(1, 2, 3))
    return jnp.sqrt(mse(target, image)) / extent


def ssim(
    target: jax.Array,
    image: jax.Array,
    *,
    peak: float,
    uniform_window: int | None = None,
) -> jax.Array:
    """Returns the mean structural similarity, in [-1, 1]: the mean of `ssim_map`."""
    similarity = ssim_map(target, image, peak=peak, uniform_window=uniform_window)
    return jnp.mean(similarity, axis=(1, 2, 3))


def ssim_map(
    target: jax.Array,
    image: jax.Array,
    *,
    peak: float,
    uniform_window: int | None = None,
) -> jax.Array:
    """Returns the structural similarity around each pixel, channel by channel.

    The default window is Gaussian, 11 pixels wide with a sigma of 1.5 pixels, and its
    moments are the plain weighted ones, as published. An odd `uniform_window` weighs
    that many pixels squared alike and takes sample covariances, which at 7 is
    scikit-image's default. Only windows that lie within the image count, so that the
    map is `[B, H - r, W - r, C]` for a window of `r + 1` pixels.

    Raises `ValueError` if the window is even or wider than the image.

    Wang et al., 2004, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", eq. 13, with K1 = .01 and K2 = .03.
    """
    target, image = _as_pair(target, image)
    weights, bias_correction = _window(uniform_window)
    if min(target.shape[1:3]) < len(weights):
        raise ValueError(
            f"SSIM needs images of at least its window, {len(weights)} pixels, on a "
            f"side; got {target.shape[1]}x{target.shape[2]}. Compare larger images or "
            "pass a smaller `uniform_window`."
        )
    # Variances forget the level of an image, float32 does not: taken around each
    # image's mean, they keep their digits on a bright background too.
    x_level = jnp.mean(target, axis=(1, 2), keepdims=True)
    y_level = jnp.mean(image, axis=(1, 2), keepdims=True)
    x, y = target - x_level, image - y_level
    # On a CPU, one filter over a stack of five takes a third of the time of five.
    moments = _filter(jnp.concatenate([x, y, x * x, y * y, x * y]), weights)
    x_mean, y_mean, xx, yy, xy = jnp.split(moments, 5)
    variances = bias_correction * (xx - x_mean**2 + yy - y_mean**2)
    covariance = bias_correction * (xy - x_mean * y_mean)
    x_mean, y_mean = x_mean + x_level, y_mean + y_level

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * x_mean * y_mean + c1) / (x_mean**2 + y_mean**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return luminance * structure


def affine_match(target: jax.Array, image: jax.Array) -> jax.Array:
    """Returns `a * image + b` with the least squared error to the target.

    Every channel of every image has its own `a` and `b`; a flat image becomes the
    target's mean. Scores taken after it no longer see brightness or contrast, not even
    an inverted one: report them beside those taken without it.
    """
    target, image = _as_pair(target, image)
    target_mean = jnp.mean(target, axis=(1, 2), keepdims=True)
    image = image - jnp.mean(image, axis=(1, 2), keepdims=True)
    variance = jnp.mean(image**2, axis=(1, 2), keepdims=True)
    covariance = jnp.mean(image * (target - target_mean), axis=(1, 2), keepdims=True)
    scale = covariance / jnp.where(variance == 0, 1, variance)
    return scale * image + target_mean


def y_channel(image: jax.Array) -> jax.Array:
    """Returns the luma of RGB images, `[B, H, W, 3]` in [0, 1] to `[B, H, W, 1]`.

    The result spans [16, 235] of 8 bits and is compared at `peak=255`, as the papers on
    super-resolution do.

    ITU-R Recommendation BT.601, studio range.
    """
    chex.assert_shape(image, (None, None, None, 3))
    chex.assert_type(image, float)
    weights = jnp.array([65.481, 128.553, 24.966], image.dtype)
    luma = jnp.sum(image * weights.reshape(1, 1, 1, 3), axis=-1, keepdims=True)
    return luma + 16


def shave(image: jax.Array, *, border: int) -> jax.Array:
    """Returns the images without their outer `border` pixels on each side.

    Raises `ValueError` if the border is negative or leaves nothing.
    """
    chex.assert_rank(image, 4)
    height, width = image.shape[1:3]
    if not 0 <= 2 * border < min(height, width):
        raise ValueError(
            f"`border` must leave a pixel of the image: got {border} for {height}x"
            f"{width}; it must lie in [0, {(min(height, width) - 1) // 2}]."
        )
    return image[:, border : height - border, border : width - border]


def _as_pair(target: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as floats of 32 bits or more, having checked that they compare."""
    chex.assert_rank(target, 4)
    chex.assert_equal_shape([target, image])
    chex.assert_type([target, image], float)
    dtype = jnp.result_type(target, image, jnp.float32)
    return jnp.asarray(target, dtype), jnp.asarray(image, dtype)


def _window(uniform_window: int | None) -> tuple[Sequence[float], float]:
    """Returns the weights of SSIM's window along an axis and n/(n-1) or 1."""
    if uniform_window is None:
        weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        return (weights / weights.sum()).tolist(), 1.0
    if uniform_window < 3 or uniform_window % 2 == 0:
        raise ValueError(
            f"`uniform_window` must be odd and at least 3; got {uniform_window}."
        )
    count = uniform_window**2
    return [1 / uniform_window] * uniform_window, count / (count - 1)


def _filter(images: jax.Array, weights: Sequence[float]) -> jax.Array:
    """Weighs the neighbours along H, then along W, where the whole window fits.

    A sum of shifted slices: on a CPU, XLA's depthwise convolution takes five times as
    long, and on a GPU it may round to TF32.
    """
    for axis in (1, 2):
        size = images.shape[axis] - len(weights) + 1
        images = sum(
            weight * lax.slice_in_dim(images, start, start + size, axis=axis)
            for start, weight in enumerate(weights)
        )
    return images
