import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from jaxgan import distribution


def gaussians(seed=0):
    generator = np.random.default_rng(seed)
    mix = generator.standard_normal((4, 4))
    return generator.standard_normal((50, 4)) @ mix, generator.standard_normal((60, 4))


def test_frechet_distance_is_that_of_its_definition():
    x, y = gaussians()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    offset = x.mean(0) - y.mean(0)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = offset @ offset + np.trace(a + b - 2 * root)
    assert_allclose(distribution.frechet_distance(x, y), expected, rtol=1e-6)
    assert_allclose(distribution.frechet_distance(y, x), expected, rtol=1e-6)


def test_frechet_distance_knows_shifts_rotations_and_itself():
    x, y = gaussians()
    shift = np.array([3.0, 0, -4, 0])
    assert_allclose(distribution.frechet_distance(x, x + shift), 25)
    assert_allclose(distribution.frechet_distance(x, x), 0, atol=1e-9)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    assert_allclose(
        distribution.frechet_distance(x @ turn, y @ turn),
        distribution.frechet_distance(x, y),
    )


def test_frechet_distance_of_fewer_samples_than_features_is_finite():
    x = np.random.default_rng(0).standard_normal((6, 20))
    assert_allclose(distribution.frechet_distance(x[:3], x[:3]), 0, atol=1e-5)
    assert distribution.frechet_distance(x[:3], x[3:]) > 1


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4))])
def test_frechet_distance_names_what_it_cannot_compare(shapes):
    with pytest.raises(ValueError, match="two samples or more"):
        distribution.frechet_distance(*map(np.zeros, shapes))


def test_principal_axes_find_what_varies():
    generator = np.random.default_rng(0)
    widths = np.array([0.1, 5.0, 1.0])
    samples = 7 + widths * generator.standard_normal((500, 3))
    basis = distribution.principal_axes(samples)
    assert_allclose(np.abs(basis.axes), [[0, 1, 0], [0, 0, 1]], atol=0.03)
    assert_allclose(basis.explained, [25 / 26, 1 / 26], atol=0.02)
    projected = distribution.project(basis, samples)
    assert projected.shape == (500, 2)
    assert_allclose(projected.mean(axis=0), 0, atol=1e-9)
    assert_allclose(projected.var(axis=0) / samples.var(axis=0).sum(), basis.explained)


def test_settled_is_where_the_mean_of_five_first_comes_near_its_last():
    values = [100.0] * 5 + [10.0] * 10
    assert distribution.settled(values) == 9
    assert distribution.settled(values, window=1) == 5
    assert distribution.settled([3.0] * 5) == 4
    half = [100.0] * 5 + [10.0] * 20
    assert distribution.settled(half) == distribution.settled(values)
    with pytest.raises(ValueError, match="as many values, got 3"):
        distribution.settled([1.0, 2.0, 3.0])
