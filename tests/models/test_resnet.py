"""The residual generator: published sizes, what it takes, derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import resnet
from tests import games


def count(module, shape):
    init = lambda key, x: module.init(key, x, train=False)  # noqa: E731
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    "channels, blocks, expected",
    [(3, 9, 11_378_179), (3, 6, 7_837_699), (1, 9, 11_365_633)],
)
def test_published_parameter_counts(channels, blocks, expected):
    module = resnet.ResNetGenerator(channels, num_blocks=blocks)
    assert count(module, (1, 128, 128, channels)) == expected


def test_images_keep_their_size_and_may_change_channels():
    module = resnet.ResNetGenerator(2, width=4, num_blocks=1)
    image = jax.ShapeDtypeStruct((3, 20, 36, 1), jnp.float32)
    init = lambda key, x: module.init_with_output(key, x, train=True)  # noqa: E731
    output, _ = jax.eval_shape(init, jax.random.key(0), image)
    chex.assert_shape(output, (3, 20, 36, 2))


@pytest.mark.parametrize("size", [(4, 8), (18, 16)])
def test_sizes_that_do_not_divide_are_refused(size):
    module = resnet.ResNetGenerator(1, width=2, num_blocks=1)
    with pytest.raises(ValueError, match="divide by 4, got"):
        count(module, (1, *size, 1))


def test_forward_mode_is_the_transpose_of_reverse_mode():
    module = resnet.ResNetGenerator(1, width=2, num_blocks=0)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 1)).astype(np.float32)
    variables = games.draw_variables(module, image, train=False)
    apply = lambda x: module.apply(variables, x, train=False)  # noqa: E731

    @jax.jit
    def products(x, step, cotangent):
        _, forward = jax.jvp(apply, (x,), (step,))
        _, pull_back = jax.vjp(apply, x)
        return jnp.vdot(cotangent, forward), jnp.vdot(pull_back(cotangent)[0], step)

    forward, reverse = products(image, image[:, ::-1], image[:, :, ::-1])
    np.testing.assert_allclose(forward, reverse, rtol=1e-3)
    assert abs(forward) > 1e-2
