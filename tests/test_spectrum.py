"""Radial power and ring correlation: waves, noise, invariances."""

import numpy as np
import pytest

from jaxgan import spectrum


def wave(periods, size=64):
    return np.cos(2 * np.pi * periods * np.arange(size) / size) * np.ones((size, 1))


def noise(seed, size=64):
    return np.random.default_rng(seed).normal(size=(size, size))


def test_a_wave_has_its_power_at_its_frequency():
    power = spectrum.radial_power(wave(10))
    rings = spectrum.frequencies((64, 64))
    assert rings[np.argmax(power)] == 10 / 64
    near = np.abs(rings - 10 / 64) < 2.5 / 64
    assert power[near].sum() > 0.999 * power.sum()


def test_noise_is_white_and_its_power_is_its_variance():
    power = np.mean([spectrum.radial_power(3 * noise(i)) for i in range(20)], axis=0)
    np.testing.assert_allclose(power[2:], 9, rtol=0.15)


def test_correlation_of_an_image_with_itself_and_others():
    image = noise(0)
    np.testing.assert_allclose(spectrum.ring_correlation(image, 2 * image + 3), 1)
    np.testing.assert_allclose(spectrum.ring_correlation(image, -image), -1)
    others = [spectrum.ring_correlation(image, noise(i)) for i in range(1, 20)]
    assert np.abs(np.mean(others, axis=0)[2:]).max() < 0.15


def test_half_noise_correlates_by_one_over_root_two():
    pairs = [(noise(i), noise(i) + noise(100 + i)) for i in range(20)]
    values = np.mean([spectrum.ring_correlation(a, b) for a, b in pairs], axis=0)
    np.testing.assert_allclose(values[2:], 2**-0.5, atol=0.1)


def test_the_plane_may_be_oblong():
    image = np.random.default_rng(0).normal(size=(32, 48))
    assert (
        len(spectrum.radial_power(image)) == len(spectrum.frequencies((32, 48))) == 16
    )
    with pytest.raises(ValueError, match="differ in size"):
        spectrum.ring_correlation(image, image.T)


def test_a_period_of_two_pixels_shows():
    image = np.random.default_rng(0).standard_normal((64, 64))
    assert abs(spectrum.checkerboard(image) - 1) < 0.3
    image[::2] += 1
    assert spectrum.checkerboard(image) > 3
