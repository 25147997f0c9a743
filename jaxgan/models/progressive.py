"""PGGAN: networks that grow with the resolution of their images.

Karras et al., 2018, "Progressive Growing of GANs for Improved Quality, Stability, and
Variation", sec. 2-4 and appendix A. Images are `[B, R, R, C]` floats, in [-1, 1] though
G's last layer is linear; latents are `[B, d]`; features `[B, H, W, C]`. `alpha` [] is
how far the newest block is faded in: at 0 the images are those of half the resolution,
enlarged, at 1 those of R alone.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import convolution

FIRST = 4  # pixels: the resolution of the first stage
_GAIN = math.sqrt(2)
_GROUP = 4  # images that a standard deviation is taken over, at most


def resolutions(last: int) -> list[int]:
    """Returns 4, 8, ... up to `last`; `ValueError` if that is not one of them."""
    steps = last.bit_length() - FIRST.bit_length()
    found = [FIRST * 2**i for i in range(steps + 1)]
    if not found or found[-1] != last:
        raise ValueError(
            f"progressive networks make images of {FIRST} pixels, doubled any number "
            f"of times, got {last}"
        )
    return found


class EqualConv(nn.Module):
    """A convolution that keeps the size, with an equalised learning rate (sec. 4.1).

    Weights are stored as N(0, 1) and scaled by gain / sqrt(fan-in) where they are used,
    so that Adam moves all layers at one relative speed.
    """

    features: int
    kernel_size: int = 3
    gain: float = _GAIN
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, H, W, I]` to `[B, H, W, features]`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        kernel = kernel * (self.gain / math.sqrt(self.kernel_size**2 * x.shape[-1]))
        edge = self.kernel_size // 2
        padding = ((edge, edge), (edge, edge))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = convolution.conv(x, kernel, stride=1, padding=padding)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class EqualDense(nn.Module):
    """A dense layer with an equalised learning rate, and a bias shared by pixels."""

    features: int
    pixels: int = 1  # that the result is an image of
    gain: float = _GAIN
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, I]` to `[B, pixels * features]`, pixel by pixel."""
        shape = (x.shape[-1], self.pixels * self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape)
        kernel = kernel * (self.gain / math.sqrt(x.shape[-1]))
        x = x.astype(self.dtype) @ kernel.astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x + jnp.tile(bias.astype(self.dtype), self.pixels).reshape(1, -1)


def pixel_norm(x: jax.Array) -> jax.Array:
    """Divides by the root of the mean square over the last axis (sec. 4.2)."""
    square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(square + 1e-8)).astype(x.dtype)


def minibatch_deviation(x: jax.Array, *, axis_name: str | None = None) -> jax.Array:
    """Appends to features `[B, H, W, C]` a channel that says how much images differ.

    The standard deviation over a group of four images of the *global* batch (fewer
    where that does not divide), a mean over H, W and C (sec. 3). Groups take every
    n-th image, as in the reference code. `axis_name` names the pmapped axis.
    """
    local = x.shape[0]
    every = x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
    total = every.shape[0]
    group = max(n for n in range(1, _GROUP + 1) if total % n == 0)
    grouped = every.astype(jnp.float32).reshape(group, total // group, *x.shape[1:])
    deviation = jnp.sqrt(jnp.var(grouped, axis=0) + 1e-8)
    means = jnp.tile(jnp.mean(deviation, axis=(1, 2, 3)), group)
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * local
        means = jax.lax.dynamic_slice_in_dim(means, first, local)
    plane = jnp.broadcast_to(means[:, None, None, None], (*x.shape[:3], 1))
    return jnp.concatenate([x, plane.astype(x.dtype)], axis=-1)


def enlarge(image: jax.Array) -> jax.Array:
    """Repeats every pixel twice along H and W."""
    return image.repeat(2, axis=1).repeat(2, axis=2)


def shrink(image: jax.Array, *, factor: int = 2) -> jax.Array:
    """Averages squares of `factor` pixels."""
    batch, height, width, channels = image.shape
    shape = (batch, height // factor, factor, width // factor, factor, channels)
    return jnp.mean(image.reshape(shape), axis=(2, 4))


def fade(before: jax.Array, after: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Mixes two stages; exactly the one at `alpha` 0 and the other at 1."""
    return ((1 - alpha) * before + alpha * after).astype(after.dtype)


class Generator(nn.Module):
    """Makes images of noise, each stage of the features of the one before.

    The parameters of a resolution contain those of all lower ones, by the same names:
    a layer to images for each, of which a stage uses the last two.
    """

    resolution: int
    out_channels: int
    base_width: int = 8192  # channels at a resolution R: 2 base_width / R, at most
    max_width: int = 512
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis, which nothing here spans

    @nn.compact
    def __call__(
        self, latent: jax.Array, alpha: jax.Array | float, *, train: bool
    ) -> jax.Array:
        """Maps latents `[B, d]` to images `[B, R, R, out_channels]`."""
        del train  # nothing here behaves differently
        width = _width(self, FIRST)
        # The gain undoes that each dense output is one pixel of a 4x4 kernel.
        x = EqualDense(
            width, pixels=FIRST**2, gain=_GAIN / 4, dtype=self.dtype, name="dense"
        )(pixel_norm(latent))
        x = x.reshape(-1, FIRST, FIRST, width)
        x = pixel_norm(nn.leaky_relu(x, 0.2))
        x = pixel_norm(_conv(self, x, width, "conv4"))
        images = []
        for resolution in resolutions(self.resolution):
            if resolution > FIRST:
                width = _width(self, resolution)
                x = enlarge(x)
                for name in (f"conv{resolution}_0", f"conv{resolution}_1"):
                    x = pixel_norm(_conv(self, x, width, name))
            name = f"to_image{resolution}"
            image = _pointwise(self, x, self.out_channels, name, gain=1.0)
            images.append(image.astype(jnp.float32))
        if len(images) == 1:
            return images[0]
        return fade(enlarge(images[-2]), images[-1], alpha)


class Discriminator(nn.Module):
    """Judges images, each stage by the features that the one before knows."""

    resolution: int
    base_width: int = 8192  # channels at a resolution R: 2 base_width / R, at most
    max_width: int = 512
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that the deviation spans

    @nn.compact
    def __call__(
        self, image: jax.Array, alpha: jax.Array | float, *, train: bool
    ) -> jax.Array:
        """Maps images `[B, R, R, C]` to verdicts `[B, 1]`."""
        del train  # nothing here behaves differently
        if image.shape[1:3] != (self.resolution, self.resolution):
            raise ValueError(
                f"this discriminator takes {self.resolution}x{self.resolution}, got "
                f"{image.shape[1]}x{image.shape[2]}"
            )
        seen, x = image, None
        for resolution in reversed(resolutions(self.resolution)):
            width, name = _width(self, resolution), f"from_image{resolution}"
            entry = nn.leaky_relu(_pointwise(self, seen, width, name, gain=_GAIN), 0.2)
            if x is None:
                x = entry
            elif resolution == self.resolution // 2:
                x = fade(entry, x, alpha)
            if resolution > FIRST:
                x = _conv(self, x, width, f"conv{resolution}_0")
                x = _conv(self, x, _width(self, resolution // 2), f"conv{resolution}_1")
                x, seen = shrink(x), shrink(seen)
        x = minibatch_deviation(x, axis_name=self.axis_name)
        x = _conv(self, x, _width(self, FIRST), "conv4")
        x = EqualDense(_width(self, FIRST), dtype=self.dtype, name="dense")(
            x.reshape(x.shape[0], -1)
        )
        x = nn.leaky_relu(x, 0.2)
        x = EqualDense(1, gain=1.0, dtype=self.dtype, name="logits")(x)
        return x.astype(jnp.float32)


def _width(module: Generator | Discriminator, resolution: int) -> int:
    return max(1, min(2 * module.base_width // resolution, module.max_width))


def _conv(
    module: Generator | Discriminator, x: jax.Array, features: int, name: str
) -> jax.Array:
    x = EqualConv(features, dtype=module.dtype, name=name)(x)
    return nn.leaky_relu(x, 0.2)


def _pointwise(
    module: Generator | Discriminator,
    x: jax.Array,
    features: int,
    name: str,
    *,
    gain: float,
) -> jax.Array:
    return EqualConv(features, kernel_size=1, gain=gain, dtype=module.dtype, name=name)(
        x
    )
