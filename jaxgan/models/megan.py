"""MEGAN: a GAN for the whole image at low resolution, others for patches at high ones.

Uzunova et al., 2019, "Multi-scale GANs for Memory-efficient Generation of High
Resolution Medical Images", in two dimensions. Images are `[B, H, W, C]` floats in
[-1, 1], logits `[B, h, w, 1]` raw.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import layers

_INSTANCE = "instance"


class LowResGenerator(nn.Module):
    """A U-Net of four levels that sees the edges of the whole image.

    With an `edge_factor` of 2 the edges are twice as fine as the image, for otherwise
    some vanish, and one more convolution of stride 2 brings them to its size.
    """

    out_channels: int = 1
    width: int = 64  # channels of the first level, doubled per level
    edge_factor: int = 1  # 1 or 2
    dropout: float = 0.2
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32

    @nn.compact
    def __call__(self, edges: jax.Array, *, train: bool) -> jax.Array:
        """Maps edges `[B, fH, fW, I]` to images `[B, H, W, out_channels]`.

        H and W divide by 16. Dropout acts in training only.
        """
        multiple = 16 * self.edge_factor
        if edges.shape[1] % multiple or edges.shape[2] % multiple:
            raise ValueError(
                f"low-resolution edges need sides that divide by {multiple}, got "
                f"{edges.shape[1]}x{edges.shape[2]}"
            )
        x = edges
        if self.edge_factor == 2:
            x = layers.Conv(self.width, stride=2, dtype=self.dtype, name="stem")(x)
            x = nn.leaky_relu(x, 0.2)
        skips = []
        for level in range(4):
            x = nn.leaky_relu(x, 0.2) if level else x
            x = layers.Conv(
                self.width * 2**level, stride=2, dtype=self.dtype, name=f"down{level}"
            )(x)
            x = _norm(self, x, _INSTANCE, f"down{level}_norm") if level else x
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(1, 4)):
            x = layers.ConvTranspose(
                self.width * 2 ** (level - 1), dtype=self.dtype, name=f"up{level}"
            )(nn.relu(x))
            x = _norm(self, x, _INSTANCE, f"up{level}_norm")
            if level == 2:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        x = layers.ConvTranspose(self.out_channels, dtype=self.dtype, name="up0")(
            nn.relu(x)
        )
        return jnp.tanh(x.astype(jnp.float32))


class HighResGenerator(nn.Module):
    """A residual network that adds detail to a patch of the scale below, enlarged."""

    out_channels: int = 1
    width: int = 64  # channels of the first layer
    num_blocks: int = 6
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32

    @nn.compact
    def __call__(self, patch: jax.Array, *, train: bool) -> jax.Array:
        """Maps coarse patch and edges `[B, H, W, I]` to `[B, H, W, out_channels]`.

        H and W divide by 4. Dropout acts in training only.
        """
        if patch.shape[1] % 4 or patch.shape[2] % 4:
            raise ValueError(
                "a high-resolution generator needs sides that divide by 4, got "
                f"{patch.shape[1]}x{patch.shape[2]}"
            )
        width, affine = self.width, "instance_affine"

        def conv(x, features, name, kernel_size=3, stride=1, padding=1):
            return layers.Conv(
                features, kernel_size, stride, padding, dtype=self.dtype, name=name
            )(x)

        x = nn.relu(_norm(self, conv(patch, width, "stem"), affine, "stem_norm"))
        for i in range(2):
            x = conv(x, width * 2 ** (i + 1), f"down{i}", kernel_size=4, stride=2)
            x = nn.relu(_norm(self, x, affine, f"down{i}_norm"))
        for i in range(self.num_blocks):
            y = conv(x, 4 * width, f"block{i}_conv0")
            y = nn.relu(_norm(self, y, affine, f"block{i}_norm0"))
            y = nn.Dropout(self.dropout, deterministic=not train)(y)
            y = conv(y, 4 * width, f"block{i}_conv1")
            x = x + _norm(self, y, affine, f"block{i}_norm1")
        for i in range(2):
            x = layers.ConvTranspose(
                width * 2 ** (1 - i), dtype=self.dtype, name=f"up{i}"
            )(x)
            x = nn.relu(_norm(self, x, affine, f"up{i}_norm"))
        x = conv(x, self.out_channels, "head", kernel_size=7, padding=3)
        return jnp.tanh(x.astype(jnp.float32))


class HighResDiscriminator(nn.Module):
    """Judges patches, by windows of 25 pixels, together with what they were made of."""

    width: int = 64  # channels of the first layer, doubled per layer
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps edges, patch and coarse patch `[B, H, W, I]` to logits; H, W >= 25."""
        if min(image.shape[1:3]) < 25:
            raise ValueError(
                "a high-resolution discriminator needs patches of 25x25 or more, got "
                f"{image.shape[1]}x{image.shape[2]}"
            )
        return _judge(self, image, strides=(1, 2, 2, 2), padding=0, train=train)


class LowResDiscriminator(nn.Module):
    """Judges the whole image with its edges, by windows of 46 pixels.

    Unlike the published code, which takes its 256 feature maps for verdicts, it ends in
    a convolution to one.
    """

    width: int = 64  # channels of the first layer, doubled per layer
    dtype: jnp.dtype = jnp.float32  # of the arithmetic; parameters stay float32
    axis_name: str | None = None  # pmapped axis that batch normalisation spans

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps edges and image `[B, H, W, I]` to logits; H and W are 16 or more."""
        return _judge(self, image, strides=(2, 2, 2, 1), padding=1, train=train)


def _judge(
    module: HighResDiscriminator | LowResDiscriminator,
    x: jax.Array,
    *,
    strides: tuple[int, ...],
    padding: int,
    train: bool,
) -> jax.Array:
    for i, stride in enumerate(strides):
        features = module.width * 2**i if i < 3 else 1
        x = layers.Conv(
            features,
            stride=stride,
            padding=padding,
            dtype=module.dtype,
            name="logits" if i == 3 else f"conv{i}",
        )(x)
        if i in (1, 2):
            x = _norm(module, x, "batch", f"conv{i}_norm", train=train)
        if i < 3:
            x = nn.leaky_relu(x, 0.2)
    return x.astype(jnp.float32)


def _norm(module, x: jax.Array, norm: str, name: str, *, train: bool = False):
    axis_name = getattr(module, "axis_name", None)
    return layers.normalise(
        x, norm, train=train, name=name, axis_name=axis_name, dtype=module.dtype
    )
