"""The residual generator of CycleGAN.

Images are `[B, H, W, C]` floats in [-1, 1].
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers


class ResNetGenerator(nn.Module):
    """Halves an image twice, changes it in residual blocks, and doubles it twice.

    Zhu et al., 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent
    Adversarial Networks", sec. 7.2, with the layers of its reference code: 9 blocks for
    256 pixels and more, 6 for 128.
    """

    out_channels: int
    width: int = 64  # channels of the first layer
    num_blocks: int = 9
    norm: str = "instance"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, I]` to images `[B, H, W, out_channels]` in [-1, 1].

        Raises `ValueError` unless H and W divide by 4 and are at least 8.
        """
        height, width = image.shape[1:3]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ValueError(
                "a residual generator needs height and width of at least 8 that divide "
                f"by 4, got {height}x{width}; pad the image"
            )
        x = self._conv(_reflect(image, 3), self.width, "stem", kernel_size=7)
        x = nn.relu(self._normalise(x, "stem_norm", train=train))
        for i in range(2):
            name, channels = f"down{i}", 2 ** (i + 1) * self.width
            x = self._conv(x, channels, name, stride=2, padding=1)
            x = nn.relu(self._normalise(x, f"{name}_norm", train=train))
        for i in range(self.num_blocks):
            x = x + self._block(x, f"block{i}", train=train)
        for i in range(2):
            x = layers.ConvTranspose(
                2 ** (1 - i) * self.width,
                kernel_size=3,
                output_padding=1,
                use_bias=layers.has_bias(self.norm),
                dtype=self.dtype,
                name=f"up{i}",
            )(x)
            x = nn.relu(self._normalise(x, f"up{i}_norm", train=train))
        x = layers.Conv(
            self.out_channels, kernel_size=7, padding=0, dtype=self.dtype, name="head"
        )(_reflect(x, 3))
        return jnp.tanh(x.astype(jnp.float32))

    def _block(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        x = self._conv(_reflect(x, 1), channels, f"{name}_conv0")
        x = nn.relu(self._normalise(x, f"{name}_norm0", train=train))
        x = self._conv(_reflect(x, 1), channels, f"{name}_conv1")
        return self._normalise(x, f"{name}_norm1", train=train)

    def _conv(
        self,
        x: jax.Array,
        channels: int,
        name: str,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 0,
    ) -> jax.Array:
        return layers.Conv(
            channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            use_bias=layers.has_bias(self.norm),
            dtype=self.dtype,
            name=name,
        )(x)

    def _normalise(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        return layers.normalise(
            x,
            self.norm,
            train=train,
            name=name,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )


def _reflect(x: jax.Array, border: int) -> jax.Array:
    """Mirrors `border` pixels at each edge, the edge itself not repeated."""
    return jnp.pad(x, ((0, 0), (border, border), (border, border), (0, 0)), "reflect")
