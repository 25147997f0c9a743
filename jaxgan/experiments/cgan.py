"""Train a conditional GAN: python -m jaxgan.experiments.cgan --workdir=DIR [--flag=...]

Makes images of a class, or of parameters of the microscope, out of noise: from a folder
of images (--source) with --labels=folders (a class each) or --labels=TABLE.csv (columns
file, class, and numbers such as defocus), the classes of CIFAR-100 (--cifar_root) or,
with neither, simulated micrographs of known defocus and thickness. The same command
again continues the run. Draw images with

    python -m jaxgan.predict --workdir=DIR --num_samples=N --output=IMAGES \\
        --condition=CLASS,NUMBER,...
"""

import dataclasses
import functools

import jax

from jaxgan import cli, sampling
from jaxgan.config import option, to_dict
from jaxgan.data import normalise
from jaxgan.data.collection import Collection, CollectionConfig
from jaxgan.errors import UserError
from jaxgan.experiments import samples, session
from jaxgan.experiments.sample_judge import Judge
from jaxgan.methods import cgan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """What is known of the images."""

    labels: str = option("", "CSV with columns file, class, numbers; or: folders")


SECTIONS = {
    "config": cgan.Config,
    "data": CollectionConfig,
    "labels": LabelConfig,
    "simulation": samples.SimulatedParticles,
    "run": samples.SampleRunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 50  # this project's choice, where neither --steps nor --epochs is given


def main(
    *,
    config: cgan.Config,
    data: CollectionConfig,
    labels: LabelConfig,
    simulation: samples.SimulatedParticles,
    run: samples.SampleRunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints how samples and real images compare."""
    return session.play(
        "cgan",
        dict(
            config=config,
            data=data,
            labels=labels,
            simulation=simulation,
            run=run,
            start=start,
        ),
        open_source=lambda: open_source(config, data, labels, simulation),
        make_game=functools.partial(make_game, config),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: cgan.Config,
    data: CollectionConfig,
    labels: LabelConfig,
    simulation: samples.SimulatedParticles,
) -> session.Source:
    """Opens the images to train on, and what is known of them."""
    if bool(data.source) != bool(labels.labels):
        raise UserError("--source and --labels belong together: give both or neither")
    opened = samples.open_images(
        config.crop_size, data, simulation, label_spec=labels.labels, labelled=True
    )
    stored = {
        "image": normalise.to_json(opened.range),
        "coding": to_dict(opened.coding),
    }
    return session.Source(opened, opened.train, stored)


def make_game(
    config: cgan.Config, opened: Collection, workdir: Workdir, length: session.Length
) -> session.Game:
    """Builds networks, optimisers, step and judge for these images."""
    del length  # the rates are constant
    channels = opened.train.images.channels
    networks = cgan.networks(config, out_channels=channels, axis_name=parallel.AXIS)
    optimizers = cgan.optimizers(config)

    def init(key: jax.Array) -> GANState:
        sizes = dict(channels=channels, condition=opened.coding.size)
        return cgan.init(config, networks, optimizers, key, **sizes)

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
