"""Train PGGAN: python -m jaxgan.experiments.progressive --workdir=DIR [--flag=value]

Makes images out of noise, learned from coarse to fine, from a folder of images
(--source) or, without one, simulated cells. One command plays all resolutions up to
--crop_size, one after another; the same again continues the run, in whichever it is.
Draw images with

    python -m jaxgan.predict --workdir=DIR --num_samples=N --output=IMAGES
"""

import functools

import jax
import jax.numpy as jnp

from jaxgan import cli
from jaxgan.data import collection, normalise
from jaxgan.data.collection import Collection, CollectionConfig
from jaxgan.data.simulate.cells import CellsConfig
from jaxgan.errors import UserError
from jaxgan.experiments import samples, session
from jaxgan.experiments.stage_judge import StageJudge
from jaxgan.methods import progressive
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": progressive.Config,
    "data": CollectionConfig,
    "simulation": CellsConfig,
    "run": samples.SampleRunConfig,
    "start": session.StartConfig,
}


def main(
    *,
    config: progressive.Config,
    data: CollectionConfig,
    simulation: CellsConfig,
    run: samples.SampleRunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints how samples and real images compare."""
    if run.epochs:
        raise UserError(
            f"--epochs={run.epochs}: stages count images, --first_images, --fade_images"
            " and --stable_images; --steps ends a run before the last stage does"
        )
    return session.play(
        "progressive",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config, run),
        default_epochs=1,  # not asked: stages have lengths of their own
    )


def open_source(
    config: progressive.Config, data: CollectionConfig, simulation: CellsConfig
) -> session.Source:
    """Opens the images to train on."""
    if data.source:
        opened = collection.open_collection(data, crop_size=config.crop_size)
    else:
        opened = collection.divide(simulation.images(config.crop_size), data)
    stored = {"image": normalise.to_json(opened.range)}
    return session.Source(opened, opened.train, stored)


def make_game(
    config: progressive.Config,
    run: samples.SampleRunConfig,
    opened: Collection,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds the legs of a run, one for each resolution."""
    del length  # counts passes over the images
    channels = opened.train.channels

    def init(key: jax.Array) -> GANState:
        optimizers = progressive.optimizers(config)
        return progressive.init(config, optimizers, key, channels=channels)

    stages = progressive.stages(config)
    if run.steps:
        stages = [
            stage._replace(last_step=min(stage.last_step, run.steps))
            for stage in stages
            if stage.first_step < run.steps
        ]
    legs = [make_leg(config, stage, opened, workdir) for stage in stages]
    return session.Game(init, legs=legs)


def make_leg(
    config: progressive.Config,
    stage: progressive.Stage,
    opened: Collection,
    workdir: Workdir,
) -> session.Leg:
    """Builds networks, step and judge of one resolution."""
    networks = progressive.networks(
        config,
        out_channels=opened.train.channels,
        resolution=stage.resolution,
        axis_name=parallel.AXIS,
    )
    train_step = progressive.make_train_step(
        *networks,
        *progressive.optimizers(config),
        stage=stage,
        latent_dim=config.latent_dim,
        gradient_penalty=config.gradient_penalty,
        drift=config.drift,
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
    prepare = progressive.make_prepare(
        config,
        low=jnp.array(opened.range.low),
        high=jnp.array(opened.range.high),
        resolution=stage.resolution,
        axis_name=parallel.AXIS,
    )
    judge = StageJudge(config, networks.gen, stage, opened, workdir)
    return session.Leg(stage.last_step, stage.batch_size, train_step, prepare, judge)


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
