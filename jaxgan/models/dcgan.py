"""The generators and discriminators of DCGAN, at three sizes.

Images are `[B, S, S, C]` floats in [-1, 1]; latents `[B, d]` of N(0, 1); outputs of
discriminators are raw logits `[B]`. All convolutions are free of biases.

Size 64: Radford et al., 2016, "Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks", with the layers of PyTorch's example.
Unlike the paper, whose kernels are 5x5 and whose latents are uniform. Size 32: its
CIFAR variant. Size 512: "Generative Adversarial Networks for Electron Microscope Image
Denoising", sec. 2.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

# Channels of G's levels of 4, 8, 16 ... pixels, in multiples of the width. At size 32
# a 1x1 convolution makes the image; otherwise one more transposed convolution does.
_GENERATOR = {32: (8, 4, 2, 1), 64: (8, 4, 2, 1), 512: (16, 8, 4, 2, 1, 1, 1)}
# Channels of D's levels of S/2, S/4 ... pixels; the last convolution sees all that is
# left, 2x2 pixels at size 32 and else 4x4.
_DISCRIMINATOR = {32: (1, 2, 4, 8), 64: (1, 2, 4, 8), 512: (1, 1, 1, 2, 4, 8, 16)}

SIZES = tuple(_GENERATOR)


class Generator(nn.Module):
    """Transposed convolutions from a latent to an image, each with norm and ReLU."""

    size: int  # one of SIZES
    out_channels: int = 1
    width: int = 64  # channels of the last hidden level
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
        """Maps latents `[B, d]` to images `[B, size, size, out_channels]`."""
        options = dict(use_bias=False, dtype=self.dtype)
        x = latent[:, None, None, :]
        for level, multiple in enumerate(_levels(_GENERATOR, self.size)):
            place = dict(stride=1, padding=0) if level == 0 else {}
            x = layers.ConvTranspose(
                self.width * multiple, name=f"up{level}", **place, **options
            )(x)
            x = layers.normalise(
                x,
                self.norm,
                train=train,
                name=f"up{level}_norm",
                axis_name=self.axis_name,
                dtype=self.dtype,
            )
            x = nn.relu(x)
        last = dict(kernel_size=1, stride=1, padding=0) if self.size == 32 else {}
        x = layers.ConvTranspose(self.out_channels, name="image", **last, **options)(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Convolutions of stride 2 from an image to one logit, as deep as the generator."""

    size: int  # one of SIZES
    width: int = 64  # channels of the first level
    norm: str = "batch"  # one of layers.NORMS; none on the first level
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, size, size, C]` to logits `[B]`."""
        levels = _levels(_DISCRIMINATOR, self.size)
        if image.shape[1:3] != (self.size, self.size):
            raise ValueError(
                f"this discriminator judges images of {self.size}x{self.size}, got "
                f"{image.shape[1]}x{image.shape[2]}"
            )
        x = image
        for level, multiple in enumerate(levels):
            x = layers.Conv(
                self.width * multiple,
                stride=2,
                use_bias=False,
                dtype=self.dtype,
                name=f"down{level}",
            )(x)
            if level > 0:
                x = layers.normalise(
                    x,
                    self.norm,
                    train=train,
                    name=f"down{level}_norm",
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                )
            x = nn.leaky_relu(x, 0.2)
        left = self.size >> len(levels)
        x = layers.Conv(
            1,
            kernel_size=left,
            padding=0,
            use_bias=False,
            dtype=self.dtype,
            name="logit",
        )(x)
        return x[:, 0, 0, 0].astype(jnp.float32)


def _levels(table: dict[int, tuple[int, ...]], size: int) -> tuple[int, ...]:
    if size not in table:
        raise ValueError(f"a DCGAN has a size of {SIZES}, got {size}")
    return table[size]
