"""The U-Net generator of pix2pix.

Images are `[B, H, W, C]` floats in [-1, 1].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

UPSAMPLINGS = ("transpose", "resize")  # transposed convolution; nearest, convolution


class UNet(nn.Module):
    """Encoder and decoder of `depth` levels, joined by a skip at every level.

    Isola et al., 2017, "Image-to-Image Translation with Conditional Adversarial
    Networks", sec. 3.2.1 and appendix 6.1.1, with the layers of its reference code. The
    innermost level sees an image of H / 2^depth pixels and has no norm in the encoder,
    where one pixel would be normalised to zero.
    """

    out_channels: int
    width: int = 64  # channels of the first level, doubled per level up to 8x
    depth: int = 8  # levels; H and W must divide by 2^depth
    norm: str = "batch"  # one of layers.NORMS
    dropout: float = 0.5  # in the decoder, from the fifth level inwards
    upsample: str = "transpose"  # one of UPSAMPLINGS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, I]` to images `[B, H, W, out_channels]` in [-1, 1].

        Dropout acts in training and, as the paper's source of noise, whenever the
        caller passes a "dropout" random key.
        """
        self._check_divides(image)
        widths = [self.width * min(2**level, 8) for level in range(self.depth)]
        x, skips = image, []
        for level, width in enumerate(widths):
            x = self._down(x, level, width, train=train)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(1, self.depth)):
            x = self._up(x, level, widths[level - 1], train=train)
            x = jnp.concatenate([skips.pop(), x], axis=-1)
        x = self._enlarge(nn.relu(x), self.out_channels, "up0", use_bias=True)
        return jnp.tanh(x.astype(jnp.float32))

    def _down(self, x: jax.Array, level: int, width: int, *, train: bool) -> jax.Array:
        if level > 0:
            x = nn.leaky_relu(x, 0.2)
        x = layers.Conv(
            width,
            stride=2,
            use_bias=layers.has_bias(self.norm),
            dtype=self.dtype,
            name=f"down{level}",
        )(x)
        if 0 < level < self.depth - 1:
            x = self._normalise(x, f"down{level}_norm", train=train)
        return x

    def _up(self, x: jax.Array, level: int, width: int, *, train: bool) -> jax.Array:
        bias = layers.has_bias(self.norm)
        x = self._enlarge(nn.relu(x), width, f"up{level}", use_bias=bias)
        x = self._normalise(x, f"up{level}_norm", train=train)
        if 4 <= level < self.depth - 1:
            still = not train and not self.has_rng("dropout")
            x = nn.Dropout(self.dropout, deterministic=still)(x)
        return x

    def _enlarge(
        self, x: jax.Array, width: int, name: str, *, use_bias: bool
    ) -> jax.Array:
        options = dict(use_bias=use_bias, dtype=self.dtype, name=name)
        if self.upsample == "transpose":
            return layers.ConvTranspose(width, **options)(x)
        # Every output pixel sees as many inputs: Odena et al., 2016, "Deconvolution
        # and Checkerboard Artifacts".
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        return layers.Conv(width, kernel_size=3, **options)(x)

    def _normalise(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        return layers.normalise(
            x,
            self.norm,
            train=train,
            name=name,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )

    def _check_divides(self, image: jax.Array) -> None:
        height, width = image.shape[1:3]
        factor = 2**self.depth
        if height % factor or width % factor or 0 in (height, width):
            raise ValueError(
                f"a U-Net of depth {self.depth} needs height and width that divide by "
                f"{factor}, got {height}x{width}; pad the image or lower `depth`"
            )
