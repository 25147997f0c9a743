"""Applies every kept checkpoint to every image and keeps what the report needs."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jaxgan import baselines, evaluate
from jaxgan.data import normalise, writers
from jaxgan.report import measure
from jaxgan.report.generators import Generator
from jaxgan.report.images import ROLES, TRAINING, Images, Seen

INPUT, FILTER, PREDICTION = "input", "best linear filter", "prediction"

_FILTER_IMAGES = 100  # more would not change a filter
_SPECTRUM_IMAGES = 32


@dataclasses.dataclass(frozen=True)
class Row:
    """The scores of one image: of its input, of a filter's or a network's output."""

    image: str
    role: str
    kind: str  # INPUT, FILTER or PREDICTION
    checkpoint: int | None  # of a prediction
    scores: dict[str, float]  # `measure.SCORES` and `MATCHED`


@dataclasses.dataclass(frozen=True)
class Example:
    """An image to show, `[H, W, C]` in [-1, 1] and on the grid of its target."""

    title: str  # "best", "median" or "worst"
    name: str
    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray
    scores: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Study:
    """All that was found."""

    rows: tuple[Row, ...]
    role: str  # of the images that the summary, examples and spectra are of
    examples: tuple[Example, ...]
    spectra: measure.Spectra
    source_outside: float  # part of the sources' values beyond the training range
    target_outside: float
    fitted_on: str  # what the linear filter was fitted on, "" if there is none

    def mean(
        self, kind: str, role: str, checkpoint: int | None
    ) -> dict[str, tuple[float, float]]:
        """Returns mean and standard deviation of each score; empty for no rows."""
        chosen = [
            row.scores
            for row in self.rows
            if (row.kind, row.role, row.checkpoint) == (kind, role, checkpoint)
        ]
        if not chosen:
            return {}
        values = {name: [scores[name] for scores in chosen] for name in chosen[0]}
        return {name: _mean_and_spread(scores) for name, scores in values.items()}


def _mean_and_spread(values: list[float]) -> tuple[float, float]:
    # Of equal images the PSNR is infinite, and of flat targets the NRMSE.
    spread = np.std(values) if np.isfinite(values).all() else np.nan
    return float(np.mean(values)), float(spread)


class _Reader:
    """Images as the networks see them, and what becomes of them."""

    def __init__(self, generator: Generator, images: Images):
        self.generator, self.images = generator, images

    def source(self, index: int) -> np.ndarray:
        stored = self.images.source.load(index)
        return evaluate.decode(stored, self.generator.source_range)

    def enlarged(self, index: int) -> np.ndarray:
        return measure.on_target_grid(self.source(index), scale=self.generator.scale)

    def target(self, index: int) -> np.ndarray:
        return np.clip(self.unclipped(index), -1, 1)

    def unclipped(self, index: int) -> np.ndarray:
        stored = self.images.target.load(index)
        return evaluate.decode(stored, self.generator.target_range)

    def predict(self, step: int, index: int) -> np.ndarray:
        variables = self.generator.variables[step]
        return self.generator.translate(variables, self.images.source.load(index))


def run(
    generator: Generator,
    images: Images,
    seen: Seen,
    *,
    maps: Path,
    say: Callable[[str], None],
) -> Study:
    """Judges every checkpoint and writes the maps of the chosen one below `maps`.

    `say` is told how far the work is.
    """
    reader = _Reader(generator, images)
    rows = []
    for step in generator.variables:
        predictions = (reader.predict(step, index) for index in range(len(images)))
        rows += _rows(reader, predictions, PREDICTION, checkpoint=step)
        say(f"checkpoint {step}: {len(images)} images")
    if images.source.channels == images.target.channels:
        inputs = (reader.enlarged(index) for index in range(len(images)))
        rows += _rows(reader, inputs, INPUT)
    role = next(role for role in ROLES if images.having(role))
    filtered, fitted_on = _filtered(reader, seen, images.having(role))
    rows += filtered
    _write_maps(reader, maps)
    say(f"maps: {maps}")
    outside = (
        float(np.mean([measure.fraction_outside(load(i)) for i in range(len(images))]))
        for load in (reader.source, reader.unclipped)
    )
    return Study(
        tuple(rows),
        role,
        tuple(_examples(reader, rows, role)),
        measure.spectra(
            [_by_name(reader, i) for i in images.having(role)[:_SPECTRUM_IMAGES]]
        ),
        *outside,
        fitted_on,
    )


def _rows(
    reader: _Reader,
    made: Iterator[np.ndarray],
    kind: str,
    *,
    checkpoint: int | None = None,
    indices: Sequence[int] | None = None,
) -> list[Row]:
    images = reader.images
    return [
        Row(
            images.source.names[index],
            images.roles[index],
            kind,
            checkpoint,
            measure.score(image, reader.target(index)),
        )
        for index, image in zip(indices or range(len(images)), made, strict=True)
    ]


def _filtered(
    reader: _Reader, seen: Seen, indices: Sequence[int]
) -> tuple[list[Row], str]:
    """Returns the rows of the best linear filter on some images, and how it was fitted.

    It is fitted on pairs that the run trained on or, where there are none, on every
    other of the images, and applied to those between. Of several regularisations the
    one that suits the images best counts, to the filter's advantage.
    """
    if seen.paired and len(seen.train) == 2:
        trained = _Reader(reader.generator, Images(*seen.train, (TRAINING,)))
        numbers = range(min(len(trained.images), _FILTER_IMAGES))
        parts = [([_pair(trained, i) for i in numbers], list(indices))]
        fitted_on = f"{len(numbers)} of the images that the run trained on"
    elif len(indices) > 1:
        halves = indices[::2], indices[1::2]
        parts = [
            ([_pair(reader, i) for i in there[:_FILTER_IMAGES]], list(here))
            for there, here in (halves, halves[::-1])
        ]
        fitted_on = "the other half of these images"
    else:
        return [], ""
    candidates: list[list[Row]] = [[] for _ in baselines.RIDGES]
    for pairs, here in parts:
        for rows, linear in zip(
            candidates, baselines.fit_linear(*zip(*pairs, strict=True)), strict=True
        ):
            made = (linear(reader.enlarged(i)) for i in here)
            rows += _rows(reader, made, FILTER, indices=here)
    best = max(candidates, key=lambda rows: np.mean([r.scores["ssim"] for r in rows]))
    return best, fitted_on


def _pair(reader: _Reader, index: int) -> tuple[np.ndarray, np.ndarray]:
    return reader.enlarged(index), reader.target(index)


def _by_name(reader: _Reader, index: int) -> dict[str, np.ndarray]:
    return {
        INPUT: reader.enlarged(index),
        PREDICTION: reader.predict(reader.generator.chosen, index),
        "target": reader.target(index),
    }


def _examples(reader: _Reader, rows: Sequence[Row], role: str) -> Iterator[Example]:
    """Yields the best, the median and the worst image by SSIM, each image once."""
    names = reader.images.source.names
    chosen = {
        row.image: row.scores
        for row in rows
        if row.checkpoint == reader.generator.chosen and row.role == role
    }
    order = sorted(chosen, key=lambda name: -chosen[name]["ssim"])
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    shown: set[str] = set()
    for title, place in places.items():
        name = order[place]
        if name not in shown:
            images = _by_name(reader, names.index(name)).values()
            yield Example(title, name, *images, chosen[name])
            shown.add(name)


def _write_maps(reader: _Reader, folder: Path) -> None:
    """Writes SSIM and error, prediction less target in its units, as float TIFFs."""
    images = reader.images
    range_ = reader.generator.target_range
    groups = itertools.groupby(range(len(images)), key=lambda i: images.source.files[i])
    for file, group in groups:
        planes: dict[str, list[np.ndarray]] = {"ssim": [], "error": []}
        for index in group:
            prediction = reader.predict(reader.generator.chosen, index)
            similarity = measure.ssim_map(prediction, reader.target(index))
            planes["ssim"].append(similarity.astype(np.float32))
            made = normalise.to_units(prediction, range_)
            error = made - images.target.load(index).astype(np.float32)
            planes["error"].append(error)
            meta = images.target.meta(index)
        for name, maps in planes.items():
            writers.write_tiff(folder / name / f"{file}.tif", np.stack(maps), like=meta)
