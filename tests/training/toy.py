"""A training run small enough to repeat many times, for the tests beside it.

As a script, `python toy.py WORKDIR`, it trains until the save of step 6, in the middle
of which it kills itself.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.training import checkpoint, log, loop
from jaxgan.training.run import RunConfig


@flax.struct.dataclass
class State:
    """Two networks' worth of odds and ends, as real states have them."""

    step: jax.Array
    gen: dict[str, dict[str, jax.Array]]
    disc: None
    extra: tuple[jax.Array, ...]


def init() -> State:
    """The state at step 0."""
    weights = {"params": {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}}
    return State(np.int32(0), weights, None, (np.zeros(3, np.uint8), np.bool_(True)))


@jax.jit
def update(state: State, batch: jax.Array, key: jax.Array):
    """One step per leading entry of `batch` [K, 4]; metrics [K]."""

    def step(state, x):
        noise = jax.random.uniform(jax.random.fold_in(key, state.step))
        w = state.gen["params"]["w"] * 0.9 + x[None, :] * noise
        gen = {"params": {"w": w}}
        metrics = {"gen_loss": jnp.mean(w**2), "disc_loss": jnp.sum(w)}
        return state.replace(step=state.step + 1, gen=gen), metrics

    return jax.lax.scan(step, state, batch)


def batches(start: int, total: int, k: int = 1) -> Iterator[np.ndarray]:
    """Batch i is a function of i alone."""
    for first in range(start, total, k):
        steps = range(first, min(first + k, total))
        yield np.stack([np.cos(np.arange(4, dtype=np.float32) + i) for i in steps])


def train(workdir: Path, total: int = 12, k: int = 2, run=None, **options) -> State:
    """Restores what there is and trains to step `total`; saves every 3 steps."""
    run = run or RunConfig(log_every=2, eval_every=4, checkpoint_every=3)
    options = {"update": update, "batches": batches, **options}
    with checkpoint.Checkpoints(workdir / "checkpoints", metric="ssim") as checkpoints:
        state, start = checkpoints.restore(init()) or (init(), 0)
        with log.MetricLog(workdir, step=start) as rows:
            return loop.train(
                state,
                options.pop("batches")(start, total, k),
                key=jax.random.key(0),
                run=run,
                start_step=start,
                total_steps=total,
                batch_size=4,
                checkpoints=checkpoints,
                log=rows,
                **options,
            )


def die_before_step_is_committed(step: int) -> None:
    """Makes this process kill itself when Orbax is about to rename that step."""
    rename = os.rename

    def rename_or_die(source, target, **options):
        if Path(target).name == str(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(source, target, **options)

    os.rename = rename_or_die


if __name__ == "__main__":
    die_before_step_is_committed(6)
    train(Path(sys.argv[1]))
