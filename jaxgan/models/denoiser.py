"""Supervised denoisers: a U-Net and DnCNN, with or without biases.

Images and features are `[B, H, W, C]` in any unit: without biases f(a x) = a f(x) for
a > 0, so that a network generalises over noise levels and needs no range.
Mohan et al., 2020, "Robust and Interpretable Blind Image Denoising via Bias-Free
Convolutional Neural Networks"; the U-Nets are those of "Deep Denoising for Scientific
Discovery: A Case Study in Electron Microscopy" (arXiv 2010.12970).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import layers

# Encoder widths over the base width, and decoder widths from the inside.
_SCALES = {
    4: ((1, 1, 1, 2, 2), (1, 1, 1, 1)),
    6: ((1, 1, 1, 2, 4, 8, 8), (4, 2, 1, 1, 1, 1)),
}


class ScaleNorm(nn.Module):
    """Batch normalisation that subtracts nothing and adds nothing.

    y = scale x / (deviation + 1e-5): homogeneous when the deviation is the running one,
    or an image's own. Mohan et al., 2020, sec. 3.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Divides each channel by its deviation: the batch's in training."""
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features)
        running = self.variable("batch_stats", "var", jnp.ones, features)
        variance = running.value
        if train:
            variance = self._variance(x.astype(jnp.float32))
            if not self.is_initializing():
                running.value = 0.9 * running.value + 0.1 * variance
        factor = scale / (jnp.sqrt(variance) + 1e-5)
        return x * factor.astype(x.dtype).reshape(1, 1, 1, -1)

    def _variance(self, x: jax.Array) -> jax.Array:
        """Returns the unbiased variance of each channel, over all devices."""
        moments = jnp.stack([jnp.mean(x, (0, 1, 2)), jnp.mean(x * x, (0, 1, 2))])
        count = x[..., 0].size
        if self.axis_name is not None:
            moments = jax.lax.pmean(moments, self.axis_name)
            count = count * jax.lax.psum(1, self.axis_name)
        mean, square = moments
        # A dead channel has no deviation, whose square root has no derivative.
        return jnp.maximum(square - mean**2, 1e-10) * (count / max(count - 1, 1))


class UNet(nn.Module):
    """Encoder and decoder by pooling and interpolation, joined by skips.

    The published pair is `UNet(4, 128, bias=True)` and `UNet(6, 128, bias=False)`;
    `bias` also decides between ordinary batch normalisation and `ScaleNorm`.
    """

    scales: int = 4  # 4 or 6; H and W divide by 2^scales
    width: int = 128  # channels of the outer levels
    bias: bool = True
    out_channels: int = 1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps noisy images `[B, H, W, C]` to clean ones, both in any unit."""
        encoder, decoder = _SCALES[self.scales]
        x, skips = image.astype(self.dtype), []
        for level, times in enumerate(encoder):
            if level:
                skips.append(x)
                x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            width = times * self.width
            x = self._double_conv(x, f"down{level}", width, width, train=train)
        for level, times in enumerate(decoder):
            skip = skips.pop()
            x = jnp.concatenate([skip, _fit(_double(x), skip)], axis=-1)
            between, width = x.shape[-1] // 2, times * self.width
            x = self._double_conv(x, f"up{level}", between, width, train=train)
        x = layers.Conv(
            self.out_channels,
            kernel_size=1,
            padding=0,
            use_bias=self.bias,
            dtype=self.dtype,
            name="last",
        )(x)
        return x.astype(jnp.float32)

    def _double_conv(
        self, x: jax.Array, name: str, between: int, width: int, *, train: bool
    ) -> jax.Array:
        for number, features in enumerate((between, width)):
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
            x = layers.Conv(
                features,
                kernel_size=3,
                padding=0,
                use_bias=self.bias,
                dtype=self.dtype,
                name=f"{name}_conv{number}",
            )(x)
            x = nn.relu(_normalise(self, x, f"{name}_norm{number}", train=train))
        return x


class DnCNN(nn.Module):
    """A stack of 3x3 convolutions that returns the clean image, not the noise.

    Zhang et al., 2017, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for
    Image Denoising", at depth 20 as arXiv 2010.12970 uses it.
    """

    depth: int = 20  # layers
    width: int = 64
    bias: bool = False
    out_channels: int = 1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps noisy images `[B, H, W, C]` to clean ones, both in any unit."""
        x = image.astype(self.dtype)
        for level in range(self.depth):
            last = level == self.depth - 1
            x = layers.Conv(
                self.out_channels if last else self.width,
                kernel_size=3,
                use_bias=self.bias,
                dtype=self.dtype,
                name=f"conv{level}",
            )(x)
            if 0 < level and not last:
                x = _normalise(self, x, f"norm{level}", train=train)
            x = x if last else nn.relu(x)
        return x.astype(jnp.float32)


def _normalise(network: nn.Module, x: jax.Array, name: str, *, train: bool):
    """Normalises by batch, with a mean and a bias if the network has biases."""
    if not network.bias:
        return ScaleNorm(axis_name=network.axis_name, name=name)(x, train=train)
    return layers.normalise(
        x,
        "batch",
        train=train,
        name=name,
        axis_name=network.axis_name,
        dtype=network.dtype,
    )


def _double(x: jax.Array) -> jax.Array:
    """Doubles H and W bilinearly, corner pixels on corner pixels.

    PyTorch's `align_corners=True`, which `jax.image.resize` does not do.
    """
    rows, columns = (jnp.asarray(_matrix(n), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ph,bhwc,qw->bpqc", rows, x, columns)


def _matrix(size: int) -> np.ndarray:
    """Returns the interpolation `[2 size, size]` between pixel centres."""
    place = np.linspace(0, size - 1, 2 * size)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(size)))


def _fit(x: jax.Array, skip: jax.Array) -> jax.Array:
    """Pads with zeros to the skip's height and width, where pooling lost a pixel."""
    missing = [skip.shape[axis] - x.shape[axis] for axis in (1, 2)]
    pads = [(n // 2, n - n // 2) for n in missing]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))
