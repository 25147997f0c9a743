"""The two simulated lenses against physics: what passes, what does not, and energy."""

import numpy as np
import pytest
from scipy import special

from jaxgan.data.simulate import lenses
from jaxgan.data.simulate.options import SimulationConfig

WAVELENGTH = 532e-9
PIXEL = 0.05e-6


def through(specimen, numerical_aperture, *, pixel=PIXEL):
    return lenses.image_through(
        specimen,
        pixel=pixel,
        transfer=lambda f: lenses.optical_transfer(
            f, numerical_aperture=numerical_aperture, wavelength=WAVELENGTH
        ),
    )


def grating(periods, size=256):
    """Returns stripes of brightness 1 +- 1, so many on the image."""
    phase = 2 * np.pi * periods * np.arange(size) / size
    return np.broadcast_to(1 + np.cos(phase), (size, size))


@pytest.mark.parametrize("numerical_aperture", [0.3, 0.7])
def test_nothing_passes_beyond_the_cutoff(numerical_aperture):
    cutoff = lenses.cutoff(numerical_aperture, WAVELENGTH)
    assert np.isclose(cutoff, 2 * numerical_aperture / WAVELENGTH)
    width = 256 * PIXEL
    below, above = int(cutoff * width * 0.97), int(cutoff * width) + 1
    contrasts = [through(grating(n), numerical_aperture).std() for n in (below, above)]
    assert contrasts[0] > 1e-3
    assert contrasts[1] < 1e-6


def test_the_transfer_of_a_grating_is_that_of_a_circular_pupil():
    """Half the cut-off: 2/pi (arccos(1/2) - 1/2 sqrt(3/4)) = .391."""
    half = lenses.optical_transfer(
        np.array([0.5 * lenses.cutoff(0.7, WAVELENGTH)]),
        numerical_aperture=0.7,
        wavelength=WAVELENGTH,
    )
    np.testing.assert_allclose(half, 0.39100222, atol=1e-7)


@pytest.mark.parametrize("numerical_aperture", [0.3, 0.7])
def test_energy_is_conserved(numerical_aperture):
    specimen = np.random.default_rng(0).uniform(0, 1, (128, 96))
    image = through(specimen, numerical_aperture)
    np.testing.assert_allclose(image.mean(), specimen.mean(), rtol=1e-5)
    assert image.min() >= 0


def test_a_point_becomes_airys_pattern():
    """(2 J1(v) / v)^2, v = 2 pi NA r / wavelength; dark at r = .61 wavelength / NA."""
    size, numerical_aperture = 256, 0.7
    point = np.zeros((size, size))
    point[size // 2, size // 2] = 1
    image = through(point, numerical_aperture, pixel=PIXEL)
    r = np.abs(np.arange(size) - size // 2) * PIXEL
    v = np.maximum(2 * np.pi * numerical_aperture * r / WAVELENGTH, 1e-9)
    expected = (2 * special.j1(v) / v) ** 2
    actual = image[size // 2] / image.max()
    np.testing.assert_allclose(actual, expected, atol=2e-3)
    dark = np.argmin(actual[size // 2 : size // 2 + 14])
    assert abs(dark * PIXEL - 0.61 * WAVELENGTH / numerical_aperture) < PIXEL


def test_shot_noise_is_that_of_counted_photons():
    image = np.full((200, 200), 0.25)
    seen = lenses.record(np.random.default_rng(0), image, photons=400.0)
    np.testing.assert_allclose(seen.mean(), 0.25, rtol=0.01)
    np.testing.assert_allclose(seen.std(), np.sqrt(0.25 / 400), rtol=0.02)


def test_a_pair_is_a_function_of_its_number():
    pairs = lenses.lens_pairs(3, size=32)
    one = lenses.lens_pair(2, size=32)
    np.testing.assert_array_equal(pairs.low[2], one.low)
    np.testing.assert_array_equal(pairs.high[2], one.high)
    assert (pairs.high[1] != one.high).any()
    assert (lenses.lens_pair(2, seed=1, size=32).high != one.high).any()


def test_the_coarse_image_sees_the_same_specimen():
    quiet = lenses.Lenses(photons=1e6)
    fine, coarse = (
        lenses.lens_pair(0, size=64, scale=scale, lenses=quiet) for scale in (1, 4)
    )
    assert coarse.low.shape == (16, 16)
    np.testing.assert_array_equal(coarse.high, fine.high)
    means = fine.low.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse.low, means, atol=5e-3)
    with pytest.raises(ValueError, match="does not divide by scale 3"):
        lenses.lens_pair(0, size=64, scale=3)


def test_the_low_aperture_shows_less_detail():
    pairs = lenses.lens_pairs(4, size=128)
    assert 0.02 < pairs.truth.mean() < 0.5
    assert pairs.low.std() < 0.9 * pairs.truth.std()
    assert pairs.truth.max() > 4 * pairs.truth.mean()
    for image in (pairs.low, pairs.high, pairs.truth):
        assert image.dtype == np.float32


def test_lenses_are_a_task_for_pairs_too():
    config = SimulationConfig("low_to_high_na", num_simulated=2, simulated_size=32)
    source, target = config.images()
    pair = lenses.lens_pair(1, size=32)
    np.testing.assert_array_equal(source.load(1)[..., 0], pair.low)
    np.testing.assert_array_equal(target.load(1)[..., 0], pair.high)
