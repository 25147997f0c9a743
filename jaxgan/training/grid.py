"""Grids of images that a person can look at.

Images are `[H, W, C]` floats in [-1, 1]; -1 is shown black and 1 white. Every pixel of
an image becomes a square of equal pixels of the file.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_TILE = 256  # pixels: the height that smaller images are magnified to, about
_BAND = 20  # pixels, a line of text
_GAP = 8  # pixels between tiles
_DPI = 128  # a power of two, so that pixels to inches and back is exact


def image_grid(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Writes a PNG with one line of labelled images per row.

    Args:
      path: of the PNG; its directory is created.
      rows: for each line, images by label, such as "input", "prediction", "target".
        One channel is shown grey, three as colours, others side by side.

    Raises `ValueError` for arrays that are not images; a failure to draw or to write is
    only a warning, for no run should end over a picture.
    """
    for row in rows:
        for label, image in row.items():
            if np.ndim(image) != 3:
                raise ValueError(f"{label} is {np.shape(image)}, expected [H, W, C]")
    try:
        canvas, labels = _compose([[_tile(*item) for item in r.items()] for r in rows])
        _save(Path(path), canvas, labels)
    except Exception as error:
        warnings.warn(f"could not draw {path}: {error}", stacklevel=2)


def _tile(label: str, image: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns a label and `[h, w, 3]` uint8."""
    image = np.asarray(image, np.float32)
    channels = image.shape[-1]
    if channels not in (1, 3):
        image = np.concatenate(np.split(image, channels, axis=-1), axis=1)
        label = f"{label} ({channels} channels)"
    levels = np.nan_to_num((np.clip(image, -1, 1) + 1) * 127.5)
    return label, np.broadcast_to(np.rint(levels), (*image.shape[:2], 3)).astype("u1")


def _compose(
    rows: list[list[tuple[str, np.ndarray]]],
) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Returns a white `[H, W, 3]` canvas with the tiles, and `(x, y, text)` to add."""
    tiles = [tile for row in rows for _, tile in row]
    height = max(tile.shape[0] for tile in tiles)
    width = max(tile.shape[1] for tile in tiles)
    zoom = max(1, round(_TILE / height))
    cell = (height * zoom + _BAND + _GAP, width * zoom + _GAP)
    columns = max(len(row) for row in rows)
    size = (cell[0] * len(rows) + _BAND, cell[1] * columns + _GAP, 3)
    canvas, labels = np.full(size, 255, np.uint8), []
    for i, row in enumerate(rows):
        for j, (label, tile) in enumerate(row):
            y, x = i * cell[0] + _BAND, j * cell[1] + _GAP
            large = tile.repeat(zoom, axis=0).repeat(zoom, axis=1)
            canvas[y : y + large.shape[0], x : x + large.shape[1]] = large
            labels.append((x, y - _BAND // 2, label))
    range_text = "shown from -1 (black) to 1 (white)"
    return canvas, [*labels, (_GAP, size[0] - _BAND // 2, range_text)]


def _save(path: Path, canvas: np.ndarray, labels: list[tuple[int, int, str]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.figimage(canvas, origin="upper")
    for x, y, text in labels:
        figure.text(x / width, 1 - y / height, text, va="center", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=_DPI, format="png")
    os.replace(temporary, path)
