"""The skip-patch discriminator: patches of four sizes judged at once.

Images are `[B, H, W, C]` floats in [-1, 1]; outputs are raw logits. To condition it,
concatenate the source image along C.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

PATCHES = (16, 20, 32, 70)  # pixels; the order of the channels before the logit

# Two 4x4 convolutions of stride 1 in a row keep the size, and the patch centred, if
# they take turns at which side gets the odd zero.
_ODD_AFTER = ((1, 2), (1, 2))
_ODD_BEFORE = ((2, 1), (2, 1))


class SkipPatchDiscriminator(nn.Module):
    """Judges every 8th pixel by windows of 16, 20, 32 and 70 pixels around it.

    "GAN with Skip Patch Discriminator for Biological Electron Microscopy Image
    Generation". The paper draws no layers; these give the four windows exactly. The
    trunk is the 70x70 discriminator of pix2pix. Its own inner features see 4, 10 and 22
    pixels, of which no stride-8 skip makes 16, 20 or 32, so that the three other paths
    leave from the first convolution; each ends in a 4x4 convolution of stride 2. A 1x1
    convolution weighs the `PATCHES` into one logit.
    """

    width: int = 64  # channels of the first layer and of each path's end
    norm: str = "instance"  # one of layers.NORMS
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps images `[B, H, W, C]` to logits `[B, H/8, W/8, 1]`."""
        height, width = image.shape[1:3]
        if height % 8 or width % 8 or min(height, width) < 16:
            raise ValueError(
                "a skip-patch discriminator needs height and width that divide by 8, "
                f"at least 16, got {height}x{width}; use crops of such a size"
            )
        w = self.width
        # In comments: the pixels that a feature sees, and those between neighbours.
        stem = nn.leaky_relu(self._conv("stem", image, w, stride=2), 0.2)  # 4, 2

        x = self._block("trunk1", stem, 2 * w, train=train, stride=2)  # 10, 4
        x = self._block("trunk2", x, 4 * w, train=train, stride=2)  # 22, 8
        x = self._block("trunk3", x, 8 * w, train=train, padding=_ODD_AFTER)  # 46, 8
        patch70 = self._conv("patch70", x, w, padding=_ODD_BEFORE)

        point = dict(kernel_size=1, stride=2, padding=0)
        small = self._block("skip16", stem, w, train=train, **point)  # 4, 4
        patch16 = self._conv("patch16", small, w, stride=2)

        three = dict(kernel_size=3, stride=2, padding=((1, 0), (1, 0)))
        middle = self._block("skip20", stem, 2 * w, train=train, **three)  # 8, 4
        patch20 = self._conv("patch20", middle, w, stride=2)

        large = self._block(
            "skip32", middle, 4 * w, train=train, padding=_ODD_AFTER
        )  # 20, 4
        patch32 = self._conv("patch32", large, w, stride=2)

        views = jnp.concatenate([patch16, patch20, patch32, patch70], axis=-1)
        views = nn.leaky_relu(views, 0.2)
        logits = self._conv("logits", views, 1, kernel_size=1, padding=0)
        return logits.astype(jnp.float32)

    def _conv(self, name: str, x: jax.Array, features: int, **options) -> jax.Array:
        return layers.Conv(features, dtype=self.dtype, name=name, **options)(x)

    def _block(
        self, name: str, x: jax.Array, features: int, *, train: bool, **options
    ) -> jax.Array:
        """Convolution, normalisation and leaky ReLU."""
        bias = layers.has_bias(self.norm)
        x = self._conv(name, x, features, use_bias=bias, **options)
        x = layers.normalise(
            x,
            self.norm,
            train=train,
            name=f"{name}_norm",
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        return nn.leaky_relu(x, 0.2)
