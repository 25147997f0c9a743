import functools

import jax
import jax.numpy as jnp
import pytest

from jaxgan.models import discriminators


@pytest.mark.parametrize(
    "name, grid",
    [("pixel", 512), ("patch16", 254), ("patch70", 62), ("patch286", 14)]
    + [("skip_patch", 64)],
)
def test_every_name_has_its_grid_at_512(name, grid):
    disc = discriminators.discriminator(name, width=64, norm="instance")
    init = functools.partial(disc.init_with_output, train=False)
    image = jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
    logits, _ = jax.eval_shape(init, jax.random.key(0), image)
    assert logits.shape == (1, grid, grid, 1)
    assert name in discriminators.DISCRIMINATORS


def test_there_are_no_others():
    assert len(discriminators.DISCRIMINATORS) == 5
