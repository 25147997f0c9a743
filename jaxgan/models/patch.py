"""Patch discriminators: a grid of verdicts instead of one.

Images are `[B, H, W, C]` floats in [-1, 1]; outputs are raw logits. To condition a
discriminator, concatenate the source image along C.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers


class PatchDiscriminator(nn.Module):
    """Judges every 70x70 window of an image (with the default `num_layers`).

    `num_layers` 1, 3, 5 see 16, 70, 286 pixels. Isola et al., 2017, "Image-to-Image
    Translation with Conditional Adversarial Networks", sec. 3.2.2 and appendix 6.1.2,
    with the layers of its reference code.
    """

    width: int = 64  # channels of the first layer, doubled per layer up to 8x
    num_layers: int = 3  # stride-2 layers
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, C]` to logits `[B, h, w, 1]`."""
        smallest = 3 * 2**self.num_layers
        if min(image.shape[1:3]) < smallest:
            raise ValueError(
                f"a patch discriminator of {self.num_layers} layers needs images of at "
                f"least {smallest}x{smallest}, got {image.shape[1]}x{image.shape[2]}; "
                "use larger crops or a smaller patch"
            )
        x = layers.Conv(self.width, stride=2, dtype=self.dtype, name="conv0")(image)
        x = nn.leaky_relu(x, 0.2)
        for i in range(1, self.num_layers + 1):
            x = layers.Conv(
                self.width * min(2**i, 8),
                stride=2 if i < self.num_layers else 1,
                use_bias=layers.has_bias(self.norm),
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = _normalise(self, x, f"conv{i}_norm", train=train)
            x = nn.leaky_relu(x, 0.2)
        x = layers.Conv(1, dtype=self.dtype, name="logits")(x)
        return x.astype(jnp.float32)


class PixelDiscriminator(nn.Module):
    """Judges every pixel by itself: 1x1 convolutions only (Isola et al., sec. 4.4)."""

    width: int = 64  # channels of the first layer, doubled in the second
    norm: str = "batch"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, C]` to logits `[B, H, W, 1]`."""
        options = dict(kernel_size=1, padding=0, dtype=self.dtype)
        bias = layers.has_bias(self.norm)
        x = layers.Conv(self.width, name="conv0", **options)(image)
        x = nn.leaky_relu(x, 0.2)
        x = layers.Conv(2 * self.width, use_bias=bias, name="conv1", **options)(x)
        x = _normalise(self, x, "conv1_norm", train=train)
        x = nn.leaky_relu(x, 0.2)
        x = layers.Conv(1, use_bias=bias, name="logits", **options)(x)
        return x.astype(jnp.float32)


def _normalise(
    disc: PatchDiscriminator | PixelDiscriminator, x: jax.Array, name: str, *, train
) -> jax.Array:
    return layers.normalise(
        x, disc.norm, train=train, name=name, axis_name=disc.axis_name, dtype=disc.dtype
    )
