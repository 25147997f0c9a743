"""Score predictions against targets, image by image: python -m jaxgan.evaluate.

    python -m jaxgan.evaluate --workdir=W --source=DIR --target=DIR [--output=DIR]

Applies every checkpoint that a run kept to every pair of images and writes, by default
to W/report, index.html (one file, for any browser), qc.csv (all scores), methods.txt (a
paragraph to paste) and maps/ (SSIM and error as float TIFFs). It needs the extra
`report`.

Images are compared as the networks see them, in [-1, 1]: PSNR and SSIM have a peak of
2, the width of the target range, and do not depend on how images are stored.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxgan import augment, cli, metrics
from jaxgan.config import option
from jaxgan.data.normalise import Range
from jaxgan.data.pairs import Pairs
from jaxgan.errors import UserError

PEAK = 2.0


class Example(NamedTuple):
    """One held-out image, `[H, W, C]` floats in [-1, 1]."""

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray


def predict_pairs(
    translate: Callable[[np.ndarray], np.ndarray],
    pairs: Pairs,
    *,
    source_range: Range,
    target_range: Range,
) -> Iterator[Example]:
    """Yields every pair with its prediction.

    `translate` maps a stored source `[H, W, I]` to `[H, W, O]` in [-1, 1].
    """
    for index in range(len(pairs)):
        source, target = pairs.source.load(index), pairs.target.load(index)
        yield Example(
            decode(source, source_range),
            translate(source),
            np.clip(decode(target, target_range), -1, 1),
        )


def decode(image: np.ndarray, range_: Range) -> np.ndarray:
    """Maps stored values to [-1, 1] on the host, by the formula of the device."""
    low, high = np.float32(range_.low), np.float32(range_.high)
    return np.asarray(augment.decode(image, low, high))


def score(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Returns "psnr" (dB), "ssim" and "nrmse" of an image against a target."""
    scores = _scores(prediction[None], target[None])
    return {name: float(value[0]) for name, value in scores.items()}


@jax.jit
def _scores(prediction: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
    return {
        "psnr": metrics.psnr(target, prediction, peak=PEAK),
        "ssim": metrics.ssim(target, prediction, peak=PEAK),
        "nrmse": metrics.nrmse(target, prediction),
    }


def mean_scores(
    images: Iterator[tuple[np.ndarray, np.ndarray]],
) -> dict[str, float]:
    """Averages `score` over pairs of prediction and target."""
    rows = [score(prediction, target) for prediction, target in images]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def comparable(example: Example) -> bool:
    """Whether a source can be scored as if it were a prediction."""
    return example.source.shape == example.target.shape


def summary(examples: list[Example]) -> dict[str, float]:
    """Returns the mean scores of predictions and, as "input_...", of their sources."""
    means = mean_scores((e.prediction, e.target) for e in examples)
    if not all(comparable(e) for e in examples):
        return means
    inputs = mean_scores((e.source, e.target) for e in examples)
    return {**means, **{f"input_{name}": value for name, value in inputs.items()}}


def table(means: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Splits a `summary` into rows, "input" and "prediction"."""
    rows: dict[str, dict[str, float]] = {"input": {}, "prediction": {}}
    for name, value in means.items():
        if name.startswith("input_"):
            rows["input"][name.removeprefix("input_")] = value
        else:
            rows["prediction"][name] = value
    return {label: row for label, row in rows.items() if row}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to judge, on which images."""

    workdir: str = option("", "of the training run")
    source: str = option("", "folder of input images, as --source in training")
    target: str = option("", "folder of target images, paired with source by file stem")
    output: str = option("", "folder for the report; empty: WORKDIR/report")
    axes: str = option("", "axes of stacks, as in training; empty: as there")


def main(*, options: Options) -> None:
    """Writes the quality report of a run and prints its warnings."""
    # The report is built on the functions above.
    from jaxgan.report import generators, images, page, study

    required = ("workdir", "source", "target")
    missing = [name for name in required if not getattr(options, name)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    page.check_installed()
    generator = generators.load(options.workdir)
    pairs = images.open_pairs(
        generator, options.source, options.target, axes=options.axes
    )
    seen = images.what_was_seen(generator.stored)
    judged = images.with_roles(*pairs, seen)
    folder = Path(options.output or Path(options.workdir) / "report")
    maps = folder / "maps"
    found = study.run(generator, judged, seen, maps=maps, say=_say)
    for warning in page.write(folder, options.workdir, generator, judged, seen, found):
        print(f"- {warning}")
    print(folder / "index.html")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
