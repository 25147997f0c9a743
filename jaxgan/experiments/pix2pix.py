"""Train pix2pix: python -m jaxgan.experiments.pix2pix --workdir=DIR [--flag=value ...]

Translates images of one kind into another, from pairs: two folders whose files have the
same stems (--source, --target), one folder of side-by-side images (--aligned), or, with
neither, simulated in-line holograms. The same command again continues the run.
"""

import functools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from jaxgan import cli, losses
from jaxgan.data import normalise, options, pairs, pipeline
from jaxgan.data.simulate.options import SimulationConfig
from jaxgan.errors import UserError
from jaxgan.experiments import session
from jaxgan.experiments.judge import Judge
from jaxgan.methods import pix2pix
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import (
    RunConfig,
    count_steps,
    steps_per_call,
    use_compile_cache,
)
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
    session.set_up(run)
    with Workdir(start.workdir, writer=parallel.is_first_process()) as workdir:
        began = time.monotonic()
        split = open_images(config, data, simulation)
        data_seconds = time.monotonic() - began
        sections = {"config": config, "data": data, "simulation": simulation}
        session.describe(workdir, "pix2pix", sections, run)
        workdir.write_json(
            "normalization.json",
            {
                "source": normalise.to_json(split.source_range),
                "target": normalise.to_json(split.target_range),
            },
        )
        parallel.check_batch_size(config.batch_size)
        use_compile_cache(run)
        state = train(config, data, split, workdir, run, start, seconds=data_seconds)
        return state


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


def train(
    config: pix2pix.Config,
    data: options.DataConfig,
    split: pairs.Split,
    workdir: Workdir,
    run: RunConfig,
    start: session.StartConfig,
    *,
    seconds: float,
) -> GANState:
    """Builds the game, plays it to the end of the run and reports."""
    steps_per_epoch = max(1, len(split.train) // config.batch_size)
    total_steps = count_steps(
        run, steps_per_epoch=steps_per_epoch, default_epochs=_EPOCHS
    )
    networks = pix2pix.networks(
        config, out_channels=split.train.target.channels, axis_name=parallel.AXIS
    )
    optimizers = pix2pix.optimizers(
        config, steps=total_steps, steps_per_epoch=1 if run.steps else steps_per_epoch
    )
    judge = Judge(
        functools.partial(pix2pix.generate, networks.gen),
        split,
        workdir,
        multiple=pix2pix.size_multiple(config),
    )
    state = session.fit(
        initial_state(config, split, networks, optimizers, seed=run.seed),
        train_step=make_train_step(config, networks, optimizers),
        prepare=make_prepare(config, data, split),
        batches=functools.partial(
            host_batches, config, split, run=run, total_steps=total_steps
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


def initial_state(
    config: pix2pix.Config,
    split: pairs.Split,
    networks: pix2pix.Networks,
    optimizers: pix2pix.Optimizers,
    *,
    seed: int,
) -> GANState:
    """Draws the untrained state and returns it on the host.

    Raises `UserError` if the networks do not take crops of this size.
    """
    source, target = (
        jax.ShapeDtypeStruct((1, config.crop_size, config.crop_size, c), jnp.float32)
        for c in (split.train.source.channels, split.train.target.channels)
    )

    @jax.jit
    def init(key: jax.Array) -> GANState:
        ema = config.ema_decay > 0
        return pix2pix.init(networks, optimizers, key, source, target, ema=ema)

    try:
        return jax.device_get(init(jax.random.key(seed)))
    except ValueError as error:
        raise UserError(str(error)) from error


def host_batches(
    config: pix2pix.Config,
    split: pairs.Split,
    start_step: int,
    *,
    run: RunConfig,
    total_steps: int,
) -> Iterator[pipeline.Batch]:
    """Yields this process's part of the batches from a step on, K for each call."""
    dataset = pipeline.batches(
        split.train,
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
