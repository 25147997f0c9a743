"""A short game on however many devices there are, for the tests beside it.

    python parallel_worker.py OUT    # one process of a launcher's; the first writes OUT

Its networks are tiny, its batches are of the global size and the same everywhere.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.methods import pix2pix
from jaxgan.training import parallel
from tests import games

STEPS, BATCH = 4, 8


def make_config(norm: str) -> pix2pix.Config:
    """Returns a game with flips and turns, and without dropout."""
    return dataclasses.replace(
        games.CONFIG,
        batch_size=BATCH,
        depth=2,
        discriminator="pixel",
        norm=norm,
        rotate=True,
    )


def make_update(config: pix2pix.Config):
    """Returns the compiled update of images that are stored as uint8."""
    low = {"source": jnp.zeros(1), "target": jnp.zeros(2)}
    high = {"source": jnp.full(1, 255.0), "target": jnp.full(2, 255.0)}
    axis = parallel.AXIS
    prepare = pix2pix.make_prepare(config, low=low, high=high, axis_name=axis)
    step = games.make_step(config, axis_name=axis, **games.GAME)
    return parallel.make_update(step, prepare)


def draw_state(config: pix2pix.Config) -> Any:
    """Draws the state at step 0, on the host."""
    return games.draw_state(config, gen_rate=0.05, disc_rate=0.05)


def draw_batches(config: pix2pix.Config) -> dict[str, np.ndarray]:
    """Draws `[STEPS, BATCH, H, W, C]` stored images, the whole global batch."""
    generator = np.random.default_rng(0)
    shape = (STEPS, BATCH, config.crop_size, config.crop_size)
    return {
        name: generator.integers(0, 256, (*shape, channels), np.uint8)
        for name, channels in (("source", 1), ("target", 2))
    }


def flat(tree: Any) -> np.ndarray:
    """Returns every number of a tree in one array."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def main(path: str) -> None:
    """Trains one step per call and, in the first process, writes what came of it."""
    parallel.initialize("auto")
    config = make_config("batch")
    share = BATCH // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    update = make_update(config)
    state, rows = parallel.replicate(draw_state(config)), []
    for step in range(STEPS):
        batch = {k: x[step : step + 1, mine] for k, x in draw_batches(config).items()}
        state, metrics = update(state, parallel.shard(batch), jax.random.key(5))
        rows.append(flat(metrics))
    if parallel.is_first_process():
        metrics = np.stack(rows)
        np.savez(path, state=flat(parallel.unreplicate(state)), metrics=metrics)


if __name__ == "__main__":
    main(sys.argv[1])
