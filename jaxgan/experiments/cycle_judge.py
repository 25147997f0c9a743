"""How unpaired translation is judged: with pairs if there are any, and without.

Without pairs: how far an image is from itself after the way there and back, whether
bright stays bright, and whether the way back reads a message that the eye cannot see
(Chu et al., 2017, "CycleGAN, a Master of Steganography").
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgan import evaluate, predict
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.unpaired import UnpairedSplit
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

_EXAMPLES = 4  # rows of a sample grid
_IMAGES = 16  # to measure cycles on
PROBE = 0.02  # of a range of 2: standard deviation of noise that nobody sees

Generate = Callable[[Any, jax.Array], jax.Array]


class Judge:
    """Translates images there and back and says how well."""

    def __init__(
        self,
        forth: Generate,
        back: Generate,
        split: UnpairedSplit,
        workdir: Workdir,
        *,
        multiple: int,
    ):
        """Takes `(variables, image [1, h, w, C]) -> [1, h, w, C']`, both in [-1, 1]."""
        self._forth = predict.make_translate(
            forth, split.source_range, multiple=multiple
        )
        channels = len(split.target_range.low)
        plain = Range((-1.0,) * channels, (1.0,) * channels)  # what `forth` returned
        self._back = predict.make_translate(back, plain, multiple=multiple)
        self._split, self._workdir = split, workdir

    def score(self, state: GANState) -> dict[str, float]:
        """Returns scores on held-out pairs, if any, and those that need no pairs."""
        scores = {}
        if self._split.val is not None:
            examples = evaluate.predict_pairs(
                lambda image: self._forth(state.gen_variables, image),
                self._split.val,
                source_range=self._split.source_range,
                target_range=self._split.target_range,
            )
            scores = evaluate.summary(list(examples))
        return scores | self._cycles(state)

    def _cycles(self, state: GANState, *, noise: float = 0.0) -> dict[str, float]:
        """Returns "cycle" and "pearson", means over the first images.

        With `noise`, so much is added to the translation before the way back.
        """
        images = self._images()
        generator = np.random.default_rng(0)
        errors, correlations = [], []
        for index in range(min(_IMAGES, len(images))):
            source, there, again = self._round_trip(
                state, images.load(index), noise=noise, generator=generator
            )
            errors.append(np.mean(np.abs(again - source)))
            correlations.append(correlation(source, there))
        return {
            "cycle": float(np.mean(errors)),
            "pearson": float(np.mean(correlations)),
        }

    def _images(self) -> ImageSet:
        """Returns the sources that nothing was trained on, or else those that were."""
        return (self._split.val or self._split.train).source

    def _round_trip(
        self,
        state: GANState,
        image: np.ndarray,
        *,
        noise: float = 0.0,
        generator: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        there = self._forth(state.gen_variables, image)
        sent = there
        if noise:
            sent = there + np.float32(noise) * generator.standard_normal(
                there.shape, np.float32
            )
        again = self._back(state.gen_variables, sent)
        source = np.clip(evaluate.decode(image, self._split.source_range), -1, 1)
        return source, there, again

    def sample(self, state: GANState, step: int) -> None:
        """Draws the first images, there and back again; with their targets, if any."""
        images, val, rows = self._images(), self._split.val, []
        for index in range(min(_EXAMPLES, len(images))):
            parts = self._round_trip(state, images.load(index))
            names = ("input", "translated", "and back")
            row = dict(zip(names, parts, strict=True))
            if val is not None:
                target = val.target.load(index)
                row["target"] = evaluate.decode(target, self._split.target_range)
            rows.append(row)
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints the scores, and what noise does to the way back."""
        means = self.score(state)
        unpaired = {name: means.pop(name) for name in ("cycle", "pearson")}
        rows = evaluate.table(means) if means else {}
        if rows:
            console.result_table(f"{len(self._split.val)} held-out pairs", rows)
        probed = self._cycles(state, noise=PROBE)["cycle"]
        rows["without pairs"] = unpaired | {
            "cycle_after_noise": probed,
            "noise_gain": (probed - unpaired["cycle"]) / PROBE,
        }
        console.result_table(
            f"there and back, and with noise of {PROBE} on the way",
            {"without pairs": rows["without pairs"]},
        )
        if unpaired["pearson"] < 0:
            print("bright became dark: input and output are anticorrelated")
        self._workdir.write_json("scores.json", rows)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Pearson's correlation of two images, of the means over their channels.

    Below zero, bright became dark; 0 where one of them is flat.
    """
    a, b = (x.mean(axis=-1).ravel().astype(np.float64) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0
