"""The toy microscopes against physics: conservation, reciprocity, analytic patterns."""

import chex
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from jaxgan.data import simulate

OPTICS = simulate.Optics()


def random_field(*shape):
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def coordinates(size):
    """Returns y `[size, 1]` and x `[size]` in metres from the middle of an image."""
    x = (np.arange(size) - size // 2) * OPTICS.pixel
    return x[:, np.newaxis], x


class TestPropagation:
    def test_energy_is_conserved(self):
        field = random_field(2, 48, 64)
        later = simulate.propagate(field, OPTICS, distance=70e-6)
        energies = [np.sum(np.abs(f) ** 2, axis=(1, 2)) for f in (field, later)]
        chex.assert_trees_all_close(*energies, rtol=1e-5)

    def test_back_and_forth_is_the_identity(self):
        field = random_field(2, 48, 64)
        later = simulate.propagate(field, OPTICS, distance=70e-6)
        assert np.abs(later - field).max() > 1
        back = simulate.propagate(later, OPTICS, distance=-70e-6)
        chex.assert_trees_all_close(back, field, atol=1e-5)

    def test_fields_superpose_and_distances_add(self):
        a, b = random_field(2, 48, 64)
        both = simulate.propagate(2 * a - 3j * b, OPTICS, distance=70e-6)
        later = [simulate.propagate(f, OPTICS, distance=30e-6) for f in (a, b)]
        a, b = (simulate.propagate(f, OPTICS, distance=40e-6) for f in later)
        chex.assert_trees_all_close(both, 2 * a - 3j * b, atol=1e-4)

    def test_the_illumination_stays_one(self):
        field = np.ones((16, 24), np.complex64)
        later = simulate.propagate(field, OPTICS, distance=70e-6)
        chex.assert_trees_all_close(later, field, atol=1e-6)

    def test_a_tilted_wave_advances_by_its_cosine(self):
        sine = 4 * OPTICS.wavelength / (64 * OPTICS.pixel)  # four periods on the image
        tilted = np.exp(2j * np.pi * 4 * np.arange(64) / 64) * np.ones((32, 1))
        later = simulate.propagate(tilted, OPTICS, distance=70e-6)
        path = 70e-6 * (np.sqrt(1 - sine**2) - 1)
        expected = tilted * np.exp(2j * np.pi * path / OPTICS.wavelength)
        chex.assert_trees_all_close(later, expected, atol=1e-4)

    def test_a_point_becomes_a_spherical_wave(self):
        """By Rayleigh and Sommerfeld, far beyond the 3 um that the point is deep."""
        size, distance, k = 512, 200e-6, 2 * np.pi / OPTICS.wavelength
        point = np.zeros((size, size))
        point[size // 2, size // 2] = 1
        point = simulate.blur(point, sigma=1)  # pixels alone cannot show a point
        field = simulate.propagate(point, OPTICS, distance=distance)

        y, x = coordinates(size)
        r = np.sqrt(x**2 + y**2 + distance**2)
        wave = distance / r**2 * (1 / r - 1j * k) * np.exp(1j * k * (r - distance))
        expected = OPTICS.pixel**2 / (2 * np.pi) * wave
        sine = np.sqrt(x**2 + y**2) / r
        expected *= np.exp(-0.5 * (k * OPTICS.pixel * sine) ** 2)  # the blur's spectrum
        error = np.abs(field - expected).max()
        assert error < 0.02 * np.abs(expected).max()

    def test_waves_finer_than_the_wavelength_decay(self):
        fine = simulate.Optics(pixel=0.2e-6)
        stripes = np.tile([1.0, -1.0], (8, 4))
        assert np.abs(simulate.propagate(stripes, fine, distance=1e-6)).max() < 1e-6


class TestCamera:
    @pytest.mark.parametrize("light", [1.0, 0.0])
    def test_noise_has_its_two_parts(self, light):
        optics = simulate.Optics(photons=400, read_noise=10)
        field = np.full((256, 256), light, np.complex64)
        image = simulate.record(np.random.default_rng(0), field, optics)
        expected = np.sqrt(400 * light + 10**2) / 400
        assert image.mean() == pytest.approx(light, abs=1e-3)
        assert image.std() == pytest.approx(expected, rel=0.02)


class TestSpecimen:
    @pytest.mark.parametrize("size", [16, 128])
    def test_matter_absorbs_and_delays_without_wraps(self, size):
        rng = np.random.default_rng(0)
        for _ in range(8):
            specimen = simulate.draw_specimen(rng, size=size, pixel=0.5e-6)
            chex.assert_shape([specimen.phase, specimen.absorbance], (size, size))
            assert 1 < specimen.phase.max() <= simulate.MAX_PHASE
            assert specimen.phase.min() >= 0
            assert 0 <= specimen.absorbance.min() < specimen.absorbance.max() <= 1
            assert np.abs(specimen.transmittance).max() < 1 + 1e-6

    def test_the_ground_is_empty(self):
        rng = np.random.default_rng(0)
        scenes = [simulate.draw_specimen(rng, size=128, pixel=5e-7) for _ in range(8)]
        covered = np.mean([scene.phase > 0.05 for scene in scenes])
        assert 0.1 < covered < 0.5

    def test_a_finer_pixel_sees_the_same_cells_larger(self):
        coarse, fine = (
            simulate.draw_specimen(np.random.default_rng(0), size=size, pixel=pixel)
            for size, pixel in ((64, 1e-6), (128, 0.5e-6))
        )
        chex.assert_trees_all_close(coarse.phase, fine.phase[::2, ::2], atol=0.35)


class TestRetrieval:
    def test_a_weak_object_has_its_twin_at_twice_the_distance(self):
        y, x = coordinates(128)
        spot = 1e-3j * np.exp(-((x - 8e-6) ** 2 + y**2) / (2 * 2e-6**2))
        at_camera = simulate.propagate(1 + spot, OPTICS, distance=OPTICS.distance)
        field = simulate.back_propagate(np.abs(at_camera) ** 2, OPTICS)
        twin = simulate.propagate(spot, OPTICS, distance=2 * OPTICS.distance).conj()
        chex.assert_trees_all_close(field - 1, (spot + twin) / 2, atol=2e-6)

    def test_the_twin_image_explains_the_hologram_too(self):
        hologram = simulate.hologram(0, size=64)
        field = hologram.amplitude * np.exp(1j * hologram.phase)
        at_camera = simulate.propagate(field, OPTICS, distance=OPTICS.distance)
        recorded = np.maximum(hologram.intensity, 0)
        chex.assert_trees_all_close(np.abs(at_camera) ** 2, recorded, atol=1e-4)

    def test_zero_steps_leave_the_twin_image(self):
        hologram = simulate.hologram(0, size=64, retrieval_steps=0)
        chex.assert_trees_all_close(hologram.twin_free, hologram.phase, atol=1e-5)

    def test_retrieval_comes_much_closer_to_the_truth(self):
        stack = simulate.holograms(6, seed=1)
        peak = np.ptp(stack.truth)

        def similarity(phase):
            return structural_similarity(
                stack.truth, phase, data_range=peak, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False, channel_axis=0,
            )  # fmt: skip

        assert similarity(stack.phase) < 0.4
        assert similarity(stack.twin_free) > 0.9

    def test_what_is_retrieved_explains_the_hologram(self):
        rng = np.random.default_rng(0)
        specimen = simulate.draw_specimen(rng, size=128, pixel=OPTICS.pixel)
        intensity = simulate.record(rng, specimen.transmittance, OPTICS)
        field = simulate.retrieve(intensity, OPTICS, steps=60)
        at_camera = simulate.propagate(field, OPTICS, distance=OPTICS.distance)
        assert np.std(np.abs(at_camera) ** 2 - intensity) < 0.1 * np.std(intensity)


class TestHolograms:
    def test_an_image_depends_on_seed_and_index_alone(self):
        stack = simulate.holograms(3, start=2, seed=5, size=32)
        for offset in range(3):
            alone = simulate.hologram(2 + offset, seed=5, size=32)
            for name, images in vars(stack).items():
                np.testing.assert_array_equal(images[offset], getattr(alone, name))

    def test_indices_and_seeds_give_different_images(self):
        images = [simulate.hologram(i, seed=s, size=32) for s in (0, 1) for i in (0, 1)]
        truths = np.stack([image.truth for image in images])
        assert len(np.unique(truths, axis=0)) == 4

    def test_all_images_are_float32_stacks(self):
        stack = simulate.holograms(2, size=32)
        chex.assert_shape(list(vars(stack).values()), (2, 32, 32))
        chex.assert_type(list(vars(stack).values()), np.float32)

    def test_optics_matter(self):
        near, far = (
            simulate.hologram(0, size=64, optics=simulate.Optics(distance=distance))
            for distance in (30e-6, 90e-6)
        )
        np.testing.assert_array_equal(near.truth, far.truth)
        assert np.abs(near.intensity - far.intensity).max() > 0.1
