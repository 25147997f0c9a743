"""Edges, their scales and their cache, and images put together of patches."""

import numpy as np
import pytest
import tifffile

from jaxgan.data import edges, multiscale, normalise, stitch
from jaxgan.data.imagesets import ImageSet


def disc(size=64, radius=20):
    y, x = np.mgrid[:size, :size] - size / 2
    return (np.hypot(y, x) < radius).astype(np.float32)[..., None]


def test_edges_are_thin_lines_where_the_image_changes():
    found = edges.find_edges(disc(), sigma=1.0)
    assert found.shape == (64, 64, 1) and found.dtype == np.uint8
    y, x = np.mgrid[:64, :64] - 32
    near = np.abs(np.hypot(y, x) - 20) < 2
    assert found[..., 0][~near].max() == 0 and found.max() == 255
    assert 80 < (found > 0).sum() < 240  # a circle of 126 pixels
    noisy = disc() + np.random.default_rng(0).normal(0, 0.01, (64, 64, 1))
    one, other = (edges.find_edges(x, sigma=1.0) for x in (noisy, 100 * noisy + 7))
    assert (np.abs(one.astype(int) - other) > 1).mean() < 0.001  # scale is nothing
    assert not edges.find_edges(np.ones((16, 16, 1)), sigma=1.0).any()


def test_coarser_lines_stay_as_bright():
    line = np.zeros((8, 8, 1), np.uint8)
    line[:, 3] = 200
    coarse = edges.coarser(line, 4)
    assert coarse.shape == (2, 2, 1)
    np.testing.assert_array_equal(coarse[..., 0], [[200, 0], [200, 0]])
    assert edges.coarser(np.full((4, 4, 1), 255, np.uint8), 2).max() == 255
    assert edges.coarser(line, 1) is line


def test_the_cache_knows_images_by_content(tmp_path, monkeypatch):
    image = disc()
    first = edges.cached_edges(image, sigma=1.0, cache=tmp_path)
    monkeypatch.setattr(edges, "find_edges", lambda *a, **k: 1 / 0)
    again = edges.cached_edges(image.copy(), sigma=1.0, cache=tmp_path)
    np.testing.assert_array_equal(first, again)
    assert isinstance(again, np.memmap)
    assert len(list(tmp_path.iterdir())) == 1
    for other, sigma in ((image, 2.0), (image * 2, 1.0), (image.astype("f8"), 1.0)):
        with pytest.raises(ZeroDivisionError):
            edges.cached_edges(other, sigma=sigma, cache=tmp_path)


@pytest.mark.parametrize("edge_factor", [1, 2])
def test_scales_are_half_as_fine_each(edge_factor):
    rng = np.random.default_rng(0)
    images = ImageSet.from_arrays(rng.integers(0, 255, (2, 140, 130), np.uint8))
    range_ = normalise.fit("0,255", images)
    pyramid = multiscale.build(
        images, range_, num_scales=3, sigma=1.0, edge_factor=edge_factor
    )
    assert [pairs.target.shapes[0] for pairs in pyramid.scales] == [
        (32, 32),
        (64, 64),
        (128, 128),
    ]
    fine, middle = (pyramid.scales[k].target.load(1) for k in (2, 1))
    np.testing.assert_array_equal(fine, images.load(1)[:128, :128])
    means = fine.reshape(64, 2, 64, 2, 1).mean((1, 3))
    assert np.abs(middle - means).max() <= 0.5
    lowest = pyramid.scales[0].source
    assert lowest.channels == (1 if edge_factor == 1 else 4)
    assert lowest.load(0).any() and len(pyramid) == 2
    assert pyramid.edge_range.high == (255,)


@pytest.mark.parametrize("size", [(70, 64), (28, 57), (130, 28)])
def test_patches_of_an_image_make_the_image(size):
    image = np.random.default_rng(0).standard_normal((*size, 2)).astype("f4")
    calls = []

    def cut(places):
        calls.append(len(places))
        assert len({top for top, _ in places}) == 1
        return np.stack([image[t : t + 28, x : x + 28] for t, x in places])

    parts = list(stitch.stitch(size, cut, patch=28, core=20))
    np.testing.assert_allclose(np.concatenate(parts), image, atol=1e-5)
    assert max(len(part) for part in parts) <= 28
    with pytest.raises(ValueError, match="smaller than a patch"):
        list(stitch.stitch((20, 40), cut, patch=28, core=20))


def test_one_patch_turns_into_the_next_without_a_step():
    """Patches of -1 and 1 meet in a slope, which plain cores would not."""

    def flat(places):
        signs = [(-1.0) ** (left // 20) for _, left in places]
        return np.stack([np.full((28, 28, 1), sign, "f4") for sign in signs])

    image = np.concatenate(list(stitch.stitch((28, 68), flat, patch=28, core=20)))
    assert image.min() == -1 and image.max() == 1
    assert np.abs(np.diff(image, axis=1)).max() < 0.3


def test_seams_show_in_their_measure():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((128, 128, 1))
    assert abs(stitch.seam_ratio(image, patch=28, core=20) - 1) < 0.05
    seamed = image.copy()
    for start in stitch.places(128, 28, 20)[1:]:
        seamed[start:] += 3
        seamed[:, start:] += 3
    assert stitch.seam_ratio(seamed, patch=28, core=20) > 1.3


@pytest.mark.parametrize("shape", [(300, 520, 1), (256, 100, 3)])
def test_rows_become_a_tiled_tiff(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    cuts = [0, 17, 280, shape[0]] if shape[0] > 280 else [0, 100, shape[0]]
    rows = (image[a:b] for a, b in zip(cuts, cuts[1:], strict=False))
    path = tmp_path / "deep" / "image.tif"
    stitch.write_tiled(path, rows, shape=shape, dtype=image.dtype)
    np.testing.assert_array_equal(tifffile.imread(path).reshape(shape), image)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].is_tiled
    assert len(list(path.parent.iterdir())) == 1
