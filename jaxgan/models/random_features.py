"""Features of a fixed random network: a space to compare sets of images in.

It needs no download and never changes: its weights are drawn by NumPy from a seed that
belongs to its name. Distances in it are comparable with each other, under this name and
for images prepared alike, and with no published figure. Images are `[B, H, W, C]`
floats in [-1, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NAME = "random_conv_v1"  # the name of the weights: other ones need another name
WINDOW = 64  # pixels: the side of the windows that features are averaged over

_WIDTHS = (8, 16, 32, 64)
_KERNEL = 5
_SEED = 1


def random_features(images: jax.Array) -> jax.Array:
    """Returns the features of every window, `[B * (H / 64) * (W / 64), 120]`.

    Four 5x5 convolutions of stride 2, He-scaled, each with ReLU, see 5, 13, 29 and 61
    pixels; the four are averaged over each window of 64x64 pixels. H and W must divide
    by 64.

    That random filters tell textures and shapes apart: Ustyuzhaninov et al., 2016,
    "Texture Synthesis Using Shallow Convolutional Networks with Random Filters".
    """
    batch, height, width, channels = images.shape
    if height % WINDOW or width % WINDOW:
        raise ValueError(
            f"random features need sides that divide by {WINDOW}, got {height}x{width}"
        )
    grid = (batch, height // WINDOW, width // WINDOW)
    x, means = images, []
    for kernel in _kernels(channels):
        x = lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x)
        cells = x.reshape(
            grid[0], grid[1], -1, grid[2], x.shape[2] // grid[2], x.shape[3]
        )
        means.append(jnp.mean(cells, axis=(2, 4)))
    features = jnp.concatenate(means, axis=-1)
    return features.reshape(-1, features.shape[-1])


def _kernels(channels: int) -> list[np.ndarray]:
    generator = np.random.default_rng(_SEED)
    kernels = []
    for width in _WIDTHS:
        shape = (_KERNEL, _KERNEL, channels, width)
        scale = np.sqrt(2 / (_KERNEL**2 * channels))
        kernels.append(np.float32(scale * generator.standard_normal(shape)))
        channels = width
    return kernels
