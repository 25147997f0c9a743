"""Supervised denoisers: published sizes, homogeneity, what their layers are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import denoiser
from tests import games

RNG = np.random.default_rng(0)


def count(network):
    image, key = jnp.zeros((1, 64, 64, 1)), jax.random.key(0)
    shapes = jax.eval_shape(lambda: network.init(key, image, train=False))
    leaves = jax.tree.leaves(shapes["params"])
    return sum(leaf.size for leaf in leaves)


@pytest.mark.parametrize(
    "network, published, unused",
    [
        (denoiser.UNet(6, 128, bias=False), 70_504_960, 9_856),
        (denoiser.UNet(4, 128, bias=True), 5_613_441, 0),
        (denoiser.UNet(4, 16, bias=False), 88_448, 368),
        (denoiser.UNet(6, 16, bias=False), 1_103_936, 1_232),
        (denoiser.DnCNN(20, 64, bias=False), 667_008, 1_152),
        (denoiser.DnCNN(20, 64, bias=True), 668_225, 0),
    ],
)
def test_published_sizes(network, published, unused):
    """The published code keeps, and never uses, a bias per channel that is normed."""
    assert count(network) == published - unused


@pytest.mark.parametrize(
    "network", [denoiser.UNet(4, 2, bias=False), denoiser.DnCNN(4, 3, bias=False)]
)
def test_without_biases_f_of_ax_is_a_f_of_x(network):
    image = RNG.normal(size=(1, 16, 16, 1)).astype("f4")
    variables = games.draw_variables(network, image, train=False)
    apply = jax.jit(lambda x: network.apply(variables, x, train=False))
    once = apply(image)
    assert np.std(once) > 1e-3
    np.testing.assert_allclose(apply(7.5 * image), 7.5 * once, rtol=1e-4, atol=1e-4)


def test_with_biases_it_is_not():
    network = denoiser.DnCNN(4, 3, bias=True)
    image = RNG.normal(size=(1, 8, 8, 1)).astype("f4")
    variables = games.draw_variables(network, image, train=False)
    twice = network.apply(variables, 2 * image, train=False)
    assert np.abs(twice - 2 * network.apply(variables, image, train=False)).max() > 0.01


def test_scale_norm_divides_by_the_unbiased_deviation():
    x = RNG.normal(size=(2, 3, 4, 2)).astype("f4") + 5.0
    module = denoiser.ScaleNorm()
    variables = {
        "params": {"scale": np.array([2.0, 3.0], "f4")},
        "batch_stats": {"var": np.array([4.0, 9.0], "f4")},
    }
    y, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
    deviation = x.reshape(-1, 2).std(axis=0, ddof=1)
    np.testing.assert_allclose(y, x * [2, 3] / (deviation + 1e-5), rtol=1e-3)
    running = 0.9 * np.array([4, 9]) + 0.1 * deviation**2
    np.testing.assert_allclose(new["batch_stats"]["var"], running, rtol=1e-3)
    still = module.apply(variables, x, train=False)
    np.testing.assert_allclose(still, x * [2, 3] / ([2.00001, 3.00001]), rtol=1e-5)


def test_doubling_keeps_corners_and_is_linear_between():
    x = jnp.asarray([[1.0, 4.0], [7.0, 10.0]]).reshape(1, 2, 2, 1)
    expected = np.add.outer(np.linspace(0, 6, 4), np.linspace(1, 4, 4))
    np.testing.assert_allclose(denoiser._double(x)[0, ..., 0], expected, rtol=1e-6)
    one = jnp.full((1, 1, 1, 1), 3.0)
    np.testing.assert_allclose(denoiser._double(one), np.full((1, 2, 2, 1), 3.0))


def test_odd_sizes_come_back():
    network = denoiser.UNet(4, 1, bias=False)
    shape = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0],
        jnp.zeros((1, 37, 50, 1)),
    ).shape
    assert shape == (1, 37, 50, 1)
