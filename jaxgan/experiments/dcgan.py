"""Train a DCGAN: python -m jaxgan.experiments.dcgan --workdir=DIR [--flag=value ...]

Makes images out of noise, from a folder of images (--source), the pictures of CIFAR-100
(--cifar_root) or, with neither, simulated micrographs of nanoparticles. The same
command again continues the run. Draw images with

    python -m jaxgan.predict --workdir=DIR --num_samples=N --output=IMAGES

and use the generator as a prior for denoising: python -m jaxgan.experiments.denoise.
"""

import functools

import jax

from jaxgan import cli, sampling
from jaxgan.data import normalise
from jaxgan.data.collection import Collection, CollectionConfig
from jaxgan.experiments import samples, session
from jaxgan.experiments.sample_judge import Judge
from jaxgan.methods import dcgan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": dcgan.Config,
    "data": CollectionConfig,
    "simulation": samples.SimulatedParticles,
    "run": samples.SampleRunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 200  # of the paper's network with a latent of 50


def main(
    *,
    config: dcgan.Config,
    data: CollectionConfig,
    simulation: samples.SimulatedParticles,
    run: samples.SampleRunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints how samples and real images compare."""
    return session.play(
        "dcgan",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: dcgan.Config,
    data: CollectionConfig,
    simulation: samples.SimulatedParticles,
) -> session.Source:
    """Opens the images to train on."""
    opened = samples.open_images(config.crop_size, data, simulation)
    stored = {"image": normalise.to_json(opened.range)}
    return session.Source(opened, opened.train, stored)


def make_game(
    config: dcgan.Config, opened: Collection, workdir: Workdir, length: session.Length
) -> session.Game:
    """Builds networks, optimisers, step and judge for these images."""
    del length  # the rates are constant
    channels = opened.train.channels
    networks = dcgan.networks(config, out_channels=channels, axis_name=parallel.AXIS)
    optimizers = dcgan.optimizers(config)

    def init(key: jax.Array) -> GANState:
        return dcgan.init(config, networks, optimizers, key, channels=channels)

    draw = sampling.make_image_draw(networks.gen, config.latent_dim)
    return session.Game(
        init,
        samples.make_train_step(config, networks, optimizers),
        samples.make_prepare(config, opened.range),
        Judge(
            draw,
            opened,
            workdir,
            size=config.crop_size,
            early_stop=config.early_stop,
        ),
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
