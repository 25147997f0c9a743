import functools

import jax
import numpy as np
import pytest

from jaxgan import predict
from jaxgan.apply import receptive, statistics, tiles
from jaxgan.apply.tiled import Tiled
from jaxgan.data.normalise import Range
from jaxgan.models.resnet import ResNetGenerator
from jaxgan.models.srgan import SRResNet
from jaxgan.models.unet import UNet
from tests.games import draw_variables

RANGE = Range((0.0,), (255.0,), "uint8")
UNET = UNet(1, width=2, depth=2, norm="instance_affine")
RESNET = ResNetGenerator(1, width=2, num_blocks=1)
LARGE = SRResNet(1, width=2, num_blocks=1, scale=2)


def image(height, width):
    """Halves of other contrast, so that a tile's statistics are not the image's."""
    rng = np.random.default_rng(0)
    result = rng.integers(0, 255, (height, width, 1)).astype(np.uint8)
    result[: height // 2] //= 4
    return result


@functools.cache
def apply(gen):
    variables = draw_variables(gen, np.zeros((1, 32, 32, 1), "f4"), train=False)
    return variables, lambda v, x: gen.apply(v, x, train=False)


def translate(gen, stored, *, tile, multiple, halo=None, **options):
    variables, generate = apply(gen)
    halo = receptive.halo(gen) if halo is None else halo
    tiled = Tiled(generate, RANGE, multiple=multiple, halo=halo, **options)
    rows = {}
    seams = tiled(variables, stored, lambda y, r: rows.update({y: r.copy()}), tile=tile)
    return np.concatenate([rows[y] for y in sorted(rows)]), seams


@pytest.mark.parametrize(
    ("gen", "multiple", "tile"), [(UNET, 4, 32), (RESNET, 4, 80), (LARGE, 1, 40)]
)
def test_tiles_give_what_the_whole_image_gives(gen, multiple, tile):
    stored = image(97, 83)
    variables, generate = apply(gen)
    whole = predict.make_translate(generate, RANGE, multiple=multiple)
    result, seams = translate(gen, stored, tile=tile, multiple=multiple)
    assert seams.exact
    np.testing.assert_allclose(result, whole(variables, stored), atol=2e-5)


def test_a_smaller_halo_would_not_do():
    variables, generate = apply(UNET)
    stored = image(97, 83)
    whole = predict.make_translate(generate, RANGE, multiple=4)(variables, stored)
    result, _ = translate(UNET, stored, tile=32, multiple=4, halo=0)
    assert np.abs(result - whole).max() > 1e-3


def test_fewer_tiles_for_the_statistics_are_less_exact():
    stored = image(97, 83)
    result, _ = translate(UNET, stored, tile=32, multiple=4)
    fewer, _ = translate(UNET, stored, tile=32, multiple=4, statistics_tiles=4)
    assert 1e-4 < np.abs(result - fewer).max() < 1


def test_blending_is_measured():
    result, seams = translate(UNET, image(97, 83), tile=32, multiple=4, halo=100)
    assert not seams.exact and result.shape == (97, 83, 1)
    assert 0 < seams.mean_difference <= seams.max_difference
    assert seams.seam_ratio > 0


def test_less_memory_means_smaller_tiles(monkeypatch):
    cut, said = Tiled._cut, []

    def full(self, stored, grid, place):
        if grid.rows.size > 64:
            raise MemoryError
        return cut(self, stored, grid, place)

    expected, _ = translate(UNET, image(150, 140), tile=64, multiple=4)
    monkeypatch.setattr(Tiled, "_cut", full)
    result, _ = translate(
        UNET, image(150, 140), tile=128, multiple=4, report=said.append
    )
    np.testing.assert_array_equal(result, expected)
    assert "out of memory: smaller tiles, 64 pixels" in said


@pytest.mark.parametrize(
    "gen",
    [UNET, UNET.clone(upsample="resize"), RESNET, LARGE],
    ids=["unet", "resizing_unet", "resnet", "enlarging"],
)
def test_halo_bounds_what_a_pixel_can_influence(gen):
    gen = gen.clone(norm="none")
    variables = draw_variables(gen, np.zeros((1, 32, 32, 1), "f4"), train=False)
    generate = jax.jit(lambda x: gen.apply(variables, x, train=False))
    flat = np.zeros((1, 96, 8, 1), np.float32)
    reach = 0
    for row in range(40, 44):
        spot = flat.copy()
        spot[0, row] = 10
        away = np.abs(generate(spot) - generate(flat))[0].max((1, 2))
        changed = np.flatnonzero(away) // (len(away) // 96)
        reach = max(reach, np.abs(changed - row).max())
    assert 0.5 * receptive.halo(gen) < reach <= receptive.halo(gen)


def test_weights_sum_to_one_and_tiles_reach_the_edges():
    rng = np.random.default_rng(0)
    for _ in range(300):
        multiple = int(rng.choice([1, 4, 32]))
        length = multiple * int(rng.integers(1, 60))
        tile, halo = int(rng.integers(multiple, 400)), int(rng.integers(0, 300))
        grid = tiles.grid(length, length, tile=tile, halo=halo, multiple=multiple)
        axis, total = grid.rows, np.zeros(length)
        for i, start in enumerate(axis.starts):
            assert start % multiple == 0 and start + axis.size <= length
            weights = axis.weights(i)
            assert weights.min() >= 0
            total[start : start + axis.size] += weights
        np.testing.assert_allclose(total, 1, atol=1e-6)
        for low, high in axis.cores() if grid.exact else []:
            assert low == 0 or low >= halo or low + axis.starts[0] == 0
            assert high <= axis.size


def test_moments_of_parts_combine_to_those_of_the_whole():
    values = np.random.default_rng(0).normal(50, 3, (1000, 2))
    parts = [
        statistics.Moments(
            np.array([len(x)]), x.mean(0)[None], ((x - x.mean(0)) ** 2).sum(0)[None]
        )
        for x in np.split(values, [1, 300])
    ]
    given = statistics.combine(parts)
    np.testing.assert_allclose(given.mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(given.var, values.var(0), rtol=1e-5)
