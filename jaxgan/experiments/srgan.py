"""Train SRGAN: python -m jaxgan.experiments.srgan --workdir=DIR [--flag=value ...]

Enlarges images 2, 4 or 8 times (--scale). It learns from fine images alone (--target),
of which it makes coarse ones bicubically; from folders of coarse and fine images whose
files have the same stems (--source, --target); or, with neither, from a simulated
specimen seen through a lens of NA 0.3 and one of NA 0.7. In two stages:

    python -m jaxgan.experiments.srgan --workdir=A --steps=N
    python -m jaxgan.experiments.srgan --workdir=B --steps=M --stage=adversarial \\
        --init_from=A

--init_from also takes a run at another sampling. The same command again continues.
"""

import functools

import jax
import jax.numpy as jnp

from jaxgan import cli, losses
from jaxgan.data import normalise, options, scaled
from jaxgan.data.scaled import ScaledPairs, ScaledSplit
from jaxgan.data.simulate.options import LensConfig
from jaxgan.experiments import session
from jaxgan.experiments.sr_judge import Judge
from jaxgan.methods import srgan
from jaxgan.models import features
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": srgan.Config,
    "data": options.DataConfig,
    "simulation": LensConfig,
    "run": RunConfig,
    "start": session.StartConfig,
}

_EPOCHS = 200  # where neither --steps nor --epochs is given


def main(
    *,
    config: srgan.Config,
    data: options.DataConfig,
    simulation: LensConfig,
    run: RunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints the scores on held-out images."""
    weights = None
    if config.content != "pixel":
        # First of all: without them there is nothing to do.
        weights, digest = features.load_vgg19(config.vgg_weights, layer=config.content)
        print(f"VGG19 of {config.vgg_weights}, SHA-256 {digest}")
    return session.play(
        "srgan",
        dict(config=config, data=data, simulation=simulation, run=run, start=start),
        open_source=lambda: open_source(config, data, simulation),
        make_game=functools.partial(make_game, config, weights),
        default_epochs=_EPOCHS,
    )


def open_source(
    config: srgan.Config, data: options.DataConfig, simulation: LensConfig
) -> session.Source:
    """Opens the images to train on."""
    split = open_images(config, data, simulation)
    ranges = {"source": split.source_range, "target": split.target_range}
    stored = {role: normalise.to_json(range_) for role, range_ in ranges.items()}
    return session.Source(split, split.train, stored)


def open_images(
    config: srgan.Config, data: options.DataConfig, simulation: LensConfig
) -> ScaledSplit:
    """Opens the folders that `data` names, or simulates lenses where it names none."""
    if data.source or data.target:
        return scaled.open_scaled(data, crop_size=config.crop_size, scale=config.scale)
    images = ScaledPairs(*simulation.images(scale=config.scale), config.scale)
    return scaled.scale_images(images, data)


def make_game(
    config: srgan.Config,
    weights: dict | None,
    split: ScaledSplit,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds networks, optimisers, step and judge for these images."""
    ranges = {"source": split.source_range, "target": split.target_range}
    in_channels, out_channels = (len(range_.low) for range_ in ranges.values())
    networks = srgan.networks(
        config, out_channels=out_channels, axis_name=parallel.AXIS
    )
    optimizers = srgan.optimizers(config, steps=length.steps)

    def init(key: jax.Array) -> GANState:
        return srgan.init(
            config, networks, optimizers, key, in_channels, features=weights
        )

    train_step = srgan.make_train_step(
        *networks,
        *optimizers,
        content=srgan.content_loss(config.content, dtype=jnp.dtype(config.dtype)),
        gan=losses.adversarial(config.gan_loss),
        adversarial_weight=config.adversarial_weight,
        tv_weight=config.tv_weight,
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
    prepare = srgan.make_prepare(
        config,
        low={role: jnp.array(range_.low) for role, range_ in ranges.items()},
        high={role: jnp.array(range_.high) for role, range_ in ranges.items()},
        axis_name=parallel.AXIS,
    )
    judge = Judge(
        functools.partial(srgan.generate, networks.gen),
        split,
        workdir,
        scale=config.scale,
    )
    return session.Game(init, train_step, prepare, judge)


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
