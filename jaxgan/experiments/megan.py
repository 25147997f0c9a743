"""Train MEGAN: python -m jaxgan.experiments.megan --workdir=DIR [--flag=value ...]

Makes large images of their edges, scale by scale, from a folder of images (--source),
whose edges it finds and keeps in --edge_cache, or, without one, from simulated sections
of nervous tissue. One command trains the scales one after another; the same again
continues the run. Apply it to images, or to a folder of edges, with

    python -m jaxgan.experiments.megan_generate --workdir=DIR --input=EDGES --output=OUT
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import cli, losses
from jaxgan.data import collection, multiscale, normalise
from jaxgan.data.collection import CollectionConfig
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.multiscale import EdgeConfig
from jaxgan.data.simulate import ultrastructure
from jaxgan.data.simulate.options import SimulationConfig
from jaxgan.errors import UserError
from jaxgan.experiments import session
from jaxgan.experiments.megan_chain import Chain
from jaxgan.experiments.megan_judge import ScaleJudge, Split
from jaxgan.methods import megan
from jaxgan.state import GANState
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir

SECTIONS = {
    "config": megan.Config,
    "data": CollectionConfig,
    "edges": EdgeConfig,
    "simulation": SimulationConfig,
    "run": RunConfig,
    "start": session.StartConfig,
}


def main(
    *,
    config: megan.Config,
    data: CollectionConfig,
    edges: EdgeConfig,
    simulation: SimulationConfig,
    run: RunConfig,
    start: session.StartConfig,
) -> GANState:
    """Trains, or goes on training, and prints the scores of every scale."""
    if run.epochs:
        raise UserError(
            f"--epochs={run.epochs}: every scale has its own length, --low_steps and"
            " --high_steps; --steps ends a run before the last scale does"
        )
    return session.play(
        "megan",
        dict(
            config=config,
            data=data,
            edges=edges,
            simulation=simulation,
            run=run,
            start=start,
        ),
        open_source=lambda: open_source(config, data, edges, simulation),
        make_game=functools.partial(make_game, config, run),
        default_epochs=1,  # not asked: scales have lengths of their own
    )


def open_source(
    config: megan.Config,
    data: CollectionConfig,
    edges: EdgeConfig,
    simulation: SimulationConfig,
) -> session.Source:
    """Opens the images to train on and finds their edges."""
    if data.source:
        opened = collection.open_collection(data, crop_size=config.crop_size)
    else:
        if simulation.simulated_size < config.crop_size:
            raise UserError(
                f"--simulated_size={simulation.simulated_size} is below --crop_size="
                f"{config.crop_size}"
            )
        tissue = ultrastructure.sections(
            simulation.num_simulated, size=simulation.simulated_size
        )
        opened = collection.divide(ImageSet.from_arrays(tissue.image), data)
    build = functools.partial(
        multiscale.build,
        range_=opened.range,
        num_scales=config.num_scales,
        sigma=config.edge_sigma,
        edge_factor=config.edge_factor,
        cache=edges.edge_cache,
    )
    split = Split(build(opened.train), build(opened.val) if opened.val else None)
    stored = {
        "source": normalise.to_json(split.train.edge_range),
        "target": normalise.to_json(opened.range),
    }
    return session.Source(split, split.train.scales[-1], stored)


def make_game(
    config: megan.Config,
    run: RunConfig,
    split: Split,
    workdir: Workdir,
    length: session.Length,
) -> session.Game:
    """Builds the legs of a run, one for each scale."""
    del length  # counts passes over the images
    channels = split.train.scales[-1].target.channels

    def init(key: jax.Array) -> GANState:
        return megan.init(config, megan.optimizers(config), key, channels=channels)

    chain = Chain(config, out_channels=channels)
    legs, step = [], 0
    for scale in range(config.num_scales):
        if run.steps and step >= run.steps:
            break
        step += config.high_steps if scale else config.low_steps
        last = min(step, run.steps) if run.steps else step
        legs.append(make_leg(config, scale, last, split, chain, workdir))
    return session.Game(init, legs=legs)


def make_leg(
    config: megan.Config,
    scale: int,
    last_step: int,
    split: Split,
    chain: Chain,
    workdir: Workdir,
) -> session.Leg:
    """Builds networks, step and judge of one scale."""
    pairs = split.train.scales[scale]
    networks = megan.networks(
        config, scale, out_channels=pairs.target.channels, axis_name=parallel.AXIS
    )
    train_step = megan.make_train_step(
        *networks,
        *megan.optimizers(config),
        scale=scale,
        gan=losses.adversarial(config.gan_loss),
        l1_weight=config.l1_weight,
        edge_noise=config.edge_noise,
        axis_name=parallel.AXIS,
    )
    ranges = {
        "source": normalise.fit(multiscale.EDGE_RANGE, pairs.source),
        "target": split.train.target_range,
    }
    prepare = megan.make_prepare(
        config,
        low={role: jnp.array(np.float32(r.low)) for role, r in ranges.items()},
        high={role: jnp.array(np.float32(r.high)) for role, r in ranges.items()},
        axis_name=parallel.AXIS,
    )
    return session.Leg(
        last_step,
        config.patch_batch if scale else config.batch_size,
        train_step,
        prepare,
        ScaleJudge(config, chain, scale, split, workdir),
        images=pairs,
        crop_size=config.patch_size if scale else config.sizes[0],
    )


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
