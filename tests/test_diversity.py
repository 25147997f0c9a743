import numpy as np
from scipy.spatial import distance

from jaxgan import diversity


def draw(count, *, seed=0, shape=(4, 4, 1)):
    return np.random.default_rng(seed).standard_normal((count, *shape))


def test_distances_are_root_mean_squares():
    images = draw(5)
    flat = images.reshape(5, -1)
    expected = distance.cdist(flat, flat) / np.sqrt(flat.shape[1])
    np.testing.assert_allclose(
        diversity.pairwise_distances(images), expected, atol=1e-6
    )


def test_spread_is_relative_to_real_images():
    real = draw(40)
    np.testing.assert_allclose(diversity.spread(real, real), 1)
    np.testing.assert_allclose(diversity.spread(0.5 * real, real), 0.5)
    np.testing.assert_allclose(diversity.spread(draw(40, seed=1), real), 1, rtol=0.05)


def test_collapse_is_seen():
    real, modes = draw(40), draw(4, seed=1)
    collapsed = np.repeat(modes, 10, axis=0) + 0.01 * draw(40, seed=2)
    assert diversity.duplicates(collapsed, real) == 1
    assert diversity.duplicates(draw(40, seed=3), real) < 0.2
    assert diversity.duplicates(real, real) <= 0.1
    # The mean distance of four modes says little; one mode it does say.
    single = np.repeat(modes[:1], 40, axis=0)
    assert diversity.spread(single, real) < 1e-6
    assert diversity.spread(collapsed, real) > 0.5


def test_half_a_collapse_is_half_seen():
    real, fresh = draw(40), draw(20, seed=1)
    half = np.concatenate([fresh, np.repeat(draw(1, seed=2), 20, axis=0)])
    assert 0.45 < diversity.duplicates(half, real) < 0.65
