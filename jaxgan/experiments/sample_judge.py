"""How a generator of images judges itself: its samples against real images, as sets.

Nothing is paired. Samples are of the same latents every time, so that grids show one
and the same image change; real images are cut into tiles of the generator's size.
Images are `[N, S, S, C]` in [-1, 1].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import distribution, diversity, evaluate
from jaxgan.data.collection import Collection
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.labels import Labelled
from jaxgan.data.normalise import Range
from jaxgan.errors import UserError
from jaxgan.experiments.condition_judge import Probe
from jaxgan.models import random_features
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

SAMPLES = 64  # images that an evaluation draws
_REAL, _REAL_PIXELS = 256, 2**21  # most real images of a set: the larger number
_ROWS, _COLUMNS = 4, 6  # of a sample grid; the last column is real
_SEED = 7  # of the latents of every evaluation

Draw = Callable[..., np.ndarray]  # (variables, count, *, seed, condition) -> images


class Judge:
    """Draws from generators and compares with held-out images, or the training's."""

    def __init__(
        self,
        draw: Draw,
        split: Collection,
        workdir: Workdir,
        *,
        size: int,
        early_stop: int,
    ):
        """Takes what draws images of `size` pixels, `sampling.make_image_draw`.

        `early_stop` is the most steps in a row that one player may have won, 0 for any
        number.
        """
        self._draw, self._workdir, self._early_stop = draw, workdir, early_stop
        sets = {"train": split.train, "held out": split.val}
        tiled = {
            name: tiles(images, split.range, size=size)
            for name, images in sets.items()
            if images is not None
        }
        if len(tiled["train"][0]) < 2:
            raise UserError(
                f"the training images hold fewer than two squares of {size} pixels"
            )
        tiled = {name: pair for name, pair in tiled.items() if len(pair[0]) > 1}
        self._real = {name: real for name, (real, _) in tiled.items()}
        name, (self._reference, conditions) = list(tiled.items())[-1]
        self._reference_name = name
        self._conditions = None if conditions is None else _cycle(conditions, SAMPLES)
        self._features = {name: features(real) for name, real in self._real.items()}
        self._probe = None
        if conditions is not None:
            train, known = tiled["train"]
            self._probe = Probe(train, features_of(train), known, split.coding)
            self._reference_obeys = self._obedience(self._reference, conditions)

    def score(self, state: GANState) -> dict[str, float]:
        """Returns the Fréchet distance and the measures of collapse.

        "frechet" is to held-out images if there are any; "frechet_train" to those of
        training, of which memorising lowers that alone; "spread" and "duplicates" are
        those of `jaxgan.diversity`. Of a conditional generator, also what a `Probe`
        says: whether samples are what they were asked to be. Raises `UserError` if one
        player has won the game.
        """
        if self._early_stop and int(state.extra) > self._early_stop:
            raise UserError(
                f"a loss has been 0.0000 for {int(state.extra)} steps, more than"
                f" --early_stop={self._early_stop}: one player has won and nothing is"
                " learned any more. Try --real_target=.9, a lower"
                " --disc_learning_rate or another --seed; the checkpoints before"
                " this are kept"
            )
        drawn = self._samples(state)
        found = features(drawn)
        distances = {
            name: distribution.frechet_distance(found, real)
            for name, real in self._features.items()
        }
        return {
            "frechet": distances[self._reference_name],
            "frechet_train": distances["train"],
            "spread": diversity.spread(drawn, self._reference),
            "duplicates": diversity.duplicates(drawn, self._reference),
            **(self._obedience(drawn, self._conditions) if self._probe else {}),
        }

    def sample(self, state: GANState, step: int) -> None:
        """Draws the same latents every time, beside real images."""
        drawn = self._samples(state)[: _ROWS * (_COLUMNS - 1)]
        rows = []
        for row in range(_ROWS):
            start = row * (_COLUMNS - 1)
            cells = {
                f"latent {start + i}": drawn[start + i] for i in range(_COLUMNS - 1)
            }
            rows.append({**cells, "real": self._reference[row % len(self._reference)]})
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints and writes how samples compare, and how training images would."""
        rows = {"samples": self.score(state)}
        if "held out" in self._features:
            real = self._real["train"][:SAMPLES]
            rows["training images"] = {
                "frechet": distribution.frechet_distance(
                    self._features["train"], self._features["held out"]
                ),
                "spread": diversity.spread(real, self._reference),
                "duplicates": diversity.duplicates(real, self._reference),
            }
        if self._probe:
            rows[f"{self._reference_name} images"] = self._reference_obeys
        console.result_table(
            f"{SAMPLES} samples against {self._reference_name} images,"
            f" {random_features.NAME}",
            rows,
        )
        self._workdir.write_json("scores.json", rows)

    def _obedience(self, images: np.ndarray, asked: np.ndarray) -> dict[str, float]:
        return self._probe.score(images, features_of(images), asked)

    def _samples(self, state: GANState) -> np.ndarray:
        return self._draw(
            state.gen_variables, SAMPLES, seed=_SEED, condition=self._conditions
        )


def tiles(
    images: ImageSet | Labelled, range_: Range, *, size: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns images in [-1, 1], cut into squares side by side, and their labels.

    Images are taken in an order of chance that is always the same: those of a folder
    come class by class.
    """
    plain = images.images if isinstance(images, Labelled) else images
    most = max(_REAL, _REAL_PIXELS // size**2)
    cut, labels = [], []
    for index in np.random.default_rng(0).permutation(len(plain)):
        image = np.clip(evaluate.decode(plain.load(index), range_), -1, 1)
        for top in range(0, image.shape[0] - size + 1, size):
            for left in range(0, image.shape[1] - size + 1, size):
                cut.append(image[top : top + size, left : left + size])
                if isinstance(images, Labelled):
                    labels.append(images.labels[index])
        if len(cut) >= most:
            break
    return np.stack(cut), np.stack(labels) if labels else None


def _cycle(labels: np.ndarray, count: int) -> np.ndarray:
    return np.resize(labels, (count, labels.shape[1])).astype(np.float32)


def features(images: np.ndarray) -> np.ndarray:
    """Returns the random features of images, magnified to the window if smaller."""
    scale = -(-random_features.WINDOW // images.shape[1])
    if scale > 1:
        images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    return np.concatenate([np.asarray(_features(image[None])) for image in images])


def features_of(images: np.ndarray) -> np.ndarray:
    """Returns one vector for each image: the mean of its windows'."""
    found = features(images)
    return found.reshape(len(images), -1, found.shape[-1]).mean(axis=1)


_features = jax.jit(lambda images: random_features.random_features(jnp.asarray(images)))
