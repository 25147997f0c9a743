import jax
import numpy as np
import pytest

from jaxgan.models import random_features


def draw(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


features = jax.jit(random_features.random_features)


def test_one_row_of_features_for_each_window():
    image = draw((2, 192, 64, 3))
    found = features(image)
    assert found.shape == (6, 120)
    changed = image.copy()
    changed[1, 128:] *= -1  # the second image's third window
    difference = np.abs(features(changed) - found).max(axis=1)
    assert (difference[:4] == 0).all()
    assert (difference[4:] > 0.05).all()  # its neighbour sees some of it


def test_the_weights_of_this_name_never_change():
    found = np.asarray(features(draw((1, 64, 64, 3))))[0, [0, 9, 30, 100]]
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-4)


def test_another_size_says_what_is_needed():
    with pytest.raises(ValueError, match="divide by 64, got 64x96"):
        random_features.random_features(draw((1, 64, 96, 1)))


# By this function, on the day it got its name.
GOLDEN = [0.302076, 0.591815, 0.207558, 0.073165]
