"""How MEGAN judges itself: each scale of held-out images, made of their edges alone."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxgan import evaluate
from jaxgan.data import stitch
from jaxgan.data.multiscale import Pyramid
from jaxgan.experiments.megan_chain import Chain
from jaxgan.methods import megan
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

_EXAMPLES = 3  # rows of a sample grid
_SHOWN = 512  # pixels of a large image that a grid shows


class Split(NamedTuple):
    """What a run trains on and is judged by."""

    train: Pyramid
    val: Pyramid | None


class ScaleJudge:
    """Plays the chain up to one scale on held-out images and compares with them."""

    def __init__(
        self,
        config: megan.Config,
        chain: Chain,
        scale: int,
        split: Split,
        workdir: Workdir,
    ):
        """Takes the scale that is trained; those below it are trained already."""
        self._config, self._chain, self._scale = config, chain, scale
        self._split, self._workdir = split, workdir
        self._last = scale == config.num_scales - 1

    def score(self, state: GANState) -> dict[str, float]:
        """Returns the mean scores of the scale, named by its size, and without a name.

        The last scale's alone are there without one: they decide which step is best.
        """
        if self._split.val is None:
            return {}
        rows = [self._compare(*e) for e in self._examples(state, self._split.val)]
        means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
        size = self._config.sizes[self._scale]
        named = {f"{name}_{size}": value for name, value in means.items()}
        return named | (means if self._last else {})

    def sample(self, state: GANState, step: int) -> None:
        """Draws edges, the chain's image and the real one, of the first images."""
        images = self._split.val or self._split.train
        rows = [
            {
                "edges": _middle(evaluate.decode(lines, images.edge_range)),
                "image": _middle(made),
                "real": _middle(real),
            }
            for lines, made, real in itertools.islice(
                self._examples(state, images, plain=True), _EXAMPLES
            )
        ]
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints and writes the scores of every scale."""
        if self._split.val is None:
            return
        rows = {}
        for scale in range(self._scale + 1):
            judge = ScaleJudge(
                self._config, self._chain, scale, self._split, self._workdir
            )
            size = self._config.sizes[scale]
            scores = judge.score(state)
            rows[f"{size} pixels"] = {
                name.removesuffix(f"_{size}"): value
                for name, value in scores.items()
                if name.endswith(f"_{size}")
            }
        console.result_table(
            f"{len(self._split.val)} held-out images, of their edges", rows
        )
        self._workdir.write_json("scores.json", rows)

    def _compare(self, lines: np.ndarray, made: np.ndarray, real: np.ndarray) -> dict:
        scores = evaluate.score(made, real)
        scores["mse"] = float(np.mean((made - real) ** 2))
        if self._scale:
            patch, core = self._config.patch_size, self._config.core_size
            seams = [stitch.seam_ratio(x, patch=patch, core=core) for x in (made, real)]
            scores["seams"], scores["seams_real"] = seams
        return scores

    def _examples(
        self, state: GANState, images: Pyramid, *, plain: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields stored edges, the image made and the real one, of the scale."""
        pairs, finest = images.scales[self._scale], images.scales[-1].source
        for index in range(len(pairs)):
            found = finest.load(index)
            made = self._chain.all_scales(state.gen.params, found, last=self._scale)
            lines = pairs.source.load(index)
            if plain and lines.shape[-1] > 1:  # folded
                lines = lines.max(axis=-1, keepdims=True)
            real = evaluate.decode(pairs.target.load(index), images.target_range)
            yield lines, made[-1], np.clip(real, -1, 1)


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, n - _SHOWN) // 2 for n in image.shape[:2])
    return image[top : top + _SHOWN, left : left + _SHOWN]
