"""How a growing generator judges itself: each stage against real images as coarse.

Samples are of the same latents every time. Images are `[N, R, R, C]` in [-1, 1].
"""

import numpy as np

from jaxgan import distribution, sampling
from jaxgan.data.collection import Collection
from jaxgan.experiments.sample_judge import features, tiles
from jaxgan.methods import progressive
from jaxgan.models import random_features
from jaxgan.models.progressive import Generator, shrink
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

_SAMPLES = 128  # images that an evaluation draws
_ROWS, _COLUMNS = 4, 6  # of a sample grid; the last column is real
_SEED = 7  # of the latents of every evaluation


class StageJudge:
    """Draws from a stage of the generator and compares with real images.

    Whatever their resolution, images are magnified, by repeating pixels, to the size of
    the finished ones (or the window of the features) before they are compared, so that
    the distances of all stages lie in one space.
    """

    def __init__(
        self,
        config: progressive.Config,
        gen: Generator,
        stage: progressive.Stage,
        opened: Collection,
        workdir: Workdir,
    ):
        """Takes the generator of the stage, and the images of the last one."""
        self._stage, self._workdir = stage, workdir
        self._last = stage.resolution == config.crop_size
        self._zoom = config.crop_size // stage.resolution
        sets = {"train": opened.train, "held out": opened.val}
        self._real = {
            name: self._coarse(tiles(images, opened.range, size=config.crop_size)[0])
            for name, images in sets.items()
            if images is not None
        }
        self._features = {name: self._see(x) for name, x in self._real.items()}

        def generate(gen, given, latents):
            return progressive.generate(gen, given[0], latents, alpha=given[1])

        self._draw = sampling.make_image_draw(gen, config.latent_dim, generate=generate)

    def score(self, state: GANState) -> dict[str, float]:
        """Returns the Fréchet distances to held-out and to training images.

        Their names end in the resolution; the last one's are there without it, too, for
        it alone decides which step is best.
        """
        drawn = self._see(self._samples(state))
        found = {
            name: distribution.frechet_distance(drawn, real)
            for name, real in self._features.items()
        }
        scores = {"frechet": list(found.values())[-1], "frechet_train": found["train"]}
        named = {f"{k}_{self._stage.resolution}": x for k, x in scores.items()}
        return named | (scores if self._last else {})

    def sample(self, state: GANState, step: int) -> None:
        """Draws a grid of the same latents every time, beside real images."""
        drawn, real = self._samples(state), list(self._real.values())[-1]
        rows = []
        for row in range(_ROWS):
            numbers = range(row * (_COLUMNS - 1), (row + 1) * (_COLUMNS - 1))
            cells = {f"latent {i}": drawn[i] for i in numbers}
            rows.append({**cells, "real": real[row % len(real)]})
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints and writes how samples compare, and how training images would."""
        rows = {"samples": self.score(state)}
        if "held out" in self._features:
            between = distribution.frechet_distance(*self._features.values())
            rows["training images"] = {"frechet": between}
        console.result_table(
            f"{_SAMPLES} samples of {self._stage.resolution} pixels,"
            f" {random_features.NAME}",
            rows,
        )
        self._workdir.write_json("scores.json", rows)

    def _samples(self, state: GANState) -> np.ndarray:
        alpha = self._stage.alpha(np.int32(state.step))
        return self._draw((state.gen_variables, alpha), _SAMPLES, seed=_SEED)

    def _coarse(self, images: np.ndarray) -> np.ndarray:
        shrunk = shrink(images, factor=self._zoom)
        return np.asarray(shrunk)

    def _see(self, images: np.ndarray) -> np.ndarray:
        return features(images.repeat(self._zoom, axis=1).repeat(self._zoom, axis=2))
