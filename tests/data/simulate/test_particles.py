import numpy as np
import pytest

from jaxgan import columns, spectrum
from jaxgan.data.simulate import particles


@pytest.fixture(scope="module")
def shot():
    return particles.micrograph(
        index=3, size=(219, 232), pixel=4 * particles.FINE_PIXEL
    )


def test_a_micrograph_is_a_function_of_seed_and_index(shot):
    small = dict(size=(40, 44), pixel=0.0384)
    made = particles.micrographs(2, start=3, **small)
    again = particles.micrograph(index=4, **small)
    np.testing.assert_array_equal(again.image, made.image[1])
    np.testing.assert_array_equal(again.columns, made.columns[1])
    np.testing.assert_array_equal(again.labels, made.labels[1])
    other = particles.micrograph(index=4, seed=1, **small)
    assert (other.image != again.image).any()
    assert made.image.shape == (2, 40, 44)
    assert made.image.dtype == np.float32


def test_intensities_are_those_of_the_published_micrographs(shot):
    """Those lie between .28 and .70, about a vacuum of .42."""
    assert 0.2 < shot.image.min() < 0.36
    assert 0.5 < shot.image.max() < 0.85
    top = shot.image[:8]  # above every particle
    np.testing.assert_allclose(np.median(top), particles.VACUUM, atol=0.01)


def test_a_pixel_is_what_it_says():
    """Half the pixels of twice the width show the same field."""
    fine = particles.micrograph(index=1, size=(160, 160), pixel=0.0096)
    coarse = particles.micrograph(index=1, size=(80, 80), pixel=0.0192)
    np.testing.assert_array_equal(fine.labels, coarse.labels)
    np.testing.assert_allclose(fine.columns[:20] / 2, coarse.columns[:20], atol=1e-3)
    # Apart from the borders, where the fields are mirrored.
    error = np.abs(fine.image[::2, ::2] - coarse.image)[10:-10, 10:-10]
    assert np.sqrt(np.mean(error**2)) < 0.05 * coarse.image.std()


def test_columns_lie_at_maxima(shot):
    """Cs is negative and the focus above: atoms are white."""
    inner = np.all((shot.columns > 6) & (shot.columns < 210), axis=1)
    rows, cols = np.rint(shot.columns[inner]).astype(int).T
    assert len(rows) > 50
    at_columns = shot.image[rows, cols]
    assert np.mean(at_columns > np.median(shot.image)) > 0.9
    found = columns.find(shot.image, sigma=2.0, spacing=7.0)
    matched = columns.match(shot.columns[inner], found, radius=3.0)
    assert matched.recall > 0.8


def test_planes_are_as_far_apart_as_the_crystals(shot):
    """The strongest ring of the spectrum is a (111) spacing of Pt or of CeO2."""
    size = min(shot.image.shape)
    power = spectrum.radial_power(shot.image[:size, :size])
    frequencies = spectrum.frequencies((size, size)) / (4 * particles.FINE_PIXEL)
    fine = frequencies > 2.5  # 1/nm, beyond the shapes of particle and support
    spacing = 1 / frequencies[fine][np.argmax(power[fine])]
    expected = [c.constant / np.sqrt(3) for c in (particles.PLATINUM, particles.CERIA)]
    assert min(abs(spacing - e) / e for e in expected) < 0.05


def test_nothing_but_vacuum_is_nothing():
    image = particles._expose(np.zeros((20, 24)), defocus=7.0, pixel=0.02)
    np.testing.assert_allclose(image, 1, rtol=1e-12)


def test_a_phase_object_in_focus_is_invisible_and_scatters_no_intensity_away():
    phase = 0.3 * np.random.default_rng(0).standard_normal((32, 32))
    ideal = {"ABERRATION": 0.0, "FOCAL_SPREAD": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ideal.items():
            patch.setattr(particles, name, value)
        focused = particles._expose(phase, defocus=0.0, pixel=0.05)
        np.testing.assert_allclose(focused, 1, atol=1e-9)
        defocused = particles._expose(phase, defocus=7.0, pixel=0.05)
    assert defocused.std() > 0.01
    envelope = particles._expose(phase, defocus=7.0, pixel=0.05)
    assert envelope.std() < defocused.std()  # the focal spread takes contrast


def test_longer_columns_turn_the_wave_further():
    phases = []
    for height in (1, 2):
        phase = np.zeros((24, 24))
        particles._add_column(phase, 11.5, 12.0, height, width=2.0)
        phases.append(phase)
    np.testing.assert_allclose(phases[1], 2 * phases[0])
    total = 2 * np.pi * 2.0**2
    np.testing.assert_allclose(phases[0].sum(), total, rtol=2e-3)
    centre = np.sum(phases[0] * np.arange(24)[:, None]) / phases[0].sum()
    np.testing.assert_allclose(centre, 11.5, atol=1e-3)
