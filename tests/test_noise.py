"""Noise models against closed forms and NumPy's distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgan import noise

POISSON = noise.parse("poisson:1")


def test_what_the_flag_says():
    assert noise.parse("poisson:25") == noise.Noise("poisson", 25.0, True)
    assert noise.parse("poisson:25", clip=False).clip is False
    assert noise.parse("gaussian:.1") == noise.Noise("gaussian", 0.1, False)
    assert noise.parse("none") == noise.Noise("none", 0.0, False)
    for text in ("poisson", "poisson:-1", "gaussian:x", "none:1", "salt:1", "poisson:"):
        with pytest.raises(ValueError, match="noise is poisson:COUNTS"):
            noise.parse(text)


@pytest.mark.parametrize("text", ["poisson:25", "poisson:1", "gaussian:0.5"])
@pytest.mark.parametrize("clip", [True, False])
def test_moments(text, clip):
    model = noise.parse(text, clip=clip)
    image = jnp.full((200, 200, 1), 0.9)
    drawn = np.asarray(noise.add(image, jax.random.key(0), model))
    mean = float(noise.expected(jnp.float32(0.9), model))
    assert drawn.mean() == pytest.approx(mean, abs=0.01)
    if model.kind == "gaussian":
        assert drawn.std() == pytest.approx(0.5, rel=0.02)
        assert drawn.min() < -0.5 and drawn.max() > 1.5  # never clipped
    elif clip:
        assert drawn.max() == 1.0
    else:
        assert drawn.max() > 1.0
        assert mean == pytest.approx(0.9)
        assert drawn.var() == pytest.approx(0.9 / model.level, rel=0.03)


def test_bias_of_clipped_counts_and_its_cure():
    x = jnp.linspace(0.05, 1.0, 7)
    np.testing.assert_allclose(noise.expected(x, POISSON), 1 - jnp.exp(-x), atol=1e-6)
    half = 1 - np.exp(-0.5)
    assert half == pytest.approx(0.393, abs=1e-3)
    for text in ("poisson:1", "poisson:2.5", "poisson:25"):
        model = noise.parse(text)
        level = model.level
        k = np.arange(200)
        exact = [
            np.sum(np.minimum(k / level, 1) * stats.poisson.pmf(k, level * v))
            for v in x
        ]
        np.testing.assert_allclose(noise.expected(x, model), exact, atol=1e-5)
        np.testing.assert_allclose(
            noise.unbias(noise.expected(x, model), model), x, atol=2e-3
        )
    np.testing.assert_array_equal(noise.unbias(x, noise.parse("gaussian:1")), x)


def test_deviance_is_the_likelihood_of_clipped_counts():
    """Differences between two images are those of SciPy's log-likelihoods."""
    level = 3
    counts = np.array([0, 1, 2, 3, 3, 1])
    seen = jnp.asarray(counts / level, jnp.float32).reshape(2, 3, 1)
    loss = noise.PoissonDeviance(level)

    def exact(value):
        below = stats.poisson.logpmf(counts, level * value)
        above = stats.poisson.logsf(level - 1, level * value)
        return -np.where(counts >= level, above, below).mean()

    a, b = (loss(jnp.full((2, 3, 1), v), seen) for v in (0.3, 0.8))
    assert float(a - b) == pytest.approx(exact(0.3) - exact(0.8), rel=1e-4)
    perfect = jnp.full((2, 3, 1), 1 / 3)
    assert float(loss(perfect, perfect)) == pytest.approx(0, abs=1e-6)


def test_deviance_is_least_at_the_truth_where_squares_are_dark():
    image = jnp.full((128, 128, 1), 0.5)
    seen = noise.add(image, jax.random.key(1), POISSON)
    grid = jnp.linspace(0.2, 0.8, 61)

    def least(loss):
        return float(
            grid[np.argmin([loss(jnp.full_like(image, v), seen) for v in grid])]
        )

    poisson = noise.PoissonDeviance(1.0)
    assert least(noise.squared_error) == pytest.approx(0.393, abs=0.02)
    assert least(poisson) == pytest.approx(0.5, abs=0.02)
    grad = jax.grad(lambda x: noise.PoissonDeviance(25.0)(x, seen))(image * 0)
    assert np.isfinite(grad).all()


def test_estimated_deviation_ignores_the_image():
    y, x = np.mgrid[:64, :64]
    clean = (0.5 + 0.3 * np.sin(x / 6) * np.cos(y / 5))[..., None]
    seen = clean + 0.1 * np.random.default_rng(0).normal(size=clean.shape)
    both = noise.estimate(jnp.asarray(np.stack([seen, clean]), jnp.float32))
    assert float(both[0]) == pytest.approx(0.1, rel=0.05)
    assert float(both[1]) < 0.005


def test_level_of_the_truth():
    image = jnp.full((64, 64, 1), 0.5)
    level = noise.level_of(
        image, jax.random.key(0), noise.parse("gaussian:.2"), noise.squared_error
    )
    assert float(level) == pytest.approx(0.04, rel=0.05)
    level = noise.level_of(image, jax.random.key(0), POISSON, noise.squared_error)
    chance = 1 - np.exp(-0.5)
    exact = chance * 0.25 + (1 - chance) * 0.25
    assert float(level) == pytest.approx(exact, rel=0.02)
