"""Grids show every pixel, exactly, with its label."""

import numpy as np
import pytest
from matplotlib import image as mpl_image

from jaxgan.training import grid


def draw(tmp_path, rows) -> np.ndarray:
    """Returns the PNG as `[H, W, 3]` uint8."""
    path = tmp_path / "samples" / "step_00000001.png"
    grid.image_grid(path, rows)
    return np.rint(mpl_image.imread(path)[..., :3] * 255).astype(np.uint8)


def levels(image: np.ndarray) -> np.ndarray:
    return np.rint((image + 1) * 127.5).astype(np.uint8)


def find(canvas: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """All places at which the canvas shows the tile, pixel for pixel."""
    h, w = tile.shape[:2]
    size = canvas.shape[0] - h + 1, canvas.shape[1] - w + 1
    corners = [
        (canvas[y : y + size[0], x : x + size[1]] == tile[y, x]).all(axis=-1)
        for y in (0, h - 1)
        for x in (0, w - 1)
    ]
    places = zip(*np.nonzero(np.all(corners, axis=0)), strict=True)
    return [(y, x) for y, x in places if (canvas[y : y + h, x : x + w] == tile).all()]


def random_image(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_large_images_are_shown_pixel_by_pixel(tmp_path):
    grey, colour = random_image(250, 260, 1), random_image(250, 260, 3, seed=1)
    canvas = draw(tmp_path, [{"input": grey, "prediction": colour}])
    ((y, x),) = find(canvas, levels(np.repeat(grey, 3, axis=-1))[:20])
    ((y2, x2),) = find(canvas, levels(colour)[:20])
    assert y == y2 and x2 >= x + 260


def test_small_images_are_magnified_without_smoothing(tmp_path):
    image = random_image(4, 4, 3)
    canvas = draw(tmp_path, [{"target": image}])
    large = levels(image).repeat(64, axis=0).repeat(64, axis=1)
    assert len(find(canvas, large)) == 1


def test_other_channel_counts_stand_side_by_side(tmp_path):
    image = random_image(128, 128, 2)
    canvas = draw(tmp_path, [{"masks": image}])
    both = levels(np.concatenate([image[..., :1], image[..., 1:]], axis=1))
    large = both.repeat(2, axis=0).repeat(2, axis=1)
    assert len(find(canvas, np.repeat(large, 3, axis=-1))) == 1


def test_labels_and_the_range_are_written(tmp_path):
    canvas = draw(tmp_path, [{"a": -np.ones((256, 256, 1))}])
    top, bottom = canvas[:20], canvas[-20:]
    assert top.min() < 128 and bottom.min() < 128  # ink on white
    assert (draw(tmp_path, [{"b": -np.ones((256, 256, 1))}])[:20] != top).any()


def test_rows_may_differ_in_length_and_values_may_be_odd(tmp_path):
    odd = np.array([np.nan, 5, -5, 0], np.float32).reshape(2, 2, 1)
    canvas = draw(tmp_path, [{"a": odd, "b": odd}, {"c": odd}])
    shown = np.array([[0, 255], [0, 128]], np.uint8).repeat(128, 0).repeat(128, 1)
    assert len(find(canvas, np.repeat(shown[..., None], 3, axis=-1))) == 3


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"target is \(4, 4\), expected \[H, W, C\]"):
        grid.image_grid(tmp_path / "a.png", [{"target": np.zeros((4, 4))}])


def test_a_picture_that_cannot_be_written_is_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not draw"):
        grid.image_grid(tmp_path / "file" / "a.png", [{"a": np.zeros((4, 4, 1))}])
