"""Convolution and transposed convolution that are fast on every platform.

GPUs and TPUs take XLA's native convolutions. XLA on a CPU falls off a cliff in two
places that every GAN visits: the kernel gradient of a transposed convolution, and
convolutions of few pixels and many channels. There the work is done as one matrix
product between a rearranged image and the kernel:

- a convolution of stride s folds every s x s block of pixels into channels, which
  leaves a convolution of stride 1 with a kernel s times smaller, and gathers the
  window of every output pixel (im2col);
- a transposed convolution computes all that a pixel contributes by one product, and
  adds the overlapping s x s blocks.

Both are ordinary `jax.numpy`, so that their derivatives, of any order and in either
mode, are matrix products too.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Padding = Sequence[tuple[int, int]]  # ((top, bottom), (left, right))

# Up to this many output rows a convolution is faster as one matrix product, forward and
# backward; above, XLA's own is, except for the gradient that reaches the image.
_FEW_ROWS = 16


def conv(
    image: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding
) -> jax.Array:
    """Convolves images `[B, H, W, I]` with a kernel `[k, k, I, O]` to `[B, h, w, O]`.

    `padding` counts zeros as PyTorch does; h = (H + padding - k) // stride + 1.
    """
    native = partial(_native_conv, stride=stride, padding=padding)
    size = kernel.shape[0]
    sides = [n + sum(pad) for n, pad in zip(image.shape[1:3], padding, strict=True)]
    if stride == 1 or any(n % stride for n in (size, *sides)):
        return native(image, kernel)
    product = partial(_product_conv, stride=stride, padding=padding)
    rows = (sides[0] - size) // stride + 1
    cpu = product if rows <= _FEW_ROWS else _native_forward(native, product)
    return lax.platform_dependent(image, kernel, cpu=cpu, default=native)


def conv_transpose(
    image: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: int,
    output_padding: int = 0,
) -> jax.Array:
    """Spreads images `[B, h, w, I]` through a kernel `[k, k, O, I]` to `[B, H, W, O]`.

    The transpose of `conv` with the same kernel, stride and padding, as PyTorch defines
    it: H = (h - 1) stride - 2 padding + k + output_padding.
    """
    options = dict(stride=stride, padding=padding, output_padding=output_padding)
    native = partial(_native_conv_transpose, **options)
    if stride == 1 and image.shape[1:3] != (1, 1):
        return native(image, kernel)
    product = partial(_product_conv_transpose, **options)
    return lax.platform_dependent(image, kernel, cpu=product, default=native)


def _native_conv(image, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        image,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _native_conv_transpose(image, kernel, *, stride, padding, output_padding):
    edge = kernel.shape[0] - 1 - padding
    return lax.conv_general_dilated(
        image,
        lax.rev(kernel, (0, 1)),
        (1, 1),
        [(edge, edge + output_padding)] * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )


def _native_forward(native: Callable, product: Callable) -> Callable:
    """Returns `native`, whose derivative with respect to the image is `product`'s.

    A convolution is linear in either argument, so its tangent is two convolutions; the
    transpose of the first is a transposed convolution, XLA's slow one. A `custom_jvp`
    rather than a `custom_vjp`, which would forbid forward mode.
    """

    @jax.custom_jvp
    def conv(image, kernel):
        return native(image, kernel)

    @conv.defjvp
    def conv_jvp(primals, tangents):
        (image, kernel), (image_dot, kernel_dot) = primals, tangents
        out_dot = product(image_dot, kernel) + native(image, kernel_dot)
        return conv(image, kernel), out_dot

    return conv


def _product_conv(image, kernel, *, stride, padding):
    image = _space_to_depth(jnp.pad(image, ((0, 0), *padding, (0, 0))), stride)
    size, _, inputs, outputs = kernel.shape
    blocks = size // stride
    height, width = image.shape[1] - blocks + 1, image.shape[2] - blocks + 1
    shifts = [
        image[:, i : i + height, j : j + width]
        for i in range(blocks)
        for j in range(blocks)
    ]
    kernel = kernel.reshape(blocks, stride, blocks, stride, inputs, outputs)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, outputs)
    return jnp.concatenate(shifts, axis=-1) @ kernel


def _product_conv_transpose(image, kernel, *, stride, padding, output_padding):
    batch, height, width, inputs = image.shape
    size, _, outputs, _ = kernel.shape
    blocks = -(-size // stride)  # a kernel is padded with zeros to whole blocks
    extra = blocks * stride - size
    kernel = jnp.pad(kernel, ((0, extra), (0, extra), (0, 0), (0, 0)))
    spread = lax.dot_general(
        image, kernel.reshape(-1, inputs), (((3,), (1,)), ((), ()))
    ).reshape(batch, height, width, blocks, stride, blocks, stride, outputs)
    total = sum(
        jnp.pad(
            spread[:, :, :, i, :, j],
            ((0, 0), (i, blocks - 1 - i), (j, blocks - 1 - j), (0, 0), (0, 0), (0, 0)),
        )
        for i in range(blocks)
        for j in range(blocks)
    )
    total = _depth_to_space(total)

    def crop(axis, n):
        length = (n - 1) * stride - 2 * padding + size + output_padding
        missing = max(0, padding + length - total.shape[axis])
        return (padding, padding + length), (0, missing)

    (rows, more_rows), (columns, more_columns) = crop(1, height), crop(2, width)
    total = jnp.pad(total, ((0, 0), more_rows, more_columns, (0, 0)))
    return total[:, slice(*rows), slice(*columns)]


def _space_to_depth(image: jax.Array, block: int) -> jax.Array:
    batch, height, width, channels = image.shape
    shape = (batch, height // block, block, width // block, block, channels)
    image = image.reshape(shape).transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height // block, width // block, -1)


def _depth_to_space(image: jax.Array) -> jax.Array:
    """Unfolds `[B, h, w, s, s, C]` into `[B, h s, w s, C]`."""
    batch, height, width, block, _, channels = image.shape
    image = image.transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, height * block, width * block, channels)
