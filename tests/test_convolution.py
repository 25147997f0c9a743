import re
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxgan import convolution

CANONICAL = "b01f_01io->b01f"

# size, kernel, stride, padding of convolutions that networks of the field use
CONVOLUTIONS = [
    (8, 4, 2, 1),
    (2, 4, 2, 1),
    (7, 4, 1, 1),
    (6, 3, 1, 1),
    (6, 3, 2, 1),
    (9, 7, 1, 0),
    (5, 1, 1, 0),
    (6, 2, 2, 0),
    (7, 4, 1, ((1, 2), (2, 1))),
    (7, 3, 2, ((1, 0), (1, 0))),
    (9, 7, 1, 3, (5, 2)),
    (8, 4, 2, 1, (1, 5)),
    (1, 4, 1, ((1, 2), (2, 1)), (3, 12)),
]
# size, kernel, stride, padding, output padding
TRANSPOSED = [
    (4, 4, 2, 1, 0),
    (1, 4, 1, 0, 0),
    (4, 3, 2, 1, 1),
    (3, 2, 2, 0, 0),
    (3, 4, 2, 1, 0, (1, 5)),
]


def arrays(*shapes):
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=shape) / np.sqrt(np.prod(shape[:3])) for shape in shapes]
    return [jnp.asarray(draw, jnp.float32) for draw in draws]


def pairs(padding):
    return ((padding, padding),) * 2 if isinstance(padding, int) else padding


def reference_conv(image, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        image,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def reference_transpose(image, kernel, *, stride, padding, output_padding):
    """Zeros between the pixels, then a convolution with the flipped kernel."""
    edge = kernel.shape[0] - 1 - padding
    return lax.conv_general_dilated(
        image,
        kernel[::-1, ::-1],
        (1, 1),
        ((edge, edge + output_padding),) * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    )


def conv_case(size, kernel, stride, padding, channels=(3, 4)):
    options = {"stride": stride, "padding": pairs(padding)}
    inputs = arrays((2, size, size + 2, channels[0]), (kernel, kernel, *channels))
    return (
        partial(convolution.conv, **options),
        partial(reference_conv, **options),
        inputs,
    )


def transposed_case(size, kernel, stride, padding, output_padding, channels=(4, 3)):
    options = {"stride": stride, "padding": padding, "output_padding": output_padding}
    inputs = arrays((2, size, size, channels[1]), (kernel, kernel, *channels))
    return (
        partial(convolution.conv_transpose, **options),
        partial(reference_transpose, **options),
        inputs,
    )


CASES = [conv_case(*case) for case in CONVOLUTIONS]
CASES += [transposed_case(*case) for case in TRANSPOSED]
IDS = [f"conv{case}" for case in CONVOLUTIONS] + [f"transposed{c}" for c in TRANSPOSED]
each_case = pytest.mark.parametrize(("ours", "reference", "inputs"), CASES, ids=IDS)


@each_case
def test_values_and_gradients_are_those_of_xla(ours, reference, inputs):
    def value_and_grads(function):
        value, pull_back = jax.vjp(function, *inputs)
        return value, pull_back(jnp.cos(value))

    for a, b in zip(
        jax.tree.leaves(jax.jit(lambda: value_and_grads(ours))()),
        jax.tree.leaves(jax.jit(lambda: value_and_grads(reference))()),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", [0, 1, 2, 10, 13, 15])
def test_second_order_in_both_modes(case):
    ours, _, inputs = CASES[case]
    check_grads(jax.jit(ours), inputs, order=2, modes=["fwd", "rev"], rtol=2e-2)


@pytest.mark.parametrize("case", [0, 13, 15])
@pytest.mark.parametrize("axes", [(0, None), (None, 1), (2, 0)])
def test_vmap_of_gradients_over_any_of_the_arrays(case, axes):
    ours, reference, inputs = CASES[case]
    inputs = [
        x if axis is None else jnp.stack([x, 2 * x, x + 1], axis)
        for x, axis in zip(inputs, axes, strict=True)
    ]

    def value_and_grads(function, *inputs):
        value, pull_back = jax.vjp(function, *inputs)
        return value, pull_back(jnp.cos(value))

    results = [
        jax.jit(jax.vmap(partial(value_and_grads, function), axes))(*inputs)
        for function in (ours, reference)
    ]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), *results)


def test_bfloat16_stays_bfloat16():
    ours, _, inputs = CASES[0]
    half = [x.astype(jnp.bfloat16) for x in inputs]
    result = jax.jit(ours)(*half)
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        result.astype(jnp.float32), ours(*inputs), rtol=0.05, atol=0.3
    )


def loss(kernels, image):
    down, up = kernels
    x = jnp.tanh(convolution.conv(image, down, stride=2, padding=pairs(1)))
    x = convolution.conv_transpose(x, up, stride=2, padding=1)
    return jnp.sum(convolution.conv(x, down, stride=1, padding=pairs(1)) ** 2)


def train_twice(kernels, images):
    def step(kernels, image):
        grads = jax.grad(loss)(kernels, image)
        return jax.tree.map(lambda w, g: w - 0.1 * g, kernels, grads), None

    return lax.scan(step, kernels, images)[0]


KERNELS = tuple(arrays((4, 4, 3, 8), (4, 4, 3, 8)))
IMAGES = jnp.zeros((2, 1, 64, 64, 3), jnp.float32)


def test_loops_on_a_cpu_hold_no_slow_convolution():
    """XLA makes naive loops of gradients of convolutions that are inside a loop."""
    text = jax.jit(train_twice).lower(KERNELS, IMAGES).compile().as_text()
    labels = set(re.findall(r"dim_labels=(\S+?)[,\s]", text))
    assert "while" in text
    assert labels <= {CANONICAL}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_native_convolutions_only(platform):
    exported = jax.export.export(jax.jit(train_twice), platforms=[platform])
    text = exported(KERNELS, IMAGES).mlir_module()
    assert "stablehlo.convolution" in text
    assert "stablehlo.dot_general" not in text


def test_the_cpu_form_is_named_in_one_program_for_all_platforms():
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(train_twice), platforms=platforms)
    text = exported(KERNELS, IMAGES).mlir_module()
    assert "stablehlo.case" in text
