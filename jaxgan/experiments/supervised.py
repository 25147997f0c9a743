"""Train a denoiser: python -m jaxgan.experiments.supervised --workdir=DIR [--flag=...]

Noise is drawn on the device, anew at every step (--noise=poisson:1). Clean images come
from a folder (--source) or, without, are simulated micrographs of nanoparticles. The
same command again continues the run; python -m jaxgan.experiments.denoise compares the
result with a generator's prior.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import cli, metrics, noise
from jaxgan.config import option
from jaxgan.data import normalise
from jaxgan.data.collection import Collection, CollectionConfig
from jaxgan.experiments import samples, session
from jaxgan.experiments.sample_judge import tiles
from jaxgan.methods import supervised
from jaxgan.state import GANState
from jaxgan.training import console, grid, parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class CleanConfig(CollectionConfig):
    """Where the clean images are and how they are read."""

    source_range: str = option(
        "dtype", "becomes 0 to 1, the scale of the noise: dtype or LOW,HIGH"
    )


SECTIONS = {
    "config": supervised.Config,
    "data": CleanConfig,
    "simulation": samples.SimulatedParticles,
    "run": RunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 200  # the most of the published training
_SEED = 7  # of the noise of every evaluation
_IMAGES = 64  # that are scored
_EXAMPLES = 4


def main(
    *,
    config: supervised.Config,
    data: CleanConfig,
    simulation: samples.SimulatedParticles,
    run: RunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints the scores on held-out images."""

    def open_source() -> session.Source:
        opened = samples.open_images(config.crop_size, data, simulation)
        stored = normalise.to_json(opened.range)
        return session.Source(opened, opened.train, {"image": stored})

    return session.play(
        "supervised",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=open_source,
        make_game=functools.partial(make_game, config),
        default_epochs=_EPOCHS,
    )


def make_game(
    config: supervised.Config,
    opened: Collection,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds network, optimiser, step and judge for these images."""
    channels = opened.train.channels
    networks = supervised.networks(
        config, out_channels=channels, axis_name=parallel.AXIS
    )
    tx = supervised.optimizer(config, steps=length.steps)
    train_step = supervised.make_train_step(
        *networks,
        tx,
        model=supervised.training_noise(config),
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
    prepare = supervised.make_prepare(
        config,
        low=jnp.array(opened.range.low),
        high=jnp.array(opened.range.high),
        axis_name=parallel.AXIS,
    )
    return session.Game(
        functools.partial(supervised.init, config, networks, tx),
        train_step,
        prepare,
        Judge(config, networks, opened, workdir),
    )


class Judge:
    """Denoises held-out images, or training ones if none are, under the same noise."""

    def __init__(
        self,
        config: supervised.Config,
        networks: supervised.Networks,
        opened: Collection,
        workdir: Workdir,
    ):
        """Draws the noise once."""
        images = opened.train if opened.val is None else opened.val
        squares, _ = tiles(images, opened.range, size=config.crop_size)
        self._clean = (squares[:_IMAGES] + 1) / 2
        keys = jax.random.split(jax.random.key(_SEED), len(self._clean))
        model = supervised.training_noise(config)
        draw = jax.jit(jax.vmap(lambda x, key: noise.add(x, key, model)))
        self._noisy = np.asarray(draw(self._clean, keys))
        self._denoise = jax.jit(functools.partial(supervised.denoise, networks.gen))
        self._workdir = workdir

    def score(self, state: GANState) -> dict[str, float]:
        """Returns PSNR and SSIM, peak 1, of denoised images and of noisy ones."""
        rows = self._rows(state)
        return {
            **rows["denoised"],
            **{f"input_{name}": value for name, value in rows["noisy"].items()},
        }

    def sample(self, state: GANState, step: int) -> None:
        """Draws noisy, denoised and clean images."""
        denoised = self._denoised(state)
        rows = [
            {"noisy": 2 * n - 1, "denoised": 2 * d - 1, "clean": 2 * c - 1}
            for n, d, c in zip(
                self._noisy[:_EXAMPLES], denoised, self._clean, strict=False
            )
        ]
        grid.image_grid(self._workdir.samples / f"step_{step:08d}.png", rows)

    def report(self, state: GANState) -> None:
        """Prints and writes the scores."""
        rows = self._rows(state)
        console.result_table(f"{len(self._clean)} images", rows)
        self._workdir.write_json("scores.json", rows)

    def _denoised(self, state: GANState) -> np.ndarray:
        variables, noisy = state.gen_variables, self._noisy
        parts = [noisy[start : start + 16] for start in range(0, len(noisy), 16)]
        return np.concatenate([self._denoise(variables, part) for part in parts])

    def _rows(self, state: GANState) -> dict[str, dict[str, float]]:
        images = {"noisy": self._noisy, "denoised": self._denoised(state)}
        return {
            name: {
                "psnr": float(jnp.mean(metrics.psnr(self._clean, image, peak=1.0))),
                "ssim": float(jnp.mean(metrics.ssim(self._clean, image, peak=1.0))),
            }
            for name, image in images.items()
        }


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
