"""Train pix2pix: python -m jaxgan.experiments.pix2pix --workdir=DIR [--flag=value ...]

Translates images of one kind into another, from pairs: two folders whose files have the
same stems (--source, --target), one folder of side-by-side images (--aligned), or, with
neither, simulated in-line holograms. The same command again continues the run.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan import cli, losses
from jaxgan.data import normalise, options, pairs
from jaxgan.data.simulate.options import SimulationConfig
from jaxgan.experiments import session
from jaxgan.experiments.judge import Judge
from jaxgan.methods import pix2pix
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": pix2pix.Config,
    "data": options.DataConfig,
    "simulation": SimulationConfig,
    "run": RunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 200  # of the paper, where neither --steps nor --epochs is given


def main(
    *,
    config: pix2pix.Config,
    data: options.DataConfig,
    simulation: SimulationConfig,
    run: RunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints the scores on held-out images."""
    return session.play(
        "pix2pix",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config, data),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: pix2pix.Config, data: options.DataConfig, simulation: SimulationConfig
) -> session.Source:
    """Opens the images to train on."""
    split = open_images(config, data, simulation)
    ranges = {"source": split.source_range, "target": split.target_range}
    stored = {role: normalise.to_json(range_) for role, range_ in ranges.items()}
    return session.Source(split, split.train, stored)


def open_images(
    config: pix2pix.Config, data: options.DataConfig, simulation: SimulationConfig
) -> pairs.Split:
    """Opens the folders that `data` names, or simulates images where it names none."""
    if data.source or data.target or data.aligned:
        return pairs.open_paired(data, crop_size=config.crop_size)
    source, target = simulation.images()
    return pairs.pair_images(
        source,
        target,
        val_fraction=data.val_fraction,
        source_range=data.source_range,
        target_range=data.target_range,
    )


def make_game(
    config: pix2pix.Config,
    data: options.DataConfig,
    split: pairs.Split,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds networks, optimisers, step and judge for these pairs."""
    channels = split.train.source.channels, split.train.target.channels
    networks = pix2pix.networks(
        config, out_channels=channels[1], axis_name=parallel.AXIS
    )
    optimizers = pix2pix.optimizers(
        config, steps=length.steps, steps_per_epoch=length.steps_per_epoch
    )
    source, target = (
        jax.ShapeDtypeStruct((1, config.crop_size, config.crop_size, c), jnp.float32)
        for c in channels
    )

    def init(key: jax.Array) -> GANState:
        ema = config.ema_decay > 0
        return pix2pix.init(networks, optimizers, key, source, target, ema=ema)

    judge = Judge(
        functools.partial(pix2pix.generate, networks.gen),
        split,
        workdir,
        multiple=pix2pix.size_multiple(config),
    )
    return session.Game(
        init,
        make_train_step(config, networks, optimizers),
        make_prepare(config, data, split),
        judge,
    )


def make_train_step(
    config: pix2pix.Config, networks: pix2pix.Networks, optimizers: pix2pix.Optimizers
) -> Callable:
    """Returns the step that `config` describes, for `parallel.make_update`."""
    return pix2pix.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss, real_target=config.real_target),
        l1_weight=config.l1_weight,
        gradient_penalty=config.gradient_penalty * (config.gan_loss == "wgan_gp"),
        ema_decay=config.ema_decay,
        remat=config.remat,
        axis_name=parallel.AXIS,
    )


def make_prepare(
    config: pix2pix.Config, data: options.DataConfig, split: pairs.Split
) -> Callable:
    """Returns what makes of stored images those that the step takes."""
    ranges = {"source": split.source_range, "target": split.target_range}
    return pix2pix.make_prepare(
        config,
        low={role: jnp.array(range_.low) for role, range_ in ranges.items()},
        high={role: jnp.array(range_.high) for role, range_ in ranges.items()},
        one_hot=tuple(role for role in ranges if options.is_one_hot(data, role)),
        axis_name=parallel.AXIS,
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
