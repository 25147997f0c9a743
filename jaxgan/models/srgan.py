"""SRGAN: a generator that enlarges images, and the discriminator of large ones.

Images are `[B, H, W, C]` floats; high-resolution ones lie in [-1, 1], but the
generator's output is linear. Convolutions have a bias even before a norm, as published
parameter counts have it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

SCALES = (2, 4, 8)
HEADS = ("dense", "pooled")


class SRResNet(nn.Module):
    """Residual blocks at low resolution, then a doubling for each factor of 2.

    Ledig et al., 2017, "Photo-Realistic Single Image Super-Resolution Using a
    Generative Adversarial Network", fig. 4.
    """

    out_channels: int
    width: int = 64  # channels of all features
    num_blocks: int = 16
    scale: int = 4  # one of SCALES
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, h, w, I]` to `[B, scale h, scale w, out_channels]`, unbounded.

        Raises `ValueError` if `scale` is not one of `SCALES`.
        """
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {SCALES}, got {self.scale}")
        x = self._conv(image, self.width, "stem", kernel_size=9, padding=4)
        x = stem = self._prelu(x, "stem_prelu")
        for i in range(self.num_blocks):
            y = self._conv(x, self.width, f"block{i}_conv0")
            y = self._normalise(y, f"block{i}_norm0", train=train)
            y = self._prelu(y, f"block{i}_prelu")
            y = self._conv(y, self.width, f"block{i}_conv1")
            x = x + self._normalise(y, f"block{i}_norm1", train=train)
        x = self._normalise(self._conv(x, self.width, "body"), "body_norm", train=train)
        x = x + stem
        for i in range(SCALES.index(self.scale) + 1):
            x = pixel_shuffle(self._conv(x, 4 * self.width, f"up{i}"), factor=2)
            x = self._prelu(x, f"up{i}_prelu")
        x = self._conv(x, self.out_channels, "head", kernel_size=9, padding=4)
        return x.astype(jnp.float32)

    def _conv(
        self,
        x: jax.Array,
        channels: int,
        name: str,
        *,
        kernel_size: int = 3,
        padding: int = 1,
    ) -> jax.Array:
        return layers.Conv(
            channels,
            kernel_size=kernel_size,
            padding=padding,
            dtype=self.dtype,
            name=name,
        )(x)

    def _prelu(self, x: jax.Array, name: str) -> jax.Array:
        # One slope for all channels, which starts as PyTorch's does.
        return nn.PReLU(negative_slope_init=0.25, name=name)(x)

    def _normalise(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        return layers.normalise(
            x,
            self.norm,
            train=train,
            name=name,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )


def pixel_shuffle(x: jax.Array, *, factor: int) -> jax.Array:
    """Rearranges features `[B, h, w, C r^2]` into `[B, r h, r w, C]`.

    Channel c r^2 + i r + j becomes channel c at row i and column j of each new r x r
    square, PyTorch's order. Shi et al., 2016, "Real-Time Single Image and Video
    Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", eq. 4.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, -1, factor, factor)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, factor * height, factor * width, channels // factor**2)


class SRDiscriminator(nn.Module):
    """Judges a whole image: eight convolutions and two dense layers.

    Ledig et al., 2017, fig. 4. The "dense" head is the paper's and takes images of the
    size it was initialised for; the "pooled" one averages over the image first, so that
    it takes any size and has as few weights for 256 pixels as for 96.
    """

    width: int = 64  # channels of the first layer; the last ones have 8 times as many
    head: str = "dense"  # one of HEADS
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, C]` to logits `[B, 1]`."""
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {HEADS}, got {self.head!r}")
        if min(image.shape[1:3]) < 16:
            raise ValueError(
                "this discriminator halves images four times and needs at least 16x16, "
                f"got {image.shape[1]}x{image.shape[2]}; use larger crops"
            )
        x = image
        for i in range(8):
            x = layers.Conv(
                self.width * 2 ** (i // 2),
                kernel_size=3,
                stride=1 + i % 2,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            if i > 0:
                x = layers.normalise(
                    x,
                    self.norm,
                    train=train,
                    name=f"conv{i}_norm",
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                )
            x = nn.leaky_relu(x, 0.2)
        if self.head == "pooled":
            x = jnp.mean(x, axis=(1, 2), keepdims=True)
        dense = dict(kernel_init=nn.initializers.normal(0.02), dtype=self.dtype)
        x = x.reshape(x.shape[0], -1)
        x = nn.leaky_relu(nn.Dense(16 * self.width, name="hidden", **dense)(x), 0.2)
        return nn.Dense(1, name="logits", **dense)(x).astype(jnp.float32)
