"""Augmentation: closed forms, pairs that stay pairs, examples that keep their noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan import augment

COUNT = 64  # examples: every outcome of a few coins shows up among them


def keys(count=COUNT, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def ramps(height, width, count=COUNT):
    """Returns images `[B, H, W, 2]` of the row's and the column's pixel centre."""
    rows, columns = np.indices((height, width), np.float32) + 0.5
    return np.tile(np.stack([rows, columns], axis=-1), (count, 1, 1, 1))


def dihedral_group(image):
    """Returns the eight flips and turns of a square image `[H, W, C]`."""
    turns = [np.rot90(image, turn) for turn in range(4)]
    return turns + [turn[:, ::-1] for turn in turns]


def find(image, candidates):
    """Returns which of `candidates` an image is; it must be exactly one."""
    (index,) = [i for i, x in enumerate(candidates) if np.array_equal(image, x)]
    return index


class DecodeTest(parameterized.TestCase):
    @parameterized.parameters(
        (np.uint8, 0, 255, (0, 255, 51), (-1.0, 1.0, -0.6)),
        (np.uint16, 1000, 3000, (0, 2000, 65535), (-2.0, 0.0, 63.535)),
        (np.int16, -100, 100, (-100, 50, 100), (-1.0, 0.5, 1.0)),
        (np.float32, -np.pi, np.pi, (0.0, np.pi / 2, 7.0), (0.0, 0.5, 7 / np.pi)),
        (np.float16, 0, 1, (0.0, 0.5, 1.0), (-1.0, 0.0, 1.0)),
        (np.bool_, 0, 1, (False, True, True), (-1.0, 1.0, 1.0)),
    )
    def test_low_becomes_minus_one_and_high_one(self, dtype, low, high, x, expected):
        image = np.array(x, dtype).reshape(1, 3, 1, 1)
        decoded = augment.decode(image, jnp.full(1, low), jnp.full(1, high))
        assert decoded.dtype == jnp.float32
        np.testing.assert_allclose(decoded.ravel(), expected, rtol=1e-6, atol=1e-6)

    def test_each_channel_has_its_range(self):
        image = np.full((2, 3, 4, 2), 100, np.uint8)
        low, high = jnp.array([0.0, 100.0]), jnp.array([200.0, 300.0])
        decoded = augment.decode(image, low, high)
        np.testing.assert_array_equal(decoded[..., 0], np.zeros((2, 3, 4)))
        np.testing.assert_array_equal(decoded[..., 1], -np.ones((2, 3, 4)))


class FlipAndRotateTest(parameterized.TestCase):
    def apply(self, batch, **options):
        return augment.flip_and_rotate(batch, keys(), **options)

    @parameterized.parameters(
        ("none", False, {0}),
        ("horizontal", False, {0, 4}),  # 4: left and right exchanged
        ("both", False, {0, 2, 4, 6}),  # 6: top and bottom, 2: half a turn
        ("none", True, set(range(8))),
        ("horizontal", True, set(range(8))),
    )
    def test_reaches_the_elements_that_it_names(self, flip, rotate, elements):
        image = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
        batch = {"source": np.tile(image, (COUNT, 1, 1, 1))}
        turned = self.apply(batch, flip=flip, rotate=rotate)["source"]
        group = dihedral_group(image)
        found = [find(np.asarray(x), group) for x in turned]
        assert set(found) == elements
        # Each is as likely as the others: 3 standard deviations.
        share = 1 / len(elements)
        spread = 3 * np.sqrt(COUNT * share * (1 - share))
        counts = np.bincount(found, minlength=8)[sorted(elements)]
        assert (np.abs(counts - COUNT * share) <= spread).all(), counts

    def test_pairs_turn_together(self):
        source = ramps(4, 4)
        target = 2 * source[..., :1] + 100 * source[..., 1:]
        batch = {"source": source, "target": target}
        turned = self.apply(batch, flip="both", rotate=True)
        again = 2 * turned["source"][..., :1] + 100 * turned["source"][..., 1:]
        np.testing.assert_array_equal(turned["target"], again)

    def test_flips_keep_the_shape_of_oblong_images(self):
        flipped = self.apply({"source": ramps(2, 4)}, flip="both")["source"]
        assert flipped.shape == (COUNT, 2, 4, 2)

    def test_an_examples_noise_is_its_own(self):
        """A batch in two halves gives what the whole batch gives."""
        batch = {"source": ramps(4, 4)}
        apply = functools.partial(augment.flip_and_rotate, flip="both", rotate=True)
        whole = apply(batch, keys())["source"]
        half = apply({"source": ramps(4, 4, 32)}, keys()[32:])["source"]
        np.testing.assert_array_equal(whole[32:], half)

    def test_unknown_flips_are_refused(self):
        with self.assertRaisesRegex(ValueError, "flip must be one of .* got 'up'"):
            self.apply({"source": ramps(2, 2)}, flip="up")


class CropAndResizeTest(parameterized.TestCase):
    @parameterized.parameters((8, 8, 0.64), (16, 8, 0.25))
    def test_a_ramp_shows_where_the_crop_lay(self, height, width, area):
        """Output pixel i samples corner + side (i + 1/2), inside the image."""
        side = area**0.5
        batch = {"source": ramps(height, width)}
        crops = augment.crop_and_resize(batch, keys(), area=area)["source"]
        rows, columns = np.asarray(crops[..., 0]), np.asarray(crops[..., 1])
        for places, axis, size in ((rows, 1, height), (columns, 2, width)):
            places = np.moveaxis(places, axis, 1)  # [B, along, across]
            # At the rim, half a pixel has no neighbour outside to mix with.
            inside = places[:, 1:-1]
            np.testing.assert_allclose(np.diff(inside, axis=1), side, rtol=1e-3)
            corner = inside[:, 0, 0] - 1.5 * side
            assert corner.min() > -1e-4 and corner.max() < (1 - side) * size + 1e-4
            assert np.ptp(corner) > 0.8 * (1 - side) * size
            np.testing.assert_allclose(np.ptp(places, axis=2), 0, atol=1e-4)
        # Rows and columns are drawn independently.
        correlation = np.corrcoef(rows[:, 4, 4], columns[:, 4, 4])[0, 1]
        assert abs(correlation) < 0.5

    def test_the_whole_area_is_the_image_itself(self):
        batch = {"source": ramps(4, 4)}
        assert augment.crop_and_resize(batch, keys(), area=1.0) is batch

    def test_pairs_are_cropped_together(self):
        source = ramps(8, 8)
        batch = {"source": source, "target": source[..., ::-1]}
        crops = augment.crop_and_resize(batch, keys(), area=0.5)
        np.testing.assert_allclose(
            crops["target"], crops["source"][..., ::-1], atol=1e-5
        )

    def test_classes_stay_classes(self):
        generator = np.random.default_rng(0)
        labels = generator.integers(0, 3, (COUNT, 8, 8))
        labels[:, :, :4] = 1
        classes = 2 * np.eye(3, dtype=np.float32)[labels] - 1
        batch = {"source": classes, "target": ramps(8, 8)}
        crops = augment.crop_and_resize(batch, keys(), area=0.5, one_hot=("source",))
        cropped = np.asarray(crops["source"])
        assert set(np.unique(cropped)) == {-1.0, 1.0}
        np.testing.assert_array_equal((cropped == 1).sum(axis=-1), 1)
        # A pixel whose sample lies well within the left half is of class 1 still.
        left = np.asarray(crops["target"])[..., 1] < 4.0
        assert left.any() and (cropped[left].argmax(axis=-1) == 1).all()

    @parameterized.parameters(0.0, -0.5, 1.5)
    def test_impossible_areas_are_refused(self, area):
        with self.assertRaisesRegex(ValueError, rf"area must lie in .* got {area}"):
            augment.crop_and_resize({"source": ramps(4, 4)}, keys(), area=area)
