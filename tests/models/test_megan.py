"""MEGAN's networks: published counts, sizes, and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import megan
from tests import games


def shapes(module, *shape):
    init = functools.partial(module.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *shape)))


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    "module, inputs, output, parameters",
    [
        (megan.LowResGenerator(), (128, 96, 1), (128, 96, 1), 6_164_865),
        (megan.HighResGenerator(), (64, 64, 2), (64, 64, 1), 8_404_033),
        (megan.HighResDiscriminator(), (32, 32, 3), (1, 1, 1), 663_745),
        (megan.LowResDiscriminator(), (128, 128, 2), (15, 15, 1), 662_721),
    ],
)
def test_published_parameter_counts(module, inputs, output, parameters):
    made, variables = shapes(module, *inputs)
    assert made.shape[1:] == output
    assert count(variables) == parameters


def test_edges_twice_as_fine():
    module = megan.LowResGenerator(3, edge_factor=2)
    made, variables = shapes(module, 256, 256, 1)
    assert made.shape == (1, 128, 128, 3)
    assert variables["params"]["stem"]["kernel"].shape == (4, 4, 1, 64)


def test_a_verdict_sees_25_pixels():
    module = megan.HighResDiscriminator(width=2)
    image = np.random.default_rng(0).standard_normal((1, 41, 41, 3)).astype("f4")
    variables = games.draw_variables(module, image, train=False)
    judge = jax.jit(lambda x: module.apply(variables, x, train=False)[0, 1, 1, 0])
    seen = np.argwhere(np.abs(jax.grad(judge)(image)[0]).sum(-1) > 0)
    assert (seen.min(0) == 8).all() and (seen.max(0) == 8 + 24).all()


def test_detail_comes_of_edges_and_of_the_scale_below():
    module = megan.HighResGenerator(1, width=2, num_blocks=1)
    patch = np.random.default_rng(0).standard_normal((1, 16, 16, 2)).astype("f4")
    variables = games.draw_variables(module, patch, train=False)
    make = lambda x: module.apply(variables, x, train=False)  # noqa: E731
    for channel in (0, 1):
        push = np.zeros_like(patch)
        push[..., channel] = np.random.default_rng(1).standard_normal((16, 16))
        slope = jax.jit(lambda v: jax.jvp(make, (patch,), (v,))[1])(push)
        assert np.isfinite(slope).all() and np.abs(slope).max() > 1e-3


@pytest.mark.parametrize(
    "module, shape, message",
    [
        (megan.LowResGenerator(), (40, 64, 1), "divide by 16, got 40x64"),
        (megan.LowResGenerator(edge_factor=2), (48, 64, 1), "divide by 32"),
        (megan.HighResGenerator(), (30, 32, 2), "divide by 4, got 30x32"),
        (megan.HighResDiscriminator(), (24, 32, 3), "25x25 or more"),
    ],
)
def test_sizes_that_cannot_be(module, shape, message):
    with pytest.raises(ValueError, match=message):
        shapes(module, *shape)
