import numpy as np
import pytest

from jaxgan.data import imagesets
from jaxgan.data.imagesets import ImageSet, Plane


def random(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def test_from_arrays_gives_random_access_without_copies():
    arrays = [random(5, 7), random(6, 8)]
    images = ImageSet.from_arrays(arrays, ["a", "b"])
    assert (images.names, images.files) == (("a", "b"), ("a", "b"))
    assert (images.channels, images.dtype) == (1, np.uint8)
    assert images.shapes == ((5, 7), (6, 8)) and len(images) == 2
    np.testing.assert_array_equal(images.load(1)[..., 0], arrays[1])
    assert np.shares_memory(images.load(1), arrays[1])
    with pytest.raises(ValueError, match="read-only"):
        images.load(1)[0] = 0
    arrays[1][0, 0] += 1  # the caller's own array stays writeable
    assert images.meta(0) is None


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [random(5, 7), random(5, 7, dtype=np.uint16)],
        [random(5, 7, 1), random(5, 7, 3)],
        [random(1, 5, 7, 1)],
    ],
)
def test_a_set_holds_images_of_one_kind(arrays):
    with pytest.raises(ValueError, match="images"):
        ImageSet.from_arrays(arrays)


def test_subset_keeps_the_order_asked_for():
    images = ImageSet.from_arrays([random(4, 4, seed=i) for i in range(5)])
    chosen = images.subset([3, 1])
    assert chosen.names == (images.names[3], images.names[1])
    np.testing.assert_array_equal(chosen.load(0), images.load(3))


def test_merged_images_are_made_once_in_memory_and_else_on_use():
    calls = []

    def read():
        calls.append(1)
        return random(4, 4, 1)

    a = Plane("a", "a", (4, 4, 1), np.dtype(np.uint8), random(4, 4, 1))
    b = Plane("b", "b", (4, 4, 1), np.dtype(np.uint8), read)
    kind = {"shape": (4, 4, 2), "dtype": np.dtype(np.uint8)}
    in_memory = imagesets.merge([a, a], imagesets.stack, **kind)
    assert in_memory.load() is in_memory.load()
    on_use = imagesets.merge([a, b], imagesets.stack, **kind)
    assert not calls
    assert on_use.load().shape == on_use.shape == (4, 4, 2)
    assert on_use.name == "a" and len(calls) == 1


def test_the_first_mask_wins_and_the_rest_is_background():
    first = np.array([[0, 200, 200, 128]], np.uint8)[..., None]
    second = np.array([[1, 1, 0, 0]], np.uint16)[..., None]
    classes = imagesets.classes(first, second, thresholds=[128, 0.5])
    np.testing.assert_array_equal(
        classes[0], [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]]
    )
    assert classes.dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("factor", [2, 3, 6])
def test_resize_by_an_integer_is_the_mean_of_blocks(dtype, factor):
    image = random(4 * factor, 5 * factor, 2, dtype=dtype)
    blocks = image.reshape(4, factor, 5, factor, 2).mean((1, 3), dtype=np.float64)
    wanted = np.rint(blocks) if dtype != np.float32 else blocks
    small = imagesets.resize(image, (4, 5))
    np.testing.assert_array_equal(small, wanted.astype(dtype))
    assert small.dtype == dtype and small.flags.c_contiguous


def test_resize_between_integers_weighs_by_area():
    image = np.array([[0.0, 3.0, 6.0]], np.float32)[..., None]
    # Two new pixels of 1.5 old ones each: (0 + 3/2) / 1.5 and (3/2 + 6) / 1.5.
    np.testing.assert_allclose(imagesets.resize(image, (1, 2))[0, :, 0], [1, 5])
    doubled = imagesets.resize(image, (1, 6))[0, :, 0]
    np.testing.assert_allclose(doubled, [0, 0, 3, 3, 6, 6])


def test_resize_keeps_the_mean():
    image = random(31, 17, 1, dtype=np.float32)
    np.testing.assert_allclose(
        imagesets.resize(image, (7, 40)).mean(), image.mean(), rtol=1e-5
    )


def test_resized_classes_are_classes_of_the_largest_area():
    labels = np.array([[0, 0, 1, 2], [0, 1, 2, 2]])
    classes = (labels[..., None] == np.arange(3)).astype(np.uint8)
    small = imagesets.resize_classes(classes, (1, 2))
    np.testing.assert_array_equal(small, [[[1, 0, 0], [0, 0, 1]]])
    assert small.dtype == np.uint8
