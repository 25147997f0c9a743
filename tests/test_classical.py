"""Filters without learning, each with a parameter chosen on other images."""

import numpy as np
import pytest
from scipy import ndimage

from jaxgan import classical

RNG = np.random.default_rng(0)
CLEAN = [
    0.5
    + 0.3 * np.sin(np.add.outer(np.arange(32) / period, np.arange(32) / 4))[..., None]
    for period in (3, 5)
]
NOISY = [image + 0.2 * RNG.normal(size=image.shape) for image in CLEAN]


@pytest.fixture(scope="module")
def filters():
    return classical.filters()


def error(images):
    pairs = zip(images, CLEAN, strict=True)
    return float(np.mean([np.mean((a - b) ** 2) for a, b in pairs]))


def test_every_filter_helps_with_the_parameter_chosen_on_the_other_image(filters):
    for name, filter_ in filters.items():
        made, _ = classical.denoise_each(filter_, NOISY, CLEAN)
        assert made[0].shape == (32, 32, 1) and made[0].dtype == np.float32
        limit = 0.75 * error(NOISY)
        if name == "constant":
            limit = 1.2 * error([x * 0 + x.mean() for x in CLEAN])
        assert error(made) < limit, name


def test_blur_is_scipys_and_its_own_truth_is_not_seen(filters):
    blur = filters["Gaussian blur"]
    images = [CLEAN[0] + 0.01 * RNG.normal(size=CLEAN[0].shape), NOISY[1]]
    made, chosen = classical.denoise_each(blur, images, CLEAN)
    errors = [
        [np.mean((blur(x, s) - y) ** 2) for s in blur.parameters]
        for x, y in zip(images, CLEAN, strict=True)
    ]
    best = [blur.parameters[int(np.argmin(row))] for row in errors]
    assert best[0] < best[1]
    assert chosen == best[::-1]
    plane = ndimage.gaussian_filter(images[0][..., 0], chosen[0])
    np.testing.assert_allclose(made[0][..., 0], plane, rtol=1e-5)


def test_the_bias_is_undone_before_choosing(filters):
    """With a wrong brightness the most blurred image would be chosen, or none."""
    blur = filters["Gaussian blur"]
    dark = [0.5 * image for image in NOISY]
    _, chosen = classical.denoise_each(blur, dark, CLEAN, finish=lambda x: 2 * x)
    assert chosen == classical.denoise_each(blur, NOISY, CLEAN)[1]
    with pytest.raises(ValueError, match="two or more"):
        classical.denoise_each(blur, NOISY[:1], CLEAN[:1])
