"""Metrics against scikit-image, against closed forms and against their own limits."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics
from absl.testing import parameterized

from jaxgan import metrics
from tests.games import full_optimisation  # noqa: F401

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
psnr = jax.jit(metrics.psnr)
ssim = jax.jit(metrics.ssim, static_argnames="uniform_window")
ALL = {
    "mse": jax.jit(metrics.mse),
    "psnr": partial(psnr, peak=2.0),
    "psnr_reference": jax.jit(partial(metrics.psnr, peak="reference")),
    "nrmse": jax.jit(metrics.nrmse),
    "ssim": partial(ssim, peak=2.0),
    "ssim_7": partial(ssim, peak=2.0, uniform_window=7),
}


def make_pair(channels=1, batch=2, noise=0.2, low=-1.0, high=1.0):
    """Returns smooth targets and noisy copies `[B, 24, 31, C]`; seeded by shape."""
    generator = np.random.default_rng([batch, channels])
    shape = (batch, 24, 31, channels)
    rows, columns = np.indices(shape[1:3])[:, None, :, :, None]
    phases = generator.uniform(0, 6, (2, batch, 1, 1, channels))
    waves = np.sin(rows / 3 + phases[0]) * np.cos(columns / 5 + phases[1])
    target = low + (high - low) * (waves + 1) / 2
    image = target + noise * (high - low) / 2 * generator.standard_normal(shape)
    return target.astype(np.float32), image.astype(np.float32)


def per_image(metric, target, image, **options):
    """Returns scikit-image's metric of each pair, computed in float64."""
    pairs = zip(target.astype(np.float64), image.astype(np.float64), strict=True)
    return np.array([metric(a, b, **options) for a, b in pairs])


class ReferenceTest(parameterized.TestCase):
    """scikit-image in float64 is right."""

    @parameterized.product(channels=(1, 3), peak=(1.0, 2.0, 255.0))
    def test_psnr(self, channels, peak):
        target, image = make_pair(channels, high=peak - 1)
        expected = per_image(
            skimage.metrics.peak_signal_noise_ratio, target, image, data_range=peak
        )
        actual = psnr(target, image, peak=peak)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)

    @parameterized.parameters(1, 3)
    def test_mse_and_nrmse(self, channels):
        target, image = make_pair(channels)
        for actual, metric, options in (
            (metrics.mse, skimage.metrics.mean_squared_error, {}),
            (
                metrics.nrmse,
                skimage.metrics.normalized_root_mse,
                {"normalization": "min-max"},
            ),
        ):
            expected = per_image(metric, target, image, **options)
            np.testing.assert_allclose(actual(target, image), expected, rtol=1e-5)

    @parameterized.product(
        channels=(1, 3), scale=(1.0, 2.0, 255.0), uniform_window=(None, 7, 11)
    )
    def test_ssim(self, channels, scale, uniform_window):
        target, image = make_pair(channels, low=0.0, high=scale)
        window = {"win_size": uniform_window} if uniform_window else GAUSSIAN
        expected = per_image(
            skimage.metrics.structural_similarity,
            target,
            image,
            data_range=scale,
            channel_axis=-1,
            **window,
        )
        actual = ssim(target, image, peak=scale, uniform_window=uniform_window)
        np.testing.assert_allclose(actual, expected, atol=1e-5)

    @parameterized.parameters((None, 5), (7, 3))
    def test_ssim_map_is_the_cropped_one(self, uniform_window, radius):
        target, image = make_pair()
        window = {"win_size": uniform_window} if uniform_window else GAUSSIAN
        _, expected = skimage.metrics.structural_similarity(
            target[0, :, :, 0], image[0, :, :, 0], data_range=2.0, full=True, **window
        )
        actual = metrics.ssim_map(
            target, image, peak=2.0, uniform_window=uniform_window
        )
        expected = expected[radius:-radius, radius:-radius]
        np.testing.assert_allclose(actual[0, :, :, 0], expected, atol=1e-4)

    def test_ssim_on_a_bright_background(self):
        # 16-bit counts: the level is a hundred times the contrast.
        target, image = make_pair(low=30_000.0, high=30_300.0)
        expected = per_image(
            skimage.metrics.structural_similarity,
            target,
            image,
            data_range=300.0,
            channel_axis=-1,
            **GAUSSIAN,
        )
        actual = ssim(target, image, peak=300.0)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


class ClosedFormTest(parameterized.TestCase):
    """Numbers that pencil and paper give."""

    def test_a_constant_offset(self):
        target, _ = make_pair(channels=2)
        image = target + np.float32(0.1)
        np.testing.assert_allclose(metrics.mse(target, image), 0.01, rtol=1e-5)
        # 10 log10(2^2 / 0.1^2)
        decibels = psnr(target, image, peak=2.0)
        np.testing.assert_allclose(decibels, 26.0206, rtol=1e-5)
        extent = np.ptp(target, axis=(1, 2, 3))
        np.testing.assert_allclose(
            metrics.nrmse(target, image), 0.1 / extent, rtol=1e-5
        )

    def test_the_reference_peak_is_each_images_own(self):
        target = np.zeros((2, 8, 8, 1), np.float32)
        target[0, 3, 4], target[1, 3, 4] = 1.0, 10.0
        decibels = ALL["psnr_reference"](target, target + np.float32(0.1))
        np.testing.assert_allclose(decibels, [20.0, 40.0], rtol=1e-5)

    def test_ssim_of_two_flat_images(self):
        # Without contrast, eq. 13 leaves the luminance: (2ab + c1) / (a^2 + b^2 + c1).
        a, b, peak = 0.2, 0.6, 1.0
        expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
        flat = np.ones((1, 16, 16, 1), np.float32)
        actual = ssim(a * flat, b * flat, peak=peak)
        np.testing.assert_allclose(actual, [expected], rtol=1e-5)

    @parameterized.parameters(
        ((1.0, 1.0, 1.0), 235.0), ((0.0, 0.0, 0.0), 16.0), ((0.0, 1.0, 0.0), 144.553)
    )
    def test_y_channel(self, colour, expected):
        image = np.broadcast_to(np.float32(colour), (2, 3, 4, 3))
        luma = metrics.y_channel(image)
        chex.assert_shape(luma, (2, 3, 4, 1))
        np.testing.assert_allclose(luma, np.full((2, 3, 4, 1), expected), rtol=1e-6)

    def test_shave(self):
        image = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8, 1)
        np.testing.assert_array_equal(
            metrics.shave(image, border=2), image[:, 2:4, 2:6]
        )
        np.testing.assert_array_equal(metrics.shave(image, border=0), image)

    def test_affine_match_is_the_least_squares_line(self):
        target, image = make_pair(channels=2)
        matched = metrics.affine_match(target, image)
        for b in range(2):
            for c in range(2):
                x, y = image[b, :, :, c].ravel(), target[b, :, :, c].ravel()
                expected = np.polyval(np.polyfit(x, y, 1), x)
                np.testing.assert_allclose(
                    matched[b, :, :, c].ravel(), expected, atol=1e-5
                )

    @parameterized.parameters(0.0, 0.3)
    def test_affine_match_of_a_flat_image_is_the_mean(self, level):
        target, _ = make_pair()
        matched = metrics.affine_match(target, np.full_like(target, level))
        mean = target.mean(axis=(1, 2, 3), keepdims=True)
        expected = np.broadcast_to(mean, target.shape)
        np.testing.assert_allclose(matched, expected, atol=1e-6)


class InvarianceTest(parameterized.TestCase):
    """What must not change a score, and how far a score can go."""

    @parameterized.parameters(*ALL)
    def test_a_batch_is_its_images(self, name):
        target, image = make_pair(channels=2, batch=3)
        batched = ALL[name](target, image)
        chex.assert_shape(batched, (3,))
        alone = [ALL[name](target[i : i + 1], image[i : i + 1])[0] for i in range(3)]
        np.testing.assert_allclose(batched, alone, rtol=1e-5)

    @parameterized.parameters(*ALL)
    def test_the_arithmetic_of_half_precision_images_is_float32(self, name):
        target, image = (array.astype(jnp.bfloat16) for array in make_pair())
        half = ALL[name](target, image)
        assert half.dtype == jnp.float32
        single = ALL[name](target.astype(np.float32), image.astype(np.float32))
        np.testing.assert_allclose(half, single, rtol=1e-5)

    @parameterized.parameters(*ALL)
    def test_a_quarter_turn_and_a_flip(self, name):
        target, image = make_pair()
        turned = ALL[name](*(np.rot90(x, axes=(1, 2)) for x in (target, image)))
        flipped = ALL[name](target[:, :, ::-1], image[:, :, ::-1])
        np.testing.assert_allclose(turned, ALL[name](target, image), rtol=1e-4)
        np.testing.assert_allclose(flipped, ALL[name](target, image), rtol=1e-4)

    @parameterized.parameters(None, 7)
    def test_scores_know_only_the_ratio_of_scale_and_peak(self, uniform_window):
        target, image = make_pair()
        window = {"uniform_window": uniform_window}
        np.testing.assert_allclose(
            ssim(100 * target, 100 * image, peak=200.0, **window),
            ssim(target, image, peak=2.0, **window),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            psnr(100 * target, 100 * image, peak=200.0),
            psnr(target, image, peak=2.0),
            rtol=1e-5,
        )

    @parameterized.parameters(None, 7)
    def test_ssim_lies_between_its_bounds(self, uniform_window):
        target, image = make_pair()
        board = np.indices((1, 24, 31, 1)).sum(axis=0) % 2 * np.float32(2) - 1

        def score(a, b):
            return ssim(a, b, peak=2.0, uniform_window=uniform_window)

        np.testing.assert_allclose(score(target, target), 1.0, atol=1e-6)
        np.testing.assert_allclose(
            score(target, image), score(image, target), atol=1e-5
        )
        assert np.all(score(target, image) < 1)
        # The same light and opposite contrast: nothing is less alike.
        assert -1 <= score(10 + board, 10 - board)[0] < -0.99

    def test_more_noise_scores_worse(self):
        pairs = [make_pair(noise=noise) for noise in (0.05, 0.1, 0.2, 0.4)]
        for name, better in (("ssim", -1), ("psnr", -1), ("nrmse", 1), ("mse", 1)):
            scores = np.array([ALL[name](*pair) for pair in pairs])
            assert np.all(better * np.diff(scores, axis=0) > 0), name

    def test_equal_images(self):
        target, _ = make_pair()
        assert np.all(np.isposinf(psnr(target, target, peak=2.0)))
        np.testing.assert_array_equal(metrics.nrmse(target, target), [0.0, 0.0])

    @parameterized.parameters(-3.0, 0.25)
    def test_affine_match_undoes_an_affine_change(self, scale):
        target, _ = make_pair(channels=3)
        matched = metrics.affine_match(target, scale * target + 7)
        np.testing.assert_allclose(matched, target, atol=1e-5)

    @parameterized.parameters("mse", "ssim", "ssim_7", "nrmse")
    def test_gradients_are_finite_where_one_image_is_flat(self, name):
        target, _ = make_pair()
        flat = np.zeros_like(target)
        grad = jax.grad(lambda image: jnp.sum(ALL[name](target, image)))(flat)
        chex.assert_tree_all_finite(grad)
        assert np.any(grad != 0)

    @parameterized.parameters("mse", "ssim", "ssim_7")
    def test_gradients_are_zero_where_flat_images_agree(self, name):
        flat = jnp.full((1, 16, 16, 1), 0.5)
        grad = jax.grad(lambda image: jnp.sum(ALL[name](flat, image)))(flat)
        np.testing.assert_allclose(grad, np.zeros_like(grad), atol=1e-6)


class ErrorTest(parameterized.TestCase):
    """Wrong input says what was expected."""

    @parameterized.parameters(*ALL)
    def test_shapes_ranks_and_integers(self, name):
        target, image = make_pair()
        for pair in (
            (target, image[:, :-1]),
            (target[0], image[0]),
            (np.uint8(target), np.uint8(image)),
        ):
            with pytest.raises(AssertionError):
                ALL[name](*pair)

    def test_windows(self):
        target, image = make_pair()
        for window in (1, 8):
            with pytest.raises(ValueError, match=f"odd.*got {window}"):
                metrics.ssim(target, image, peak=2.0, uniform_window=window)
        with pytest.raises(ValueError, match="got 10x31"):
            metrics.ssim(target[:, :10], image[:, :10], peak=2.0)

    def test_peaks_and_borders(self):
        target, image = make_pair()
        with pytest.raises(ValueError, match='"max"'):
            metrics.psnr(target, image, peak="max")
        with pytest.raises(ValueError, match="got 12 for 24x31"):
            metrics.shave(image, border=12)
