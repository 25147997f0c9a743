import numpy as np
import pytest
import skimage.measure
from numpy.testing import assert_allclose

from jaxgan import morphology


def rings(count=2, size=128):
    """Returns `count` squares of 20 pixels, each with a hole of 4."""
    mask = np.zeros((size, size), bool)
    for i in range(count):
        start = 10 + 40 * i
        mask[start : start + 20, start : start + 20] = True
        mask[start + 8 : start + 12, start + 8 : start + 12] = False
    return mask


def test_objects_and_holes():
    mask = rings()
    mask[100, 100] = True  # speckle
    assert morphology.areas(mask).tolist() == [384, 384]
    assert morphology.holes(mask) == 2
    assert morphology.euler_number(mask) == 1
    mask[10:30, 18] = False  # opens the first ring
    assert morphology.holes(mask) == 1


@pytest.mark.parametrize("seed", range(3))
def test_euler_number_agrees_with_scikit_image(seed):
    mask = np.random.default_rng(seed).random((40, 50)) > 0.6
    expected = skimage.measure.euler_number(mask, connectivity=2)
    assert morphology.euler_number(mask) == expected


@pytest.mark.parametrize("width", [2, 4, 8])
def test_thickness_of_a_band(width):
    mask = np.zeros((32, 64), bool)
    mask[10 : 10 + width] = True
    assert_allclose(morphology.thickness(mask), width)
    assert_allclose(morphology.thickness(mask.T), width)


def test_thickness_of_all_and_nothing():
    assert np.isnan(morphology.thickness(np.zeros((4, 4), bool)))
    assert morphology.thickness(np.ones((4, 6), bool)) == 4


def test_repetition_finds_copies():
    image = np.random.default_rng(0).standard_normal((128, 128))
    alone = morphology.repetition(image)
    assert alone < 0.1
    assert_allclose(morphology.repetition(np.tile(image[:64], (2, 1))), 1)
    half = image.copy()
    half[64:] = image[:64] + image[64:]
    assert 0.2 < morphology.repetition(half) < 0.8
    assert_allclose(morphology.repetition(5 * image + 3), alone)
    assert morphology.repetition(np.ones((64, 64))) == 0


@pytest.mark.parametrize("period", [2, 4, 8])
def test_grid_power_finds_squares(period):
    image = np.random.default_rng(0).standard_normal((128, 128))
    assert 0.3 < morphology.grid_power(image) < 3
    squares = (np.arange(128) % period < period // 2) * 1.0
    artefact = image + squares[:, None]
    assert morphology.grid_power(artefact) > 20
    inside = np.zeros((128, 128), bool)
    inside[32:96, 32:96] = True
    assert morphology.grid_power(artefact, inside=inside) > 10
    only_outside = np.where(inside, image, artefact)
    assert morphology.grid_power(only_outside, inside=inside) < 4


def test_grid_power_of_nothing():
    image = np.zeros((64, 64))
    assert np.isnan(morphology.grid_power(image, inside=image > 0))
    assert np.isnan(morphology.grid_power(np.zeros((8, 8))))


def test_describe_counts_per_section():
    labels = np.full((128, 128), 2)
    labels[rings()] = 0
    labels[100:104] = 1
    found = morphology.describe(labels, classes=("mito", "membrane", "background"))
    assert_allclose(found["mito fraction"], 768 / 128**2)
    assert_allclose(found["mito count"], 2 * 16)
    assert_allclose(found["mito area"], 384)
    assert_allclose(found["mito holes"], 2 * 16)
    assert_allclose(found["membrane thickness"], 4)
    empty = morphology.describe(labels * 0 + 2, classes=("a", "b", "c"))
    assert np.isnan(empty["a area"])
    assert empty["a count"] == 0
