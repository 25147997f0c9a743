import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import cgan, dcgan
from tests import games


def count(module, *shapes):
    """Returns the number of parameters, and the shape that comes out."""
    init = functools.partial(module.init_with_output, train=False)
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    output, variables = jax.eval_shape(init, jax.random.key(0), *inputs)
    return sum(x.size for x in jax.tree.leaves(variables["params"])), output.shape


@pytest.mark.parametrize(
    "size, channels, latent, expected",
    [
        (32, 1, 100, 3_573_696),
        (32, 3, 100, 3_573_824),
        (64, 1, 100, 3_574_656),
        (64, 3, 100, 3_576_704),
        (512, 1, 50, 12_096_640),
        (512, 1, 100, 12_915_840),
        (512, 1, 150, 13_735_040),
    ],
)
def test_published_generators(size, channels, latent, expected):
    found, shape = count(dcgan.Generator(size, channels), (2, latent))
    assert found == expected
    assert shape == (2, size, size, channels)


@pytest.mark.parametrize(
    "size, channels, expected",
    [
        (32, 1, 2_757_376),
        (32, 3, 2_759_424),
        (64, 1, 2_763_520),
        (64, 3, 2_765_568),
        (512, 1, 11_293_696),
    ],
)
def test_published_discriminators(size, channels, expected):
    found, shape = count(dcgan.Discriminator(size), (2, size, size, channels))
    assert found == expected
    assert shape == (2,)


@pytest.mark.parametrize(
    "gen, disc, channels, expected",
    [
        (cgan.Generator(32), cgan.Discriminator(32), 1, (3_655_616, 2_767_616)),
        (cgan.Generator(64, 3), cgan.Discriminator(64), 3, (3_658_624, 2_775_808)),
        (
            cgan.BranchGenerator(3),
            cgan.BranchDiscriminator(),
            3,
            (11_923_075, 11_045_249),
        ),
    ],
)
def test_ten_classes(gen, disc, channels, expected):
    found, (*image, _) = count(gen, (2, 100), (2, 10))
    assert found == expected[0]
    found, shape = count(disc, (*image, channels), (2, 10))
    assert found == expected[1]
    assert shape == (2,)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="got 128"):
        count(dcgan.Generator(128), (1, 4))
    with pytest.raises(ValueError, match="judges images of 64x64, got 32x32"):
        count(dcgan.Discriminator(64), (1, 32, 32, 1))


@pytest.mark.parametrize(
    "gen, condition",
    [(dcgan.Generator(32, width=4), 0), (cgan.BranchGenerator(width=2), 3)],
)
def test_forward_mode_passes(gen, condition):
    inputs = [np.ones((2, 4), np.float32)]
    inputs += [np.ones((2, condition), np.float32)] if condition else []
    variables = games.draw_variables(gen, *inputs, train=False)
    apply = lambda *z: gen.apply(variables, *z, train=False)  # noqa: E731
    image, tangent = jax.jit(functools.partial(jax.jvp, apply))(inputs, inputs)
    assert np.isfinite(tangent).all() and np.abs(tangent).max() > 0
    assert np.abs(image).max() <= 1


@pytest.mark.parametrize(
    "disc",
    [
        cgan.Discriminator(32, width=1, norm="none"),
        cgan.BranchDiscriminator(width=1, norm="none"),
    ],
    ids=("concat", "branch"),
)
def test_penalties_reach_the_discriminators(disc):
    """Their gradients have gradients."""
    size = getattr(disc, "size", cgan.BRANCH_SIZE)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, size, size, 1)).astype("f4")
    given = np.ones((1, 2), np.float32)
    variables = games.draw_variables(disc, image, given, train=False)

    def slope(variables):
        judge = lambda x: disc.apply(variables, x, given, train=False).sum()  # noqa: E731
        return jnp.sum(jax.grad(judge)(image) ** 2)

    grads = jax.jit(jax.grad(slope))(variables)["params"]
    assert np.abs(grads["logit"]["kernel"]).max() > 0


@pytest.mark.parametrize(
    "gen", [cgan.Generator(32, width=2), cgan.BranchGenerator(width=2)]
)
def test_generators_heed_the_condition(gen):
    latent = np.ones((2, 3), np.float32)
    given = np.eye(2, dtype=np.float32)
    variables = games.draw_variables(gen, latent, given, train=False)
    apply = jax.jit(functools.partial(gen.apply, train=False))
    image = apply(variables, latent, given)
    assert np.abs(image[0] - image[1]).max() > 1e-4
