"""How super-resolution is judged: as papers do it, beside bicubic interpolation.

Scores leave out a border of as many pixels as the scale. Colour is compared by its luma
alone (BT.601, peak 255); other images by their values in [-1, 1], peak 2.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import baselines, bicubic, evaluate, metrics
from jaxgan.data.scaled import Images, ScaledPairs, ScaledSplit
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

_EXAMPLES = 4  # rows of a sample grid
_FILTER_IMAGES = 200  # more would not change a filter


class Example(NamedTuple):
    """One scene, `[H, W, C]` floats; all but the source in the targets' [-1, 1]."""

    source: np.ndarray  # [h, w, I], in the sources' [-1, 1]
    bicubic: np.ndarray  # of the source, in the units of the target
    target: np.ndarray


def read(images: Images, split: ScaledSplit, *, scale: int) -> Iterator[Example]:
    """Yields what there is to enlarge, its interpolation, and what it should become.

    Where there are targets only, sources are made of them, as in training.
    """
    enlarge = jax.jit(lambda image: bicubic.resize(image, factor=scale))
    reduce = jax.jit(lambda image: bicubic.resize(image, factor=1 / scale))
    for index in range(len(images)):
        if isinstance(images, ScaledPairs):
            stored = images.source.load(index)
            target = evaluate.decode(images.target.load(index), split.target_range)
            source = evaluate.decode(stored, split.source_range)
            same_units = stored.shape[-1] == target.shape[-1]
            decoded = evaluate.decode(stored, split.target_range) if same_units else 0
            yield Example(source, np.asarray(enlarge(decoded + 0 * source)), target)
        else:
            target = evaluate.decode(images.load(index), split.target_range)
            height, width = (n - n % scale for n in target.shape[:2])
            target = target[:height, :width]
            source = np.asarray(reduce(target))
            yield Example(source, np.asarray(enlarge(source)), target)


def score(image: np.ndarray, target: np.ndarray, *, border: int) -> dict[str, float]:
    """Returns "psnr" (dB) and "ssim" of an image `[H, W, C]` against a target."""
    scores = _scores(image[None], np.clip(target[None], -1, 1), border)
    return {name: float(value[0]) for name, value in scores.items()}


@functools.partial(jax.jit, static_argnums=2)
def _scores(image: jax.Array, target: jax.Array, border: int) -> dict[str, jax.Array]:
    peak = evaluate.PEAK
    image, target = (metrics.shave(x, border=border) for x in (image, target))
    if image.shape[-1] == 3:
        peak = 255.0
        image, target = (
            metrics.y_channel(jnp.clip((x + 1) / 2, 0, 1)) for x in (image, target)
        )
    return {
        "psnr": metrics.psnr(target, image, peak=peak),
        "ssim": metrics.ssim(target, image, peak=peak),
    }


class Judge:
    """Enlarges held-out images and says how well."""

    def __init__(
        self,
        generate: Callable[[Any, jax.Array], jax.Array],
        split: ScaledSplit,
        workdir: Workdir,
        *,
        scale: int,
    ):
        """Takes `(variables, source [1, h, w, I]) -> [1, H, W, O]`, both in [-1, 1]."""
        self._generate = jax.jit(generate)
        self._split, self._workdir, self._scale = split, workdir, scale

    def score(self, state: GANState) -> dict[str, float]:
        """Returns the mean scores on held-out images, "bicubic_..." beside them."""
        if self._split.val is None:
            return {}
        rows = self._rows(state)
        interpolated = {f"bicubic_{k}": v for k, v in rows["bicubic"].items()}
        return rows["prediction"] | interpolated

    def _rows(self, state: GANState) -> dict[str, dict[str, float]]:
        scores: dict[str, list[dict[str, float]]] = {"bicubic": [], "prediction": []}
        for example, prediction in self._examples(state, self._split.val):
            images = {"bicubic": example.bicubic, "prediction": prediction}
            for name, image in images.items():
                scores[name].append(score(image, example.target, border=self._scale))
        return {name: _mean(rows) for name, rows in scores.items()}

    def sample(self, state: GANState, step: int) -> None:
        """Draws bicubic interpolation, prediction and target of the first images."""
        images = self._split.val or self._split.train
        examples = itertools.islice(self._examples(state, images), _EXAMPLES)
        rows = [
            {"bicubic": e.bicubic, "prediction": prediction, "target": e.target}
            for e, prediction in examples
        ]
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints the scores of interpolation, best linear filter and prediction."""
        if self._split.val is None:
            return
        rows = self._rows(state)
        prediction = rows.pop("prediction")
        rows |= {
            "bicubic, best linear filter": self._filter(),
            "prediction": prediction,
        }
        console.result_table(f"{len(self._split.val)} held-out images", rows)
        self._workdir.write_json("scores.json", rows)

    def _filter(self) -> dict[str, float]:
        """Scores the best linear filter of the interpolated image, as `judge` does."""
        read_all = lambda images: read(images, self._split, scale=self._scale)  # noqa: E731
        train = list(itertools.islice(read_all(self._split.train), _FILTER_IMAGES))
        fitted = baselines.fit_linear(
            [example.bicubic for example in train],
            [example.target for example in train],
        )
        held = list(read_all(self._split.val))
        scores = [
            _mean(
                [score(linear(e.bicubic), e.target, border=self._scale) for e in held]
            )
            for linear in fitted
        ]
        return max(scores, key=lambda row: row["psnr"])

    def _examples(
        self, state: GANState, images: Images
    ) -> Iterator[tuple[Example, np.ndarray]]:
        variables = state.gen_variables
        for example in read(images, self._split, scale=self._scale):
            yield (
                example,
                np.asarray(self._generate(variables, example.source[None])[0]),
            )


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
