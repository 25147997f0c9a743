"""Where tiles lie in an image, and how much of each counts.

All tiles of an image have one size, so that one program serves them all. Those at the
image's edges lie flush with them: a network pads its features at every layer, and there
a tile must see the same edge as the whole image.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

# A tile whose core would be narrower than this part of it is not worth computing.
_LEAST_CORE = 4


@dataclasses.dataclass(frozen=True)
class Axis:
    """The tiles along one axis: where they begin, and where one takes over."""

    size: int  # of a tile
    starts: tuple[int, ...]
    borders: tuple[int, ...]  # the first position of each core, and the image's end
    ramp: int  # positions on each side of a border over which two tiles are blended

    def cores(self) -> list[tuple[int, int]]:
        """Returns the positions, relative to its tile, that each tile answers for."""
        edges = zip(self.starts, self.borders[:-1], self.borders[1:], strict=True)
        return [(low - start, high - start) for start, low, high in edges]

    def weights(self, index: int) -> np.ndarray:
        """Returns the part `[size]` that tile `index` has in each of its positions.

        Over all tiles the parts of a position sum to one.
        """
        position = self.starts[index] + np.arange(self.size) + 0.5
        inner = range(1, len(self.borders) - 1)
        before = self._rise(position, index) if index in inner else 1.0
        after = self._rise(position, index + 1) if index + 1 in inner else 0.0
        return np.asarray(before - after, np.float32) * np.ones(self.size, np.float32)

    def _rise(self, position: np.ndarray, border: int) -> np.ndarray:
        """Returns 0 before a border and 1 behind it, a raised cosine in between."""
        away = position - self.borders[border]
        if not self.ramp:
            return (away > 0).astype(float)
        return (1 + np.sin(np.pi / 2 * np.clip(away / self.ramp, -1, 1))) / 2


@dataclasses.dataclass(frozen=True)
class Grid:
    """The tiles of an image, row by row."""

    rows: Axis
    columns: Axis
    exact: bool  # whether each tile's core sees all that the whole image shows it

    def __len__(self) -> int:
        """Returns the number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields the row and the column of each tile."""
        for row in range(len(self.rows.starts)):
            for column in range(len(self.columns.starts)):
                yield row, column


def grid(height: int, width: int, *, tile: int, halo: int, multiple: int) -> Grid:
    """Cuts an image into tiles of side `tile`, or its own side where that is less.

    Args:
      height: of the image, a multiple of `multiple`.
      width: of the image, a multiple of `multiple`.
      tile: rounded up to `multiple`, and to several of them where tiles are blended.
      halo: pixels around its core that a tile needs to be exact. Where it leaves too
        little of a tile, a quarter of the tile is used instead, and blended.
      multiple: what positions divide by.
    """
    tile = -(-tile // multiple) * multiple
    halo = -(-halo // multiple) * multiple
    afforded = _affords(tile, halo)
    if not afforded:
        tile = max(tile, _LEAST_CORE * multiple)
        halo = max(tile // _LEAST_CORE // multiple, 1) * multiple
    exact = afforded or (height <= tile and width <= tile)
    ramp = 0 if exact else halo
    return Grid(
        *(_axis(n, min(tile, n), halo, multiple, ramp) for n in (height, width)), exact
    )


def _affords(tile: int, halo: int) -> bool:
    return tile - 2 * halo >= max(tile // _LEAST_CORE, 1)


def _axis(length: int, tile: int, halo: int, multiple: int, ramp: int) -> Axis:
    if tile >= length:
        return Axis(tile, (0,), (0, length), ramp)
    step = max(tile - 2 * halo, multiple)
    count = 1 + -(-(length - tile) // step)
    starts = [min(i * step, length - tile) for i in range(count)]
    borders = [
        (left + tile + right) // 2 // multiple * multiple
        for left, right in zip(starts[:-1], starts[1:], strict=True)
    ]
    return Axis(tile, tuple(starts), (0, *borders, length), ramp)


def cut(image: np.ndarray, y: int, x: int, height: int, width: int) -> np.ndarray:
    """Returns a tile `[height, width, C]` of an image that is continued by reflection.

    `image` may be on disk: no more of it than the tile is read.
    """
    rows, columns = (
        _reflected(start, size, length)
        for start, size, length in zip(
            (y, x), (height, width), image.shape[:2], strict=True
        )
    )
    low, left = rows.min(), columns.min()
    part = np.asarray(image[low : rows.max() + 1, left : columns.max() + 1])
    return np.ascontiguousarray(part[rows - low][:, columns - left])


def _reflected(start: int, size: int, length: int) -> np.ndarray:
    """Returns which positions of an image stand at these, its edge repeated."""
    position = np.arange(start, start + size) % (2 * length)
    return np.where(position < length, position, 2 * length - 1 - position)
