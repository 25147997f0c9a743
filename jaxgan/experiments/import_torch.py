"""Make a workdir of a peer's checkpoint: python -m jaxgan.experiments.import_torch

    python -m jaxgan.experiments.import_torch --gen=latest_net_G.pth --workdir=W
    python -m jaxgan.experiments.import_torch --gen=latest_net_G_A.pth \\
        --gen_back=latest_net_G_B.pth --workdir=W

Takes checkpoints of pytorch-CycleGAN-and-pix2pix and ZeroCostDL4Mic, as .pth (needs
torch) or .safetensors. `python -m jaxgan.predict --workdir=W` applies the result, and
`--init_from=W` of a new run goes on training it.
"""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import cli, interop
from jaxgan.config import option
from jaxgan.data import normalise, options
from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError
from jaxgan.experiments import session
from jaxgan.methods import cyclegan, pix2pix
from jaxgan.models import patch, resnet, unet
from jaxgan.state import GANState
from jaxgan.training.checkpoint import Checkpoints
from jaxgan.training.run import RunConfig
from jaxgan.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Options:
    """What to read, and what its images are."""

    gen: str = option("", "the generator: latest_net_G.pth or latest_net_G_A.pth")
    gen_back: str = option("", "CycleGAN's other generator: latest_net_G_B.pth")
    disc: str = option("", "pix2pix's discriminator, to go on training with")
    workdir: str = option("", "new directory for the result")
    crop_size: int = option(256, "side of the crops it was trained on, in pixels")
    range: str = option(
        "0,255", "stored values that became -1 and 1; the peers read 8-bit images"
    )


def main(*, options: Options) -> None:
    """Converts the weights and writes a workdir with one checkpoint."""
    missing = [f for f in ("gen", "workdir") if not getattr(options, f)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    gen = _read(options.gen, "--gen", (unet.UNet, resnet.ResNetGenerator))
    make = _cyclegan if isinstance(gen.network, resnet.ResNetGenerator) else _pix2pix
    method, config, state = make(options, gen)
    with Workdir(options.workdir) as workdir:
        if (workdir.path / "config.json").exists():
            raise UserError(f"--workdir={workdir.path} holds a run: choose a new one")
        _write(workdir, method, config, state, options, gen)
    print(f"{workdir.path}: {method} of {options.gen}")


def _read(path: str, flag: str, kinds: tuple[type, ...]) -> interop.Converted:
    try:
        converted = interop.convert(interop.read_state(path))
    except UserError as error:
        raise UserError(f"{flag}={path}: {error}") from error
    if not isinstance(converted.network, kinds):
        raise UserError(
            f"{flag}={path} is a {type(converted.network).__name__}, expected "
            + " or ".join(kind.__name__ for kind in kinds)
        )
    return converted


def _pix2pix(options: Options, gen: interop.Converted):
    disc = None
    net = gen.network
    names = {3: "patch70", 1: "patch16", 5: "patch286"}
    fields: dict[str, Any] = {}
    if options.disc:
        disc = _read(options.disc, "--disc", (patch.PatchDiscriminator,))
        layers = disc.network.num_layers
        if layers not in names:
            raise UserError(f"--disc={options.disc} has {layers} layers, not 1, 3 or 5")
        fields = dict(
            discriminator=names[layers],
            disc_width=disc.network.width,
            disc_norm=disc.network.norm,
        )
    try:
        config = pix2pix.Config(
            crop_size=options.crop_size,
            width=net.width,
            depth=net.depth,
            norm=net.norm,
            **fields,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    networks = pix2pix.networks(config, out_channels=net.out_channels)
    optimizers = pix2pix.optimizers(config, steps=1)
    source, target = _shapes(options, gen.in_channels, net.out_channels)
    state = session.initial_state(
        lambda key: pix2pix.init(networks, optimizers, key, source, target), seed=0
    )
    state = state.replace(gen=_with(state.gen, gen.variables))
    if disc is not None:
        state = state.replace(disc=_with(state.disc, disc.variables))
    return "pix2pix", config, state


def _cyclegan(options: Options, gen: interop.Converted):
    if options.disc:
        raise UserError("--disc is for pix2pix; CycleGAN's start anew")
    net = gen.network
    back = None
    if options.gen_back:
        back = _read(options.gen_back, "--gen_back", (resnet.ResNetGenerator,))
    config = cyclegan.Config(
        crop_size=options.crop_size,
        width=net.width,
        num_blocks=net.num_blocks,
        norm=net.norm,
        pool_size=0,
    )
    networks = cyclegan.networks(
        config, out_channels=net.out_channels, in_channels=gen.in_channels
    )
    optimizers = cyclegan.optimizers(config, steps=1)
    source, target = _shapes(options, gen.in_channels, net.out_channels)
    state = session.initial_state(
        lambda key: cyclegan.init(config, networks, optimizers, key, source, target),
        seed=0,
    )
    params = {**state.gen.params, "ab": gen.variables["params"]}
    if back is not None:
        params["ba"] = back.variables["params"]
    return (
        "cyclegan",
        config,
        state.replace(gen=_with(state.gen, {"params": params, "batch_stats": {}})),
    )


def _shapes(options: Options, *channels: int) -> list[jax.ShapeDtypeStruct]:
    side = options.crop_size
    return [jax.ShapeDtypeStruct((1, side, side, c), jnp.float32) for c in channels]


def _with(player, variables: dict[str, Any]):
    """Returns a player with these weights; `UserError` unless they are all it has."""
    for ours, theirs in (
        (player.params, variables["params"]),
        (player.stats, variables["batch_stats"]),
    ):
        shapes = [
            {k: np.shape(v) for k, v in flax.traverse_util.flatten_dict(x).items()}
            for x in (ours, theirs)
        ]
        if shapes[0] != shapes[1]:
            odd = sorted(
                "/".join(name)
                for name in shapes[0].keys() | shapes[1].keys()
                if shapes[0].get(name) != shapes[1].get(name)
            )
            raise UserError(f"the weights do not fit the network at {', '.join(odd)}")
    return player.replace(params=variables["params"], stats=variables["batch_stats"])


def _write(
    workdir: Workdir,
    method: str,
    config: Any,
    state: GANState,
    chosen: Options,
    gen: interop.Converted,
) -> None:
    run = RunConfig()
    sections = {"config": config, "data": options.DataConfig()}
    session.describe(workdir, method, sections, run)
    ranges = {
        role: normalise.to_json(_range(chosen.range, channels))
        for role, channels in (
            ("source", gen.in_channels),
            ("target", gen.network.out_channels),
        )
    }
    workdir.write_json("normalization.json", ranges)
    with Checkpoints(
        workdir.checkpoints,
        keep=run.keep_checkpoints,
        metric=run.best_metric,
        mode=run.best_mode,
    ) as checkpoints:
        checkpoints.save(0, state, metrics={})
        checkpoints.wait()


def _range(spec: str, channels: int) -> normalise.Range:
    grey = ImageSet.from_arrays([np.zeros((1, 1, channels), np.uint8)])
    try:
        return normalise.fit(spec, grey)
    except ValueError as error:
        raise UserError(f"--range: {error}") from error


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
