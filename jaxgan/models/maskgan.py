"""The generator of class masks: noise on a coarse grid becomes a map of classes.

Masks are `[B, H, W, C]` floats in [-1, 1], one channel per class: 1 where a pixel is of
the class, -1 where it is not. Latents are `[B, h, w, Z]`, of N(0, 1).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

UPSAMPLING = 64  # pixels of a mask per latent, along each axis


class MaskGenerator(nn.Module):
    """Six transposed convolutions, the last without norm but with a channel softmax.

    "GAN with Skip Patch Discriminator for Biological Electron Microscopy Image
    Generation": C256-C256-C128-C64-C32-C3 over latents of 8x8x8, which makes masks of
    512x512. It is fully convolutional, and latents of another size make masks of
    another size. Unlike the paper, whose masks lie in [0, 1], the probabilities p leave
    as 2 p - 1, the range of all images here.
    """

    out_channels: int
    width: int = 32  # channels of the last hidden layer, doubled inwards up to 8x
    norm: str = "instance"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, latent: jax.Array, *, train: bool) -> jax.Array:
        """Maps latents `[B, h, w, Z]` to masks `[B, 64 h, 64 w, out_channels]`."""
        x = latent
        for i, multiple in enumerate((8, 8, 4, 2, 1)):
            x = layers.ConvTranspose(
                self.width * multiple,
                use_bias=layers.has_bias(self.norm),
                dtype=self.dtype,
                name=f"up{i}",
            )(x)
            x = layers.normalise(
                x,
                self.norm,
                train=train,
                name=f"up{i}_norm",
                axis_name=self.axis_name,
                dtype=self.dtype,
            )
            x = nn.relu(x)
        x = layers.ConvTranspose(self.out_channels, dtype=self.dtype, name="up5")(x)
        return 2.0 * nn.softmax(x.astype(jnp.float32), axis=-1) - 1.0
