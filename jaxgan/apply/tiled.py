"""Translate an image tile by tile, by the statistics of the whole, in bounded memory.

Memory holds one row of tiles: rows of the result leave as soon as no further tile can
change them. All devices share the tiles.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan import augment
from jaxgan.apply import statistics, tiles
from jaxgan.data.normalise import Range

Sink = Callable[[int, np.ndarray], None]  # takes a row number and rows [n, W, O]
_SMALLEST = 64  # tiles that are tried where memory runs out


@dataclasses.dataclass(frozen=True)
class Seams:
    """How well tiles agree; all zero where they are exact."""

    exact: bool
    mean_difference: float = 0.0  # of two tiles where they overlap, networks' range 2
    max_difference: float = 0.0
    seam_ratio: float = 1.0  # steps between pixels across borders over those elsewhere


class Tiled:
    """Applies a generator to images that are larger than what it takes at once."""

    def __init__(
        self,
        generate: Callable[[Any, jax.Array], jax.Array],
        source_range: Range,
        *,
        multiple: int,
        halo: int,
        statistics_tiles: int = 0,
        report: Callable[[str], None] | None = None,
    ):
        """Takes what `predict.make_translate` takes, and how far the network looks.

        `statistics_tiles` bounds the tiles, evenly spread, that normalisation is
        measured on; 0: all, which is exact. `report` is told how far the work is.
        """
        low, high = jnp.array(source_range.low), jnp.array(source_range.high)
        self._generate = lambda v, x: generate(v, augment.decode(x, low, high))
        self._multiple, self._halo = multiple, halo
        self._statistics_tiles = statistics_tiles
        self._report = report or (lambda text: None)
        self._devices = Mesh(np.array(jax.local_devices()), ("tiles",))
        self._apply = jax.jit(self._apply_with)
        self._measure = jax.jit(self._measure_with)

    def __call__(
        self, variables: Any, image: np.ndarray, sink: Sink, *, tile: int
    ) -> Seams:
        """Translates a stored image `[H, W, I]`, which may lie on disk.

        The result, in [-1, 1], goes to `sink` from top to bottom. Tiles are halved
        when the device's memory does not hold them.
        """
        while True:
            grid = self._grid(image, tile)
            try:
                given = self._statistics(variables, image, grid)
                return self._stitch(variables, image, grid, given, sink)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not out_of_memory(error) or tile // 2 < _SMALLEST:
                    raise
                tile //= 2
                self._report(f"out of memory: smaller tiles, {tile} pixels")

    def _grid(self, image: np.ndarray, tile: int) -> tiles.Grid:
        height, width = (n + -n % self._multiple for n in image.shape[:2])
        return tiles.grid(
            height, width, tile=tile, halo=self._halo, multiple=self._multiple
        )

    def _apply_with(
        self, variables: Any, x: jax.Array, given: Sequence[statistics.Given]
    ) -> jax.Array:
        return statistics.apply(lambda: self._generate(variables, x), given)

    def _measure_with(
        self,
        variables: Any,
        x: jax.Array,
        given: Sequence[statistics.Given],
        cores: jax.Array,
    ) -> statistics.Moments:
        return statistics.measure(
            lambda: self._generate(variables, x),
            given,
            cores=cores,
            size=x.shape[1:3],
        )

    def _statistics(
        self, variables: Any, image: np.ndarray, grid: tiles.Grid
    ) -> list[statistics.Given]:
        """Measures the layers one after the other, each with those below it given."""
        first = jnp.asarray(self._cut(image, grid, (0, 0)))[None]
        layers = statistics.count(functools.partial(self._generate, variables, first))
        places = list(grid)
        if self._statistics_tiles:
            places = places[:: math.ceil(len(places) / self._statistics_tiles)]
        cores = [axis.cores() for axis in (grid.rows, grid.columns)]
        given: list[statistics.Given] = []
        for layer in range(layers):
            parts = []
            for batch in self._batches(image, grid, places):
                spans = np.array(
                    [[cores[0][r], cores[1][c]] for r, c in batch.places], np.int32
                )
                spans[batch.count :] = 0  # repeated tiles do not count twice
                parts.append(self._measure(variables, batch.images, given, spans))
            given.append(statistics.combine(jax.device_get(parts)))
            self._report(
                f"statistics of layer {layer + 1} of {layers}, {len(places)} of"
                f" {len(grid)} tiles"
            )
        return given

    def _batches(
        self, image: np.ndarray, grid: tiles.Grid, places: Sequence[tuple[int, int]]
    ) -> Iterator["_Batch"]:
        """Yields as many tiles at once as there are devices."""
        size = self._devices.size
        shard = NamedSharding(self._devices, PartitionSpec("tiles"))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            filled = [*chunk, *[chunk[-1]] * (size - len(chunk))]
            cut = np.stack([self._cut(image, grid, place) for place in filled])
            images = jax.device_put(cut, shard) if size > 1 else cut
            yield _Batch(filled, len(chunk), images)

    def _cut(
        self, image: np.ndarray, grid: tiles.Grid, place: tuple[int, int]
    ) -> np.ndarray:
        row, column = place
        y, x = grid.rows.starts[row], grid.columns.starts[column]
        return tiles.cut(image, y, x, grid.rows.size, grid.columns.size)

    def _stitch(
        self,
        variables: Any,
        image: np.ndarray,
        grid: tiles.Grid,
        given: Sequence[statistics.Given],
        sink: Sink,
    ) -> Seams:
        canvas = None
        for batch in self._batches(image, grid, list(grid)):
            made = np.asarray(self._apply(variables, batch.images, given))
            for place, result in zip(batch.places[: batch.count], made, strict=False):
                if canvas is None:
                    canvas = _Canvas(grid, image.shape, result.shape, sink)
                canvas.add(place, result)
                if place[1] == len(grid.columns.starts) - 1:
                    self._report(f"row {place[0] + 1} of {len(grid.rows.starts)}")
        return canvas.close()


@dataclasses.dataclass(frozen=True)
class _Batch:
    places: list[tuple[int, int]]
    count: int  # of `places`, those that are not there to fill up
    images: jax.Array


class _Canvas:
    """The rows of the result that tiles still work on."""

    def __init__(self, grid: tiles.Grid, shape: tuple, tile_shape: tuple, sink: Sink):
        self._grid, self._sink = grid, sink
        self._scale = tile_shape[0] // grid.rows.size
        self._size = [self._scale * n for n in shape[:2]]
        full_width = self._scale * grid.columns.borders[-1]
        self._rows = np.zeros((tile_shape[0], full_width, tile_shape[2]), np.float32)
        self._y = 0  # the first of them
        self._before: dict[int, np.ndarray] = {}  # the last tile of each column
        self._differences: list[tuple[float, float]] = []
        self._steps = np.zeros(4)  # sum and number across borders, and elsewhere

    def add(self, place: tuple[int, int], tile: np.ndarray) -> None:
        """Adds a tile; those of a row come from left to right."""
        row, column = place
        if column == 0:
            self._flush(self._scale * self._grid.rows.starts[row])
        weights = [
            np.repeat(axis.weights(index), self._scale)
            for axis, index in zip(
                (self._grid.rows, self._grid.columns), place, strict=True
            )
        ]
        x = self._scale * self._grid.columns.starts[column]
        part = self._rows[:, x : x + tile.shape[1]]
        part += weights[0][:, None, None] * weights[1][None, :, None] * tile
        if not self._grid.exact:
            self._compare(place, tile)

    def _compare(self, place: tuple[int, int], tile: np.ndarray) -> None:
        row, column = place
        self._note(self._grid.columns, column, self._before.get(column - 1), tile, 1)
        self._note(self._grid.rows, row, self._before.get(column), tile, 0)
        self._before[column] = tile

    def _note(
        self,
        axis: tiles.Axis,
        index: int,
        before: np.ndarray | None,
        tile: np.ndarray,
        dimension: int,
    ) -> None:
        """Notes how two tiles differ where their core borders are blended."""
        if before is None or index == 0:
            return
        border, ramp = axis.borders[index], axis.ramp
        spans = [
            np.arange(border - ramp - start, border + ramp - start)
            for start in axis.starts[index - 1 : index + 1]
        ]
        fine = np.arange(self._scale)
        spans = [(self._scale * span[:, None] + fine).ravel() for span in spans]
        away = np.abs(before.take(spans[0], dimension) - tile.take(spans[1], dimension))
        self._differences.append((float(away.mean()), float(away.max())))

    def _flush(self, until: int) -> None:
        """Hands on the rows before `until`, which no tile from now on touches."""
        count = until - self._y
        if not count:
            return
        done = self._rows[: min(count, self._size[0] - self._y), : self._size[1]]
        if len(done):
            self._measure_steps(done)
            self._sink(self._y, done)
        rest = self._rows[count:].copy()
        self._rows[: len(rest)] = rest
        self._rows[len(rest) :] = 0
        self._y = until

    def _measure_steps(self, rows: np.ndarray) -> None:
        step = np.abs(np.diff(rows, axis=1)).mean(axis=(0, 2))
        borders = np.array(self._grid.columns.borders[1:-1], int) * self._scale - 1
        across = np.isin(np.arange(len(step)), borders)
        for i, chosen in enumerate((across, ~across)):
            self._steps[2 * i : 2 * i + 2] += step[chosen].sum(), chosen.sum()

    def close(self) -> Seams:
        """Hands on what is left, and returns how well the tiles agreed."""
        self._flush(self._y + len(self._rows))
        if self._grid.exact or not self._differences:
            return Seams(self._grid.exact)
        means, maxima = zip(*self._differences, strict=True)
        across, elsewhere = (
            self._steps[i] / max(self._steps[i + 1], 1) for i in (0, 2)
        )
        ratio = across / elsewhere if elsewhere and across else 1.0
        return Seams(False, float(np.mean(means)), max(maxima), float(ratio))


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that the device's memory or the machine's ran out."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
