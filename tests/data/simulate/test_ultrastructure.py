import numpy as np
import pytest

from jaxgan import morphology
from jaxgan.data.simulate import ultrastructure
from jaxgan.data.simulate.options import SimulationConfig

MITOCHONDRIA, MEMBRANES, BACKGROUND = range(3)


@pytest.fixture(scope="module")
def tissue():
    return ultrastructure.sections(3, size=192)


def test_a_section_is_a_function_of_seed_and_index(tissue):
    again = ultrastructure.section(2, size=192)
    np.testing.assert_array_equal(again.labels, tissue.labels[2])
    np.testing.assert_array_equal(again.image, tissue.image[2])
    later = ultrastructure.sections(1, start=2, size=192)
    np.testing.assert_array_equal(later.image[0], tissue.image[2])
    assert (ultrastructure.section(2, size=192, seed=1).labels != again.labels).any()
    assert tissue.labels.dtype == tissue.image.dtype == np.uint8


def test_proportions_are_those_of_the_tissue(tissue):
    parts = morphology.fractions(tissue.labels, classes=3)
    assert 0.01 < parts[MITOCHONDRIA] < 0.15
    assert 0.1 < parts[MEMBRANES] < 0.3
    thickness = morphology.thickness(tissue.labels[0] == MEMBRANES)
    assert 2 < thickness < 12


def test_membranes_part_the_section_into_cells(tissue):
    """Holes in the membranes are cells that lie wholly inside."""
    found = [morphology.holes(labels == MEMBRANES) for labels in tissue.labels]
    assert min(found) >= 2


def test_mitochondria_are_whole_and_lie_in_cells(tissue):
    for labels in tissue.labels:
        mask = labels == MITOCHONDRIA
        assert morphology.holes(mask) == 0
        # Nowhere do they touch a membrane: cytoplasm lies between.
        grown = mask | np.roll(mask, 1, 0) | np.roll(mask, 1, 1)
        assert not (grown & (labels == MEMBRANES)).any()


def test_membranes_and_mitochondria_are_dark(tissue):
    means = [tissue.image[tissue.labels == k].mean() for k in range(3)]
    assert means[BACKGROUND] > 1.3 * max(means[:2])
    assert 0 < tissue.image.min() < tissue.image.max()


def test_pairs_of_masks_and_micrographs():
    config = SimulationConfig(
        simulate="mask_to_micrograph", num_simulated=2, simulated_size=64
    )
    source, target = config.images()
    assert (source.channels, target.channels) == (3, 1)
    assert (source.load(0).sum(axis=-1) == 1).all()
    assert source.shapes == target.shapes == ((64, 64),) * 2
