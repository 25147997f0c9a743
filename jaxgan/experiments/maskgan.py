"""Train a mask GAN: python -m jaxgan.experiments.maskgan --workdir=DIR [--flag=value]

Makes masks of cell ultrastructure out of noise, from folders of masks whose files have
the same stems (--source=MITOCHONDRIA,MEMBRANES) or, without, from simulated sections.
The same command again continues the run. Draw masks with

    python -m jaxgan.predict --workdir=DIR --num_samples=N --output=MASKS

and make micrographs of them with a pix2pix that was trained from masks to micrographs:

    python -m jaxgan.predict --workdir=EM --input=MASKS/mitochondria,MASKS/membranes \\
        --output=MICROGRAPHS
"""

import dataclasses
import functools

from jaxgan import cli, losses
from jaxgan.config import option
from jaxgan.data import masks, normalise
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.masks import MaskConfig, Masks
from jaxgan.data.simulate import ultrastructure
from jaxgan.errors import UserError
from jaxgan.experiments import session
from jaxgan.experiments.mask_judge import Judge
from jaxgan.methods import maskgan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir

_EPOCHS = 6000  # of the paper, where neither --steps nor --epochs is given


@dataclasses.dataclass(frozen=True)
class SimulatedMasks:
    """What to simulate, where no folder is named."""

    num_simulated: int = option(20, "sections to simulate")
    simulated_size: int = option(512, "height and width of each, in pixels")


@dataclasses.dataclass(frozen=True)
class MaskRunConfig(RunConfig):
    """Length, intervals, saving and devices of a run; counts are in steps."""

    best_metric: str = option("frechet", "evaluation metric that chooses the best step")
    best_mode: str = option("min", "which value is best", choices=("max", "min"))


SECTIONS = {
    "config": maskgan.Config,
    "data": MaskConfig,
    "simulation": SimulatedMasks,
    "run": MaskRunConfig,
    "start": session.StartConfig,
}


def main(
    *,
    config: maskgan.Config,
    data: MaskConfig,
    simulation: SimulatedMasks,
    run: MaskRunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints how real and generated masks compare."""
    return session.play(
        "maskgan",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: maskgan.Config, data: MaskConfig, simulation: SimulatedMasks
) -> session.Source:
    """Opens the masks to train on."""
    opened = open_images(config, data, simulation)
    stored = {
        "image": normalise.to_json(normalise.fit("0,1", opened.train)),
        "classes": opened.classes,
    }
    return session.Source(opened, opened.train, stored)


def open_images(
    config: maskgan.Config, data: MaskConfig, simulation: SimulatedMasks
) -> Masks:
    """Opens the folders that `data` names, or simulates sections if it names none."""
    if data.source:
        return masks.open_masks(data, crop_size=config.crop_size)
    if simulation.simulated_size < config.crop_size:
        raise UserError(
            f"--simulated_size={simulation.simulated_size} is below "
            f"--crop_size={config.crop_size}"
        )
    made = ultrastructure.sections(
        simulation.num_simulated, size=simulation.simulated_size
    )
    images = ImageSet.from_arrays(ultrastructure.class_maps(made.labels))
    return masks.split(images, ultrastructure.CLASSES[:-1], data)


def make_game(
    config: maskgan.Config, opened: Masks, workdir: Workdir, length: session.Length
) -> session.Game:
    """Builds networks, optimisers, step and judge for these masks."""
    del length  # the rates are constant
    networks = maskgan.networks(
        config, out_channels=len(opened.classes), axis_name=parallel.AXIS
    )
    optimizers = maskgan.optimizers(config)
    train_step = maskgan.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss, real_target=config.real_target),
        latent_channels=config.latent_channels,
        gradient_penalty=config.gradient_penalty * (config.gan_loss == "wgan_gp"),
        mask_noise=config.mask_noise,
        straight_through=config.straight_through,
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
    return session.Game(
        functools.partial(maskgan.init, config, networks, optimizers),
        train_step,
        maskgan.make_prepare(config, axis_name=parallel.AXIS),
        Judge(config, networks, opened, workdir),
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
