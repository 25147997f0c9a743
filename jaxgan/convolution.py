"""Convolution and transposed convolution that are fast on every platform.

GPUs and TPUs take XLA's native convolutions, CPUs the forms of `cpu_convolution`.
Both are hidden in three operations of two arrays each, which JAX knows as primitives:

- F(image, kernel), the convolution;
- T(back, kernel), its transpose;
- K(image, back), the gradient of its kernel.

Each is linear in both of its arrays and the transposes of each are the two others, so
that derivatives of any order, in either mode, consist of these three and are as fast.
(`jax.custom_vjp` would forbid the forward mode.)

`H W I` are height, width and channels of the larger image, `h w O` those of the
smaller, `k` is the size of the kernel: both directions share the kernel `[k, k, I, O]`.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from jaxgan import cpu_convolution
from jaxgan.cpu_convolution import Padding, plain_conv

_spelled_out = contextvars.ContextVar("spelled_out", default=False)


@contextlib.contextmanager
def spelled_out() -> Iterator[None]:
    """Within, convolutions are XLA's own operations: the ones that exporters know."""
    token = _spelled_out.set(True)
    try:
        yield
    finally:
        _spelled_out.reset(token)


def conv(
    image: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding
) -> jax.Array:
    """Convolves images `[B, H, W, I]` with a kernel `[k, k, I, O]` to `[B, h, w, O]`.

    `padding` counts zeros as PyTorch does; h = (H + padding - k) // stride + 1.
    """
    if image.shape[3] != kernel.shape[2]:
        raise ValueError(f"images {image.shape} do not fit the kernel {kernel.shape}")
    padding = tuple((before, after) for before, after in padding)
    options = dict(stride=stride, padding=padding)
    if _spelled_out.get():
        return plain_conv(image, kernel, **options)
    return _F.bind(image, kernel, **options)


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
    if image.shape[3] != kernel.shape[3]:
        raise ValueError(f"images {image.shape} do not fit the kernel {kernel.shape}")
    added = kernel.shape[0] - 2 * padding + output_padding
    sizes = tuple((n - 1) * stride + added for n in image.shape[1:3])
    options = dict(stride=stride, padding=((padding, padding),) * 2, sizes=sizes)
    if _spelled_out.get():
        return _dilated_conv(image, kernel, stride=stride, padding=padding, sizes=sizes)
    return _T.bind(image, kernel, **options)


def is_convolution(primitive: core.Primitive, *_: Any, **__: Any) -> bool:
    """Whether JAX is to keep a primitive's result: a policy for `jax.checkpoint`."""
    return primitive in (_F, _T)


def _dilated_conv(image, kernel, *, stride, padding, sizes):
    """Transposes a convolution in the one layout that exporters read."""
    before = len(kernel) - 1 - padding
    pads = [
        (before, size - (n - 1) * stride - 1 - before + len(kernel) - 1)
        for n, size in zip(image.shape[1:3], sizes, strict=True)
    ]
    return lax.conv_general_dilated(
        image,
        lax.rev(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        pads,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _native_transpose(image, kernel, *, sizes, **options):
    larger = jax.ShapeDtypeStruct(
        (image.shape[0], *sizes, kernel.shape[2]), image.dtype
    )
    forward = partial(plain_conv, kernel=kernel, **options)
    return jax.linear_transpose(forward, larger)(image)[0]


def _native_kernel_gradient(image, back, *, size, **options):
    like = jax.ShapeDtypeStruct((size, size, image.shape[3], back.shape[3]), back.dtype)
    return jax.linear_transpose(partial(plain_conv, image, **options), like)(back)[0]


def _conv_shape(image, kernel, *, stride, padding):
    sides = zip(image[1:3], padding, strict=True)
    sizes = [(side + sum(pads) - kernel[0]) // stride + 1 for side, pads in sides]
    return (image[0], *sizes, kernel[3])


def _transpose_shape(image, kernel, *, sizes, **options):
    return (image[0], *sizes, kernel[2])


def _kernel_shape(image, back, *, size, **options):
    return (size, size, image[3], back[3])


def _conv_by_image(back, image, kernel, **options):
    return _T.bind(back, kernel, sizes=image.aval.shape[1:3], **options)


def _conv_by_kernel(back, image, kernel, **options):
    return _K.bind(image, back, size=kernel.aval.shape[0], **options)


def _transpose_by_image(back, image, kernel, *, sizes, **options):
    return _F.bind(back, kernel, **options)


def _transpose_by_kernel(back, image, kernel, *, sizes, **options):
    return _K.bind(back, image, size=kernel.aval.shape[0], **options)


def _kernel_by_image(kernel, image, back, *, size, **options):
    return _T.bind(back, kernel, sizes=image.aval.shape[1:3], **options)


def _kernel_by_back(kernel, image, back, *, size, **options):
    return _F.bind(image, kernel, **options)


def _primitive(
    name: str,
    *,
    shape: Callable,
    native: Callable,
    cpu: Callable,
    by_first: Callable,
    by_second: Callable,
    free: tuple[tuple[int, int], tuple[int, int]],
) -> core.Primitive:
    """Defines an operation linear in both of its arrays.

    `shape` tells that of the result; `by_first` and `by_second` pull a result back to
    either array. `free` tells for either array which of its axes becomes which of the
    result, the one that `jax.vmap` may lengthen.
    """
    primitive = core.Primitive(name)

    def abstract(x, y, **options):
        if x.dtype != y.dtype:
            raise TypeError(f"{name} of {x.dtype} and {y.dtype}")
        return jax.core.ShapedArray(shape(x.shape, y.shape, **options), x.dtype)

    def run(x, y, **options):
        return lax.platform_dependent(
            x, y, cpu=partial(cpu, **options), default=partial(native, **options)
        )

    def batch(arrays, axes, **options):
        if None not in axes:
            pairs = tuple(map(jnp.moveaxis, arrays, axes, (0, 0)))
            return lax.map(lambda pair: primitive.bind(*pair, **options), pairs), 0
        index = 0 if axes[1] is None else 1
        arrays, (source, target) = list(arrays), free[index]
        arrays[index], count = _fold(arrays[index], axes[index], source)
        result = primitive.bind(*arrays, **options)
        shape = result.shape
        shape = (*shape[:target], count, -1, *shape[target + 1 :])
        return result.reshape(shape), target

    primitive.def_impl(run)
    primitive.def_abstract_eval(abstract)
    ad.defbilinear(primitive, by_first, by_second)
    batching.primitive_batchers[primitive] = batch
    lower = partial(mlir.lower_fun, multiple_results=False)
    mlir.register_lowering(primitive, lower(native))
    mlir.register_lowering(primitive, lower(cpu), platform="cpu")
    return primitive


def _fold(x: jax.Array, axis: int, into: int) -> tuple[jax.Array, int]:
    """Makes one axis of the batch axis and the axis `into` of what it is a batch of."""
    count = x.shape[axis]
    x = jnp.moveaxis(x, axis, into)
    return x.reshape(*x.shape[:into], -1, *x.shape[into + 2 :]), count


_F = _primitive(
    "conv",
    shape=_conv_shape,
    native=plain_conv,
    cpu=cpu_convolution.conv,
    by_first=_conv_by_image,
    by_second=_conv_by_kernel,
    free=((0, 0), (3, 3)),
)
_T = _primitive(
    "conv_transpose",
    shape=_transpose_shape,
    native=_native_transpose,
    cpu=cpu_convolution.conv_transpose,
    by_first=_transpose_by_image,
    by_second=_transpose_by_kernel,
    free=((0, 0), (2, 3)),
)
_K = _primitive(
    "conv_kernel_gradient",
    shape=_kernel_shape,
    native=_native_kernel_gradient,
    cpu=cpu_convolution.kernel_gradient,
    by_first=_kernel_by_image,
    by_second=_kernel_by_back,
    free=((3, 2), (3, 3)),
)
