"""Convolution, its transpose and its kernel's gradient in forms that are fast on a CPU.

XLA has fast loops on a CPU for one layout of one operation, the plain convolution of
`[B, H, W, I]` with `[k, k, I, O]`; any other, such as most gradients inside a
`lax.scan`, runs in naive loops, up to a hundred times slower. So each of the three is
written as one plain convolution here:

- the transpose of stride s is a convolution to s x s phases, which interleave;
- the gradient of the kernel is a convolution of the image with what comes back, in
  which channels take the place of the batch.

Where a convolution would spend more on rearranging its kernel than on multiplying,
because pixels are few, or has too few channels to fill the registers, the work is one
matrix product with the taps of the kernel side by side instead (im2col).

`H W I` are height, width and channels of the larger image, `h w O` those of the
smaller, `k` is the size of the kernel `[k, k, I, O]`. Sums are in float32: no CPU
sums in bfloat16.
"""

from collections.abc import Callable, Sequence
from functools import partial, wraps

import jax
import jax.numpy as jnp
from jax import lax

Padding = Sequence[tuple[int, int]]  # ((top, bottom), (left, right))


def plain_conv(
    image: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: Padding,
    dilation: int = 1,
) -> jax.Array:
    """Returns XLA's own convolution in the layout in which it is fast."""
    return lax.conv_general_dilated(
        image,
        kernel,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _in_float32(function: Callable) -> Callable:
    @wraps(function)
    def wrapped(x, y, **options):
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        return function(x.astype(dtype), y.astype(dtype), **options).astype(x.dtype)

    return wrapped


@_in_float32
def conv(
    image: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding
) -> jax.Array:
    """Convolves images `[B, H, W, I]` to `[B, h, w, O]`."""
    options = dict(stride=stride, padding=padding)
    small = _output_shape(image, kernel.shape[0], **options)
    if _product_pays(small, kernel.shape):
        return _product(image, kernel, **options)
    return plain_conv(image, kernel, **options)


@_in_float32
def conv_transpose(
    image: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: Padding,
    sizes: Sequence[int],
) -> jax.Array:
    """Spreads images `[B, h, w, O]` to `[B, H, W, I]`; `sizes` are H and W."""
    size, _, inputs, outputs = kernel.shape
    few_channels = stride > 1 and stride**2 * inputs < outputs
    if _product_pays(image.shape[:3], kernel.shape) or few_channels:
        larger = jax.ShapeDtypeStruct((image.shape[0], *sizes, inputs), image.dtype)
        forward = partial(_product, kernel=kernel, stride=stride, padding=padding)
        return jax.linear_transpose(forward, larger)(image)[0]
    # Row u of phase r takes the rows u - a of the image through the taps s a + r.
    taps = -(-size // stride)
    added = taps * stride - size
    kernel = jnp.pad(kernel, ((0, added), (0, added), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps, stride, taps, stride, inputs, outputs)
    kernel = lax.rev(kernel, (0, 2)).transpose(0, 2, 5, 1, 3, 4)
    kernel = kernel.reshape(taps, taps, outputs, stride**2 * inputs)
    first = [before // stride for before, _ in padding]
    rows = [
        -(-(before + side) // stride)
        for (before, _), side in zip(padding, sizes, strict=True)
    ]
    edges = [
        (taps - 1 - start, stop - side)
        for start, stop, side in zip(first, rows, image.shape[1:3], strict=True)
    ]
    image = plain_conv(image, kernel, stride=1, padding=edges)
    batch, height, width, _ = image.shape
    if stride > 1:
        image = image.reshape(batch, height, width, stride, stride, inputs)
        image = image.transpose(0, 1, 3, 2, 4, 5)
        image = image.reshape(batch, height * stride, width * stride, inputs)
    top, left = (before % stride for before, _ in padding)
    return image[:, top : top + sizes[0], left : left + sizes[1]]


@_in_float32
def kernel_gradient(
    image: jax.Array, back: jax.Array, *, stride: int, padding: Padding, size: int
) -> jax.Array:
    """Correlates images `[B, H, W, I]` and `[B, h, w, O]` to a kernel."""
    inputs, outputs = image.shape[3], back.shape[3]
    shape = (size, size, inputs, outputs)
    if _product_pays(back.shape[:3], shape):
        like = jax.ShapeDtypeStruct(shape, image.dtype)
        forward = partial(_product, image, stride=stride, padding=padding)
        return jax.linear_transpose(forward, like)(back)[0]
    if stride == 1 and outputs < inputs:  # the one with more channels is the kernel
        padding = [(size - 1 - before, size - 1 - after) for before, after in padding]
        flipped = _correlate(back, image, stride=1, padding=padding, size=size)
        return lax.rev(flipped, (0, 1)).swapaxes(2, 3)
    return _correlate(image, back, stride=stride, padding=padding, size=size)


def _correlate(image, back, *, stride, padding, size):
    image, back = image.transpose(3, 1, 2, 0), back.transpose(1, 2, 0, 3)
    kernel = plain_conv(image, back, stride=1, padding=padding, dilation=stride)
    return kernel[:, :size, :size].transpose(1, 2, 0, 3)


def _product_pays(small: Sequence[int], kernel: Sequence[int]) -> bool:
    batch, height, width = small
    return batch * height * width <= kernel[3] or kernel[0] == 1


def _product(image, kernel, *, stride, padding):
    size, _, inputs, outputs = kernel.shape
    shape = _output_shape(image, size, stride=stride, padding=padding)
    columns = jnp.concatenate(_taps(image, size, stride, padding, shape), axis=-1)
    return columns @ kernel.reshape(size**2 * inputs, outputs)


def _taps(image, size: int, stride: int, padding: Padding, shape) -> list[jax.Array]:
    """Returns for each of the k x k places in a kernel the pixels `[B, h, w, I]` at it.

    A strided slice of the image per tap would make the transpose visit every pixel of
    it per tap. So the image is first split into its s x s phases, of which the taps are
    plain slices.
    """
    batch, height, width = shape
    blocks = -(-size // stride)
    needed = [(n + blocks - 1) * stride for n in (height, width)]
    edges = [
        (before, need - before - side, 0)
        for (before, _), need, side in zip(
            padding, needed, image.shape[1:3], strict=True
        )
    ]
    zero = jnp.zeros((), image.dtype)
    image = lax.pad(image, zero, [(0, 0, 0), *edges, (0, 0, 0)])
    rows, columns = (n // stride for n in needed)
    image = image.reshape(batch, rows, stride, columns, stride, -1)
    phases = [
        [phase.squeeze((2, 4)) for phase in lax.split(row, [1] * stride, axis=4)]
        for row in lax.split(image, [1] * stride, axis=2)
    ]
    return [
        phases[i % stride][j % stride][
            :, i // stride : i // stride + height, j // stride : j // stride + width
        ]
        for i in range(size)
        for j in range(size)
    ]


def _output_shape(image, size: int, *, stride: int, padding: Padding) -> list[int]:
    sides = zip(image.shape[1:3], padding, strict=True)
    return [
        image.shape[0],
        *((side + sum(pads) - size) // stride + 1 for side, pads in sides),
    ]
