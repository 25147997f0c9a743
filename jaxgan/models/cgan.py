"""DCGANs that are told what to make: a class, or parameters of the microscope.

Images are `[B, S, S, C]` floats in [-1, 1]; latents `[B, d]`; conditions `[B, K]`, one
hot for classes. Mirza & Osindero, 2014, "Conditional Generative Adversarial Nets".
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers
from jaxgan.models import dcgan

BRANCH_SIZE = 64  # pixels: the one size of the networks with branches


def planes(condition: jax.Array, image: jax.Array) -> jax.Array:
    """Spreads conditions `[B, K]` over the pixels of images: `[B, H, W, K]`."""
    shape = (*image.shape[:3], condition.shape[-1])
    return jnp.broadcast_to(condition[:, None, None, :], shape).astype(image.dtype)


class Generator(dcgan.Generator):
    """A DCGAN whose latent has the condition behind it."""

    @nn.compact
    def __call__(
        self, latent: jax.Array, condition: jax.Array, *, train: bool
    ) -> jax.Array:
        """Maps latents `[B, d]` and conditions `[B, K]` to images."""
        joined = jnp.concatenate([latent, condition], axis=-1)
        return dcgan.Generator.__call__(self, joined, train=train)


class Discriminator(dcgan.Discriminator):
    """A DCGAN's, whose image has the condition behind it, a plane for each number."""

    @nn.compact
    def __call__(
        self, image: jax.Array, condition: jax.Array, *, train: bool
    ) -> jax.Array:
        """Maps images `[B, S, S, C]` and conditions `[B, K]` to logits `[B]`."""
        joined = jnp.concatenate([image, planes(condition, image)], axis=-1)
        return dcgan.Discriminator.__call__(self, joined, train=train)


class BranchGenerator(nn.Module):
    """Latent and condition enter by layers of their own, and join at 4x4 pixels.

    The layers of the repository evanhu1/pytorch-CelebA-faCeGAN, with its biases and its
    leaky ReLUs in the generator. Images are 64x64.
    """

    out_channels: int = 1
    width: int = 64  # channels of the last hidden level
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(
        self, latent: jax.Array, condition: jax.Array, *, train: bool
    ) -> jax.Array:
        """Maps latents `[B, d]` and conditions `[B, K]` to images `[B, 64, 64, C]`."""
        up = lambda name, x, channels, **place: _block(  # noqa: E731
            self, layers.ConvTranspose, name, x, channels, train=train, **place
        )
        first = dict(stride=1, padding=0)
        branches = [
            up(name, x[:, None, None, :], 8 * self.width, **first)
            for name, x in (("latent", latent), ("condition", condition))
        ]
        x = jnp.concatenate(branches, axis=-1)
        for level, multiple in enumerate((8, 4, 2)):
            x = up(f"up{level}", x, multiple * self.width)
        x = layers.ConvTranspose(self.out_channels, dtype=self.dtype, name="image")(x)
        return jnp.tanh(x.astype(jnp.float32))


class BranchDiscriminator(nn.Module):
    """Image and condition planes enter by convolutions of their own, and join.

    The counterpart of `BranchGenerator`.
    """

    width: int = 64  # channels of the first level of each branch
    norm: str = "batch"  # one of layers.NORMS; none on the first level
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(
        self, image: jax.Array, condition: jax.Array, *, train: bool
    ) -> jax.Array:
        """Maps images `[B, 64, 64, C]` and conditions `[B, K]` to logits `[B]`."""
        branches = [
            layers.Conv(self.width, stride=2, dtype=self.dtype, name=name)(x)
            for name, x in (("image", image), ("condition", planes(condition, image)))
        ]
        x = nn.leaky_relu(jnp.concatenate(branches, axis=-1), 0.2)
        for level, multiple in enumerate((4, 8, 16)):
            channels = multiple * self.width
            x = _block(
                self, layers.Conv, f"down{level}", x, channels, train=train, stride=2
            )
        x = layers.Conv(1, padding=0, dtype=self.dtype, name="logit")(x)
        return x[:, 0, 0, 0].astype(jnp.float32)


def _block(net: nn.Module, layer, name: str, x, channels: int, *, train, **place):
    """Convolution with bias, normalisation and leaky ReLU."""
    x = layer(channels, dtype=net.dtype, name=name, **place)(x)
    x = layers.normalise(
        x,
        net.norm,
        train=train,
        name=f"{name}_norm",
        axis_name=net.axis_name,
        dtype=net.dtype,
    )
    return nn.leaky_relu(x, 0.2)
