"""SRGAN's networks: published sizes, the order of shuffled pixels, derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import srgan
from tests import games


def shapes(module, shape, **options):
    init = lambda key, x: module.init_with_output(key, x, train=False)  # noqa: E731
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    output, variables = jax.eval_shape(init, jax.random.key(0), image)
    return output, sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("channels, expected", [(3, 1_549_462), (1, 1_528_724)])
def test_published_parameter_counts_of_the_generator(channels, expected):
    assert shapes(srgan.SRResNet(channels), (1, 24, 24, channels))[1] == expected


def test_published_parameter_counts_of_the_discriminator():
    assert shapes(srgan.SRDiscriminator(), (1, 96, 96, 3))[1] == 23_565_505
    assert shapes(srgan.SRDiscriminator(), (1, 256, 256, 3))[1] == 138_908_865


def test_a_pooled_discriminator_does_not_grow_with_the_image():
    disc = srgan.SRDiscriminator(head="pooled")
    counts = [shapes(disc, (1, n, n, 3))[1] for n in (96, 256)]
    assert counts[0] == counts[1] < 6e6


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_images_grow_by_the_scale(scale):
    gen = srgan.SRResNet(2, width=4, num_blocks=1, scale=scale)
    output, _ = shapes(gen, (2, 5, 7, 1))
    chex.assert_shape(output, (2, 5 * scale, 7 * scale, 2))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="scale must be one of"):
        shapes(srgan.SRResNet(1, scale=3), (1, 8, 8, 1))
    with pytest.raises(ValueError, match="at least 16x16, got 12x16"):
        shapes(srgan.SRDiscriminator(), (1, 12, 16, 1))
    with pytest.raises(ValueError, match="head must be one of"):
        shapes(srgan.SRDiscriminator(head="flat"), (1, 16, 16, 1))


def test_pixels_are_shuffled_in_pytorchs_order():
    """Channel c r^2 + i r + j becomes channel c at (i, j); Shi et al., eq. 4."""
    x = np.arange(2 * 3 * 12).reshape(1, 2, 3, 12)
    shuffled = srgan.pixel_shuffle(jnp.array(x), factor=2)
    chex.assert_shape(shuffled, (1, 4, 6, 3))
    for y, x_, c in np.ndindex(4, 6, 3):
        channel = c * 4 + (y % 2) * 2 + x_ % 2
        assert shuffled[0, y, x_, c] == x[0, y // 2, x_ // 2, channel]


def test_forward_mode_of_the_generator():
    gen = srgan.SRResNet(1, width=2, num_blocks=1, scale=2)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 4, 4, 1)).astype(np.float32)
    variables = games.draw_variables(gen, image, train=False)
    apply = lambda x: gen.apply(variables, x, train=False)  # noqa: E731
    step = 1e-3 * np.ones_like(image)
    run = jax.jit(lambda x: (*jax.jvp(apply, (x,), (step,)), apply(x + step)))
    value, tangent, moved = run(image)
    np.testing.assert_allclose(moved - value, tangent, atol=1e-4)
    assert np.abs(tangent).max() > 1e-4
