import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import maskgan, unet
from tests import games


def test_parameters_and_size_of_the_papers_generator():
    gen = maskgan.MaskGenerator(3)
    init = functools.partial(gen.init_with_output, train=False)
    latent = jax.ShapeDtypeStruct((2, 8, 8, 8), jnp.float32)
    mask, variables = jax.eval_shape(init, jax.random.key(0), latent)
    assert mask.shape == (2, 512, 512, 3)
    assert sum(x.size for x in jax.tree.leaves(variables)) == 1_771_747


@pytest.mark.parametrize("depth, count", [(9, 4_189_025), (8, 3_402_337)])
def test_parameters_of_the_papers_micrograph_generator(depth, count):
    gen = unet.UNet(1, width=16, depth=depth, norm="instance", dropout=0.0)
    image = jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
    init = functools.partial(gen.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    assert sum(x.size for x in jax.tree.leaves(variables)) == count


def test_classes_are_probabilities_between_minus_one_and_one():
    gen = maskgan.MaskGenerator(3, width=2)
    latent = np.random.default_rng(0).standard_normal((2, 1, 2, 4)).astype("f4")
    variables = games.draw_variables(gen, latent, train=False)
    mask = np.asarray(gen.apply(variables, latent, train=False))
    assert mask.shape == (2, 64, 128, 3)
    np.testing.assert_allclose(((mask + 1) / 2).sum(axis=-1), 1, rtol=1e-5)
    assert mask.min() < -0.9 and mask.max() > 0.3
    assert np.abs(mask[0] - mask[1]).max() > 0.1


def test_forward_mode_passes():
    gen = maskgan.MaskGenerator(2, width=1)
    latent = np.ones((1, 1, 1, 2), np.float32)
    variables = games.draw_variables(gen, latent, train=False)
    apply = lambda z: gen.apply(variables, z, train=False)  # noqa: E731
    _, tangent = jax.jvp(apply, (latent,), (latent,))
    assert np.isfinite(tangent).all()
