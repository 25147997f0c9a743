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
import time
from collections.abc import Iterator

import jax

from jaxgan import cli, losses
from jaxgan.config import option
from jaxgan.data import masks, normalise, pipeline
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.masks import MaskConfig, Masks
from jaxgan.data.simulate import ultrastructure
from jaxgan.errors import UserError
from jaxgan.experiments import session
from jaxgan.experiments.mask_judge import Judge
from jaxgan.methods import maskgan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import (
    RunConfig,
    count_steps,
    steps_per_call,
    use_compile_cache,
)
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
    session.set_up(run)
    with Workdir(start.workdir, writer=parallel.is_first_process()) as workdir:
        began = time.monotonic()
        opened = open_images(config, data, simulation)
        data_seconds = time.monotonic() - began
        sections = {"config": config, "data": data, "simulation": simulation}
        session.describe(workdir, "maskgan", sections, run)
        workdir.write_json(
            "normalization.json",
            {
                "image": normalise.to_json(normalise.fit("0,1", opened.train)),
                "classes": opened.classes,
            },
        )
        parallel.check_batch_size(config.batch_size)
        use_compile_cache(run)
        return train(config, opened, workdir, run, start, seconds=data_seconds)


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


def train(
    config: maskgan.Config,
    opened: Masks,
    workdir: Workdir,
    run: MaskRunConfig,
    start: session.StartConfig,
    *,
    seconds: float,
) -> GANState:
    """Builds the game, plays it to the end of the run and reports."""
    steps_per_epoch = max(1, len(opened.train) // config.batch_size)
    total_steps = count_steps(
        run, steps_per_epoch=steps_per_epoch, default_epochs=_EPOCHS
    )
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
    judge = Judge(config, networks, opened, workdir)
    state = session.fit(
        initial_state(config, networks, optimizers, seed=run.seed),
        train_step=train_step,
        prepare=maskgan.make_prepare(config, axis_name=parallel.AXIS),
        batches=functools.partial(
            host_batches, config, opened, run=run, total_steps=total_steps
        ),
        workdir=workdir,
        run=run,
        start=start,
        total_steps=total_steps,
        batch_size=config.batch_size,
        evaluate=judge.score,
        sample=judge.sample,
        data_seconds=seconds,
    )
    judge.report(state)
    return state


def initial_state(
    config: maskgan.Config,
    networks: maskgan.Networks,
    optimizers: maskgan.Optimizers,
    *,
    seed: int,
) -> GANState:
    """Draws the untrained state and returns it on the host.

    Raises `UserError` if the networks do not take masks of this size.
    """
    init = jax.jit(functools.partial(maskgan.init, config, networks, optimizers))
    try:
        return jax.device_get(init(jax.random.key(seed)))
    except ValueError as error:
        raise UserError(str(error)) from error


def host_batches(
    config: maskgan.Config,
    opened: Masks,
    start_step: int,
    *,
    run: RunConfig,
    total_steps: int,
) -> Iterator[pipeline.Batch]:
    """Yields this process's part of the batches from a step on, K for each call."""
    dataset = pipeline.batches(
        opened.train,
        crop_size=config.crop_size,
        batch_size=config.batch_size,
        seed=run.seed,
        shard=(jax.process_index(), jax.process_count()),
    )
    return pipeline.host_batches(
        dataset,
        start_step=start_step,
        steps=total_steps,
        steps_per_call=steps_per_call(run),
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
