"""Atomic columns on lattices whose positions are known."""

import numpy as np
import pytest

from jaxgan import columns

TRUTH = np.stack(np.meshgrid(*2 * [np.arange(6, 60, 7.3)], indexing="ij"), -1)
TRUTH = TRUTH.reshape(-1, 2)


def lattice():
    y, x = np.mgrid[:64, :64]
    distance = (y - TRUTH[:, 0, None, None]) ** 2 + (x - TRUTH[:, 1, None, None]) ** 2
    return 0.4 + 0.1 * np.exp(-distance / (2 * 1.6**2)).sum(axis=0)


@pytest.mark.parametrize("dark", [False, True])
def test_columns_are_found_within_a_tenth_of_a_pixel(dark):
    image = 1 - lattice() if dark else lattice()
    found = columns.match(TRUTH, columns.find(image, dark=dark))
    assert found.recall == found.precision == 1
    assert found.error < 0.1


def test_noise_makes_it_worse():
    noisy = lattice() + 0.1 * np.random.default_rng(0).normal(size=(64, 64))
    found = columns.match(TRUTH, columns.find(noisy))
    assert found.precision < 0.9
    assert found.error > 0.2


def test_matching():
    truth = np.array([[10.0, 10], [20, 20], [30, 30]])
    found = np.array([[10.0, 11], [10, 10.5], [20, 20], [50, 50]])
    result = columns.match(truth, found)
    assert result.recall == pytest.approx(2 / 3)
    assert result.precision == pytest.approx(2 / 4)
    assert result.error == pytest.approx(0.25)


def test_nothing_there():
    nothing = columns.find(np.zeros((32, 32)))
    assert nothing.shape == (0, 2)
    missed = columns.match(TRUTH, nothing)
    assert missed.recall == 0 and np.isnan(missed.precision)
    invented = columns.match(nothing, TRUTH)
    assert np.isnan(invented.recall) and invented.precision == 0
