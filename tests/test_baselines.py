"""The best linear filter: exact where the truth is linear, least-squares elsewhere."""

import chex
import numpy as np
import pytest

from jaxgan import baselines


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolve(image, kernel):
    """Convolves `[H, W, C_in]` with `[h, w, C_in, C_out]` round the borders."""
    result = 0
    for y, x in np.ndindex(kernel.shape[:2]):
        result = result + np.roll(image, (y, x), axis=(0, 1)) @ kernel[y, x]
    return result


def error(linear, sources, targets):
    pairs = zip(sources, targets, strict=True)
    return np.mean([np.mean((linear(x) - y) ** 2) for x, y in pairs])


@pytest.mark.parametrize("shape", [(16, 16), (15, 18)])
def test_a_linear_relation_is_found_exactly(shape):
    kernel = noise(3, 4, 2, 3)
    images = 4 + noise(24, *shape, 2, seed=1)
    targets = [convolve(image, kernel) - 7 for image in images]
    (linear,) = baselines.fit_linear(images[:20], targets[:20], ridges=[1e-9])
    chex.assert_shape(linear.kernel, (*shape, 2, 3))
    for image, target in zip(images[20:], targets[20:], strict=True):
        estimate = linear(image)
        chex.assert_type(estimate, np.float32)
        chex.assert_trees_all_close(estimate, target.astype(np.float32), atol=1e-3)


def test_images_of_several_sizes_share_a_filter():
    kernel = noise(3, 3, 1, 1)
    images = [noise(h, w, 1, seed=h) for h in (32, 40, 70) for w in (32, 50)]
    targets = [convolve(image, kernel) for image in images]
    (linear,) = baselines.fit_linear(images, targets, ridges=[1e-6])
    chex.assert_shape(linear.kernel, (32, 32, 1, 1))
    for shape in ((64, 48), (32, 33), (17, 20)):
        image = noise(*shape, 1, seed=1)
        target = convolve(image, kernel)
        assert error(linear, [image], [target]) < 0.03 * np.var(target)


def test_a_large_image_is_cut_into_tiles():
    kernel = noise(3, 3, 1, 1)
    image = noise(96, 96, 1)
    fits = baselines.fit_linear(
        [image], [convolve(image, kernel)], ridges=[1e-6], tile=16
    )
    chex.assert_shape(fits[0].kernel, (16, 16, 1, 1))
    chex.assert_trees_all_close(fits[0].kernel[:3, :3], np.float64(kernel), atol=0.2)


def test_noise_is_weighed_as_wiener_says():
    """White signal of variance 1 under white noise of variance 3: a gain of 1/4."""
    clean = noise(400, 16, 16, 1)
    noisy = clean + np.sqrt(3) * noise(400, 16, 16, 1, seed=1)
    (linear,) = baselines.fit_linear(noisy, clean, ridges=[1e-6])
    expected = np.zeros((16, 16, 1, 1))
    expected[0, 0] = 0.25
    chex.assert_trees_all_close(linear.kernel, expected, atol=0.01)


def test_ridges_trade_the_fit_for_a_smaller_kernel():
    images, targets = noise(8, 16, 16, 1), noise(8, 16, 16, 1, seed=1)
    fits = baselines.fit_linear(images, targets, ridges=[1e-6, 0.1, 10, 1e6])
    errors = [error(linear, images, targets) for linear in fits]
    sizes = [np.abs(linear.kernel).sum() for linear in fits]
    assert errors == sorted(errors) and sizes == sorted(sizes, reverse=True)
    assert errors[-1] == pytest.approx(np.var(targets), rel=1e-3)


def test_no_other_gain_fits_better():
    images = noise(8, 16, 16, 1)
    targets = np.abs(images) + images  # not linear
    (linear,) = baselines.fit_linear(images, targets, ridges=[1e-9])
    best = error(linear, images, targets)
    for gain in (0.95, 1.05):
        other = baselines.LinearFilter(
            gain * linear.kernel, linear.source_mean, linear.target_mean
        )
        assert error(other, images, targets) > best


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([], [], "got 0 sources and 0 targets"),
        ([noise(8, 8, 1)], [], "got 1 sources and 0 targets"),
        ([noise(8, 8, 1)], [noise(8, 9, 1)], "pair 0 has shapes"),
        ([noise(8, 8)], [noise(8, 8)], "pair 0 has shapes"),
    ],
)
def test_what_are_not_pairs_is_named(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        baselines.fit_linear(sources, targets)
