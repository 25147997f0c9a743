"""Bicubic resampling against MATLAB's: weights that can be worked out by hand.

Keys' kernel h(x) is 1 - 5/2 x^2 + 3/2 x^3 up to 1 and 2 - 4x + 5/2 x^2 - 1/2 x^3 up to
2. `imresize(_, 1/s)` samples h(d / s) / s, d the distance of an old sample's centre to
the new one's; at even s the taps lie at d = 1/2, 3/2 ...:

    s = 2: h(1/4, 3/4, 5/4, 7/4) = 111/128, 29/128, -9/128, -3/128; their sum is 1, the
    two sides together 2, so that each is halved.
    s = 4: h(1/8, 3/8 ... 15/8) = 987, 745, 399, 93, -49, -75, -45, -7, over 1024; the
    two sides together are 4, so that each is quartered.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import bicubic

HALF = np.array([111, 29, -9, -3]) / 256
QUARTER = np.array([987, 745, 399, 93, -49, -75, -45, -7]) / 4096


def keys(x):
    x = abs(x)
    if x <= 1:
        return 1 - Fraction(5, 2) * x**2 + Fraction(3, 2) * x**3
    if x <= 2:
        return 2 - 4 * x + Fraction(5, 2) * x**2 - Fraction(1, 2) * x**3
    return Fraction(0)


def exact_weights(size, scale):
    """MATLAB's weights of a reduction by `scale`, as exact fractions `[new, old]`."""
    result = [[Fraction(0)] * size for _ in range(size // scale)]
    for new, row in enumerate(result):
        center = Fraction(2 * new + 1, 2) * scale - Fraction(1, 2)
        taps = range(int(center) - 2 * scale, int(center) + 2 * scale + 2)
        values = [keys((tap - center) / scale) for tap in taps]
        for tap, value in zip(taps, values, strict=True):
            mirrored = -1 - tap if tap < 0 else tap
            mirrored = 2 * size - 1 - tap if mirrored >= size else mirrored
            row[mirrored] += value / sum(values)
    return np.array([[float(x) for x in row] for row in result])


def test_the_kernel_in_the_middle_of_an_image():
    weights = bicubic.weights(32, 16, factor=1 / 2)
    np.testing.assert_allclose(weights[8, 13:21], [*HALF[::-1], *HALF], atol=1e-12)
    weights_4 = bicubic.weights(64, 16, factor=1 / 4)
    both = [*QUARTER[::-1], *QUARTER]
    np.testing.assert_allclose(weights_4[8, 26:42], both, atol=1e-12)
    assert np.count_nonzero(np.abs(weights[8]) > 1e-12) == 8


def test_the_border_is_mirrored_with_its_edge():
    """The first new sample, centred at 1/2, reaches to -3: those fall on 0, 1 and 2."""
    weights = bicubic.weights(32, 16, factor=1 / 2)
    inside = np.array([111, 111, 29, -9, -3]) / 256
    inside[:3] += np.array([29, -9, -3]) / 256
    np.testing.assert_allclose(weights[0, :5], inside, atol=1e-12)
    np.testing.assert_allclose(weights[15, :-6:-1], inside, atol=1e-12)


@pytest.mark.parametrize("size, scale", [(8, 2), (16, 4), (24, 4), (32, 8)])
def test_reduction_is_exact_everywhere(size, scale):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (2, size, 2 * size, 3)).astype(np.float32)
    rows, columns = exact_weights(size, scale), exact_weights(2 * size, scale)
    expected = np.einsum("Hh,bhwc,Ww->bHWc", rows, image.astype(np.float64), columns)
    actual = jax.jit(lambda x: bicubic.resize(x, factor=1 / scale))(image)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_golden_numbers():
    """Squares 0 to 15, over 256, at a quarter: the sums of the fractions above.

    MATLAB: imresize(repmat((0:15)'.^2 / 256, 1, 16), 1/4), its first column.
    """
    image = (np.arange(16.0) ** 2 / 256).astype(np.float32)
    image = np.broadcast_to(image[:, None, None], (16, 16, 1))
    actual = bicubic.resize(jnp.array(image), factor=1 / 4)[:, 0, 0]
    expected = [0.009336472, 0.118227005, 0.354490280, 0.728883743]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_inside_it_is_what_jax_resizes_to():
    image = np.random.default_rng(0).uniform(-1, 1, (24, 24, 1)).astype(np.float32)
    other = jax.image.resize(image, (6, 6, 1), "cubic", antialias=True)
    ours = bicubic.resize(image, factor=1 / 4)
    np.testing.assert_allclose(ours[2:-2, 2:-2], other[2:-2, 2:-2], atol=1e-5)
    assert np.abs(ours - other).max() > 1e-3


@pytest.mark.parametrize("factor", [1 / 4, 1 / 2, 2, 4])
def test_constants_stay_and_straight_lines_stay_straight(factor):
    flat = bicubic.resize(jnp.full((1, 16, 16, 1), 0.7), factor=factor)
    np.testing.assert_allclose(flat, 0.7, atol=1e-6)
    weights = bicubic.weights(64, round(64 * factor), factor=factor)
    centers = (np.arange(len(weights)) + 0.5) / factor - 0.5
    inside = slice(len(weights) // 4, -len(weights) // 4)
    np.testing.assert_allclose((weights @ np.arange(64))[inside], centers[inside])


def test_enlarging_meets_the_samples_halfway():
    """At twice the size the taps lie at 1/4 and 3/4 of the way: h(1/4) and so on."""
    weights = bicubic.weights(16, 32, factor=2)
    expected = np.array([-3, 29, 111, -9]) / 128
    np.testing.assert_allclose(weights[16, 6:10], expected, atol=1e-12)
