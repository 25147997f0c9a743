"""Convolution and normalisation: the small pieces that every network is built of.

Images and features are `[B, H, W, C]`. Weights are drawn from N(0, 0.02), scales of
batch normalisation from N(1, 0.02), biases are zero (Radford et al., 2016, "DCGAN",
sec. 3; pix2pix and CycleGAN do the same). Parameters are float32 whatever `dtype` the
arithmetic is in.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan import convolution

NORMS = ("batch", "instance", "instance_affine", "none")

_weight_init = nn.initializers.normal(0.02)


def _scale_init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Conv(nn.Module):
    """A square convolution whose padding counts zeros as PyTorch does.

    Flax's "SAME" is another padding for odd kernels of stride 2 and for even kernels of
    stride 1. `padding` is one number or `((top, bottom), (left, right))`.
    """

    features: int
    kernel_size: int = 4
    stride: int = 1
    padding: int | convolution.Padding = 1
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, H, W, I]` to `[B, h, w, features]`."""
        padding = self.padding
        if isinstance(padding, int):
            padding = ((padding, padding), (padding, padding))
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _weight_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        x = convolution.conv(x, kernel, stride=self.stride, padding=padding)
        return _add_bias(self, x)


class ConvTranspose(nn.Module):
    """A square transposed convolution, sized as PyTorch sizes it.

    The kernel is `[k, k, features, I]`: that of the convolution it transposes.
    """

    features: int
    kernel_size: int = 4
    stride: int = 2
    padding: int = 1
    output_padding: int = 0
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, h, w, I]` to `[B, H, W, features]`."""
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        kernel = self.param("kernel", _weight_init, shape).astype(self.dtype)
        x = convolution.conv_transpose(
            x.astype(self.dtype),
            kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )
        return _add_bias(self, x)


def _add_bias(layer: nn.Module, x: jax.Array) -> jax.Array:
    if not layer.use_bias:
        return x
    bias = layer.param("bias", nn.initializers.zeros, (layer.features,))
    return x + bias.astype(layer.dtype).reshape(1, 1, 1, -1)


def has_bias(norm: str) -> bool:
    """Whether a convolution before `norm` needs a bias: not if the norm adds one."""
    return norm not in ("batch", "instance_affine")


def normalise(
    x: jax.Array,
    norm: str,
    *,
    train: bool,
    name: str,
    axis_name: str | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
    """Normalises features; call inside the `nn.compact` of a module.

    Args:
      x: features `[B, H, W, C]`.
      norm: one of `NORMS`. "batch" keeps running statistics (momentum .9, biased
        variance) and, where `axis_name` names a pmapped axis, uses the statistics of
        the whole global batch. "instance" has no parameters. "instance_affine" has the
        parameters of "batch" under the same names, so that a network trained with
        "batch" can be applied with each image's own statistics.
      train: whether "batch" uses the batch's statistics and updates the running ones.
      name: of the parameters.
      axis_name: the pmapped axis, if any.
      dtype: of the result; statistics are float32.

    Epsilon is 1e-5 as in PyTorch, whose layers these are.
    """
    options = dict(epsilon=1e-5, dtype=dtype, name=name)
    if norm == "batch":
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            scale_init=_scale_init,
            axis_name=axis_name,
            **options,
        )(x)
    if norm == "instance_affine":
        return nn.InstanceNorm(scale_init=_scale_init, **options)(x)
    if norm == "instance":
        return nn.InstanceNorm(use_bias=False, use_scale=False, **options)(x)
    if norm == "none":
        return x
    raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
