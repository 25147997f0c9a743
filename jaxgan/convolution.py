"""Convolution and transposed convolution that are fast on every platform.

GPUs and TPUs take XLA's native convolutions. On a CPU XLA has good ones only for the
entry computation of a program and only in one layout: the gradients inside a
`lax.scan` run in naive loops, some thirty times slower, and so does the kernel gradient
of a transposed convolution everywhere. There the work is done as matrix products, whose
derivatives, of any order and in either mode, are matrix products too:

- a convolution gathers the taps of its kernel, shifted copies of the image, side by
  side and multiplies them with the kernel (im2col), several taps at a time;
- a transposed convolution is what JAX's transposition makes of that;
- a convolution to fewer channels than it has is done as the transposed convolution
  that it equals, so that what is copied per tap is always the thinner side.

`H W I` are height, width and channels of the larger image, `h w O` those of the
smaller, `k` is the size of the kernel: both directions share the kernel `[k, k, I, O]`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Padding = Sequence[tuple[int, int]]  # ((top, bottom), (left, right))

# One product takes as many taps as fit the cache together (in numbers), but enough of
# them to sum over this many channels.
_CACHED = 2**21
_CHANNELS = 256


def conv(
    image: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding
) -> jax.Array:
    """Convolves images `[B, H, W, I]` with a kernel `[k, k, I, O]` to `[B, h, w, O]`.

    `padding` counts zeros as PyTorch does; h = (H + padding - k) // stride + 1.
    """
    options = dict(stride=stride, padding=padding)
    return lax.platform_dependent(
        image,
        kernel,
        cpu=partial(_product_conv, **options),
        default=partial(_native_conv, **options),
    )


def conv_transpose(
    image: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: int,
    output_padding: int = 0,
) -> jax.Array:
    """Spreads images `[B, h, w, O]` through a kernel `[k, k, I, O]` to `[B, H, W, I]`.

    The transpose of `conv` with the same kernel, stride and padding, as PyTorch defines
    it: H = (h - 1) stride - 2 padding + k + output_padding.
    """
    added = kernel.shape[0] - 2 * padding + output_padding
    sizes = [(n - 1) * stride + added for n in image.shape[1:3]]
    options = dict(sizes=sizes, stride=stride, padding=((padding, padding),) * 2)
    return lax.platform_dependent(
        image,
        kernel,
        cpu=partial(_transpose, _gather_conv, **options),
        default=partial(_transpose, _native_conv, **options),
    )


def _native_conv(image, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        image,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _transpose(conv: Callable, image, kernel, *, sizes: Sequence[int], **options):
    shape = (image.shape[0], *sizes, kernel.shape[2])
    larger = jax.ShapeDtypeStruct(shape, image.dtype)
    forward = lambda larger: conv(larger, kernel, **options)  # noqa: E731
    return jax.linear_transpose(forward, larger)(image)[0]


def _product_conv(image, kernel, *, stride, padding):
    size, _, inputs, outputs = kernel.shape
    if stride > 1 or outputs >= inputs:
        return _gather_conv(image, kernel, stride=stride, padding=padding)
    return _transpose(
        _gather_conv,
        image,
        lax.rev(kernel, (0, 1)).swapaxes(2, 3),
        sizes=_output_sizes(image, size, stride, padding),
        stride=1,
        padding=[(size - 1 - before, size - 1 - after) for before, after in padding],
    )


def _gather_conv(image, kernel, *, stride, padding):
    size, _, inputs, outputs = kernel.shape
    dtype = jnp.promote_types(image.dtype, jnp.float32)  # no CPU sums in bfloat16
    taps = _taps(image.astype(dtype), size, stride, padding)
    pixels = taps[0].size // inputs
    group = max(1, _CHANNELS // inputs, _CACHED // (pixels * inputs))
    groups = [taps[start : start + group] for start in range(0, len(taps), group)]
    kernels = lax.split(
        kernel.astype(dtype).reshape(-1, outputs),
        [len(group) * inputs for group in groups],
    )
    total = sum(
        _product(jnp.concatenate(group, axis=-1), kernel)
        for group, kernel in zip(groups, kernels, strict=True)
    )
    return total.astype(image.dtype)


def _product(columns, kernel):
    """Multiplies columns `[B, h, w, C]` with a kernel `[C, O]`.

    The kernel's gradient sums over pixels. XLA is twice as fast at it with the smaller
    operand first, which the transposed kernel makes it do; the barrier keeps XLA from
    undoing that. With few pixels the kernel is what is costly to transpose.
    """
    if columns[..., 0].size <= kernel.shape[1]:
        return lax.dot_general(columns, kernel, (((3,), (0,)), ((), ())))
    kernel = lax.optimization_barrier(kernel.T)
    return lax.dot_general(columns, kernel, (((3,), (1,)), ((), ())))


def _taps(image, size: int, stride: int, padding: Padding) -> list[jax.Array]:
    """Returns for each of the k x k places in a kernel the pixels `[B, h, w, I]` at it.

    A strided slice of the image per tap would make the transpose visit every pixel of
    it per tap. So the image is first split into its s x s phases, of which the taps are
    plain slices.
    """
    batch, *sides, channels = image.shape
    height, width = _output_sizes(image, size, stride, padding)
    blocks = -(-size // stride)
    needed = [(n + blocks - 1) * stride for n in (height, width)]
    edges = [
        (before, need - before - side, 0)
        for (before, _), need, side in zip(padding, needed, sides, strict=True)
    ]
    zero = jnp.zeros((), image.dtype)
    image = lax.pad(image, zero, [(0, 0, 0), *edges, (0, 0, 0)])
    rows, columns = (n // stride for n in needed)
    image = image.reshape(batch, rows, stride, columns, stride, channels)
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


def _output_sizes(image, size: int, stride: int, padding: Padding) -> list[int]:
    sides = zip(image.shape[1:3], padding, strict=True)
    return [(side + sum(pads) - size) // stride + 1 for side, pads in sides]
