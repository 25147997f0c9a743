"""How the mask GAN judges itself: generated against real masks, as sets.

Nothing is paired, so that sets are compared: by the Fréchet distance of fixed random
features, window by window, and by the sizes and shapes of what the masks show. Masks
are `[N, S, S, C]` in [-1, 1], one hot; labels `[N, S, S]`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import distribution, morphology, sampling
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.masks import Masks
from jaxgan.methods import maskgan
from jaxgan.models import random_features
from jaxgan.state import GANState
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir

SAMPLES = 64  # masks that an evaluation draws
_EXAMPLES = 4  # rows of a sample grid
_SEED = 7  # of the latents of every evaluation


class Judge:
    """Draws from generators and compares with the held-out masks, or the training's."""

    def __init__(
        self,
        config: maskgan.Config,
        networks: maskgan.Networks,
        masks: Masks,
        workdir: Workdir,
    ):
        """Takes the networks that were made of `config`, for masks of its crop size."""
        self._classes, self._workdir = masks.classes, workdir
        self._draw = sampling.make_draw(networks.gen, config)
        self._judge = jax.jit(
            lambda variables, mask: jnp.mean(
                networks.disc.apply(variables, mask, train=False)
            )
        )
        sets = {"train": masks.train, "held out": masks.val}
        self._real = {
            name: tiles(images, size=config.crop_size)
            for name, images in sets.items()
            if images is not None
        }
        # Features are those of every mirror image, as training shows them.
        self._features = {
            name: features(mirrored(real)) for name, real in self._real.items()
        }

    def score(self, state: GANState) -> dict[str, float]:
        """Returns "frechet", to the held-out masks if there are any, and its company.

        "frechet_train" is the distance to the training masks, of which memorising
        lowers that alone; "giveaway" is what D's logit gains if softness, and nothing
        else, is taken from the fakes.
        """
        soft = self._draw(state.gen_variables, SAMPLES, seed=_SEED)
        hard = one_hot(np.argmax(soft, axis=-1), classes=len(self._classes))
        drawn = features(hard)
        distances = {
            name: distribution.frechet_distance(drawn, real)
            for name, real in self._features.items()
        }
        disc = {"params": state.disc.params, "batch_stats": state.disc.stats}
        gains = [
            self._judge(disc, h[None]) - self._judge(disc, s[None])
            for h, s in zip(hard[:_EXAMPLES], soft[:_EXAMPLES], strict=True)
        ]
        return {
            "frechet": distances.get("held out", distances["train"]),
            "frechet_train": distances["train"],
            "giveaway": float(np.mean(gains)),
        }

    def sample(self, state: GANState, step: int) -> None:
        """Draws generated masks beside real ones."""
        soft = self._draw(state.gen_variables, _EXAMPLES, seed=_SEED)
        hard = one_hot(np.argmax(soft, axis=-1), classes=len(self._classes))
        real = next(reversed(self._real.values()))
        rows = [
            {"softmax": s, "generated": h, "real": r}
            for s, h, r in zip(soft, hard, real, strict=False)
        ]
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints and writes what real and generated masks look like, in numbers."""
        sets = {
            **self._real,
            "generated": self._draw(state.gen_variables, SAMPLES, seed=_SEED),
        }
        rows = {
            name: describe(np.argmax(masks, axis=-1), self._classes)
            for name, masks in sets.items()
        }
        rows["generated"]["frechet"] = self.score(state)["frechet"]
        self._workdir.write_json("scores.json", rows)
        console.result_table(f"masks, {random_features.NAME}", transposed(rows))


def transposed(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns a table with the columns of another as its rows."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {n: {k: row[n] for k, row in rows.items() if n in row} for n in names}


def tiles(images: ImageSet, *, size: int) -> np.ndarray:
    """Returns class maps cut into squares, side by side, as masks `[N, S, S, C]`."""
    cut = []
    for index in range(len(images)):
        image = images.load(index)
        for top in range(0, image.shape[0] - size + 1, size):
            for left in range(0, image.shape[1] - size + 1, size):
                cut.append(image[top : top + size, left : left + size])
    return 2.0 * np.stack(cut).astype(np.float32) - 1.0


def mirrored(masks: np.ndarray) -> np.ndarray:
    """Returns the masks and their three mirror images, `[4 N, S, S, C]`."""
    across = np.concatenate([masks, masks[:, :, ::-1]])
    return np.concatenate([across, across[:, ::-1]])


def one_hot(labels: np.ndarray, *, classes: int) -> np.ndarray:
    """Returns labels `[N, H, W]` as masks `[N, H, W, classes]` in [-1, 1]."""
    return np.where(labels[..., None] == np.arange(classes), 1.0, -1.0).astype("f4")


def features(masks: np.ndarray) -> np.ndarray:
    """Returns the random features of every window of every mask."""
    return np.concatenate([np.asarray(_features(mask[None])) for mask in masks])


_features = jax.jit(random_features.random_features)


def describe(labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Returns the statistics of label maps, averaged over those that have them."""
    rows = [morphology.describe(label, classes=tuple(classes)) for label in labels]
    means = {}
    for name in rows[0]:
        values = [row[name] for row in rows if np.isfinite(row[name])]
        means[name] = float(np.mean(values)) if values else 0.0
    return means
