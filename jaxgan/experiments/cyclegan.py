"""Train CycleGAN: python -m jaxgan.experiments.cyclegan --workdir=DIR [--flag=value]

Translates images of one kind (--source) into another (--target), and back, without
pairs: two folders whose files need not match in number, name or size. Pairs in
--val_source and --val_target, if there are any, serve to score. With neither, it learns
from a simulated specimen what a lens of NA 0.7 would have shown of what a lens of 0.3
saw, from images of different places. The same command again continues the run.
"""

import functools

import jax
import jax.numpy as jnp

from jaxgan import cli, losses
from jaxgan.data import normalise, options, unpaired
from jaxgan.data.pairs import Pairs
from jaxgan.data.simulate.options import LensConfig
from jaxgan.data.unpaired import UnpairedSplit
from jaxgan.experiments import session
from jaxgan.experiments.cycle_judge import Judge
from jaxgan.methods import cyclegan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": cyclegan.Config,
    "data": options.DataConfig,
    "simulation": LensConfig,
    "run": RunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 200  # of the paper, where neither --steps nor --epochs is given


def main(
    *,
    config: cyclegan.Config,
    data: options.DataConfig,
    simulation: LensConfig,
    run: RunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints the scores on held-out images."""
    return session.play(
        "cyclegan",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: cyclegan.Config, data: options.DataConfig, simulation: LensConfig
) -> session.Source:
    """Opens the images to train on."""
    split = open_images(config, data, simulation)
    ranges = {"source": split.source_range, "target": split.target_range}
    stored = {role: normalise.to_json(range_) for role, range_ in ranges.items()}
    return session.Source(split, split.train, stored)


def open_images(
    config: cyclegan.Config, data: options.DataConfig, simulation: LensConfig
) -> UnpairedSplit:
    """Opens the folders that `data` names, or simulates lenses where it names none."""
    if data.source or data.target or data.aligned:
        return unpaired.open_unpaired(data, crop_size=config.crop_size)
    return unpaired.separate(Pairs(*simulation.images()), data)


def make_game(
    config: cyclegan.Config,
    split: UnpairedSplit,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds networks, optimisers, step and judge for these images."""
    ranges = {"source": split.source_range, "target": split.target_range}
    channels = [len(range_.low) for range_ in ranges.values()]
    networks = cyclegan.networks(
        config, in_channels=channels[0], out_channels=channels[1]
    )
    optimizers = cyclegan.optimizers(
        config, steps=length.steps, steps_per_epoch=length.steps_per_epoch
    )
    images = (
        jax.ShapeDtypeStruct((1, config.crop_size, config.crop_size, c), jnp.float32)
        for c in channels
    )
    init = functools.partial(cyclegan.init, config, networks, optimizers)
    source, target = images
    train_step = cyclegan.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss),
        cycle_weight=config.cycle_weight,
        identity_weight=config.identity_weight,
        ema_decay=config.ema_decay,
        remat=config.remat,
        axis_name=parallel.AXIS,
    )
    prepare = cyclegan.make_prepare(
        config,
        low={role: jnp.array(range_.low) for role, range_ in ranges.items()},
        high={role: jnp.array(range_.high) for role, range_ in ranges.items()},
        axis_name=parallel.AXIS,
    )
    ways = (
        functools.partial(cyclegan.generate, networks.gen, direction=way)
        for way in ("ab", "ba")
    )
    judge = Judge(*ways, split, workdir, multiple=cyclegan.size_multiple(config))
    return session.Game(
        lambda key: init(key, source, target), train_step, prepare, judge
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
