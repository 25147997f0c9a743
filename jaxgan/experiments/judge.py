"""How a paired experiment judges itself: scores, sample grids, the final table."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxgan import baselines, evaluate, predict
from jaxgan.data.pairs import Pairs, Split
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

_EXAMPLES = 4  # rows of a sample grid
_FILTER_IMAGES = 500  # more would not change a filter


class Judge:
    """Applies generators to held-out pairs and says how good they are."""

    def __init__(
        self,
        generate: Callable[[Any, jax.Array], jax.Array],
        split: Split,
        workdir: Workdir,
        *,
        multiple: int,
    ):
        """Takes `(variables, source in [-1, 1]) -> [-1, 1]`, as `make_translate`."""
        self._translate = predict.make_translate(
            generate, split.source_range, multiple=multiple
        )
        self._split, self._workdir = split, workdir

    def score(self, state: GANState) -> dict[str, float]:
        """Returns the mean scores on the held-out pairs, none if there are none."""
        if self._split.val is None:
            return {}
        return evaluate.summary(list(self._examples(state, self._split.val)))

    def sample(self, state: GANState, step: int) -> None:
        """Draws input, prediction and target of the first held-out pairs."""
        pairs = self._split.val or self._split.train
        examples = itertools.islice(self._examples(state, pairs), _EXAMPLES)
        rows = [
            {"input": e.source, "prediction": e.prediction, "target": e.target}
            for e in examples
        ]
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints the scores of input, best linear filter and prediction."""
        if self._split.val is None:
            return
        examples = list(self._examples(state, self._split.val))
        rows = evaluate.table(evaluate.summary(examples))
        prediction = rows.pop("prediction")
        rows |= {"best linear filter": self._filter(examples), "prediction": prediction}
        console.result_table(f"{len(examples)} held-out images", rows)
        self._workdir.write_json("scores.json", rows)

    def _filter(self, examples: list[evaluate.Example]) -> dict[str, float]:
        """Scores the linear filter that was fitted on training images.

        Of several regularisations the one that suits the held-out images best counts,
        to the filter's advantage.
        """
        pairs, ranges = (
            self._split.train,
            (
                self._split.source_range,
                self._split.target_range,
            ),
        )
        indices = range(min(len(pairs), _FILTER_IMAGES))
        fitted = baselines.fit_linear(
            [evaluate.decode(pairs.source.load(i), ranges[0]) for i in indices],
            [evaluate.decode(pairs.target.load(i), ranges[1]) for i in indices],
        )
        scores = [
            evaluate.mean_scores((linear(e.source), e.target) for e in examples)
            for linear in fitted
        ]
        return max(scores, key=lambda score: score["ssim"])

    def _examples(self, state: GANState, pairs: Pairs) -> Iterator[evaluate.Example]:
        variables = state.gen_variables
        return evaluate.predict_pairs(
            lambda image: self._translate(variables, image),
            pairs,
            source_range=self._split.source_range,
            target_range=self._split.target_range,
        )
